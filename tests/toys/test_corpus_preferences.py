"""Generated preference data: what makes an answer better, what makes a text harmless, and the dial for length."""

import re
from collections import Counter, defaultdict
from functools import cache
from itertools import islice
from statistics import fmean
from typing import Any

import pytest
from pydantic import ValidationError

from longjing.data.preference_data import Preference
from longjing.problems import boxed
from longjing.problems.language import share
from longjing.toys.conversation.task import TALK
from longjing.toys.corpus import prompt_kinds
from longjing.toys.generated_preferences import WORSE, GeneratedPreferences, helpfulness, safety

# But for programs, which are in no language.
SHARES = {kind: 1.0 for kind in prompt_kinds() if kind != "code"}
TASKS = {"countdown": {"numbers": 3}, "arithmetic": {"difficulty": 1}}
COUNT = 2000


@cache
def pairs(length_bias: float = 0.0) -> list[Preference]:
    return list(islice(helpfulness(1, SHARES, TASKS, length_bias), COUNT))


@cache
def labelled() -> list[Preference]:
    return list(islice(safety(1, SHARES, TASKS), COUNT))


def question(example: Preference) -> str:
    return str(example.prompt[0]["content"])


def language(example: Preference) -> str:
    return "en" if question(example).isascii() else "zh"


def by_kind(examples: list[Preference]) -> dict[str, list[Preference]]:
    kinds = defaultdict(list)
    for example in examples:
        kinds[example.kind].append(example)
    return kinds


def longer_chosen(examples: list[Preference]) -> float:
    leads = [len(e.texts[0].answer) - len(e.texts[1].answer) for e in examples]
    return fmean(lead > 0 for lead in leads if lead)


def test_each_way_of_being_worse_has_its_share() -> None:
    counts = {spoken: Counter(e.kind for e in pairs() if language(e) == spoken) for spoken in ("en", "zh")}
    assert counts["en"].keys() == counts["zh"].keys() == WORSE.keys()
    for kind, often in WORSE.items():
        assert counts["en"][kind] / counts["en"].total() == pytest.approx(often / sum(WORSE.values()), abs=0.03)


def test_neither_language_is_the_better_one() -> None:
    chosen = Counter(language(example) for example in pairs() if example.kind == "language")
    assert 0.8 < chosen["en"] / chosen["zh"] < 1.25


def test_the_better_answer_is_clear_and_the_worse_one_is_worse_as_its_kind_says() -> None:
    for example in pairs():
        chosen, rejected = (text.answer for text in example.texts)
        assert chosen and chosen != rejected and not any(text.reasoning for text in example.texts)
        assert share(chosen, language(example)) > 0.9 or boxed(chosen)
        if example.kind == "rambling":
            assert len(rejected) > len(chosen) and share(rejected, language(example)) > 0.9
        elif example.kind == "bare":
            assert len(rejected) < len(chosen)
        elif example.kind == "empty":
            assert not rejected
        elif example.kind == "language":
            assert share(rejected, language(example)) < 0.5


def test_no_answer_to_a_problem_is_wrong_and_evasion_states_none() -> None:
    """Right and wrong are for the rules: both sides state the same result, or one says nothing about it."""
    problems = [example for example in pairs() if boxed(example.texts[0].answer)]
    assert len(problems) > 0.7 * COUNT
    for example in problems:
        chosen, rejected = (boxed(text.answer) for text in example.texts)
        stated = example.kind in ("bare", "rambling", "language")
        assert rejected == (chosen if stated else None), example


def test_what_is_beside_the_point_answers_something_else() -> None:
    """No rejected answer is one of those that go with what was said."""
    fitting = {
        saying: [re.sub(r"{\w+}", ".+", re.escape(a).replace(r"\{", "{").replace(r"\}", "}")) for a in subject.answers]
        for subject in TALK.values()
        for saying in subject.sayings
        if not any(answer.startswith("{") for answer in subject.answers)
    }
    talk = [e for e in pairs() if e.kind == "beside the point" and question(e) in fitting]
    assert len(talk) > 20
    for example in talk:
        chosen, rejected = (text.answer for text in example.texts)
        forms = fitting[question(example)]
        assert any(re.fullmatch(form, chosen) for form in forms)
        assert not any(re.fullmatch(form, rejected) for form in forms), example


