"""Model-written programs, run where they can do no harm: `Sandbox(limits).run(program, stdin, files)`.

`run_tests` judges a program by tests whose expected results never enter. `docs/sandbox.md` says what stops what.
"""

from longjing.sandbox.execution import ExecutionResult, SandboxError, SandboxLimits, SandboxRunner, printable
from longjing.sandbox.factory import open_sandbox
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
