"""Which sandbox: the one that the kernel makes, unless another is asked for by its name."""

import os

from longjing.errors import UserError
from longjing.sandbox.execution import SandboxLimits, SandboxRunner
from longjing.sandbox.sandbox import Sandbox
from longjing.sandbox.wasm import WasmSandbox

VARIABLE = "LONGJING_SANDBOX"
_KINDS: dict[str, type[Sandbox] | type[WasmSandbox]] = {"kernel": Sandbox, "wasm": WasmSandbox}


def open_sandbox(limits: SandboxLimits | None = None, name: str = "") -> SandboxRunner:
    """The sandbox `name`, `kernel` or `wasm`; without a name the one that the environment variable names, or `kernel`.
    None stands in for another. Raises UserError where it can't be had, or there is none of that name."""
    name = name or os.environ.get(VARIABLE, "") or "kernel"
    if name not in _KINDS:
        raise UserError(f"there is no sandbox {name!r}; it is kernel or wasm (--sandbox, or {VARIABLE})")
    return _KINDS[name](limits)
