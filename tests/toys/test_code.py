"""Programs of one line: the problems, their hidden tests, the verdicts; and the verifier for programs of any length."""

import json
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any

import pytest
from attacks import isolated, sandbox

from longjing import tasks, verifiers
from longjing.errors import UserError
from longjing.sandbox import CallTest, ExecutionResult, SandboxError, SandboxLimits, StdioTest, judge_program, run_tests
from longjing.tasks import Completion, Problem
from longjing.tasks.linter import check
from longjing.toys.code.operations import INPUTS, OPERATIONS, Kind
from longjing.toys.code.task import CodeData, ProgramStep, compiled, fits, hidden_tests, passes, program, sample_input
from longjing.verifiers.code_execution import Programs, programs

TYPES: dict[Kind, type] = {"numbers": list, "number": int, "text": str, "words": list, "truth": bool}


def sample(count: int = 40, split: Any = "train", **settings: Any) -> list[Problem]:
    return list(islice(tasks.get("code", **settings).problems(split, 1), count))


def completion_of(answer: str) -> Completion:
    return Completion.parse(f"so</think>\\boxed{{{answer}}}")


def outcome(problem: Problem, answer: str) -> str:
    return tasks.get("code").judge(problem, completion_of(answer)).outcome


def chain(kind: Kind) -> tuple[Kind, list[ProgramStep]]:
    """What a program may be given, and steps from there to this kind."""
    if kind in INPUTS:
        return kind, []
    return "text", [ProgramStep(operation="split")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_does_what_it_says_it_gives(name: str) -> None:
    operation = OPERATIONS[name]
    input_kind, before = chain(operation.takes)
    step = ProgramStep(operation=name, k=3 if "{k}" in operation.code else 0, c="a" if "{c}" in operation.code else "")
    tests = hidden_tests(program(input_kind, [*before, step]), CodeData(input_kind=input_kind, steps=[*before, step]))
    assert len(tests) >= 5 and all(type(test.expected) is TYPES[operation.gives] for test in tests)
    assert all("{" not in way.format(k=3, c="a") for way in (*operation.en, *operation.zh))
    assert all(("{k}" in way) == ("{k}" in operation.code) for way in (*operation.en, *operation.zh))
    assert all(("{c}" in way) == ("{c}" in operation.code) for way in (*operation.en, *operation.zh))


@pytest.mark.parametrize("difficulty", range(1, 6))
def test_problems_are_of_their_difficulty(difficulty: int) -> None:
    task = tasks.get("code", difficulty=difficulty)
    for problem in sample(difficulty=difficulty):
        data = CodeData.model_validate(problem.data)
        assert len(data.steps) == task.settings["steps"] and fits(data.input_kind, data.steps)
        assert all(step.k <= task.settings["largest"] for step in data.steps)
        assert task.settings["branches"] or not any(step.definition.branch for step in data.steps)
        assert all(str(step.k) in problem.prompt for step in data.steps if step.k)
        assert problem.answer == program(data.input_kind, data.steps)


def test_there_are_thousands_of_problems_and_all_operations_are_met() -> None:
    problems = sample(4000)
    assert len({problem.id for problem in problems}) > 2000
    every = sample(1500, difficulty=1) + sample(2500, difficulty=4)
    assert {step["piece"] for problem in every for step in problem.data["steps"]} == set(OPERATIONS)


def test_a_step_less_or_another_number_is_found_out() -> None:
    for problem in sample(200, difficulty=3):
        data = CodeData.model_validate(problem.data)
        tests = hidden_tests(problem.answer, data)
        assert passes(problem.answer, tests)
        for index, step in enumerate(data.steps):
            without = [*data.steps[:index], *data.steps[index + 1 :]]
            assert not fits(data.input_kind, without) or not passes(program(data.input_kind, without), tests)
            if step.k:
                more = [*data.steps[:index], step.model_copy(update={"k": step.k + 1}), *data.steps[index + 1 :]]
                assert not passes(program(data.input_kind, more), tests)


def test_the_tests_are_the_same_every_time_and_nowhere_in_the_problem() -> None:
    for problem in sample():
        data = CodeData.model_validate(json.loads(json.dumps(problem.data)))
        tests = hidden_tests(problem.answer, data)
        assert tests == hidden_tests(program(data.input_kind, data.steps), data) and len(tests) >= 5
        assert set(problem.data) == {"given", "steps"}


EVEN_SUM = Problem("code", "", "", "", {"given": "numbers", "steps": [{"piece": "even"}, {"piece": "sum"}]}, "en")


@isolated
@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("lambda xs: sum(x for x in xs if x % 2 == 0)", True),
        ("f = lambda xs: sum([x for x in xs if not x % 2])", True),
        ("lambda numbers: sum(filter(lambda n: n % 2 == 0, numbers))", True),
        ("def f(xs): return sum(x for x in xs if x % 2 == 0)", True),
        ("import math; f = lambda xs: math.fsum(x for x in xs if x % 2 == 0)", False),  # a float
        ("lambda xs: sum(x for x in xs if x % 2 == 1)", False),
        ("lambda xs: sum(xs)", False),
        ("lambda xs: 0", False),
        ("g = lambda xs: sum(x for x in xs if x % 2 == 0)", False),
        ("lambda xs:\n sum(x for x in xs if x % 2 == 0)", False),
        ("lambda xs: sum(x for x in xs if x % 2 == 0) #" + "x" * 500, False),
        ("lambda xs: (x for x in xs)", False),
        ("lambda xs: 1 / 0", False),
        ("lambda xs: exit()", False),
        ("lambda xs: [0 for _ in iter(int, 1)]", False),  # without end
        ("lambda", False),
        ("sum", False),
        ("12", False),
    ],
)
def test_what_passes_for_the_sum_of_the_even_numbers(answer: str, right: bool) -> None:
    assert outcome(EVEN_SUM, answer) == ("correct" if right else "wrong")


