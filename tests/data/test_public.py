"""Readers of public sets, each on a small file in the very columns of the set."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from longjing import tasks
from longjing.cli import app
from longjing.data.public import BOXED, FUNCTION, INSTRUCTIONS, PROGRAM, PUBLIC, open_set
from longjing.errors import UserError
from longjing.evaluation.benchmark_task import Mathematics
from longjing.problems import Completion
from longjing.tasks import ListedTask

pyarrow = pytest.importorskip("pyarrow")

STDIO = json.dumps({"inputs": ["1 2\n", ["3 4", ""]], "outputs": ["3\n", ["7", ""]]})
CALLS = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}
APPS = {"id": 0, "question": "Add two numbers.", "solutions": "[]", "difficulty": "interview", "url": "u",
        "starter_code": "", "input_output": STDIO}  # fmt: skip
TACO = {"question": "Add two numbers.", "solutions": "[]", "starter_code": "", "input_output": STDIO,
        "difficulty": "EASY", "raw_tags": "[]", "name": None, "source": "codeforces", "tags": "[]",
        "skill_types": "[]", "url": "u", "Expected Auxiliary Space": None, "time_limit": None, "date": None,
        "picture_num": None, "memory_limit": None, "Expected Time Complexity": None}  # fmt: skip
OPENR1 = {"problem": "What is 1+1?", "solution": "2", "answer": "2", "problem_type": "Algebra",
          "question_type": "math-word-problem", "source": "olympiads", "uuid": "u", "is_reasoning_complete": [True],
          "generations": ["<think>"], "correctness_math_verify": [True], "correctness_llama": None,
          "finish_reasons": None, "correctness_count": 1, "messages": [{"role": "user", "content": "?"}]}  # fmt: skip
MATH = {"problem": "What is half?", "level": "Level 1", "type": "Algebra",
        "solution": "Not $\\boxed{1}$ but $\\boxed{\\frac{1}{2}}$."}  # fmt: skip
ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "How many?", "answer": "It is 16 - 3 = <<16-3=13>>13.\n#### 1,013"},
    "math": MATH,
    "deepscaler": {"problem": "What is 1+1?", "answer": "2", "solution": ""},
    "openr1-math": OPENR1,
    "big-math": {"problem": "What is 1+1?", "answer": "2", "source": "orca_math", "domain": ["Algebra"],
                 "llama8b_solve_rate": 0.25},
    "apps": APPS,
    "taco": TACO,
}  # fmt: skip
FILES = {
    "gsm8k": "main/train-00000-of-00001.parquet", "math": "algebra/train-00000-of-00001.parquet",
    "deepscaler": "deepscaler.json", "openr1-math": "data/train-00000-of-00001.parquet",
    "big-math": "data/train-00000-of-00001.parquet", "apps": "train.jsonl", "taco": "ALL/train-00000-of-00001.parquet",
}  # fmt: skip
ADD = [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "3 4\n", "stdout": "7\n"}]
PROBLEMS: dict[str, dict[str, Any]] = {
    "gsm8k": {"prompt": "How many?" + BOXED, "answer": "1013"},
    "math": {"prompt": "What is half?" + BOXED, "answer": "\\frac{1}{2}", "level": "Level 1", "type": "Algebra"},
    "deepscaler": {"prompt": "What is 1+1?" + BOXED, "answer": "2"},
    "openr1-math": {"prompt": "What is 1+1?" + BOXED, "answer": "2", "source": "olympiads"},
    "big-math": {"prompt": "What is 1+1?" + BOXED, "answer": "2", "source": "orca_math", "llama8b_solve_rate": 0.25},
    "apps": {"prompt": "Add two numbers." + PROGRAM, "answer": "", "tests": ADD, "difficulty": "interview"},
    "taco": {"prompt": "Add two numbers." + PROGRAM, "answer": "", "tests": ADD, "difficulty": "EASY"},
}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(name: str, rows: list[dict[str, Any]], tmp_path: Path, **how: Any) -> tuple[list[Any], dict[str, int]]:
    reading = open_set(name, source=write(tmp_path / Path(FILES[name]).name, rows), **how)
    return list(reading.rows()), dict(reading.left_out)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_set_becomes_a_task_that_its_verifier_judges(name: str, tmp_path: Path) -> None:
    write(tmp_path / FILES[name], [ROWS[name]])
    reading = open_set(PUBLIC[name].repository, source=tmp_path)
    assert list(reading.rows()) == [PROBLEMS[name]]
    out = write(tmp_path / "problems.jsonl", [PROBLEMS[name]])
    if PUBLIC[name].verifier == "code":
        return  # it needs the sandbox; see below
    task = tasks.get(str(out), verifier=PUBLIC[name].verifier)
    assert isinstance(task, ListedTask)
    ((location, row),) = task.located_rows()
    problem = task.problem(location, row)
    text = f"hm</think>\\boxed{{{PROBLEMS[name]['answer']}}}"
    assert task.judge(problem, Completion.parse(text)).outcome == "correct"
    assert task.judge(problem, Completion.parse("hm</think>\\boxed{77}")).outcome == "wrong"


def test_programs_are_judged_by_the_tests_of_the_set(tmp_path: Path) -> None:
    try:
        task = tasks.get(str(write(tmp_path / "problems.jsonl", [PROBLEMS["apps"]])), verifier="code")
    except UserError as error:
        pytest.skip(str(error))
    assert isinstance(task, ListedTask)
    ((location, row),) = task.located_rows()
    program = "print(sum(map(int, input().split())))"
    for text, outcome in ((program, "correct"), (program.replace("sum", "max"), "wrong")):
        verdict = task.judge(task.problem(location, row), Completion.parse(f"hm</think>```python\n{text}\n```"))
        assert verdict.outcome == outcome, verdict


def test_prompts_ask_as_the_evaluations_do() -> None:
    prompt, _ = Mathematics("aime", [], {}, "").read({"problem": "How far?", "answer": "1"})
    assert prompt == "How far?" + BOXED
    assert {BOXED, PROGRAM, FUNCTION} == set(INSTRUCTIONS)


def test_functions(tmp_path: Path) -> None:
    def row(**changed: Any) -> dict[str, Any]:
        starter = changed.pop("starter_code", "def add(a, b):\n\t")
        return APPS | {"starter_code": starter, "input_output": json.dumps(CALLS | changed)}

    (problem,), _ = read("apps", [row()], tmp_path)
    assert problem["prompt"] == ("Add two numbers.\n\nThe function is called `add`.\n\ndef add(a, b):" + FUNCTION)
    assert problem["tests"] == [
        {"function": "add", "arguments": [1, 2], "returns": 3},
        {"function": "add", "arguments": [3, 4], "returns": 7},
    ]
    bad = [row(outputs=[[3], [7]]), row(starter_code="class Solution:"), row(inputs=[1, 2]), row(fn_name="a b")]
    problems, left_out = read("apps", bad, tmp_path)
    assert problems == []
    assert left_out == {
        "what the function returns is ambiguous": 1, "the function is a method": 1, "no tests that can be read": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changed", "reason"),
    [
        ("gsm8k", {"answer": "No idea."}, "no #### before the answer"),
        ("gsm8k", {"question": " "}, "no problem"),
        ("math", {"solution": "It is clear."}, "no answer"),
        ("math", {"solution": "It is $\\boxed{"}, "no answer"),
        ("deepscaler", {"answer": ""}, "no answer"),
        ("deepscaler", {"problem": "\ud800"}, "not Unicode, or not to be written as JSON"),
        ("openr1-math", {"question_type": "MCQ"}, "multiple choice"),
        ("openr1-math", {"question_type": "proof"}, "a proof, or no answer"),
        ("big-math", {"answer": None}, "no answer"),
        ("apps", {"input_output": ""}, "no tests that can be read"),
        ("apps", {"input_output": "[" * 100_000}, "no tests that can be read"),
        ("apps", {"input_output": '{"inputs": [], "outputs": []}'}, "no tests"),
        ("apps", {"input_output": '{"inputs": "ab", "outputs": "cd"}'}, "no tests that can be read"),
        ("apps", {"input_output": '{"inputs": ["a"], "outputs": ["b", "c"]}'}, "no tests that can be read"),
        ("taco", {"input_output": '{"inputs": [1], "outputs": ["b"]}'}, "no tests that can be read"),
    ],
)
def test_what_is_no_problem_is_left_out_and_counted(
    name: str, changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    problems, left_out = read(name, [ROWS[name], ROWS[name] | changed], tmp_path)
    assert problems == [PROBLEMS[name]]
    assert left_out == {reason: 1}


def test_a_prompt_stays_once(tmp_path: Path) -> None:
    first = ROWS["deepscaler"]
    problems, left_out = read("deepscaler", [first, first, first | {"answer": "3"}], tmp_path)
    assert problems == [PROBLEMS["deepscaler"]]
    assert left_out == {"came before": 1, "came before with another answer": 1}


def test_many_tests_are_thinned_evenly(tmp_path: Path) -> None:
    numbers = [str(number) for number in range(450)]
    row = APPS | {"input_output": json.dumps({"inputs": numbers, "outputs": numbers})}
    for most, expected in ((200, numbers[::3]), (5, numbers[::90])):
        (problem,), _ = read("apps", [row], tmp_path, most_tests=most)
        assert [test["stdin"] for test in problem["tests"]] == expected


def get(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "get", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_get_writes_rows_and_says_what_was_left_out(tmp_path: Path) -> None:
    write(tmp_path / FILES["gsm8k"], [ROWS["gsm8k"], ROWS["gsm8k"] | {"answer": "?"}])
    out = tmp_path / "gsm8k.jsonl"
    code, output = get("gsm8k", "--from", tmp_path, "--out", out)
    assert code == 0, output
    assert "left out: no #### before the answer\t1" in output and "problems\t1" in output
    assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == [PROBLEMS["gsm8k"]]


def test_get_refuses_in_plain_words(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    good = write(tmp_path / "rows.jsonl", [ROWS["deepscaler"]])
    write(tmp_path / "part/main/train-00000-of-00002.parquet", [ROWS["gsm8k"]])
    write(tmp_path / "empty.jsonl", [ROWS["deepscaler"] | {"answer": ""}])
    (tmp_path / "broken.parquet").write_text("no parquet")
    cases: list[tuple[list[object], str]] = [
        (["gsm9k"], "did you mean 'gsm8k'?"),
        (["deepscaler", "--split", "test"], "no split 'test'"),
        (["gsm8k", "--from", good], "no column 'question'; there are problem"),
        (["gsm8k", "--from", tmp_path / "absent"], "absent"),
        (["gsm8k", "--from", tmp_path / "broken.parquet"], "can't be read as parquet"),
        (["gsm8k", "--from", tmp_path], "there are no such files"),
        (["gsm8k", "--from", tmp_path / "part"], "only some of its files"),
        (["deepscaler", "--from", tmp_path / "empty.jsonl"], "none of 1 rows is a problem"),
        (["deepscaler", "--from", good, "--revision", "main"], "--revision is for the Hub"),
        (["deepscaler", "--from", good, "--tests", 0], "1 to 200 tests"),
    ]
    for arguments, expected in cases:
        code, output = get(*arguments, "--out", out)
        assert (code, expected in output) == (2, True), (arguments, output)
        assert not out.exists()
    for bad, expected in ((good, "would replace what is read"), (tmp_path / "a.csv", "something.jsonl")):
        code, output = get("deepscaler", "--from", good, "--out", bad)
        assert (code, expected in output) == (2, True), output
    assert get("deepscaler", "--from", good, "--out", tmp_path / "no/such.jsonl")[1].startswith("cannot write")


def test_the_hub_is_asked_for_the_files_of_the_split_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    calls: list[dict[str, Any]] = []

    def download(repository: str, **how: Any) -> str:
        calls.append({"repository": repository, **how})
        return str(tmp_path / "0123abc")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    write(tmp_path / "0123abc" / FILES["gsm8k"], [ROWS["gsm8k"]])
    write(tmp_path / "0123abc" / FILES["math"], [ROWS["math"]])
    reading = open_set("gsm8k")
    assert reading.origin == "openai/gsm8k@0123abc/main/train-*.parquet"
    assert calls[0] == {
        "repository": "openai/gsm8k", "repo_type": "dataset", "revision": PUBLIC["gsm8k"].revision,
        "allow_patterns": "main/train-*.parquet",
    }  # fmt: skip
    with pytest.raises(UserError, match="only some of its files"):  # one of its seven folders
        open_set("math")
