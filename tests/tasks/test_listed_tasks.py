"""Tasks that are named by where they are: files of rows, Python of one's own, and how a recipe takes them."""

import hashlib
import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from longjing import tasks
from longjing.errors import UserError
from longjing.files import digest
from longjing.recipe import loading
from longjing.tasks import Completion, Problem
from longjing.tasks.row_files import READERS

ROWS = [
    {"prompt": f"What is {number} plus 7?", "answer": number + 7, "source": f"book {number}"} for number in range(300)
]
TASK = """
from longjing.tasks import ListedTask

class Sums(ListedTask):
    name = "sums"
    verifier = {"number": 1.0, "format": 0.1}

    def rows(self):
        for number in range(300):
            yield {"prompt": f"What is {number} plus 7?", "answer": number + 7}
"""


def completion_of(answer: str) -> Completion:
    return Completion.parse(f"so\n</think>\n\n\\boxed{{{answer}}}")


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        path.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pytest.importorskip("pyarrow").Table.from_pylist(rows)
        parquet.write_table(table, path)
    return str(path)


@pytest.mark.parametrize("ending", list(READERS))
def test_a_file_of_rows_is_a_task(tmp_path: Path, ending: str) -> None:
    task = tasks.get(written(tmp_path / f"sums{ending}", ROWS), verifier="number")
    held_out = [problem for split in ("validation", "test") for problem in task.problems(split, 0)]
    train = list(islice(task.problems("train", 0), 600))
    assert len({problem.id for problem in [*held_out, *train]}) == 300 and len(held_out) < 60
    assert {problem.id for problem in held_out}.isdisjoint(problem.id for problem in train)
    assert train == list(islice(task.problems("train", 0), 600)) != list(islice(task.problems("train", 1), 600))
    first = train[0]
    assert first.data["source"].startswith("book ") and first.task == task.name
    assert task.judge(first, completion_of(task.solve(first))).outcome == "correct"
    assert task.judge(first, completion_of("-1")).rewards == {"number": 0.0, "accuracy": 0.0, "format": 1.0}


def test_a_problem_is_in_the_same_split_in_whatever_file_it_stands(tmp_path: Path) -> None:
    one = tasks.get(written(tmp_path / "one.jsonl", ROWS), verifier="number")
    other = tasks.get(written(tmp_path / "other.csv", ROWS[::-1]), verifier="exact", template="{prompt} Think.")
    assert {p.id for p in one.problems("test", 0)} == {p.id for p in other.problems("test", 0)}


def test_columns_by_other_names_and_rewards_by_weight(tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", [{"q": f"{row['prompt']}", "a": row["answer"]} for row in ROWS])
    task = tasks.get(path, prompt="q", answer="a", verifier={"number": 1.0, "format": 0.25})
    problem = next(task.problems("test", 0))
    assert task.judge(problem, completion_of(problem.answer)).rewards["accuracy"] == 1.25
    assert tasks.get(path, **task.settings).settings == task.settings


@pytest.mark.parametrize(
    ("rows", "task_settings", "said_of_it"),
    [
        ([{"prompt": "a", "answer": 1}], {}, "verifier=math"),
        ([{"prompt": "a", "answer": 1}], {"verifier": "maht"}, "did you mean 'math'"),
        ([{"question": "a", "answer": 1}], {"verifier": "number"}, "line 1: no column 'prompt'"),
        ([{"prompt": "a"}], {"verifier": "number"}, "no column 'answer'"),
        ([{"prompt": "a", "answer": None}], {"verifier": "number"}, "line 1: no answer"),
        ([{"prompt": " ", "answer": 1}], {"verifier": "number"}, "line 1: no prompt"),
        ([{"prompt": "a", "answer": 1}, {"prompt": "A ", "answer": 2}], {"verifier": "exact"}, "line 2: the prompt of"),
        ([{"prompt": "a", "answer": 1}], {"verifier": "number", "promt": "a"}, "did you mean 'prompt'"),
        ([{"prompt": "a", "answer": 1}], {"verifier": "number", "template": "ask"}, "no gap"),
        ([{"prompt": "a", "answer": 1}], {"verifier": "number", "sha256": "0"}, "has changed"),
        ([], {"verifier": "number"}, "no rows"),
    ],
)  # fmt: skip
def test_rows_that_are_no_problems_are_refused_by_their_place(
    tmp_path: Path, rows: list[dict[str, Any]], task_settings: dict[str, Any], said_of_it: str
) -> None:
    with pytest.raises(UserError) as raised:
        tasks.get(written(tmp_path / "rows.jsonl", rows), **task_settings)
    assert said_of_it in str(raised.value)


def test_a_split_without_problems_says_so(tmp_path: Path) -> None:
    task = tasks.get(written(tmp_path / "few.jsonl", ROWS[:2]), verifier="number")
    with pytest.raises(UserError, match="has no (test|validation) problems"):
        for split in ("validation", "test"):
            next(task.problems(split, 0))


def test_a_python_file_is_a_task(tmp_path: Path) -> None:
    path = tmp_path / "sums.py"
    path.write_text(TASK)
    for name in (str(path), f"{path}:Sums"):
        task = tasks.get(name)
        problem = next(task.problems("test", 0))
        assert (task.name, problem.task) == ("sums", "sums")
        assert task.judge(problem, completion_of(problem.answer)).rewards["accuracy"] == 1.1
    with pytest.raises(UserError, match="has changed"):
        tasks.get(str(path), sha256="0" * 64)


def test_a_class_of_ones_own_in_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.get("tests.tiny:Letters", settings={"problems": 3})
    assert task.judge(Problem("letters", "", "", "", {}, "en"), completion_of("7")).outcome == "correct"
    with pytest.raises(UserError, match="can't be made"):
        tasks.get("tests.tiny:Letters", setings={})
    with pytest.raises(UserError, match="did you mean 'Letters'"):
        tasks.get("tests.tiny:Leters")


def test_a_module_of_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some_package_of_mine").mkdir()
    (tmp_path / "some_package_of_mine" / "sums.py").write_text(TASK, "utf-8")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(Path.cwd()))])
    monkeypatch.chdir(tmp_path)
    assert tasks.get("some_package_of_mine.sums:Sums")


