"""What is read beside a model's own samples: worked examples, and questions that are beyond it."""

import re
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from longjing import tasks
from longjing.problems import Completion, GeneratedTask, Problem, boxed, split_of
from longjing.problems.expression import parse_expression
from longjing.problems.language import share
from longjing.toys.declined_questions import write_declined
from longjing.toys.paraphrase import informal
from longjing.toys.worked_examples import write_worked

SEEDS = st.integers(0, 2**32)
MORE = re.compile(r"[\^%x÷/]|\d\.\d|\*\*")  # powers, percentages, equations, fractions, decimals
STEP = re.compile(r"(?<![\d+*/-])(-?\d+)([-+*/])(\d+)=(-?\d+)(?=[,\s]|$)")


def solved(seed: int) -> Problem:
    problem = write_worked(Random(seed)).problem
    assert problem is not None
    return problem


@given(SEEDS)
@settings(deadline=None)
def test_a_worked_example_is_right_in_every_step_and_in_its_language(seed: int) -> None:
    document = write_worked(Random(seed))
    problem = document.problem
    assert problem is not None and document.prompt == problem.prompt
    text = f"{document.reasoning}\n</think>\n\n{document.answer}"
    assert tasks.get(problem.task).judge(problem, Completion.parse(text)).outcome == "correct"
    assert share(document.reasoning, problem.language) == 1
    steps = STEP.findall(document.reasoning)
    assert steps
    for left, operator, right, result in steps:
        assert parse_expression(f"({left}){operator}{right}").value == int(result)
    if problem.task == "countdown":  # it ends with the way that is found
        assert document.reasoning.count("yes!") + document.reasoning.count("对了！") == 1


def test_worked_examples_are_the_small_game_and_sums_of_many_terms() -> None:
    problems = [solved(seed) for seed in range(400)]
    games = {len(one.data["numbers"]) for one in problems if one.task == "countdown"}
    sums = [one.data["expression"] for one in problems if one.task == "arithmetic"]
    assert games == {2} and {len(re.findall(r"\d+", one)) for one in sums} == {3, 4, 5, 6}
    assert all(re.fullmatch(r"\d+([-+]\d+)+", one) for one in sums)
    assert 100 < len(sums) < 300


def test_worked_examples_are_of_the_training_split() -> None:
    for seed in range(500):
        problem = solved(seed)
        task = tasks.get(problem.task)
        assert isinstance(task, GeneratedTask)
        data = task.data_type.model_validate(problem.data)
        assert split_of(f"{task.name} {task.key(data)}") == "train"


@given(SEEDS)
def test_what_is_beyond_it_is_declined_in_the_language_of_the_question(seed: int) -> None:
    document = write_declined(Random(seed))
    assert not document.reasoning and boxed(document.answer) is None
    assert share(document.answer, "en" if document.prompt.isascii() else "zh") == 1


def test_a_question_that_is_beyond_it_asks_for_no_sum_of_whole_numbers() -> None:
    """However it is typed: the model would learn to decline what it can do."""
    prompts = {informal(write_declined(Random(seed)).prompt, Random(seed)) for seed in range(4000)}
    assert len(prompts) > 3000
    for prompt in prompts:
        assert not re.fullmatch(r"(what is |calculate )?-?\d+[.?!]*", prompt.lower()), prompt
        if not MORE.search(prompt):
            assert not re.search(r"\d ?[-+*×] ?\d", prompt), prompt
