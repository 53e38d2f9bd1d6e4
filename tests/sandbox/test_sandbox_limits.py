"""Programs that want too much: each is stopped by a limit, and gets what it wants where the limit is higher."""

from dataclasses import replace

import pytest
from attacks import attack, got_through, holds_each_alone, isolated, program

from longjing.sandbox import ExecutionResult, SandboxLimits, UnsafeSubprocess

pytestmark = isolated
TIGHT = SandboxLimits(wall_seconds=20, memory_megabytes=160, disk_megabytes=1, processes=8)

FORK_BOMB = """
for count in range(30):
    try:
        if not os.fork():
            time.sleep(5)
            os._exit(0)
    except OSError:
        break
else:
    through()
"""
THREADS = """
import threading
for count in range(30):
    threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
through()
"""
MEMORY_BOMB = "kept = b'x' * (200 << 20); through()"
# Each of them is small enough: only all together are too large.
MANY_SMALL = """
for child in range(6):
    if not os.fork():
        kept = b'x' * (60 << 20)
        time.sleep(5)
        os._exit(0)
time.sleep(1.5)
through()
"""
DISK_FILL = """
for number in range(3):
    with open(str(number), 'wb') as file:
        file.write(b'x' * (1 << 20))
through()
"""
SPARSE = "open('sparse', 'wb').truncate(4 << 20); through()"
MANY_FILES = """
for number in range(3000):
    open(str(number), 'w').close()
through()
"""
FLOOD = "print('x' * (2 << 20), flush=True); through()"
BUSY = """
while time.process_time() < 2.5:
    pass
through()
"""


@pytest.mark.parametrize(
    ("body", "loose", "status"),
    [
        pytest.param(FORK_BOMB, {"processes": 40}, "finished", id="fork bomb"),
        pytest.param(THREADS, {"processes": 40, "memory_megabytes": 1024}, "finished", id="threads"),
        pytest.param(MEMORY_BOMB, {"memory_megabytes": 400}, "out of memory", id="memory bomb"),
        pytest.param(MANY_SMALL, {"memory_megabytes": 600}, "out of memory", id="memory of many"),
        pytest.param(DISK_FILL, {"disk_megabytes": 8}, "finished", id="disk fill"),
        pytest.param(SPARSE, {"disk_megabytes": 8}, "finished", id="sparse file"),
        pytest.param(MANY_FILES, {"disk_megabytes": 32}, "finished", id="many files"),
        pytest.param(FLOOD, {"output_bytes": 8 << 20}, "output too long", id="output flood"),
        pytest.param(BUSY, {"cpu_seconds": 10}, "timed out", id="CPU"),
    ],
)
def test_a_limit_stops_what_a_higher_one_admits(body: str, loose: dict[str, int], status: str) -> None:
    tight = replace(TIGHT, cpu_seconds=1) if "cpu_seconds" in loose else TIGHT
    outcome = attack(program(body), tight)
    assert not got_through(outcome) and outcome.status == status
    assert got_through(attack(program(body), replace(tight, **loose)))


def test_memory_of_many_needs_the_watch() -> None:
    assert got_through(attack(program(MANY_SMALL), TIGHT, without=["watch"]))


IGNORES = """
for number in range(1, 65):
    if number not in (9, 19, 32, 33):
        signal.signal(number, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGTERM)
end = time.monotonic() + 1.2
while time.monotonic() < end:
    pass
through()
"""
BLOCKS_IN_C = """
everything = (ctypes.c_ulong * 16)(*[2**64 - 1] * 16)
libc.sigprocmask(0, everything, None)
libc.usleep(600_000)
libc.usleep(600_000)
through()
"""
SLEEPS = "time.sleep(1.2); through()"


@pytest.mark.parametrize("body", [IGNORES, BLOCKS_IN_C, SLEEPS], ids=["ignores", "blocks in C", "sleeps"])
def test_the_clock_ends_what_no_signal_would(body: str) -> None:
    outcome = attack(program(body), SandboxLimits(wall_seconds=0.6))
    assert not got_through(outcome) and outcome.status == "timed out" and outcome.code is None
    assert 0.6 <= outcome.wall_seconds < 5
    assert got_through(attack(program(body), SandboxLimits(wall_seconds=20)))


def test_limits_cant_be_raised() -> None:
    raises = program("""
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
through()
""")
    assert not got_through(attack(raises))
    lowered = program("""
for name in ('AS', 'FSIZE', 'NOFILE', 'NPROC', 'STACK', 'CORE', 'MEMLOCK', 'MSGQUEUE', 'SIGPENDING'):
    soft, hard = resource.getrlimit(getattr(resource, 'RLIMIT_' + name))
    if soft != hard or hard == resource.RLIM_INFINITY:
        print('unlimited:', name)
        through()
""")
    assert not got_through(attack(lowered))
    assert got_through(UnsafeSubprocess().run(lowered))


def test_no_memory_is_to_be_had_beside_the_limits() -> None:
    """memfd and System V segments count to no process and no file system: they can't be made."""
    hides = program("if libc.memfd_create(b'x', 0) >= 0 or libc.shmget(0, 1 << 20, 0o1600) >= 0: through()")
    holds_each_alone(hides, ["seccomp"])


CRASHES = {
    "segfault": ("ctypes.string_at(0)", lambda outcome: outcome.signal == "SIGSEGV"),
    "abort": ("os.abort()", lambda outcome: outcome.signal == "SIGABRT"),
    "recursion": ("def f(): f()\nf()", lambda outcome: b"RecursionError" in outcome.stderr),
    "deep recursion": (
        "sys.setrecursionlimit(10**9)\nf = lambda: [0].sort(key=lambda _: f())\nf()",
        lambda outcome: outcome.signal == "SIGSEGV" or outcome.status in ("out of memory", "timed out"),
    ),
    "exit": ("sys.exit(7)", lambda outcome: (outcome.status, outcome.code) == ("finished", 7)),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_an_outcome_and_the_next_program_runs(name: str) -> None:
    body, expected = CRASHES[name]
    outcome: ExecutionResult = attack(program(body))
    assert expected(outcome) and not outcome.ok, (outcome, outcome.stderr)
    assert attack("print(1)").stdout == b"1\n"
