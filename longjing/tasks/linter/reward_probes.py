"""What a verifier pays for beside right answers: the linter's checks of length, words, wrong answers and Chinese.

Each compares completions that differ in one thing only.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from longjing.problems import Problem, Verdict
from longjing.tasks.linter.grader import Grader
from longjing.tasks.linter.report import Status, short
from longjing.validation import read_yaml

T = TypeVar("T")
_COMPARED = 3  # problems whose completions are padded
_PAID = ("accuracy", "format")  # the parts that are paid unless a recipe says otherwise


class _Texts(BaseModel):
    """What is put into completions; the words by language."""

    thoughts: dict[str, str]
    padding: dict[str, str]
    words: dict[str, list[str]]
    markup: list[str]
    chinese_thought: str
    sentences: list[tuple[str, str]]


_TEXTS = read_yaml(__file__, "reward_probes.yaml", _Texts)


class RewardProbes:
    """The checks of a grader that has chosen its form (`check_gold` comes first)."""

    def __init__(self, grader: Grader, problems: Sequence[Problem]) -> None:
        self.grader, self.report = grader, grader.report
        answered = [problem for problem in problems if problem.answer]
        languages = dict.fromkeys(problem.language for problem in answered)
        self.answered = answered
        # Of each language the first ones, in turn.
        turns = [[problem for problem in answered if problem.language == language] for language in languages]
        self.compared = [problem for turn in zip(*turns, strict=False) for problem in turn][:_COMPARED]
        self.compared = self.compared or answered[:_COMPARED]

    def check_length(self) -> None:
        """Check that nothing is paid for more text."""
        rises = []
        for problem in self.compared:
            padding = _in_language(_TEXTS.padding, problem)
            long = [padding * 10, padding * 200, "\n".join(f"{turn}. {padding}" for turn in range(50))]
            rises += self._rises(problem, [(text, "longer") for text in long])
        self._report("pay for length", rises)

    def check_words(self) -> None:
        """Check that nothing is paid for a word or a sign."""
        rises = []
        for problem in self.compared:
            words = [*_in_language(_TEXTS.words, problem), *_TEXTS.markup]
            rises += self._rises(problem, [(f"{word} " * 20, f"{short(word)} repeated") for word in words])
        self._report("pay for words", rises)

    def check_wrong_answers(self) -> None:
        """What is wrong should earn nothing, and never as much as what is right."""
        sample = self.answered[: self.grader.sample_size]
        for problem, other in zip(sample, [*self.answered[1:], *self.answered[:1]], strict=False):
            for near in _near(problem.answer, other.answer):
                self.grader.judge(problem, self.grader.completion(near))
        wrong = [judged for judged in self.grader.judged if judged.verdict.outcome == "wrong"]
        right = [judged.verdict for judged in self.grader.judged if judged.verdict.outcome == "correct"]
        if not wrong or not right:
            return
        paid = [judged for judged in wrong if judged.verdict.rewards.get("accuracy", 0.0) > 0]
        least = min(map(_total, right))
        problem, text, _, verdict = max(wrong, key=lambda judged: _total(judged.verdict))
        most = _total(verdict)
        status: Status = "failed" if paid else "ok"
        if paid and not (most >= least and most > 0):
            status = "warning"
            problem, text, _, verdict = max(paid, key=lambda judged: judged.verdict.rewards["accuracy"])
            most = verdict.rewards["accuracy"]
        gaps: dict[str, Any] = {"paid": len(paid), "count": len(wrong), "most": most, "least": least}
        self.report.add("pay for wrong answers", status, problem=problem, text=text, **gaps)

    def check_chinese(self) -> None:
        """A right answer stays right with Chinese around it, and in full-width digits where problems are Chinese."""
        grader, lost, wide = self.grader, list[str](), list[str]()
        boxed = "\\boxed" in grader.show("")
        chinese_ones = [problem for problem in self.answered if problem.language == "zh"]
        for problem in [*chinese_ones[: grader.sample_size], *self.answered[: grader.sample_size]]:
            shown = grader.show(problem.answer)
            right = grader.completion(problem.answer)
            pairs = [(right, grader.completion(problem.answer, _TEXTS.chinese_thought))]
            if boxed:
                pairs += [(english.format(shown), chinese.format(shown)) for english, chinese in _TEXTS.sentences]
            for plain, chinese in pairs:
                if grader.is_correct(problem, plain) and not grader.is_correct(problem, chinese):
                    lost.append(f"{short(chinese)} to {short(problem.prompt)}")
            digits = problem.answer.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})
            widened = problem.language == "zh" and re.fullmatch(r"-?[\d./]+", problem.answer, re.ASCII)
            if widened and grader.is_correct(problem, right):
                wide += [] if grader.is_correct(problem, grader.completion(digits)) else [short(digits)]
        status: Status = "failed" if lost else "warning" if wide else "ok"
        self.report.add("answers in Chinese", status, lost=len(lost), first=next(iter(lost or wide), ""))

    def _rises(self, problem: Problem, additions: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """For each part of the reward that an addition raised: the part, and what raised it."""
        rises = []
        thought = _in_language(_TEXTS.thoughts, problem)
        wrong = next((other.answer for other in self.answered if other.answer != problem.answer), "qwzvjk")
        for kind, answer in (("right", problem.answer), ("wrong", wrong)):
            shown = self.grader.show(answer)
            plain = self.grader.judge(problem, f"{thought}\n</think>\n\n{shown}")
            if plain is None:
                continue
            for text, what in additions:
                for where, padded in (
                    ("reasoning", f"{text}{thought} {text}\n</think>\n\n{shown}"),
                    ("answer", f"{thought}\n</think>\n\n{text}\n{shown}"),
                ):
                    verdict = self.grader.judge(problem, padded)
                    # That a wrong answer becomes right is for other checks to say.
                    if verdict is None or (verdict.outcome == "correct" and plain.outcome != "correct"):
                        continue
                    for part, after in verdict.rewards.items():
                        before = plain.rewards.get(part, 0.0)
                        if after > before + 1e-9:
                            change = f"{part} rises from {before:g} to {after:g}"
                            rises.append((part, f"{change} in a {kind} answer ({what}, in the {where})"))
        return rises

    def _report(self, check: str, rises: Sequence[tuple[str, str]]) -> None:
        main = [rise for rise in rises if rise[0] in _PAID]
        status: Status = "failed" if main else "warning" if rises else "ok"
        _, rise = next(iter(main or rises), ("", ""))
        self.report.add(check, status, rise=rise, count=len(self.compared))


def _in_language(texts: dict[str, T], problem: Problem) -> T:
    return texts.get(problem.language, texts["en"])


def _total(verdict: Verdict) -> float:
    return sum(verdict.rewards.get(part, 0.0) for part in _PAID)


def _near(answer: str, other: str) -> list[str]:
    """Wrong answers that look like the right one."""
    other_end = "0" if answer[-1:] != "0" else "1"
    near = [other, answer[: len(answer) // 2], answer[:-1] + other_end, f"{answer} {other}"]
    if answer.lstrip("-").isdecimal() and len(answer) < 20:
        near += [str(int(answer) + 1), str(int(answer) - 1), str(-int(answer))]
    return [text for text in dict.fromkeys(near) if text and text != answer]