@pytest.mark.parametrize(
    "data",
    [
        {"given": "numbers", "steps": []},
        {"given": "words", "steps": [{"piece": "sort-words"}]},
        {"given": "numbers", "steps": [{"piece": "upper"}]},
        {"given": "numbers", "steps": [{"piece": "sum"}, {"piece": "divisors"}]},
        {"given": "numbers", "steps": [{"piece": "add"}]},
        {"given": "numbers", "steps": [{"piece": "sum", "k": 3}]},
        {"given": "text", "steps": [{"piece": "starts", "c": "'"}]},
        {"given": "numbers", "steps": [{"piece": "__import__"}]},
    ],
)
def test_corrupt_problems_are_unjudged(data: dict[str, Any]) -> None:
    assert outcome(replace(EVEN_SUM, data=data), "lambda xs: 0") == "unjudged"


@pytest.fixture
def no_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise UserError("this machine can't isolate programs: the user layer is missing")

    programs.cache_clear()
    monkeypatch.setattr("longjing.verifiers.code_execution.open_sandbox", refuse)


@pytest.mark.usefixtures("no_isolation")
def test_where_nothing_can_be_isolated_the_task_says_so_before_it_is_begun() -> None:
    assert len(sample(3)) == 3, "a corpus can be written"
    for ask in (
        lambda: sample(split="test"),
        lambda: outcome(EVEN_SUM, "lambda xs: 0"),
        lambda: verifiers.get("code"),
        lambda: check(tasks.get("code"), problems=3),  # in a process that is forked from this one
    ):
        with pytest.raises(UserError, match="isolate programs: the user layer is missing"):
            ask()


