"""`gsm_symbolic`: the calculation that comes with each problem of the library."""

import re

from longjing.problems import Problem
from longjing.tasks.reasoning_gym import metadata

_RESULT = re.compile(r"\n?####.*\Z", re.DOTALL)
_ZERO_CENTS = re.compile(r"(?<=\d)\.0\b")
_MARKS = str.maketrans({"×": "*", "÷": "/", "•": "-", "€": "$", "£": "$"})


def solution(problem: Problem) -> str | None:
    """The reasoning; None if the library gives none."""
    work = metadata(problem).get("answer_cot")
    if not isinstance(work, str) or "####" not in work:
        return None
    text = _ZERO_CENTS.sub("", _RESULT.sub("", work).translate(_MARKS))
    text = re.sub(r"(?<=\d) x (?=[$\d])", " * ", text)
    return re.sub(r"\n\s*\n", "\n", text).strip()
