"""The process that every program is forked from: it has paid for Python's start and knows no secret.

It builds the view once, then forks a supervisor for each connection that it is handed. It never reads what is asked
for, so that nothing of one program is in the memory that the next one begins with.
"""

import gc
import json
import os
import signal
import site
import socket
import sys
from types import ModuleType, TracebackType

from .confine import Plan
from .file_system import WORK, build_root
from .linux import unshare
from .supervisor import supervise
from .user_namespace import enter_user_namespace

PROGRAM = f"{WORK}/program.py"  # where a program that comes as source lies
# What small programs import, so that they needn't wait for it.
_COMMON = ("bisect", "collections", "dataclasses", "decimal", "fractions", "functools", "heapq", "itertools", "json",
           "math", "random", "re", "statistics", "string", "typing")  # fmt: skip


def main() -> None:
    """Serve until the other end of the socket closes. In the processes that are to be programs: be the program."""
    control = socket.socket(fileno=int(sys.argv[1]))
    plan = Plan(**json.loads(sys.argv[2]))
    for name in _COMMON:
        __import__(name)
    try:
        owner = enter_user_namespace()
        unshare("mount")
        build_root(plan.readable, plan.hidden)
    except OSError as error:
        control.send(f"{error}".encode())
        sys.exit(1)
    gc.collect()
    gc.freeze()  # or the collector would touch, and so copy, all pages in every child
    with open("/dev/null", "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # the pipe that the launcher reads ends here
    control.send(b"ready")
    command = _serve(control, plan, owner)
    del control, plan
    if command is None:
        _be_program()
    else:
        _execute(command)


def _serve(control: socket.socket, plan: Plan, owner: int) -> list[str] | None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how supervisors ended
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            sys.exit(0)
        connection = socket.socket(fileno=descriptors[0])
        # The child reads the request: this process never knows it.
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            return supervise(connection, plan, owner)
        connection.close()


def _be_program() -> None:
    """Run the source as `python program.py` would."""
    # What is the sandbox's own must not be a module that a program finds loaded.
    for name in [name for name in sys.modules if name.partition(".")[0] == __package__]:
        del sys.modules[name]
    sys.path[0], sys.argv = WORK, [PROGRAM]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode, buffering = ("w" if number else "r"), (1 if number == 2 else -1)
        errors = "backslashreplace" if number == 2 else "surrogateescape"
        stream = open(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.excepthook = _print_traceback
    for add in (site.setquit, site.setcopyright, site.sethelper):  # `exit` and the like, which -S leaves out
        add()
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__file__ = PROGRAM
    with open(PROGRAM, "rb") as file:
        source = file.read()
    exec(compile(source, PROGRAM, "exec"), main.__dict__)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show a traceback that begins with the program, not with what called it."""
    while trace and trace.tb_frame.f_code.co_filename != PROGRAM:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _execute(command: list[str]) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores, and other programs don't
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
