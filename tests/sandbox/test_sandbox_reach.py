"""Programs that reach for what isn't theirs: tried against all layers, against each alone, and without them."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacks import attack, got_through, holds_each_alone, isolated, program, sandbox

from longjing.sandbox import SandboxLimits
from longjing.sandbox.inside.linux import libc
from longjing.sandbox.inside.user_namespace import UNUSED_USER

pytestmark = isolated


@pytest.fixture
def echo() -> Iterator[int]:
    """A port of this machine where TCP and UDP are answered."""
    stream, datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    stream.bind(("127.0.0.1", 0))
    stream.listen(8)
    port = stream.getsockname()[1]
    datagrams.bind(("127.0.0.1", port))

    def answer() -> None:
        while True:
            message, sender = datagrams.recvfrom(512)
            if message == b"end":
                return
            datagrams.sendto(message, sender)

    thread = threading.Thread(target=answer)
    thread.start()
    yield port
    datagrams.sendto(b"end", ("127.0.0.1", port))
    thread.join()
    stream.close()
    datagrams.close()


def test_tcp(echo: int) -> None:
    body = program("socket.create_connection(('127.0.0.1', $port), 2); through()", port=echo)
    holds_each_alone(body, ["network", "seccomp", "landlock"])


# The question for the address of example.com, as a resolver would send it.
DNS = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"


@pytest.mark.parametrize("message", [b"hello", DNS], ids=["UDP", "DNS"])
def test_datagrams(echo: int, message: bytes) -> None:
    body = program(
        "s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(2)\n"
        "s.sendto($message, ('127.0.0.1', $port)); s.recv(512); through()",
        port=echo,
        message=message,
    )
    holds_each_alone(body, ["network", "seccomp"])


def test_abstract_sockets() -> None:
    name = f"\0longjing-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen(8)
        body = program("socket.socket(socket.AF_UNIX).connect($name); through()", name=name)
        holds_each_alone(body, ["network", "seccomp", "landlock"])


def test_shared_memory_of_the_machine() -> None:
    key = 0x10000000 | os.getpid()
    segment = libc("shmget", key, 4096, 0o1666)
    try:
        body = program("if libc.shmget($key, 0, 0) >= 0: through()", key=key)
        holds_each_alone(body, ["ipc", "seccomp"])
    finally:
        libc("shmctl", segment, 0, None)


def test_host_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("s")
    body = program(
        """
os.symlink($path, 'link')
for way in ($path, '/box/../' + $path, 'link', '/tmp/..' + $path, '/proc/1/root' + $path):
    try:
        open(way).read()
        through()
    except OSError:
        pass
""",
        path=str(secret),
    )
    assert not got_through(attack(body))
    assert got_through(attack(body, readable=[tmp_path]))
    elsewhere = "import os; print(*map(os.path.exists, ('/etc/passwd', '/home', '/var', '/sys', '/proc/1')))"
    assert attack(elsewhere).stdout == b"False False False False False\n"


def test_what_is_shown_cant_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "file").chmod(0o666)
    body = program(
        """
for path in ($file, $new, os.__file__, '/usr/lib/x', '/x', '/dev/x'):
    try:
        open(path, 'a').close()
        through()
    except OSError:
        pass
try:
    os.chmod($file, 0o777); through()
except OSError:
    pass
""",
        file=str(tmp_path / "file"),
        new=str(tmp_path / "new"),
    )
    assert not got_through(attack(body, readable=[tmp_path]))
    assert not got_through(attack(body, readable=[tmp_path], without=["landlock"]))  # read-only mounts
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "new").exists()


def test_the_machines_proc() -> None:
    body = program("if int(open('/proc/self/stat').read().split()[0]): through()")
    holds_each_alone(body, ["proc", "landlock"])


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGJING_TEST_SECRET", "s")
    body = program("if 'LONGJING_TEST_SECRET' in os.environ: through()")
    holds_each_alone(body, ["environment"])


def test_the_machines_name() -> None:
    body = program("if os.uname().nodename == $name: through()", name=os.uname().nodename)
    holds_each_alone(body, ["uts"])


def test_inherited_descriptors(tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w+") as file:
        os.set_inheritable(file.fileno(), True)
        body = program("""
for number in range(3, 64):
    try:
        os.fstat(number)
        through()
    except OSError:
        pass
""")
        holds_each_alone(body, ["descriptors"])


def test_killing_the_trainer() -> None:
    """A process of the same user, as the trainer is one."""
    user = {"user": UNUSED_USER, "extra_groups": []} if os.getuid() == 0 else {}
    with subprocess.Popen(["/bin/sleep", "60"], **user) as victim:  # type: ignore[call-overload]
        holds_each_alone(program("os.kill($pid, 0); through()", pid=victim.pid), ["pid", "landlock"])
        victim.kill()


def test_ptrace() -> None:
    body = program("if libc.ptrace(0, 0, 0, 0) == 0: through()")
    holds_each_alone(body, ["seccomp"])
    # Reading the memory of the first process, which is another of the same user.
    body = program("""
