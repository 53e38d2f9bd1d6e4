"""Model-written programs, run where they can do no harm: `Sandbox(limits).run(program, stdin, files) -> Outcome`.

`run_tests` judges a program by tests whose expected results never enter. `docs/sandbox.md` says what stops what.
"""

from longjing.tasks.sandbox.choice import open_sandbox
from longjing.tasks.sandbox.code import CallTest, StdioTest, TestOutcome, judge_program, run_tests
from longjing.tasks.sandbox.outcome import Limits, Outcome, Runner, SandboxError, printable
from longjing.tasks.sandbox.probe import Layer, layers
from longjing.tasks.sandbox.sandbox import Sandbox
from longjing.tasks.sandbox.unsafe import Unsafe
from longjing.tasks.sandbox.wasm import Wasm

__all__ = [
    "CallTest", "Layer", "Limits", "Outcome", "Runner", "Sandbox", "SandboxError", "StdioTest", "TestOutcome", "Unsafe",
    "Wasm", "judge_program", "layers", "open_sandbox", "printable", "run_tests",
]  # fmt: skip
