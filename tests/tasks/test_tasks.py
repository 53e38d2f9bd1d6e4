"""What holds for every task: splits, determinism, verdicts, rewards, settings."""

import dataclasses
import json
from itertools import islice
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing import tasks
from longjing.errors import UserError
from longjing.sandbox import layers
from longjing.tasks import Completion, Problem, Task
from longjing.tasks.linter import check

EVERY = [(name, difficulty) for name in tasks.names() for difficulty in range(1, 6)]
every = pytest.mark.parametrize(("name", "difficulty"), EVERY)
any_task = st.sampled_from(EVERY).map(lambda drawn: tasks.get(drawn[0], difficulty=drawn[1]))
seeds = st.integers(0, 10**6)


def answered(answer: str, truncated: bool = False) -> Completion:
    return Completion.parse(f"so\n</think>\n\n\\boxed{{{answer}}}", truncated=truncated)


def sample(task: Task, split: Any = "train", seed: int = 0, count: int = 20) -> list[Problem]:
    return list(islice(task.problems(split, seed), count))


@every
def test_every_check_passes(name: str, difficulty: int) -> None:
    if name == "code":
        if any(layer.required and layer.problem for layer in layers()):
            pytest.skip("no isolation here")
        if difficulty != 2:
            pytest.skip("each of thousands of programs runs: one difficulty is enough")
    report = check(tasks.get(name, difficulty=difficulty), problems=20)
    assert report.problems == {"train": 20, "validation": 20, "test": 20}
    assert {finding.check for finding in report.findings if finding.status != "ok"} <= {"time"}, report.findings


@settings(max_examples=20, deadline=None)
@given(any_task, seeds, seeds)
def test_splits_are_disjoint_whatever_the_seeds(task: Task, one: int, other: int) -> None:
    home: dict[str, str] = {}
    for split, seed in (("train", one), ("train", other), ("validation", one), ("test", other), ("test", one)):
        for problem in sample(task, split, seed):
            assert home.setdefault(problem.id, split) == split


@settings(max_examples=20, deadline=None)
@given(any_task, seeds, st.sampled_from(["train", "validation", "test"]))
def test_problems_depend_on_the_seed_alone(task: Task, seed: int, split: str) -> None:
    problems = sample(task, split, seed)
    assert problems == sample(tasks.get(task.name, **task.settings), split, seed)
    assert [p.id for p in problems] != [p.id for p in sample(task, split, seed + 1)]
    for problem in problems:
        assert json.loads(json.dumps(dataclasses.asdict(problem))) == dataclasses.asdict(problem)
        assert problem.task == task.name


def test_held_out_problems_are_yielded_once_until_none_is_left() -> None:
    task = tasks.get("countdown", numbers=2, largest=6, smallest_target=1, largest_target=12)
    test = [problem.id for problem in task.problems("test", 0)]
    assert len(test) == len(set(test)) > 0
    assert set(test) == {problem.id for problem in task.problems("test", 1)}
    assert set(test).isdisjoint(problem.id for problem in sample(task, count=3000))


def test_the_shares_of_the_splits() -> None:
    shares = {"train": 0, "validation": 0, "test": 0}
    for number in range(20_000):
        shares[tasks.split_of(f"key {number}")] += 1
    assert shares["train"] == pytest.approx(18_000, abs=200)
    assert shares["validation"] == pytest.approx(1000, abs=130)
    assert shares["test"] == pytest.approx(1000, abs=130)


@every
def test_languages(name: str, difficulty: int) -> None:
    def chinese(text: str) -> bool:
        return any("\u4e00" <= sign <= "\u9fff" for sign in text)

    for language in ("en", "zh", "mixed"):
        problems = sample(tasks.get(name, difficulty=difficulty, language=language), count=200)
        assert all(chinese(p.prompt) == (p.language == "zh") for p in problems)
        share = sum(p.language == "zh" for p in problems) / len(problems)
        assert share == {"en": 0, "zh": 1}.get(language, pytest.approx(0.3, abs=0.12))
        assert len({p.prompt.split(" ")[0] for p in problems}) >= 4
        assert not any(sign in p.prompt for p in problems for sign in ("{a}", "{noun", "None", "  "))


@settings(max_examples=30, deadline=None)
@given(any_task, seeds)
def test_truncation_pays_nothing_and_a_wrong_answer_its_format_only(task: Task, seed: int) -> None:
    (problem,) = sample(task, seed=seed, count=1)
    cut = task.judge(problem, answered(problem.answer, truncated=True))
    assert cut.outcome == "wrong" and set(cut.rewards.values()) == {0.0}
    wrong = task.judge(problem, answered("0.123"))
    assert wrong.outcome == "wrong" and wrong.rewards == {"accuracy": 0.0, "format": 1.0} and wrong.reason
    unclosed = task.judge(problem, Completion.parse(f"so \\boxed{{{problem.answer}}}"))
    assert unclosed.outcome == "wrong" and set(unclosed.rewards.values()) == {0.0}
    unopened = task.judge(problem, Completion.parse(f"\\boxed{{{problem.answer}}}", prefilled=False))
    assert unopened.outcome == "correct" and unopened.rewards == {"accuracy": 1.0, "format": 0.0}
    hedged = task.judge(problem, answered(f"{problem.answer}}} or \\boxed{{{problem.answer}"))
    assert hedged.outcome == "wrong"