def test_length_by_itself_says_little() -> None:
    assert 0.4 < longer_chosen(pairs()) < 0.6


def test_the_dial_turns_the_preference_towards_length_and_nothing_else() -> None:
    def sides(examples: list[Preference]) -> list[tuple[str, set[str]]]:
        return [(question(e), {text.answer for text in e.texts}) for e in examples]

    shares = [longer_chosen(pairs(bias)) for bias in (0.0, 0.3, 0.6, 1.0)]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert sides(pairs(1.0)) == sides(pairs(0.3)) == sides(pairs())


def test_labels_are_even_and_every_kind_has_one() -> None:
    assert fmean(bool(example.label) for example in labelled()) == pytest.approx(0.55, abs=0.05)
    labels = {kind: {example.label for example in examples} for kind, examples in by_kind(labelled()).items()}
    assert labels == {
        "ordinary": {True}, "refusal": {True}, "help": {True}, "caution": {True},
        "insult": {False}, "insult in the reasoning": {False}, "compliance": {False}, "two-faced": {False},
    }  # fmt: skip
    assert all(len(examples) > 40 for examples in by_kind(labelled()).values())


def test_the_answer_alone_does_not_give_the_label_away() -> None:
    """Help is harmless or not by what was asked; a refusal is harmless or not by what was thought."""
    answers: dict[str, set[str]] = {
        kind: {example.texts[0].answer for example in examples} for kind, examples in by_kind(labelled()).items()
    }
    assert answers["two-faced"] == answers["refusal"] == answers["caution"]
    openings = {
        kind: {answer.split(".")[0].split("。")[0] for answer in answers[kind]} for kind in ("help", "compliance")
    }
    assert len(openings["help"] & openings["compliance"]) >= 4
    thoughts = {
        kind: {example.texts[0].reasoning for example in examples} for kind, examples in by_kind(labelled()).items()
    }
    assert not thoughts["two-faced"] & thoughts["refusal"]


def test_the_same_seed_gives_the_same_and_another_gives_another() -> None:
    for maker in (helpfulness, safety):
        first, again, other = (list(islice(maker(seed, SHARES, TASKS), 50)) for seed in (1, 1, 2))
        assert first == again != other


def test_only_what_has_a_share_is_asked() -> None:
    (example,) = islice(helpfulness(0, {"arithmetic": 1.0, "countdown": 0.0}, {}), 1)
    assert boxed(example.texts[0].answer) and not any(word in question(example) for word in ("exactly once", "恰好"))
    only = GeneratedPreferences(generated="safety", examples=30, corpus={"conversation": 1.0})
    assert not any("boxed" in text.answer for example in only.make(0) for text in example.texts)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"generated": "safety", "length_bias": 0.5}, "length_bias"),
        ({"generated": "helpfulness", "corpus": {"poems": 1}}, "poems"),
        ({"generated": "helpfulness", "corpus": {"countdown": 0}}, "zero"),
        ({"generated": "helpfulness", "corpus": {"countdown": -1, "arithmetic": 1}}, "negative"),
        ({"generated": "helpfulness", "tasks": {"countdown": {"numbers": 99}}}, "numbers"),
        ({"generated": "kindness"}, "helpfulness"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        GeneratedPreferences.model_validate(settings)


def test_what_isn_t_said_otherwise_can_be_made() -> None:
    for generated in ("helpfulness", "safety"):
        assert len(GeneratedPreferences(generated=generated, examples=60).make(0)) == 60
    with pytest.raises(ValidationError, match="drill"):
        GeneratedPreferences(generated="helpfulness", corpus={"drill": 1.0})
