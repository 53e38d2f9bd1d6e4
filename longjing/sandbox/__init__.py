"""Model-written programs, run where they can do no harm: `Sandbox(limits).run(program, stdin, files) -> Outcome`.

`run_tests` judges a program by tests whose expected results never enter. `docs/sandbox.md` says what stops what.
"""

from longjing.sandbox.choice import open_sandbox
from longjing.sandbox.outcome import ExecutionResult, SandboxError, SandboxLimits, SandboxRunner, printable
from longjing.sandbox.probe import Layer, layers
from longjing.sandbox.program_tests import CallTest, StdioTest, TestOutcome, judge_program, run_tests
from longjing.sandbox.sandbox import Sandbox
from longjing.sandbox.unsafe import Unsafe
from longjing.sandbox.wasm import Wasm

__all__ = [
    "CallTest", "ExecutionResult", "Layer", "Sandbox", "SandboxError", "SandboxLimits", "SandboxRunner", "StdioTest",
    "TestOutcome", "Unsafe", "Wasm", "judge_program", "layers", "open_sandbox", "printable", "run_tests",
]  # fmt: skip
