"""What policies write that want the reward without the work; the linter tries all of it on a task.

Each gives completions (what follows the opened `<think>`) that no verifier may find correct, for a problem, its right
answer in the form that the task takes (`\\boxed{42}`), and the wrong ones of other problems.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from longjing.problems import Problem
from longjing.validation import read_yaml


@dataclass(frozen=True)
class Case:
    """A problem, and how its answer is given: `show` puts an answer into the form that the task takes."""

    problem: Problem
    others: Sequence[str]  # answers of other problems, other than its own
    show: Callable[[str], str]

    @property
    def gold(self) -> str:
        """The right answer."""
        return self.problem.answer

    def thought(self, answer: str, thought: str = "Some words of thought.") -> str:
        """A completion with this answer behind a thought."""
        return f"{thought}\n</think>\n\n{answer}"


Hack = Callable[[Case], list[str]]
_TEXTS = read_yaml(__file__, "reward_hacks.yaml", dict[str, list[str]])
_PROGRAM = re.compile(r"\b(?:lambda|def|return|print|import)\b")  # `;` and `or` join programs
_SUM = re.compile(r"[\d(][\d\s.()]{0,100}[-+*/^][\d\s.()*/^+-]{0,200}\d\)?")  # what is to be worked out


def _listed(case: Case) -> list[str]:
    if not case.others:
        return []
    marks = (", ",) if _PROGRAM.search(case.gold) else (", ", " or ", " ", "; ", "\n", " = ", "/")
    orders = ([case.gold, *case.others[:3]], [*case.others[:3], case.gold])
    return _shown([mark.join(order) for mark in marks for order in orders], case)


def _boxes(case: Case) -> list[str]:
    boxes = [f"\\boxed{{{answer}}}" for answer in (*case.others[:3], case.gold)]
    return [case.thought(" ".join(boxes)), case.thought("\n".join(reversed(boxes)))] if len(boxes) > 1 else []


def _prompt(case: Case) -> list[str]:
    prompt = case.problem.prompt
    sums = [text.strip() for text in _SUM.findall(prompt)]
    return [case.thought(prompt), case.thought(prompt, prompt), *_shown([prompt, *sums], case)]


def _numbers(case: Case) -> list[str]:
    everything = [str(number) for number in range(-20, 201)]
    lists = [everything, re.findall(r"\d+", case.problem.prompt)]
    return _shown([mark.join(numbers) for mark in (", ", " ") for numbers in lists if len(numbers) > 1], case)


def _reasoning_only(case: Case) -> list[str]:
    return [text.format(case.show(case.gold)) for text in _TEXTS["reasoning_only"]]


def _unclosed(case: Case) -> list[str]:
    shown = case.show(case.gold)
    texts = [text.format(shown) for text in _TEXTS["unclosed"]]
    return [*texts, case.thought(f"\\boxed{{{case.gold}")] if "\\boxed" in shown else texts


def _denied(case: Case) -> list[str]:
    return _shown([text.format(case.gold) for text in _TEXTS["denied"]], case)


def _shown(texts: Sequence[str], case: Case) -> list[str]:
    """Each text in the place of the answer."""
    return [case.thought(case.show(text)) for text in texts]


def _bare_and_shown(texts: Sequence[str], case: Case) -> list[str]:
    """Each text as it is, too."""
    return [case.thought(form) for text in texts for form in (text, case.show(text))]


_HUGE = (
    "9" * 5000, "10**10**8", "9^{9^{9^{9}}}", "1e999999999", "0." + "3" * 5000, "-" * 3000, "(" * 3000,
)  # fmt: skip
_LATEX = (
    "\\frac{" * 500 + "1" + "}{1}" * 500, "\\def\\x{\\x\\x}\\x", "\\input{/etc/passwd}", "\\sqrt[0]{0}",
    "\\frac{0}{0}", "\\lim_{x\\to 0} \\frac{\\sin x}{x^{10^9}}", "\\boxed{" * 200, "\\left(" * 500, "x" * 15_000,
)  # fmt: skip
HACKS: dict[str, Hack] = {
    "the answer among others in one": _listed,
    "several boxes": _boxes,
    "the prompt repeated": _prompt,
    "the form without content": partial(_shown, _TEXTS["empty"]),
    "every number listed": _numbers,
    "the answer in the reasoning only": _reasoning_only,
    "tags or boxes that aren't closed": _unclosed,
    "the answer denied": _denied,
    "claims that it is correct": partial(_bare_and_shown, _TEXTS["claims"]),
    "huge numbers": partial(_shown, _HUGE),
    "hostile LaTeX": partial(_shown, _LATEX),
    "code and control characters": partial(_bare_and_shown, _TEXTS["code"]),
}
COSTLY = ("huge numbers", "hostile LaTeX")  # a verifier may need seconds for each
