"""The corpus of Stream of Search: what is written is true, and complete below the largest number."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing import tasks
from longjing.tasks import Completion, Problem
from longjing.toys.countdown.task import moves
from longjing.toys.stream_of_search import corpus as stream_of_search
from longjing.toys.stream_of_search.corpus import LARGEST

LOOK = re.compile(r"(\d+) (\d+): ([\d ]+); (\d+) (\d+):((?: \d+ (?:no|yes|不|对))*)")
STEP = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
NUMBERS = st.lists(st.integers(1, 99), min_size=3, max_size=4)


def problem(numbers: list[int], target: int, language: str = "en") -> Problem:
    template = next(tasks.get("stream-of-search", language=language).problems("train", 0))
    return replace(template, data={"numbers": numbers, "target": target})


def reachable(numbers: list[int]) -> Iterator[int]:
    """What the numbers make with none above the largest on the way."""
    if len(numbers) == 1:
        yield numbers[0]
    for one, other in combinations(range(len(numbers)), 2):
        rest = [value for index, value in enumerate(numbers) if index not in (one, other)]
        for *_, result in moves(numbers[one], numbers[other]):
            if result <= LARGEST:
                yield from reachable([*rest, result])


def results(a: int, b: int) -> set[int]:
    return {result for *_, result in moves(a, b) if result <= LARGEST}


@given(NUMBERS, st.integers(10, 100), st.sampled_from(["en", "zh"]), st.integers(0, 2**32))
def test_it_finds_what_can_be_found_and_writes_what_is_true(
    numbers: list[int], target: int, language: str, seed: int
) -> None:
    question = problem(numbers, target, language)
    document = stream_of_search.write_solution(question, Random(seed))
    for a, operator, b, result in STEP.findall(document.reasoning):
        assert (int(a), operator, int(b), int(result)) in moves(int(a), int(b))
    looks = LOOK.findall(document.reasoning)
    assert looks
    for x, y, made, goal, other, verdicts in looks:
        assert set(map(int, made.split())) == results(int(x), int(y))
        for value, verdict in re.findall(r"(\d+) (\w+)", verdicts):
            assert (verdict in ("yes", "对")) == (value in made.split())
            assert int(goal) in results(int(value), int(other))
    solvable = target in set(reachable(numbers))
    assert len(re.findall(r" (?:yes|对)\n", document.reasoning)) == solvable
    assert ("Not found" not in document.reasoning and "没找到" not in document.reasoning) == solvable
    completion = Completion.parse(f"{document.reasoning}\n</think>\n\n{document.answer}")
    verdict = tasks.get("stream-of-search").judge(question, completion)
    assert verdict.rewards["format"] == 1.0
    assert (verdict.outcome == "correct") or not solvable


@pytest.mark.parametrize(("difficulty", "numbers", "least"), [(1, 3, 0.95), (2, 4, 0.87)])
def test_nine_of_ten_problems_are_found(difficulty: int, numbers: int, least: float) -> None:
    random, right = Random(0), 0
    task = tasks.get("stream-of-search", difficulty=difficulty)
    for question in islice(task.problems("train", 1), 400):
        assert len(question.data["numbers"]) == numbers
        document = stream_of_search.write_solution(question, random)
        completion = Completion.parse(f"{document.reasoning}\n</think>\n\n{document.answer}")
        right += task.judge(question, completion).outcome == "correct"
    assert least < right / 400 < 1


def test_an_example_reads_as_documented() -> None:
    document = stream_of_search.write_solution(problem([2, 33, 88, 15], 57), Random(0))
    assert "57+15=72: 2 33 88\n" in document.reasoning
    assert "33 88: 121 55; 72 2: 74 no 70 no 144 no 36 no\n" in document.reasoning
