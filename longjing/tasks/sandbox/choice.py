"""Which sandbox: the one that the kernel makes, unless another is asked for by its name."""

import os

from longjing.errors import UserError
from longjing.tasks.sandbox.outcome import Limits, Runner
from longjing.tasks.sandbox.sandbox import Sandbox
from longjing.tasks.sandbox.wasm import Wasm

VARIABLE = "LONGJING_SANDBOX"
_KINDS: dict[str, type[Sandbox] | type[Wasm]] = {"kernel": Sandbox, "wasm": Wasm}


def open_sandbox(limits: Limits | None = None, name: str = "") -> Runner:
    """The sandbox `name`, `kernel` or `wasm`; without a name the one that the environment variable names, or `kernel`.
    None stands in for another. Raises UserError where it can't be had, or there is none of that name."""
    name = name or os.environ.get(VARIABLE, "") or "kernel"
    if name not in _KINDS:
        raise UserError(f"there is no sandbox {name!r}; it is kernel or wasm (--sandbox, or {VARIABLE})")
    return _KINDS[name](limits)
