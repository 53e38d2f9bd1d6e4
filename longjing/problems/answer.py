"""Where a completion puts its final answer, and the format reward."""

import re

from longjing.problems.problem import Completion

BOX = "\\boxed{"
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # `\{` is a sign, no brace: `\left\{ ... \right.` has only one
_MAX_BOX = 10_000  # characters; bounds the time that a hostile text costs


def boxed(text: str) -> str | None:
    """The content of the one `\\boxed{...}` of `text`, without the spaces around it; braces may nest.

    None if there is no box, if it is not closed within 10,000 characters, or if there are several: hedging is
    not answering.
    """
    if text.count("\\boxed") != 1:  # not `BOX`: `\boxed 7` beside a box is a second answer, too
        return None
    box = text.find(BOX)
    if box < 0:
        return None
    start = box + len(BOX)
    depth = 1
    for brace in _BRACE.finditer(text, start, start + _MAX_BOX):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if not depth:
            return text[start : brace.start()].strip()
    return None


def format_reward(completion: Completion) -> float:
    """1.0 if the completion has R1's form, else 0.0 (DeepSeek-R1, arXiv 2501.12948, section 2.2.2).

    The form: it ended by itself; reasoning that is not empty, opened once (a prefilled `<think>` is the
    opening) and closed once, with no box in it; then an answer with exactly one box that is not empty.
    """
    return float(
        completion.well_formed
        and not completion.truncated
        and completion.reasoning.strip() != ""
        and "\\boxed" not in completion.reasoning
        and bool(boxed(completion.answer))
    )
