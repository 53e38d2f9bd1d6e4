"""Verifiers by name, and several of them as one reward.

`get(name, **settings)` gives a verifier. To add one, subclass `base.Verifier` (or `base.AnswerVerifier`, if it looks
at the final answer only) and enter it below.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from longjing.errors import UserError
from longjing.problems import Completion, Problem, Verdict, format_reward
from longjing.validation import explain_settings, nearest
from longjing.verifiers.base import Judgement, RubricSpec, Verifier
from longjing.verifiers.code_execution import CodeExecution
from longjing.verifiers.format_checks import Format, Language, Length
from longjing.verifiers.json_answer import Json
from longjing.verifiers.judge import Judge
from longjing.verifiers.mathematics import Math
from longjing.verifiers.numbers import ExpressionValue, Number
from longjing.verifiers.string_match import Exact, MultipleChoice, Regex

__all__ = ["RubricSpec", "Judgement", "Rubric", "Verifier", "get", "names"]

_VERIFIERS: dict[str, type[Verifier[Any]]] = {
    verifier.name: verifier
    for verifier in (
        Exact, Number, ExpressionValue, Math, MultipleChoice, Json, Regex, CodeExecution, Format, Language, Length,
        Judge,
    )
}  # fmt: skip


def names() -> list[str]:
    return list(_VERIFIERS)


def get(name: str, **settings: Any) -> Verifier[Any]:
    """The verifier of that name. Raises UserError for an unknown one and for what it can't honour."""
    if name not in _VERIFIERS:
        raise UserError(f"no verifier {name!r}{nearest(name, names())}; the verifiers are: {', '.join(names())}")
    verifier = _VERIFIERS[name]
    try:
        return verifier(verifier.settings_type(**settings))
    except ValidationError as error:
        raise UserError(f"verifier {name!r}: {explain_settings(error, verifier.settings_type)}") from None


class Rubric:
    """Verifiers with a label and a weight each.

    `spec`: a name (`math`), or by label a weight (`{math: 1.0, format: 0.1}`) or settings, among them `weight` and,
    where the label is another, the `verifier` (`{short: {verifier: length, most: 400, weight: 0.1}}`).
    """

    def __init__(self, spec: RubricSpec) -> None:
        self.parts: dict[str, tuple[Verifier[Any], float]] = {}
        entries: Mapping[str, Any] = {spec: 1.0} if isinstance(spec, str) else spec
        for label, entry in entries.items():
            settings: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
            weight, name = settings.pop("weight", 1.0), settings.pop("verifier", label)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) < 1e6:
                raise UserError(f"verifier {label!r}: its weight is {weight!r}, which is no number")
            self.parts[label] = (get(name, **settings), float(weight))
        if not self.parts:
            raise UserError(f"there is no verifier; the verifiers are: {', '.join(names())}")

    @classmethod
    def single(cls, label: str, verifier: Verifier[Any]) -> "Rubric":
        rubric = cls.__new__(cls)
        rubric.parts = {label: (verifier, 1.0)}
        return rubric

    @property
    def needs_answer(self) -> bool:
        return any(verifier.needs_answer for verifier, _ in self.parts.values())

    @property
    def wants_box(self) -> bool:
        """Whether a verifier looks for the final answer in a box."""
        return any(getattr(verifier.options, "final", None) == "box" for verifier, _ in self.parts.values())

    @property
    def concurrency(self) -> int:
        return max(verifier.concurrency for verifier, _ in self.parts.values())

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """`accuracy` is the weighted sum of all scores, and each score stands under its label, too. Correct is what
        all say that decide (or just all, if none decides); a single one that failed leaves it unjudged."""
        judgements = {}
        total = 0.0
        for label, (verifier, weight) in self.parts.items():
            judgements[label] = verifier.judge(problem, completion)
            total += weight * judgements[label].score
        rewards = {label: judgement.score for label, judgement in judgements.items()}
        rewards |= {"accuracy": total, "format": format_reward(completion)}
        for judgement in judgements.values():
            if judgement.outcome == "unjudged":
                nothing = dict.fromkeys(rewards, 0.0) | {"format": rewards["format"]}
                return Verdict("unjudged", nothing, judgement.reason)
        deciding = [label for label, (verifier, _) in self.parts.items() if verifier.decides] or list(judgements)
        for label in deciding:
            if judgements[label].outcome == "wrong":
                return Verdict("wrong", rewards, judgements[label].reason)
        return Verdict("correct", rewards, "correct")
