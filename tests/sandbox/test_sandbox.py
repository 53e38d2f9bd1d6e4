"""The sandbox as one uses it: outcomes, files, commands, failing closed, the commands of the command line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attacks import attack, isolated, sandbox
from hypothesis import given
from hypothesis import strategies as st

import longjing
from longjing import cli
from longjing.errors import UserError
from longjing.sandbox import Sandbox, SandboxError, SandboxLimits, UnsafeSubprocess, isolation, layers, printable


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `longjing sandbox ARGUMENTS`; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["longjing", "sandbox", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code is None or isinstance(caught.value.code, int)
    return caught.value.code or 0


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which user namespaces are forbidden."""
    isolation.layers.cache_clear()
    answers = dict.fromkeys(isolation._LAYERS, "") | {"user": "unshare: Operation not permitted"}
    monkeypatch.setattr(isolation, "_probe_layers", lambda: answers)
    yield
    isolation.layers.cache_clear()


@pytest.mark.usefixtures("forbidden")
def test_without_isolation_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="user layer is missing.*unshare: Operation not permitted.*--unsafe"):
        Sandbox()
    file = tmp_path / "program.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    for arguments in (("run", file), ("check",)):
        assert call(monkeypatch, *arguments) == 2
        assert "error: this machine can't isolate programs" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert call(monkeypatch, "run", file, "--uns") == 2  # no short form
    assert not (tmp_path / "ran").exists()
    assert call(monkeypatch, "run", file, "--unsafe") == 0
    assert "no isolation" in capsys.readouterr().err and (tmp_path / "ran").exists()


@isolated
@pytest.mark.parametrize("layer", ["landlock", "watch", "uts", "cgroup"])
def test_a_second_lock_may_be_missing(monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    monkeypatch.setattr("longjing.sandbox.sandbox.require_layers", lambda: [layer])
    with Sandbox() as without:
        assert without.run("print(1)").stdout == b"1\n"


@isolated
def test_a_step_that_fails_runs_nothing() -> None:
    """Whatever fails on the way in: here a file system that is too small for the program itself."""
    with pytest.raises(SandboxError, match="No space left"):
        sandbox(SandboxLimits(disk_megabytes=1)).run("print(1)", files={"large": bytes(2 << 20)})


@isolated
def test_a_program_gets_its_input_and_files_and_is_as_python_runs_it() -> None:
    source = (
        "import sys, other\n"
        "print(__name__, __file__, sys.argv, open('data/x').read(), sys.stdin.read(), other.value)\n"
        "def f(): raise ValueError('é')\n"
        "f()"
    )
    outcome = sandbox().run(source, "né".encode(), {"data/x": b"content", "other.py": b"value = 7"})
    expected = "__main__ /box/program.py ['/box/program.py'] content né 7\n"
    assert (outcome.stdout.decode(), outcome.code, outcome.status) == (expected, 1, "finished")
    assert outcome.stderr.decode() == (
        'Traceback (most recent call last):\n  File "/box/program.py", line 4, in <module>\n    f()\n'
        "  File \"/box/program.py\", line 3, in f\n    def f(): raise ValueError('é')\n"
        "             ^^^^^^^^^^^^^^^^^^^^^\nValueError: é\n"
    )
    assert outcome.cpu_seconds > 0 and 0 < outcome.wall_seconds < 10 and outcome.peak_bytes > 1 << 20


@isolated
def test_any_command_runs() -> None:
    outcome = sandbox().run(["sh", "-c", "cat; cat file; exit 4"], b"in ", {"file": b"file"})
    assert (outcome.stdout, outcome.code) == (b"in file", 4)
    assert sandbox().run([Path(sys.executable).resolve().name, "-c", "print(2)"]).stdout == b"2\n"
    absent = sandbox().run(["no-such-command"])
    assert absent.code == 127 and absent.stderr == b"no-such-command: No such file or directory\n"


@isolated
@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", ".", "a\0b"])
def test_a_file_that_would_lie_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="isn't a name"):
        sandbox().run("", files={name: b""})


@isolated
@pytest.mark.parametrize(
    "body",
    [
        "import asyncio\nasync def f(): await asyncio.sleep(0)\nasyncio.run(f()); print('ok')",
        "import threading\nt = threading.Thread(target=print, args=('ok',)); t.start(); t.join()",
        "from multiprocessing import Pool\nwith Pool(2) as p: print('ok' if p.map(abs, [-1]) == [1] else '')",
        "import subprocess, sys\nprint(subprocess.run(['echo', 'ok'], capture_output=True, text=True).stdout.strip())",
        "import tempfile, shutil, os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\n"
        "with tempfile.TemporaryDirectory() as d:\n    shutil.copytree('a', d + '/a')\n"
        "print('ok' if os.access('/tmp', os.W_OK) else '')",
        "import random, secrets, uuid, hashlib, sqlite3, zlib\n"
        "sqlite3.connect('x.db').execute('create table t(x)'); print('ok')",
        "import datetime, decimal, unicodedata, re, signal\nsignal.alarm(0); print('ok')",
    ],
    ids=["asyncio", "threads", "multiprocessing", "subprocess", "files", "libraries", "more libraries"],
)
def test_harmless_programs_run(body: str) -> None:
    outcome = attack(body)
    assert outcome.stdout == b"ok\n", outcome.stderr.decode()


