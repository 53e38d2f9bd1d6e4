"""reasoning-gym's data sets as tasks: a contract with the installed release, and what its scorers may not do."""

import json
import os
import pickle
import subprocess
import sys
from itertools import islice
from pathlib import Path
from time import process_time
from typing import Any

import pytest

pytest.importorskip("reasoning_gym", reason="reasoning-gym isn't installed: pip install 'longjing[tasks]'")

from longjing import tasks
from longjing.errors import UserError
from longjing.problems import NoProblems
from longjing.tasks import Completion, Problem, Task
from longjing.tasks import reasoning_gym as gym

NO_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}  # the library knows none
SLOW = {"acre", "futoshiki", "knight_swap", "zebra_puzzles"}  # seconds to make


def completion_of(answer: str) -> Completion:
    return Completion.parse(f"so\n</think>\n\n\\boxed{{{answer}}}")


def sample(task: Task, count: int, split: Any = "train", seed: int = 0) -> list[Problem]:
    return list(islice(task.problems(split, seed), count))


def test_every_data_set_of_the_release_was_read_or_is_refused() -> None:
    listed = "import json; from reasoning_gym.factory import DATASETS; print(json.dumps([*DATASETS]))"
    names = json.loads(subprocess.run([sys.executable, "-c", listed], capture_output=True, check=True).stdout)
    assert sorted([*gym.names(), *gym.REFUSED, "composite"]) == sorted(names)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in gym.names()])
def test_its_own_answers_are_right_and_nonsense_is_wrong(name: str) -> None:
    task = tasks.get(f"gym:{name}")
    for problem in sample(task, 3):
        if name in NO_ANSWER:
            assert not problem.answer
        else:
            assert task.judge(problem, completion_of(problem.answer)).outcome == "correct"
        for nonsense in ("qwzvjk", f"{problem.answer} or qwzvjk", "\\text{}"):
            assert task.judge(problem, completion_of(nonsense)).outcome == "wrong", nonsense


def test_an_entry_is_name_configuration_seed_and_index() -> None:
    task = tasks.get("gym:leg_counting", max_animals=4, min_animals=2)
    problem = sample(task, 1, "test")[0]
    assert problem.data["configuration"] == {"max_animals": 4, "min_animals": 2}
    assert {"seed", "index", "dataset", "question"} < problem.data.keys()
    assert sample(task, 5) == sample(tasks.get("gym:leg_counting", **task.settings), 5) != sample(task, 5, seed=1)
    held_out = {each.id for split in ("validation", "test") for each in sample(task, 20, split)}
    assert len(held_out) == 40 and held_out.isdisjoint(each.id for each in sample(task, 300))
    other = {**problem.data, "question": "0" * 64}
    verdict = task.judge(Problem(task.name, "", "", "", other, "en"), completion_of(problem.answer))
    assert verdict.outcome == "unjudged" and "differently" in verdict.reason


def test_problems_are_the_same_in_a_process_with_another_hash_seed() -> None:
    """ransom_note's own generator goes through a set of letters."""
    first = sample(tasks.get("gym:ransom_note"), 1)[0].prompt
    code = "from longjing import tasks; print(next(tasks.get('gym:ransom_note').problems('train', 0)).prompt, end='')"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout == first


def test_a_split_without_problems_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.get("gym:leg_counting")
    monkeypatch.setattr(task, "_entries", lambda drawn: iter([(None, "train")] * 3))
    monkeypatch.setattr("longjing.tasks.reasoning_gym._PATIENCE", 2)
    with pytest.raises(NoProblems, match="has no test problems"):
        next(task.problems("test", 0))


def test_composites() -> None:
    parts = [{"name": name, "weight": 1.0, "config": {}} for name in ("leg_counting", "spiral_matrix")]
    task = tasks.get("gym:composite", datasets=parts)
    problems = sample(task, 30)
    assert {problem.data["source"] for problem in problems} == {"leg_counting", "spiral_matrix"}
    assert all(task.judge(problem, completion_of(problem.answer)).outcome == "correct" for problem in problems)


def test_credit_for_a_part_only_if_asked_and_a_tolerance_that_is_stated() -> None:
    strict, partial = tasks.get("gym:leg_counting"), tasks.get("gym:leg_counting", partial=True)
    problem = sample(strict, 1)[0]
    within = completion_of(f"{problem.answer} legs")
    assert strict.judge(problem, within).rewards["accuracy"] == 0
    paid = partial.judge(problem, within)
    assert paid.outcome == "wrong" and 0 < paid.rewards["accuracy"] < 1
    assert tasks.get("gym:leg_counting", tolerance=0.9).judge(problem, within).outcome == "correct"


@pytest.mark.parametrize("name", [*gym._GUARDS])
def test_no_answer_is_evaluated_that_could_do_anything(name: str, tmp_path: Path) -> None:
    task = tasks.get(f"gym:{name}")
    problem = sample(task, 1)[0]
    target = tmp_path / "touched"
    attacks = [
        f"__import__('os').mkdir('{target}')", f"[__import__('os').mkdir('{target}')]", f"open('{target}', 'w')",
        "(lambda: 1)()", "exit()", "sin.__class__", "x.__class__", "Symbol('x')", "f'{1}'", "print", "type(1)",
    ]  # fmt: skip
    for attack in attacks:
        verdict = task.judge(problem, completion_of(attack))
        assert verdict.outcome == "wrong" and verdict.rewards["accuracy"] == 0, attack
        if "(" in attack or "." in attack:
            assert "form" in verdict.reason, attack
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "task_settings", "said_of_it"),
    [
        ("gym:leg_countin", {}, "did you mean 'leg_counting'"), ("gym:codeio", {}, "runs programs"),
        ("gym:leg_counting", {"max_animal": 3}, "did you mean 'max_animals'"),
        ("gym:leg_counting", {"seed": 3}, "takes no `seed`"),
        ("gym:leg_counting", {"max_animals": 0}, "leg_counting"), ("gym:composite", {}, "datasets"),
        ("gym:composite", {"datasets": [{"name": "codeio", "weight": 1.0, "config": {}}]}, "runs programs"),
        ("gym:leg_counting", {"tolerance": 2.0}, "tolerance"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(name: str, task_settings: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(UserError) as raised:
        tasks.get(name, **task_settings)
    assert said_of_it in str(raised.value)


@pytest.mark.parametrize("name", [*gym._GUARDS])
@pytest.mark.parametrize("text", ["1" * 20_000 + "!", "x*" * 10_000 + "!", "1.1" * 6_000 + "!", " *" * 10_000 + " 1!"])
def test_telling_what_may_be_evaluated_takes_no_time(name: str, text: str) -> None:
    began = process_time()
    assert not gym._GUARDS[name].fullmatch(text)
    assert process_time() - began < 0.1


def test_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "version", lambda _: "0.1.26")
    with pytest.raises(UserError, match=r"pip install reasoning-gym==0\.1\.25"):
        tasks.get("gym:leg_counting")


def test_a_task_can_be_sent_to_another_process() -> None:
    task = tasks.get("gym:chain_sum", max_terms=3)
    other = pickle.loads(pickle.dumps(task))
    assert (other.name, other.settings) == (task.name, task.settings)
    assert next(other.problems("test", 0)) == next(task.problems("test", 0))