@settings(max_examples=60, deadline=None)
@given(any_task, st.text(alphabet="0123456789+-*/=xy,;，。 （）\\{}\n", max_size=30) | st.text(max_size=30))
def test_judging_never_raises(task: Task, text: str) -> None:
    (problem,) = sample(task, count=1)
    assert task.judge(problem, answered(text)).outcome in ("correct", "wrong")
    assert task.judge(problem, Completion.parse(text)).outcome == "wrong"


HOSTILE = [
    "x" * 10**6,
    "(" * 10**6,
    "9" * 10**6,
    "1+" * 500_000,
    "x=" * 500_000,
    "," * 10**6,
    "\x00" * 10**6,
    "９" * 10**6,
    "\\boxed{" * 150_000,
    "{" * 10**6,
    "{}" * 500_000,
    "</think>" * 100_000,
    "\ud800",
]


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_completions_cost_little(name: str, text: str) -> None:
    task = tasks.get(name)
    (problem,) = sample(task, count=1)
    for completion in (answered(text), Completion(text, text, True, True, False)):
        start = process_time()
        assert task.judge(problem, completion).outcome == "wrong"
        assert process_time() - start < 0.5


CORRUPT: list[dict[str, Any]] = [
    {},
    {"numbers": [], "target": 3},
    {"numbers": [3, "4"], "target": 7},
    {"numbers": [3, 4], "target": None},
    {"expression": "3+"},
    {"expression": 7},
    {"equations": []},
    {"equations": [{"left": [0, 3], "right": [0, 4]}]},
    {"equations": [{"left": [1, 1, 3], "right": [0, 0, 4]}]},
    {"story": "fruit", "told": [{"part": 0, "a": 2, "b": 0}] * 2, "steps": []},
    {
        "story": "fruit",
        "told": [{"part": 0, "a": 2, "b": 0}] * 2,
        "steps": [{"operation": "+", "left": 2, "right": 2, "result": 5}],
    },
]


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("data", CORRUPT)
def test_a_problem_that_is_corrupt_is_unjudged(name: str, data: dict[str, Any]) -> None:
    task = tasks.get(name)
    (problem,) = sample(task, count=1)
    verdict = task.judge(dataclasses.replace(problem, data=data), answered(problem.answer))
    assert verdict.outcome == "unjudged" and verdict.reason


@pytest.mark.parametrize(
    ("name", "task_settings", "expected"),
    [
        ("coutdown", {}, "did you mean 'countdown'"),
        ("countdown", {"nubmers": 3}, "did you mean 'numbers'"),
        ("countdown", {"numbers": 7}, "'numbers' is 7"),
        ("countdown", {"numbers": "3"}, "'numbers' is '3'"),
        ("countdown", {"difficulty": 0}, "'difficulty' is 0"),
        ("countdown", {"difficulty": []}, "'difficulty' is []"),
        ("countdown", {"language": "de"}, "'language' is 'de'"),
        ("countdown", {"smallest_target": 50, "largest_target": 20}, "smallest_target 50"),
        ("countdown", {"numbers": 2, "largest": 3, "smallest_target": 10}, "smallest_target 10"),
        ("arithmetic", {"operations": "%"}, "'operations' is '%'"),
        ("arithmetic", {"operations": "+-", "fractions": True}, "fractions"),
        ("equations", {"unknowns": 2, "both_sides": True}, "both_sides"),
        ("word-problems", {"steps": 7}, "'steps' is 7"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused_by_name(
    name: str, task_settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        tasks.get(name, **task_settings)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_settings_without_any_problem_are_refused() -> None:
    task = tasks.get("countdown", numbers=2, largest=6, smallest_target=31, largest_target=31)
    with pytest.raises(UserError, match="31"):
        next(task.problems("train", 0))


@every
def test_explicit_settings_override_the_dial(name: str, difficulty: int) -> None:
    task = tasks.get(name, difficulty=difficulty)
    assert json.loads(json.dumps(task.settings)) == task.settings
    assert tasks.get(name, **task.settings).settings == task.settings
    other = tasks.get(name, difficulty=difficulty % 5 + 1)
    assert tasks.get(name, **{**other.settings, "difficulty": difficulty}).settings == {
        **other.settings,
        "difficulty": difficulty,
    }
    assert other.settings != task.settings
