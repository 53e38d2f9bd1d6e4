"""The seccomp filter, read by a small machine for classic BPF: so both architectures are tested on either."""

import pytest
from attacks import attack, isolated
from hypothesis import given
from hypothesis import strategies as st

from longjing.sandbox.inside.linux import ALLOWED, ARCHITECTURES, CONDITIONAL, FORBIDDEN, number
from longjing.sandbox.inside.seccomp import ALLOW, KILL, REFUSE, program

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


def decide(architecture: str, call: int, arguments: tuple[int, ...] = (), audit: int | None = None) -> int:
    """What the filter answers."""
    padded = (*arguments, *[0] * 6)[:6]
    data = call.to_bytes(4, "little") + (audit or AUDIT[architecture]).to_bytes(4, "little") + bytes(8)
    data += b"".join(argument.to_bytes(8, "little") for argument in padded)
    code, counter, accumulator = program(architecture), 0, 0
    while True:
        operation, if_true, if_false, constant = code[counter]
        counter += 1
        if operation == 0x20:  # load a word
            accumulator = int.from_bytes(data[constant : constant + 4], "little")
        elif operation == 0x54:  # and
            accumulator &= constant
        elif operation == 0x15:  # jump if equal
            counter += if_true if accumulator == constant else if_false
        else:
            assert operation == 0x06  # return
            return constant


def decide_named(architecture: str, name: str, *arguments: int) -> int:
    return decide(architecture, number(name, architecture), arguments)


@architectures
def test_the_code_is_valid(architecture: str) -> None:
    """As the kernel checks it: not too long, jumps forward and to somewhere, a return at the end."""
    code = program(architecture)
    assert len(code) <= 4096 and code[-1][0] == 0x06
    for index, (operation, if_true, if_false, constant) in enumerate(code):
        assert 0 <= if_true < 256 and 0 <= if_false < 256 and 0 <= constant < 1 << 32
        if operation == 0x15:
            assert index + 1 + max(if_true, if_false) < len(code)


@architectures
def test_what_is_listed_is_decided_so(architecture: str) -> None:
    column = ARCHITECTURES.index(architecture)
    for name, numbers in ALLOWED.items():
        if numbers[column] is not None:
            assert decide_named(architecture, name) == ALLOW, name
    for name, numbers in FORBIDDEN.items():
        if numbers[column] is not None:
            assert decide_named(architecture, name) == REFUSE, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(call=st.integers(0, 2**32 - 1))
def test_what_isnt_listed_is_refused(architecture: str, call: int) -> None:
    """Numbers of the future, and those of x32, which are the same but for one bit."""
    column = ARCHITECTURES.index(architecture)
    listed = {numbers[column] for numbers in (ALLOWED | CONDITIONAL).values()}
    if call not in listed:
        assert decide(architecture, call) == REFUSE
    assert decide(architecture, 0x40000000 | call) == REFUSE


@architectures
def test_calls_by_another_architectures_numbers_kill(architecture: str) -> None:
    i386, arm = 0x40000003, 0x40000028
    for audit in (i386, arm, *({*AUDIT.values()} - {AUDIT[architecture]})):
        assert decide(architecture, number("read", architecture), audit=audit) == KILL


NEW = {"mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
       "pid": 0x20000000, "network": 0x40000000}  # fmt: skip


@architectures
@pytest.mark.parametrize("namespace", NEW)
def test_clone_makes_processes_and_threads_and_no_namespaces(architecture: str, namespace: str) -> None:
    fork, thread = 0x1200011, 0x3D0F00
    for usual in (fork, thread):
        assert decide_named(architecture, "clone", usual) == ALLOW
        assert decide_named(architecture, "clone", usual | NEW[namespace]) == REFUSE


@architectures
def test_arguments_decide(architecture: str) -> None:
    stream, datagram, cloexec, unix, internet = 1, 2, 0o2000000, 1, 2
    cases = [
        ("socketpair", (unix, stream | cloexec), ALLOW),
        ("socketpair", (unix, datagram), REFUSE),
        ("socketpair", (internet, stream), REFUSE),
        ("sendto", (3, 0x7F0000000000, 5, 0, 0, 0), ALLOW),
        ("sendto", (3, 0x7F0000000000, 5, 0, 0x7F0000001000, 16), REFUSE),
        ("sendto", (3, 0, 5, 0, 1 << 32, 16), REFUSE),
        ("prctl", (15,), ALLOW),
        ("prctl", (4, 1), REFUSE),  # PR_SET_DUMPABLE
        ("prctl", (22, 2), REFUSE),  # PR_SET_SECCOMP
        ("ioctl", (1, 0x5401), ALLOW),
        ("ioctl", (1, 0x5412), REFUSE),  # TIOCSTI: as if somebody had typed it
        ("ioctl", (1, 0x541C), REFUSE),  # TIOCLINUX
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (1, 7), REFUSE),
    ]  # fmt: skip
    for name, arguments, expected in cases:
        assert decide_named(architecture, name, *arguments) == expected, (name, arguments)


def test_no_number_is_listed_twice() -> None:
    for column in range(len(ARCHITECTURES)):
        entries = [*ALLOWED.values(), *CONDITIONAL.values(), *FORBIDDEN.values()]
        numbers = [numbers[column] for numbers in entries if numbers[column] is not None]
        assert len(numbers) == len(set(numbers))


@isolated
def test_the_kernel_decides_as_the_filter_says() -> None:
    """Each forbidden call, made inside with arguments that would fail in other ways, if it were let in."""
    program = (
        "import ctypes, platform\n"
        f"known = {FORBIDDEN!r}\n"
        f"place = {ARCHITECTURES!r}.index(platform.machine())\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for name, numbers in known.items():\n"
        "    if numbers[place] is not None:\n"
        "        result = libc.syscall(ctypes.c_long(numbers[place]), *[ctypes.c_long(-1)] * 6)\n"
        "        if (result, ctypes.get_errno()) != (-1, 38):\n"
        "            print(name, result, ctypes.get_errno())\n"
        "print('done')\n"
    )
    assert attack(program).stdout == b"done\n"
    assert b"ptrace" in attack(program, without=["seccomp", "landlock"]).stdout