class _Breaks:
    """A sandbox that fails the first time."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, *_: Any) -> ExecutionResult:
        self.runs += 1
        if self.runs == 1:
            raise SandboxError("it fell over")
        return ExecutionResult("finished", 0, None, b"7\n", b"", 0.0, 0.0, 0)


def test_a_sandbox_that_fails_leaves_it_unjudged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = _Breaks()
    judges = Programs(runner)
    monkeypatch.setattr("longjing.toys.code.task.programs", lambda **_: judges)
    monkeypatch.setattr("longjing.verifiers.code_execution.programs", lambda *_: judges)
    assert outcome(EVEN_SUM, "lambda xs: 7") == "unjudged"
    assert [outcome(EVEN_SUM, "lambda xs: 7") for _ in range(3)] == ["wrong"] * 3
    assert runner.runs == 2, "what is known isn't run again, what failed is"
    runner.runs = 0
    problem = replace(EVEN_SUM, data={"tests": [{"function": "f", "arguments": [], "returns": 7}]})
    judge = verifiers.get("code", final="box")
    assert [judge.judge(problem, completion_of("x")).outcome for _ in range(2)] == ["unjudged", "correct"]


TESTS = [
    {"stdin": "3\n", "stdout": "9\n"},
    {"function": "square", "arguments": [4], "returns": 16},
    {"function": "square", "arguments": [-5], "returns": 25},
]
SQUARE = "def square(n):\n    return n * n\n\nif __name__ == '__main__':\n    print(square(int(input())))"


@isolated
def test_the_verifier_runs_tests_of_both_kinds() -> None:
    problem = replace(EVEN_SUM, answer="", data={"tests": TESTS})

    def judged(answer: str, tests: Any = TESTS, **settings: Any) -> Any:
        completion = Completion.parse(f"so</think>{answer}")
        return verifiers.get("code", **settings).judge(replace(problem, data={"tests": tests}), completion)

    assert judged(SQUARE).outcome == "correct"
    assert judged(f"Here it is.\n\n```python\n{SQUARE}\n```\nDone.").outcome == "correct"
    assert judged(f"\\boxed{{{SQUARE}}}", final="box").outcome == "correct"
    assert judged(SQUARE, json.dumps(TESTS)).outcome == "correct", "a column of a file may hold JSON as text"
    twice = f"```\n{SQUARE}\n```\nor\n```\n{SQUARE}\n```"
    assert judged(twice).outcome == "wrong", "hedging is not answering"
    assert judged(f"```python\n{SQUARE}").outcome == "wrong"
    half = judged(SQUARE.replace("n * n", "abs(n) * n"))
    assert (half.outcome, half.score) == ("wrong", 0.0) and half.reason.startswith("2 of 3 tests passed; it gave '-25'")
    assert judged(SQUARE.replace("n * n", "abs(n) * n"), partial=True).score == pytest.approx(2 / 3)
    assert "25" not in judged("square = lambda n: 0").reason, "what is expected isn't said"


@isolated
@pytest.mark.parametrize(
    "tests",
    [None, [], "[", 7, [{}], [{"stdin": 3, "stdout": ""}], [{"stdin": "", "stdout": "", "more": 1}], "[" * 10**5,
     [{"function": "f", "arguments": 3, "returns": 1}], [{"stdin": "", "stdout": ""}] * 1000],
)  # fmt: skip
def test_a_problem_without_tests_that_can_be_read_is_unjudged(tests: Any) -> None:
    completion = Completion.parse("so</think>print()")
    judgement = verifiers.get("code").judge(replace(EVEN_SUM, data={"tests": tests}), completion)
    assert judgement.outcome == "unjudged" and "tests" in judgement.reason


@isolated
def test_calls_that_share_a_process_get_the_verdicts_of_calls_that_do_not() -> None:
    tests = [CallTest("f", [n], n * n) for n in (0, 3, 12)]
    for body in ("n * n", "abs(n)", "n * 1.0 * n", "'x'", "[n]", "print(n)"):
        source = f"f = lambda n: {body}"
        assert [result.verdict for result in judge_program(sandbox(), source, tests)] == [
            result.verdict for result in run_tests(sandbox(), source, tests)
        ], body


@isolated
@pytest.mark.parametrize(
    ("source", "verdicts"),
    [
        ("f = lambda n: n * n if n < 4 else 1 / 0", "correct correct wrong wrong"),  # the last isn't reached
        ("import os\nf = lambda n: n * n if n < 4 else os._exit(0)", "correct correct wrong wrong"),
        ("import os\nf = lambda n: n * n if n < 4 else os._exit(1)", "correct correct wrong wrong"),
        ("import atexit, os\natexit.register(os._exit, 3)\nf = lambda n: n * n", "correct correct correct wrong"),
        ("import os, sys\nos.write(3, b'0\\n9\\n144\\n25\\n9\\n')\nf = lambda n: n * n", "wrong wrong wrong wrong"),
        ("f = lambda n: n * n if n < 20 else 1", "correct correct correct wrong"),
        ("import time\nf = lambda n: n * n if n < 4 else time.sleep(60)", "correct correct wrong wrong"),
        ("while True: pass", "wrong wrong wrong wrong"),
        ("f = 3", "wrong wrong wrong wrong"),
    ],
)  # fmt: skip
def test_a_call_that_fails_takes_those_after_it_along(source: str, verdicts: str) -> None:
    tests: list[StdioTest | CallTest] = [CallTest("f", [n], n * n) for n in (0, 3, 12, 25)]
    runner = sandbox(SandboxLimits(wall_seconds=1.0))
    assert [result.verdict for result in judge_program(runner, source, tests)] == verdicts.split()


def test_examples_are_near_the_numbers_of_the_problem() -> None:
    random, call = Random(0), compiled("lambda xs: max(xs, default=0)")
    inputs = [sample_input("numbers", [9], [], random, most=4) for _ in range(200)]
    assert max(map(len, inputs)) == 4 and sum(9 in value for value in inputs) > 60
    assert max(map(call, inputs)) <= 25
    texts: list[str] = [sample_input("text", [], ["q"], random) for _ in range(100)]
    assert 20 < sum("q" in text for text in texts) < 80
