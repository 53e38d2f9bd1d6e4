"""The corpus of Stream of Search: what is written is true, and complete below the largest number."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, islice
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from longjing import tasks
from longjing.learning.corpus import stream_of_search
from longjing.learning.corpus.stream_of_search import LARGEST
from longjing.tasks import Completion, Problem
from longjing.tasks.countdown import moves

LOOK = re.compile(r"(\d+) (\d+): ([\d ]+); \d+: ?([\d ]*) (no|yes)")
STEP = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
NUMBERS = st.lists(st.integers(1, 99), min_size=4, max_size=4)


def problem(numbers: list[int], target: int) -> Problem:
    known = next(tasks.get("stream-of-search", language="en").problems("train", 0))
    return replace(known, data={"numbers": numbers, "target": target})


def reachable(numbers: list[int]) -> Iterator[int]:
    """What the numbers make with none above the largest on the way."""
    if len(numbers) == 1:
        yield numbers[0]
    for one, other in combinations(range(len(numbers)), 2):
        rest = [value for place, value in enumerate(numbers) if place not in (one, other)]
        for *_, result in moves(numbers[one], numbers[other]):
            if result <= LARGEST:
                yield from reachable([*rest, result])


def steps(line: str) -> list[tuple[int, str, int, int]]:
    return [(int(a), operator, int(b), int(c)) for a, operator, b, c in STEP.findall(line)]


@given(NUMBERS, st.integers(10, 100), st.integers(0, 2**32))
def test_it_finds_what_can_be_found_and_writes_what_is_true(
    numbers: list[int], target: int, seed: int
) -> None:
    asked = problem(numbers, target)
    document = stream_of_search.write(asked, Random(seed))
    assert all(step in moves(step[0], step[2]) for step in steps(document.reasoning))
    for x, y, made, needed, said in LOOK.findall(document.reasoning):
        results = {result for *_, result in moves(int(x), int(y)) if result <= LARGEST}
        assert set(map(int, made.split())) == results
        assert (said == "yes") == bool(results & set(map(int, needed.split())))
    found = target in set(reachable(numbers))
    assert ("Not found" not in document.reasoning) == found
    completion = Completion.parse(f"{document.reasoning}\n</think>\n\n{document.answer}")
    verdict = tasks.get("stream-of-search").judge(asked, completion)
    assert verdict.rewards["format"] == 1.0
    assert (verdict.outcome == "correct") or not found


def test_nine_of_ten_problems_are_found() -> None:
    random, right = Random(0), 0
    task = tasks.get("stream-of-search")
    for asked in islice(task.problems("train", 1), 400):
        document = stream_of_search.write(asked, random)
        completion = Completion.parse(f"{document.reasoning}\n</think>\n\n{document.answer}")
        right += task.judge(asked, completion).outcome == "correct"
    assert 0.87 < right / 400 < 0.96