@pytest.mark.parametrize(
    ("source", "said_of_it"),
    [
        ("x = 1", "no task"), ("def f(:", "line 1: SyntaxError"), ("\nraise ValueError('no')", "line 2: ValueError"),
        (TASK + "\nclass Others(Sums): pass", "several tasks"), ("import nothing_of_the_kind", "nothing_of_the_kind"),
        (TASK.replace('"answer"', '"anser"'), "row 1: no answer"),
        ("from longjing.tasks.base import Problem", "line 1: longjing.tasks.base has moved: import what you need from"),
        ("from longjing.tasks.listed import ListedTask", "from longjing.tasks (ListedTask, FileTask)"),
        ("from longjing.tasks.verifiers.base import Verifier", "import what you need from longjing.verifiers"),
        ("from longjing.tasks.countdown import Countdown", "from longjing.toys.countdown.task"),
        ("from longjing.tasks import Settings", "line 1: longjing.tasks.Settings has moved: import what you need"),
        ("import longjing.runs.files", "longjing.runs.files has moved: import what you need from longjing.files"),
        ("from longjing.learning.corpus.countdown import write", "from longjing.toys, where each toy's folder has"),
        (TASK + "    def placed(self): return []", "Sums defines `placed`, which is called `located_rows` now"),
        (TASK + "    judging = frozenset()", "Sums defines `judging`, which is called `judge_settings` now"),
        (
            "class Plain:\n    problems = judge = solve = lambda *given: None\n    judging = {'a'}",
            "Plain defines `judging`, which is called `judge_settings` now",
        ),
        (
            "from longjing.toys.countdown.task import Countdown\n\nclass Other(Countdown):\n"
            "    def apart(self, data): return 'x'",
            "Other defines `apart`, which is called `split_key` now: rename it",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path, source: str, said_of_it: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(UserError) as raised:
        tasks.get(str(path))
    assert said_of_it in str(raised.value)


@pytest.mark.parametrize("name", ["missing.py", "missing.jsonl", "no_module_here:Task", "countdow", "x:y"])
def test_what_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError):
        tasks.get(name)


def test_a_recipe_takes_it_by_name_and_pins_what_it_read(tmp_path: Path) -> None:
    path = written(tmp_path / "sums.jsonl", ROWS)
    recipe = loading.load("r1-zero", [f"task={path}", "task.verifier=number"])
    (stage,) = recipe.to_dict()["stages"]
    assert stage["task"] == {"name": path, "verifier": "number", "sha256": digest(path)}
    assert loading.load("r1-zero", ["task=equations"]).to_dict()["stages"][0]["task"] == {"name": "equations"}
    with pytest.raises(UserError, match="verifier=math"):
        loading.load("r1-zero", [f"task={path}"])
    recipe.stages[0].task.make()
    written(Path(path), ROWS[:-1])
    with pytest.raises(UserError, match="has changed"):
        recipe.stages[0].task.make()


def test_what_no_change_touches_is_validated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "sums.jsonl", ROWS)
    own = {"name": path, "verifier": "number"}
    stage = {"kind": "reinforce", "name": "zero", "task": own, "steps": 3, "max_tokens": 4, "learning_rate": 1e-3}
    recipe = {"name": "once", "measure": {"tasks": {"mine": own}}, "stages": [stage]}
    (tmp_path / "once.yaml").write_text(json.dumps(recipe))
    time.sleep(0.03)  # a file of just now is read again, for its time may be that of the next version, too
    digested, made, file_digest, get = [], [], hashlib.file_digest, tasks.get
    monkeypatch.setattr(
        hashlib, "file_digest", lambda *arguments: (digested.append(arguments), file_digest(*arguments))[1]
    )
    monkeypatch.setattr(tasks, "get", lambda **settings: (made.append(settings), get(**settings))[1])
    loaded = loading.load(tmp_path / "once.yaml", ["steps=2", "zero.rewards.format=0.5", "seed=3"])
    assert loaded.stages[0].steps == 2 and loaded.stages[0].rewards == {"accuracy": 1.0, "format": 0.5}
    assert loaded.stages[0].task.make() is loaded.stages[0].task.make()
    assert loaded == loading.load(tmp_path / "once.yaml", ["seed=3", "rewards.format=0.5", "steps=2"])
    assert len(digested) == 1 and len(made) == 4


def test_what_a_mixture_and_the_measurements_read_is_pinned_too(tmp_path: Path) -> None:
    path = written(tmp_path / "sums.jsonl", ROWS)
    own = {"name": path, "verifier": "number"}
    mixture = {"name": "mixture", "parts": [{"name": "mixture", "parts": [own]}, {"name": "countdown"}]}
    task_settings = {"mine": own, path: {"verifier": "number"}, "both": mixture, "equations": {}}
    changes = [f"task={json.dumps(mixture)}", f"measure={json.dumps({'tasks': task_settings})}"]
    recipe = loading.load("r1-zero", changes)
    plain, pin = recipe.to_dict(), {"sha256": digest(path)}
    with_digest = {"name": "mixture", "parts": [{"name": "mixture", "parts": [own | pin]}, {"name": "countdown"}]}
    assert plain["stages"][0]["task"] == with_digest
    assert plain["measure"]["tasks"] == {
        "mine": own | pin, path: {"verifier": "number"} | pin, "both": with_digest, "equations": {},
    }  # fmt: skip
    assert recipe.measure is not None
    written(Path(path), ROWS[:-1])
    for label in ("mine", path, "both"):
        with pytest.raises(UserError, match="has changed"):
            recipe.measure.task(label)
    written(Path(path), ROWS)
    (tmp_path / "recipe.yaml").write_text(json.dumps(plain))
    other = written(tmp_path / "others.jsonl", ROWS[1:])
    changes = [f"task.parts.0.parts.0.name={other}", f"measure.tasks.mine.name={other}"]
    plain = loading.load(tmp_path / "recipe.yaml", changes).to_dict()  # one file's digest isn't another's
    assert plain["stages"][0]["task"]["parts"][0]["parts"][0]["sha256"] == digest(other)
    assert plain["measure"]["tasks"]["mine"]["sha256"] == digest(other)


def test_looking_at_a_run_runs_no_code_that_it_names(tmp_path: Path) -> None:
    from longjing.recipe.running import task_of

    run, path = tmp_path / "run", tmp_path / "mine.py"
    run.mkdir()
    (run / "config.json").touch()
    path.write_text("raise SystemExit('this ran')")
    for name in (str(path), "tests.tiny:Letters", "verifiers:anything"):
        task: dict[str, Any] = {"name": name}
        for _ in range(3):  # alone, in a mixture, and in a mixture within one
            (run / "recipe.yaml").write_text(json.dumps({"stages": [{"kind": "reinforce", "task": task}]}))
            assert task_of(str(run)) is None
            task = {"name": "mixture", "parts": [{"name": "countdown"}, task]}
