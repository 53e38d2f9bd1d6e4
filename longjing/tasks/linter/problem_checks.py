"""The linter's checks of the problems alone: their splits, their seed, and answers that stand in prompts."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from longjing.problems import Problem
from longjing.tasks.linter.report import Report, Status, short

# The share of prompts that hold their answer, and by how much more of them than hold another problem's.
_LEAKED, _MORE = 0.25, 0.2
_MARK = r"(?:answer|solution|result|####|=>|\\boxed\{|答案|结果)\s*(?:is|=|:|：|是|为)?\s*[\"'(\[]?"
# Options to choose from: two in one prompt, as `A) ... B) ...`.
_OPTIONS = re.compile(r"(?:^|[\s(])\(?A[).:：、][\s\S]{1,2000}?[\s(]\(?B[).:：、]")
_CJK = r"[\u3400-\u9fff]"
_ALIKE = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-") | {"·": "*", "⋅": "*", "×": "*", "÷": "/"})


def check_splits(report: Report, sampled: Mapping[str, Sequence[Problem]]) -> None:
    """No problem, and no prompt with its answer, may be in two splits, be it in other capitals, spaces or punctuation,
    nor twice in a held-out one. (A task that replies may ask all the same.)"""
    home: dict[str, tuple[str, str]] = {}
    for split, problems in sampled.items():
        seen: set[str] = set()
        for problem in problems:
            if split != "train" and problem.id in seen:
                return report.add("splits are disjoint", "failed", "twice in a split", problem, split=split)
            seen.add(problem.id)
            for key in (problem.id, f"{plain_question(problem.prompt)}\n{plain_question(problem.answer)}"):
                other, prompt = home.setdefault(key, (split, problem.prompt))
                if other != split:
                    form = "" if prompt == problem.prompt else f", there as {short(prompt)},"
                    gaps: dict[str, Any] = {"split": split, "form": form, "other": other}
                    return report.add("splits are disjoint", "failed", problem=problem, **gaps)
    report.add("splits are disjoint", "ok")


def plain_question(text: str) -> str:
    """A text without what is mere form: capitals, white space, full width, marks of Markdown and LaTeX around words,
    and punctuation but for formulas' signs and brackets."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_ALIKE)
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    text = re.sub(r"['’‘`\"“”«»]", "", text)
    text = re.sub(r"[!?;:、。…—#$]|\*\*|(?<!\d)[.,]|[.,](?!\d)|(?<=[^\W\d])[-_](?=[^\W\d])", " ", text)
    text = " ".join(text.split())  # one space at a time from here on, or the time would grow with the square
    text = re.sub(rf"(?<={_CJK}) | (?={_CJK})", "", text)
    return re.sub(r" ?([^\w\s]) ?", r"\1", text).strip()


def check_answers_in_prompts(report: Report, problems: Sequence[Problem]) -> None:
    """How many prompts hold their answer, compared with how many hold another problem's: a number of the prompt may be
    the answer by chance, and whoever asks for yes or no says both."""
    answered = [problem for problem in problems if problem.answer.strip()]
    open_questions = [problem for problem in answered if not _OPTIONS.search(problem.prompt)]
    if not open_questions:
        if answered:
            report.add("answers in prompts", "ok", "answers among options")
        return
    pairs = [(one, other.answer) for one, other in _others(open_questions)]
    leaking = [problem for problem in open_questions if _place(problem.prompt, problem.answer)]
    share, chance = len(leaking) / len(open_questions), _share(pairs)
    marked = [problem for problem in open_questions if _place(problem.prompt, problem.answer, _MARK)]
    chance_marked = _share(pairs, _MARK)
    status: Status = "ok"
    first = leaking[:1]
    if len(marked) > len(open_questions) * max(0.01, 2 * chance_marked):
        status, first = "failed", marked
    elif share >= _LEAKED and share >= chance + _MORE:
        status = "warning"
    gaps: dict[str, Any] = {"count": len(open_questions), "marked": len(marked), "share": share, "chance": chance}
    report.add("answers in prompts", status, text=_around(first[0]) if first else "", **gaps)


def _others(problems: Sequence[Problem]) -> list[tuple[Problem, Problem]]:
    """Each problem with another that has another answer, where there is one nearby."""
    count = len(problems)
    pairs = []
    for index, problem in enumerate(problems):
        nearby = (problems[(index + step) % count] for step in range(1, min(count, 50)))
        other = next((each for each in nearby if each.answer != problem.answer), None)
        if other is not None:
            pairs.append((problem, other))
    return pairs


def _share(pairs: Sequence[tuple[Problem, str]], mark: str = "") -> float:
    return sum(_place(problem.prompt, answer, mark) is not None for problem, answer in pairs) / max(1, len(pairs))


def _place(prompt: str, answer: str, mark: str = "") -> re.Match[str] | None:
    """Where the answer stands in the prompt as a word or number of its own."""
    wanted = re.escape(" ".join(answer.split()))
    before = "" if re.match(_CJK, answer) or mark else r"(?<![\w.])"
    after = "" if re.search(f"{_CJK}$", answer) else r"(?!\w|[.,]\d)"
    return re.search(mark + before + wanted + after, " ".join(prompt.split()), re.IGNORECASE)


def _around(problem: Problem) -> str:
    """The part of the prompt in which its answer stands."""
    prompt = " ".join(problem.prompt.split())
    match = _place(prompt, problem.answer, _MARK) or _place(prompt, problem.answer)
    return prompt if match is None else prompt[max(0, match.start() - 25) : match.end() + 15]
