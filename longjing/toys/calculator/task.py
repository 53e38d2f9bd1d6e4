"""Calculator: sums too hard for the head, and a tool that works them out: a task of several turns.

An answer that holds `<calc>expression</calc>`, and no box, is told the value; then the model goes on.
"""

import re
from typing import ClassVar

from longjing.problems import Completion, Problem
from longjing.problems.expression import ExpressionError, parse_expression
from longjing.toys.arithmetic.task import Arithmetic, ArithmeticSettings
from longjing.toys.prose import Wording, read_difficulties
from longjing.validation import read_yaml

_CALL = re.compile(r"<calc>(.*?)</calc>", re.DOTALL)


class CalculatorSettings(ArithmeticSettings):
    """The settings of `arithmetic`, and harder ones."""

    difficulties: ClassVar = read_difficulties(__file__)


class Calculator(Arithmetic):
    """What is the value of an expression, with a calculator to ask?"""

    name = "calculator"
    settings_type = CalculatorSettings
    wording = read_yaml(__file__, "prompts.yaml", Wording)
    max_turns = 4

    def reply(self, problem: Problem, completion: Completion) -> str | None:
        """The calculator's answer to a turn (see `MultiTurnTask`). What is wrong with a call is said, too."""
        calls = _CALL.findall(completion.answer)
        if not calls or "\\boxed" in completion.answer:
            return None
        if len(calls) > 1:
            return "error: one <calc>...</calc> at a time"
        try:
            return f"= {parse_expression(calls[0]).value}"
        except ExpressionError as error:
            return f"error: {error}"
