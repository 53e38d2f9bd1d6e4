"""A mixture is each of its parts, and conversation is a task without right answers."""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing import tasks
from longjing.errors import UserError
from longjing.tasks import Completion, Problem, Task
from longjing.toys.conversation.task import TALK

PARTS: list[dict[str, Any]] = [
    {"name": "countdown", "weight": 3.0, "difficulty": 3},
    {"name": "equations", "weight": 1.0, "language": "zh"},
    {"name": "conversation", "weight": 2.0},
]
seeds = st.integers(0, 10**6)
splits = st.sampled_from(["train", "validation", "test"])


def sample(task: Task, split: Any = "train", seed: int = 0, count: int = 40) -> list[Problem]:
    return list(islice(task.problems(split, seed), count))


@pytest.fixture(scope="module")
def mixture() -> Task:
    return tasks.get("mixture", parts=PARTS)


# A mixture


@settings(max_examples=20)
@given(seeds, splits)
def test_each_part_yields_what_it_yields_alone(seed: int, split: Any) -> None:
    mixture = tasks.get("mixture", parts=PARTS)
    problems = sample(mixture, split, seed)
    assert problems == sample(tasks.get(mixture.name, **mixture.settings), split, seed)
    for part in PARTS:
        own = [problem for problem in problems if problem.task == part["name"]]
        alone = {name: value for name, value in part.items() if name != "weight"}
        assert own == sample(tasks.get(**alone), split, seed, len(own))


def test_parts_are_met_as_often_as_their_weights_say(mixture: Task) -> None:
    counts = Counter(problem.task for problem in sample(mixture, count=3000))
    assert counts["countdown"] == pytest.approx(1500, abs=120)
    assert counts["conversation"] == pytest.approx(1000, abs=120)
    assert counts["equations"] == pytest.approx(500, abs=120)


def test_a_mixture_in_a_mixture_is_its_parts() -> None:
    inner = {"name": "mixture", "weight": 2.0, "parts": PARTS}
    task = tasks.get("mixture", parts=[inner, {"name": "arithmetic"}])
    shares = {part["name"]: part["weight"] for part in task.settings["parts"]}
    assert shares == pytest.approx({"countdown": 1.0, "equations": 1 / 3, "conversation": 2 / 3, "arithmetic": 1.0})
    assert {problem.task for problem in sample(task)} == shares.keys()


def test_a_problem_is_judged_and_solved_by_its_part(mixture: Task) -> None:
    for problem in sample(mixture):
        part = tasks.get(problem.task)
        box = f"\\boxed{{{problem.answer}}}" if problem.task != "conversation" else problem.answer
        for text in (f"so\n</think>\n\n{box}", "so\n</think>\n\n\\boxed{nothing}", "so"):
            completion = Completion.parse(text)
            assert mixture.judge(problem, completion) == part.judge(problem, completion)
        assert mixture.judge(problem, Completion.parse(f"so\n</think>\n\n{box}")).outcome == "correct"
        assert mixture.solve(problem) == part.solve(problem)
    stranger = replace(problem, task="arithmetic")
    assert mixture.judge(stranger, completion).outcome == "unjudged"


def test_held_out_problems_come_once_and_end() -> None:
    """Also those that two parts share; a part that has no more leaves the others to go on."""
    small = {"name": "countdown", "numbers": 2, "largest": 6, "smallest_target": 1, "largest_target": 12}
    task = tasks.get("mixture", parts=[small, small | {"language": "zh"}, {"name": "conversation"}])
    test = list(task.problems("test", 0))
    assert len({problem.id for problem in test}) == len(test)
    alone = {problem.id for problem in tasks.get(**small).problems("test", 0)}
    alone |= {problem.id for problem in tasks.get("conversation").problems("test", 0)}
    assert {problem.id for problem in test} == alone
    assert not alone & {problem.id for problem in sample(task, count=500)}


@pytest.mark.parametrize(
    ("task_settings", "expected"),
    [
        ({}, "'parts'"),
        ({"parts": []}, "'parts'"),
        ({"parts": [{"name": "coutdown"}]}, "did you mean 'countdown'"),
        ({"parts": [{"name": "countdown", "nubmers": 3}]}, "did you mean 'numbers'"),
        ({"parts": [{"name": "countdown", "weight": 0}]}, "'parts.0.weight' is 0"),
        ({"parts": [{"name": "countdown"}], "difficulty": 3}, "no setting 'difficulty'"),
        ({"parts": [{"name": "conversation", "language": "de"}]}, "'language' is 'de'"),
    ],
)
def test_parts_that_cannot_be_are_refused(task_settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as raised:
        tasks.get("mixture", **task_settings)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


# Conversation


@pytest.mark.parametrize("language", ["en", "zh", "mixed"])
def test_prompts_are_those_of_the_corpus_in_the_language_asked_for(language: str) -> None:
    task = tasks.get("conversation", language=language)
    sayings = {saying for subject in TALK.values() for saying in subject.sayings}
    met: list[str] = []
    for split in ("train", "validation", "test"):
        held = sample(task, split, count=300)
        assert len(held) == 300 or len({problem.id for problem in held}) == len(held)
        met += sorted({problem.data["saying"] for problem in held})
        for problem in held:
            assert problem.language == ("en" if problem.prompt.isascii() else "zh")
            assert "{" not in problem.prompt + problem.answer and json.dumps(problem.data)
    assert len(met) == len(set(met)), "a saying is in two splits"
    assert set(met) == {s for s in sayings if language == "mixed" or s.isascii() == (language == "en")}


@pytest.mark.parametrize(
    ("text", "format", "outcome"),
    [
        ("</think>\n\nHello! How can I help?", 1.0, "correct"),
        ("They greet me.\n</think>\n\nHello!", 1.0, "correct"),
        ("</think>\n\n你好！", 1.0, "wrong"),
        ("</think>\n\n7", 1.0, "correct"),
        ("Hello!", 0.0, "wrong"),
        ("</think>\n\n", 0.0, "wrong"),
        ("so</think>Hello</think>there", 0.0, "wrong"),
        ("so</think><think>Hello", 0.0, "wrong"),
    ],
)
def test_form_and_language_are_all_that_is_judged(text: str, format: float, outcome: str) -> None:
    task = tasks.get("conversation", language="en")
    (problem,) = sample(task, count=1)
    verdict = task.judge(problem, Completion.parse(text))
    assert (verdict.rewards, verdict.outcome) == ({"format": format}, outcome)
    truncated = task.judge(problem, Completion.parse(text, truncated=True))
    assert (truncated.rewards, truncated.outcome) == ({"format": 0.0}, "wrong")


def test_its_own_answers_are_fitting() -> None:
    task = tasks.get("conversation")
    for problem in sample(task, count=300):
        assert task.judge(problem, Completion.parse(f"</think>\n\n{problem.answer}")).outcome == "correct"
        assert task.solve(problem) == problem.answer