kept = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(kept), 8)
if libc.process_vm_readv(os.getppid(), vector, 1, vector, 1, 0) >= 0: through()
""")
    holds_each_alone(body, ["seccomp"])


def test_nested_namespaces_and_mounts() -> None:
    unshare = "if libc.unshare(0x10000000 | 0x20000) == 0"
    holds_each_alone(program(f"{unshare}: through()"), ["seccomp"])
    mount = f"{unshare} and libc.mount(b'x', b'/box', b'tmpfs', 0, None) == 0: through()"
    holds_each_alone(program(mount), ["seccomp", "landlock"])  # which forbids all mounts
    clone = "if libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0) >= 0"
    holds_each_alone(program(f"{clone}: through()"), ["seccomp"])
    # What the launcher has mounted belongs to a user namespace in which the program is nobody.
    for call in ("libc.mount(b'x', b'/box', b'tmpfs', 0, None)", "libc.umount2(b'/box', 2)"):
        body = program(f"if {call} == 0: through()")
        assert not got_through(attack(body, without=["seccomp", "privileges", "landlock"]))


def test_capabilities() -> None:
    body = program("""
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
if any(sets) or libc.prctl(23, 21, 0, 0, 0) > 0: through()
""")
    holds_each_alone(body, ["privileges"])


def test_who_the_program_is() -> None:
    """Not root, inside or outside: the machine's root, who may be running this, becomes a user without any files."""
    done: list[bytes] = []
    name = f"who{os.getpid()}"
    source = f"import ctypes, os, time; ctypes.CDLL(None).prctl(15, b'{name}'); time.sleep(1.5); print(os.getresuid())"
    thread = threading.Thread(target=lambda: done.append(sandbox().run(source).stdout))
    thread.start()
    status = ""
    while thread.is_alive() and not status:
        time.sleep(0.1)
        status = next((text for text in map(_status, _named(name))), "")
    thread.join()
    assert done == [b"(1000, 1000, 1000)\n"]
    expected = UNUSED_USER if os.getuid() == 0 else os.getuid()
    assert f"Uid:\t{expected}\t{expected}" in status and "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status


def _named(name: str) -> list[Path]:
    """The processes of that name, on all of the machine."""
    names = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == name:
                names.append(path.parent)
        except OSError:
            continue
    return names


def _status(process: Path) -> str:
    try:
        return (process / "status").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("without", [[], ["pid"]], ids=["with", "without"])
def test_daemons(without: list[str]) -> None:
    name = f"daemon{os.getpid()}"
    body = program(
        """
if not os.fork():
    os.setsid()
    if not os.fork():
        libc.prctl(15, $name)
        print('daemon', flush=True)
        os.close(0); os.close(1); os.close(2)
        time.sleep(3)
    os._exit(0)
time.sleep(0.5)
""",
        name=name.encode(),
    )
    outcome = attack(body, without=without)
    assert b"daemon" in outcome.stdout
    assert bool(_named(name)) == bool(without)


LEAVES = """
open('left', 'w').write('x'); import builtins, json; builtins.left = json.left = 1
os.environ['LEFT'] = '1'; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.nice(5)
"""
FINDS = """
import builtins, json
if (os.path.exists('left') or hasattr(builtins, 'left') or hasattr(json, 'left') or 'LEFT' in os.environ
        or signal.getsignal(signal.SIGTERM) == signal.SIG_IGN or os.nice(0) != $nice): through()
"""


def test_nothing_is_left_to_the_next_program() -> None:
    finds = program(FINDS, nice=os.nice(0))
    assert not got_through(attack(program(LEAVES)))
    assert not got_through(attack(finds))
    assert got_through(attack(program(LEAVES) + finds)), "nothing was left even within one program"


def test_programs_at_once_dont_meet() -> None:
    waits = program("open('mine', 'w').close(); time.sleep(0.5)\nif len(os.listdir()) != 2: through()")
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(got_through(attack(waits, SandboxLimits(wall_seconds=30)))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [False] * 4


def test_a_killed_trainer_leaves_nothing_running() -> None:
    name = f"orphan{os.getpid()}"
    trainer = (
        "from longjing.sandbox import Sandbox, SandboxLimits\n"
        "Sandbox(SandboxLimits(wall_seconds=60)).run("
        f"'import ctypes, time; ctypes.CDLL(None).prctl(15, b\"{name}\"); time.sleep(50)')"
    )
    with subprocess.Popen([sys.executable, "-c", trainer]) as process:
        _wait(lambda: bool(_named(name)))
        process.kill()
    _wait(lambda: not _named(name))


def _wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
