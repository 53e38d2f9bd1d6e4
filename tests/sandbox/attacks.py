"""What the tests of the sandbox share: sandboxes with layers left out, and programs that say when they got through."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from longjing.sandbox import ExecutionResult, Sandbox, SandboxLimits, layers

THROUGH = b"GOT THROUGH"
LACKING = [f"{layer.name}: {layer.problem}" for layer in layers() if layer.problem]
isolated = pytest.mark.skipif(bool(LACKING), reason=f"this machine lacks {'; '.join(LACKING)}")

USUAL = SandboxLimits()


@cache
def sandbox(limits: SandboxLimits = USUAL, without: tuple[str, ...] = (), readable: tuple[Path, ...] = ()) -> Sandbox:
    """One for each way of being set up, since what runs in one leaves nothing behind."""
    return Sandbox(limits, readable, _without=without)


def attack(
    source: str, limits: SandboxLimits = USUAL, without: Sequence[str] = (), readable: Sequence[Path] = ()
) -> ExecutionResult:
    return sandbox(limits, tuple(without), tuple(readable)).run(source)


def got_through(outcome: ExecutionResult) -> bool:
    """Whether the attack worked. A program that never began says nothing about the layers."""
    assert b"BEGUN" in outcome.stdout, (outcome, outcome.stderr)
    return THROUGH in outcome.stdout


def program(body: str, **values: object) -> str:
    """An attack: `body`, each `$name` in it replaced by the value's literal. Calls `through()` where it got so far."""
    for name, value in values.items():
        body = body.replace(f"${name}", repr(value))
    return (
        "import ctypes, os, resource, signal, socket, sys, time\n"
        "print('BEGUN', flush=True)\n"
        f"def through(): print({THROUGH.decode()!r}, flush=True)\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n" + body
    )


def holds_each_alone(source: str, stoppers: Sequence[str]) -> None:
    """Each of these layers alone stops the attack; without all of them it gets through."""
    assert not got_through(attack(source))
    for layer in stoppers if len(stoppers) > 1 else ():
        others = [other for other in stoppers if other != layer]
        assert not got_through(attack(source, without=others)), f"{layer} alone didn't stop it"
    assert got_through(attack(source, without=stoppers)), "the attack is no attack"
