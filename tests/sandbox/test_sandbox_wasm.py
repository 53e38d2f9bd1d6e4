"""Programs in WebAssembly: what they are given, what ends them, what they can't reach."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from longjing import cli, verifiers
from longjing.errors import UserError
from longjing.problems import Completion, Problem
from longjing.sandbox import (
    CallTest,
    Sandbox,
    SandboxError,
    SandboxLimits,
    StdioTest,
    WasmSandbox,
    isolation,
    judge_program,
    open_sandbox,
    run_tests,
    wasm,
)
from longjing.verifiers.code_execution import programs

SMALL = SandboxLimits(wall_seconds=3, cpu_seconds=3, memory_megabytes=64, output_bytes=1000)
there = pytest.mark.skipif(bool(wasm.missing_packages()), reason=f"the wasm sandbox {wasm.missing_packages()}")


@cache
def machine(limits: SandboxLimits = SMALL) -> WasmSandbox:
    return WasmSandbox(limits)


def printed(source: str, **options: Any) -> str:
    outcome = machine().run(source, **options)
    assert outcome.ok, (outcome, outcome.stderr)
    return outcome.stdout.decode()


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """Run `longjing sandbox ARGUMENTS`; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["longjing", "sandbox", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


@there
def test_a_program_gets_its_input_and_files() -> None:
    source = (
        "import sys, other\n"
        "print(__name__, sys.argv, open('data/x').read(), sys.stdin.read(), other.value, hash('a'))\n"
        "print('é', file=sys.stderr)"
    )
    files = {"data/x": b"content", "other.py": b"value = 7"}
    one, other = (machine().run(source, "né".encode(), files) for _ in range(2))
    assert one.stdout.decode().startswith("__main__ ['program.py'] content né 7 ")
    assert one.stdout == other.stdout, "the same program says the same twice"
    assert (one.stderr.decode(), one.status, one.code) == ("é\n", "finished", 0)
    assert one.cpu_seconds > 0 and 0 < one.wall_seconds < 3 and 1 << 20 < one.peak_bytes < 64 << 20


@there
@pytest.mark.parametrize(
    ("source", "code", "last"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit(200)", 200, ""),
        ("import os; os._exit(300)", 44, ""),
        ("import sys; sys.exit('bye')", 1, "bye"),
        ("def f(): raise ValueError('é')\nf()", 1, "ValueError: é"),
        ("def f(): f()\nf()", 1, "RecursionError: maximum recursion depth exceeded"),
        ("'''", 1, "SyntaxError: unterminated triple-quoted string literal (detected at line 1)"),
    ],
)
def test_how_programs_end(source: str, code: int, last: str) -> None:
    outcome = machine(SandboxLimits()).run(source)
    assert (outcome.status, outcome.code) == ("finished", code)
    assert outcome.stderr.decode().rstrip().rpartition("\n")[2] == last


@there
def test_an_abort_is_an_outcome_like_any_other() -> None:
    outcome = machine().run("import os; print(1, flush=True); os.abort()")
    assert (outcome.status, outcome.code, outcome.stdout) == ("killed", None, b"1\n")
    assert str(outcome) == "killed by wasm `unreachable` instruction executed"


@there
@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("while True: pass", "timed out"),
        ("while True:\n try:\n  while True: pass\n except BaseException: pass", "timed out"),
        ("import time; time.sleep(60)", "timed out"),
        ("kept = []\nwhile True: kept.append(bytearray(1 << 20))", "out of memory"),
        ("while True: print('x' * 100)", "output too long"),
        ("import os\nwhile True: os.write(2, b'x' * 100)", "output too long"),
    ],
)
def test_what_is_without_end_is_ended(source: str, status: str) -> None:
    limits = SandboxLimits(wall_seconds=0.7, memory_megabytes=64, output_bytes=1000)
    started = monotonic()
    outcome = machine(limits).run("print('begun', flush=True)\n" + source)
    assert (outcome.status, outcome.stdout[:6]) == (status, b"begun\n")
    assert monotonic() - started < 20 and len(outcome.stdout) + len(outcome.stderr) <= 1000
    assert outcome.peak_bytes <= 64 << 20


