"""Model-written programs, run where they can do no harm: `Sandbox(limits).run(program, stdin, files)`.

`run_tests` judges a program by tests whose expected results never enter. `docs/sandbox.md` says what stops what.
"""

import os

from longjing.errors import UserError
from longjing.sandbox.execution import ExecutionResult, SandboxError, SandboxLimits, SandboxRunner, printable
from longjing.sandbox.isolation import Layer, layers
from longjing.sandbox.program_tests import CallTest, StdioTest, TestResult, judge_program, run_tests
from longjing.sandbox.sandbox import Sandbox
from longjing.sandbox.unsafe_subprocess import UnsafeSubprocess
from longjing.sandbox.wasm import WasmSandbox

__all__ = [
    "CallTest", "ExecutionResult", "Layer", "Sandbox", "SandboxError", "SandboxLimits", "SandboxRunner", "StdioTest",
    "TestResult", "UnsafeSubprocess", "WasmSandbox", "judge_program", "layers", "open_sandbox", "printable",
    "run_tests",
]  # fmt: skip

VARIABLE = "LONGJING_SANDBOX"
_KINDS: dict[str, type[Sandbox] | type[WasmSandbox]] = {"kernel": Sandbox, "wasm": WasmSandbox}


def open_sandbox(limits: SandboxLimits | None = None, name: str = "") -> SandboxRunner:
    """The sandbox `name`, `kernel` or `wasm`; without a name the one that the environment variable names, or `kernel`.
    None stands in for another. Raises UserError where it can't be had, or there is none of that name."""
    name = name or os.environ.get(VARIABLE, "") or "kernel"
    if name not in _KINDS:
        raise UserError(f"there is no sandbox {name!r}; it is kernel or wasm (--sandbox, or {VARIABLE})")
    return _KINDS[name](limits)