@isolated
def test_many_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda n: attack(f"print({n})").stdout, range(40)))
    assert outputs == [f"{n}\n".encode() for n in range(40)]


@isolated
@pytest.mark.skipif(os.getuid() != 0, reason="whoever isn't root tests this with every other test")
def test_who_isnt_root_has_the_same_sandbox() -> None:
    """All attempts of `ATTEMPTS` by a user without any privilege, with a Python that such a one can read."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    paths = [str(Path(longjing.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path)]
    command = [python, "-B", "-c", f"import sys; sys.path += {paths!r}; import longjing.sandbox as s\n{{}}"]

    def run(code: str) -> "subprocess.CompletedProcess[str]":
        arguments = [*command[:-1], command[-1].format(code)]
        return subprocess.run(
            arguments, user=65534, group=65534, extra_groups=[], cwd="/", env={}, capture_output=True, text=True
        )

    if run("").returncode:
        pytest.skip(f"{python} can't import longjing for another user")
    done = run(f"print(s.Sandbox(s.SandboxLimits(processes=8)).run({ATTEMPTS!r}).stdout.decode(), end='')")
    assert done.stdout == "1000 bombs 7 no socket no namespace\n", done.stderr


ATTEMPTS = """
import ctypes, os, socket, time
bombs = 0
try:
    for bombs in range(20):
        if not os.fork():
            time.sleep(5)
except OSError:
    pass
try:
    socket.socket()
except OSError:
    print(os.getuid(), "bombs", bombs, "no socket", "no namespace" if ctypes.CDLL(None).unshare(1 << 28) else "")
"""


@isolated
def test_a_zygote_that_dies_is_replaced() -> None:
    with Sandbox() as fragile:
        assert fragile.run("print(1)").ok
        assert fragile._process
        os.kill(fragile._process.pid, signal.SIGKILL)
        time.sleep(0.2)
        with pytest.raises(SandboxError):
            fragile.run("print(1)")
        assert fragile.run("print(1)").ok


@pytest.mark.parametrize("limit", ["wall_seconds", "processes", "memory_megabytes"])
def test_an_impossible_limit_is_refused(limit: str) -> None:
    with pytest.raises(UserError, match=limit):
        SandboxLimits(**{limit: 0})


def test_escapes_are_shown_and_not_obeyed() -> None:
    attack = b"\x1b[2J\x1b]0;title\x07\x9b31m \xe2\x80\xae right to left\r\n\ttab \xc2\x9b \xff\x08 \xe4\xb8\xad"
    assert printable(attack) == ("\\x1b[2J\\x1b]0;title\\x07\\x9b31m \\u202e right to left\n\ttab \\x9b \\xff\\x08 中")


@given(st.binary())
def test_nothing_printable_controls_a_terminal(output: bytes) -> None:
    assert all(c in "\n\t" or c.isprintable() for c in printable(output))


@isolated
def test_check_lists_the_layers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "check") == 0
    output = capsys.readouterr().out
    assert all(f"{layer.name}\tyes\t" in output for layer in layers()) and "a program ran in it" in output


@isolated
@pytest.mark.parametrize(
    ("source", "options", "code", "expected"),
    [
        ("print(input() + '\\x1b[31m')", [], 0, "finished with exit code 0"),
        ("1 / 0", [], 1, "finished with exit code 1"),
        ("while True: pass", ["--seconds", 0.5], 3, "timed out"),
        ("'x' * 10**9", ["--memory", 128], 4, "out of memory"),
        ("while True: print('x' * 10000)", [], 5, "output too long"),
        ("import os; os.abort()", [], 6, "killed by SIGABRT"),
    ],
)
def test_run_says_what_became_of_a_program(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    source: str,
    options: list[object],
    code: int,
    expected: str,
) -> None:
    (tmp_path / "program.py").write_text(source)
    (tmp_path / "in").write_text("hello\n")
    assert call(monkeypatch, "run", tmp_path / "program.py", "--stdin", tmp_path / "in", *options) == code
    output = capsys.readouterr()
    assert f"{expected}; " in output.err and " s of CPU, " in output.err and "\x1b" not in output.out + output.err
    assert output.out.startswith("hello\\x1b[31m") or "input" not in source


def test_a_file_that_isnt_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "run", "/nowhere.py") == 2
    assert "cannot read /nowhere.py" in capsys.readouterr().err


def test_what_is_unsafe_still_ends() -> None:
    unsafe = UnsafeSubprocess(SandboxLimits(wall_seconds=0.5, output_bytes=3))
    assert unsafe.run("import time; print(12345, flush=True); time.sleep(60)").status == "timed out"
    assert unsafe.run("print(12345)").stdout == b"123"
    assert unsafe.run(["sh", "-c", "kill -SEGV $$"]).signal == "SIGSEGV"