@there
def test_a_limit_of_cpu_time_ends_it_too() -> None:
    outcome = machine(SandboxLimits(wall_seconds=30, cpu_seconds=1)).run("while True: pass")
    assert outcome.status == "timed out" and outcome.wall_seconds < 20


@there
def test_memory_is_what_is_asked_for() -> None:
    fills = "print(len(bytearray(100 << 20)))"
    assert machine(SandboxLimits(memory_megabytes=200)).run(fills).ok
    assert machine().run(fills).status == "out of memory"


@there
def test_no_files_of_the_machine(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the machine")
    assert secret.read_text()
    source = """
import os
up = "../" * 20
for path in (SECRET, up + SECRET, "/etc/passwd", "/proc/self/environ", "/dev/fd/0", "..", "/tmp", "/usr/bin"):
    try:
        print("READ", path, open(path).read() if "." not in path[:1] else os.listdir(path))
    except OSError:
        pass
print(sorted(os.listdir("/")), os.getcwd())
""".replace("SECRET", repr(str(secret)))
    assert printed(source, files={"other.py": b""}) == "['other.py', 'program.py'] /\n"


@there
def test_nothing_can_be_written_or_left() -> None:
    source = """
import os
for attempt in (
    lambda: open("new", "w"), lambda: open("program.py", "a"), lambda: open("/usr/local/new", "w"),
    lambda: os.mkdir("folder"), lambda: os.symlink("/etc/passwd", "link"), lambda: os.link("program.py", "link"),
    lambda: os.remove("program.py"), lambda: os.rename("program.py", "other"), lambda: os.truncate("program.py", 0),
    lambda: os.utime("program.py", (0, 0)),
):
    try:
        attempt()
        print("WROTE")
    except (OSError, AttributeError):
        pass
print(os.listdir())
"""
    assert printed(source) == "['program.py']\n"


@there
def test_no_environment_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the trainer")
    assert printed("import os; print(dict(os.environ))") == "{'PYTHONHASHSEED': '0', 'PYTHONINTMAXSTRDIGITS': '0'}\n"


@there
def test_no_sockets_processes_threads_or_descriptors() -> None:
    source = """
import os, socket, subprocess, threading
for place, attempt in enumerate((
    lambda: socket.socket(), lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("localhost", 80), lambda: subprocess.run(["true"]), lambda: os.system("true"),
    lambda: os.fork(), lambda: os.execv("/bin/true", ["true"]), lambda: os.kill(1, 0),
    lambda: threading.Thread(target=print).start(), lambda: __import__("ctypes"),
    *(lambda fd=fd: os.fstat(fd) for fd in range(5, 64)),  # 3 and 4: its folder, its library
    *(lambda fd=fd: os.write(fd, b"x") for fd in range(3, 64)),
)):
    try:
        attempt()
        print("GOT THROUGH", place)
    except (OSError, AttributeError, RuntimeError, ImportError):
        pass
print("done")
"""
    assert printed(source) == "done\n"


@there
def test_programs_are_judged_as_in_any_other_sandbox() -> None:
    source = "import sys\nprint('noise')\ndef f(x):\n    print('more')\n    return [x, x]"
    tests = [CallTest("f", [1], [1, 1]), CallTest("f", ["a"], ["a", "a"]), CallTest("f", [2], [2, 3])]
    assert [test.verdict for test in judge_program(machine(), source, tests)] == ["correct", "correct", "wrong"]
    assert [test.verdict for test in run_tests(machine(), source, tests, workers=2)] == [
        "correct", "correct", "wrong"
    ]  # fmt: skip
    doubles = "print(2 * int(input()))"
    tests = [StdioTest("4\n", "8"), StdioTest("4\n", "9"), StdioTest("x\n", "8")]
    assert [test.verdict for test in run_tests(machine(), doubles, tests)] == ["correct", "wrong", "wrong"]


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The user has named it."""
    programs.cache_clear()
    monkeypatch.setenv("LONGJING_SANDBOX", "wasm")
    yield
    programs.cache_clear()


@there
@pytest.mark.usefixtures("asked_for")
def test_the_verifier_of_programs_asks_the_sandbox_that_is_named() -> None:
    problem = Problem("t", "1", "", "", {"tests": [{"function": "where", "arguments": [], "returns": "wasi"}]}, "en")
    verifier = verifiers.get("code")
    for where, verdict in (("sys.platform", "correct"), ("'linux'", "wrong")):
        program = f"import sys\ndef where(): return {where}"
        assert verifier.judge(problem, Completion("", program, True, True, False)).outcome == verdict


def test_it_is_never_taken_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGJING_SANDBOX", raising=False)
    isolation.layers.cache_clear()
    answers = dict.fromkeys(isolation._LAYERS, "Darwin has no such thing, it needs Linux")
    monkeypatch.setattr(isolation, "_probe_layers", lambda: answers)
    with pytest.raises(UserError, match="user layer is missing.*LONGJING_SANDBOX=wasm.*longjing.wasm.*--unsafe"):
        open_sandbox()
    if not wasm.missing_packages():
        assert isinstance(open_sandbox(name="wasm"), WasmSandbox)
    isolation.layers.cache_clear()


def test_nothing_stands_in_for_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wasm, "find_spec", lambda name: None)
    monkeypatch.setattr("longjing.sandbox.Sandbox.__init__", lambda *_: pytest.fail("it did"))
    with pytest.raises(UserError, match=r"needs the packages wasmtime and .*: pip install 'longjing\[wasm\]'"):
        open_sandbox(name="wasm")
    assert call(monkeypatch, "check", "--sandbox", "wasm") == 2
    output = capsys.readouterr()
    assert "wasm" in output.out and "pip install 'longjing[wasm]'" in output.out and "Traceback" not in output.err
    monkeypatch.setenv("LONGJING_SANDBOX", "docker")
    with pytest.raises(UserError, match="no sandbox 'docker'; it is kernel or wasm"):
        open_sandbox()


@there
def test_a_machine_that_fails_says_nothing_about_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm, "_command", lambda *_: [sys.executable, "-c", "raise RuntimeError('it broke')"])
    with pytest.raises(SandboxError, match="it broke"):
        machine().run("print(1)")
    (judged,) = run_tests(machine(), "print(1)", [StdioTest("", "1")])
    assert judged.verdict == "unjudged"


@there
def test_commands_and_names_outside_are_refused() -> None:
    with pytest.raises(UserError, match="Python programs only"):
        machine().run(["sh", "-c", "true"])
    with pytest.raises(UserError, match="isn't a name"):
        machine().run("", files={"../x": b""})


@there
def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys; print(sys.platform, input(), chr(27)); sys.exit(7)")
    (tmp_path / "in").write_text("hello")
    run = ("run", tmp_path / "program.py", "--stdin", tmp_path / "in", "--sandbox", "wasm")
    assert call(monkeypatch, *run) == 1
    output = capsys.readouterr()
    assert output.out == "wasi hello \\x1b\n" and "finished with exit code 7; " in output.err
    assert call(monkeypatch, *run, "--unsafe") == 2
    assert "--unsafe or --sandbox wasm, not both" in capsys.readouterr().err
    assert call(monkeypatch, "check", "--sandbox", "wasm") == 0
    assert "finished with exit code 0" in capsys.readouterr().out


@there
def test_the_kernels_sandbox_is_what_is_used_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGJING_SANDBOX", raising=False)
    made: list[SandboxLimits | None] = []
    monkeypatch.setattr(Sandbox, "__init__", lambda self, limits: made.append(limits))
    assert isinstance(open_sandbox(SMALL), Sandbox) and made == [SMALL]


@there
@pytest.mark.parametrize("source", ["import time; time.sleep(60)", "while True: pass"])
def test_a_program_ends_without_anybody_who_ends_it(source: str, tmp_path: Path) -> None:
    """As when the trainer was killed."""
    (tmp_path / "program.py").write_text(source)
    limits = json.dumps(asdict(SandboxLimits(wall_seconds=0.5, cpu_seconds=30)))
    reading, writing = os.pipe()
    shared = [wasm._compiled().fileno(), writing]
    ended = subprocess.run(wasm._command("run", *shared, tmp_path, limits), pass_fds=shared, timeout=60)
    os.close(reading)
    os.close(writing)
    assert ended.returncode == -signal.SIGALRM
