"""Prompts as people type them: other in form, never in what is asked."""

import re
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing import tasks
from longjing.problems import Problem
from longjing.problems.language import share
from longjing.toys import EVERYDAY
from longjing.toys.conversation import task as conversation
from longjing.toys.paraphrase import informal

PROBLEMS = [
    problem
    for name in EVERYDAY
    for difficulty in (2, 4)
    for problem in islice(tasks.get(name, difficulty=difficulty).problems("train", 0), 12)
]
seeds = st.integers(0, 2**32)


def bare(text: str) -> str:
    """A text without spaces, capitals and the signs of schools."""
    return re.sub(r"\s", "", text.lower()).replace("×", "*").replace("÷", "/")


def signed(text: str) -> str:
    """A text with signs for their words."""
    words = {"plus": "+", "minus": "-", "times": "*", "divided by": "/", "加": "+", "减": "-", "乘": "*", "除以": "/"}
    for word, sign in words.items():
        text = text.replace(word, sign)
    return text


@given(st.sampled_from(PROBLEMS), seeds)
def test_the_prompt_asks_the_same(problem: Problem, seed: int) -> None:
    typed = informal(problem.prompt, Random(seed))
    assert bare(problem.prompt).rstrip(".?。？") == bare(typed).rstrip(".?!。？！")


@given(st.sampled_from(PROBLEMS), seeds)
def test_a_short_form_has_the_problem_in_it_and_its_language(problem: Problem, seed: int) -> None:
    typed = informal(problem.prompt, Random(seed), problem)
    if problem.task == "arithmetic":
        assert problem.data["expression"] in bare(signed(typed))
    numbers = re.findall(r"\d+", typed)
    assert sorted(numbers) == sorted(re.findall(r"\d+", problem.prompt))
    if problem.language == "zh":
        assert share(typed, "zh") == 1.0
    else:
        assert typed.replace("×", "*").replace("÷", "/").isascii()


def test_every_habit_is_met() -> None:
    problem = next(p for p in PROBLEMS if p.task == "equations" and p.language == "en")
    typed = {informal(problem.prompt, Random(seed), problem) for seed in range(200)}
    assert any(" = " in text for text in typed) and any("=" in text and " = " not in text for text in typed)
    assert any(text.endswith((".", "?")) for text in typed) and any(text[-1].isalnum() for text in typed)
    assert any(text.islower() for text in typed) and any(text[0].isupper() for text in typed)
    assert any(text[0].isdigit() or text[0] in "x-" for text in typed)  # the equation alone
    assert problem.prompt not in typed


def test_what_has_nothing_to_change_stays() -> None:
    unchanged = next(problem for problem in PROBLEMS if problem.task == "word-problems")
    assert informal("谢谢", Random(0), unchanged) == "谢谢"
    assert informal("谢谢", Random(0)) == "谢谢！"


@pytest.mark.parametrize(
    ("prompt", "signs"),
    [("A 20-page book, with + - * /.", "20-page book"), ("solve 3x+5=-26", "3x + 5 = -26"), ("(1-2)*3", "(1 - 2) * 3")],
)
def test_spaces_stand_around_signs_of_formulas_only(prompt: str, signs: str) -> None:
    typed = {informal(prompt, Random(seed)) for seed in range(50)}
    assert any(signs in text for text in typed)
    assert not any("20 - page" in text or "= - 26" in text for text in typed)


@given(seeds)
def test_conversation_keeps_its_words(seed: int) -> None:
    prompt = conversation.write_conversation(Random(seed)).prompt
    assert informal(prompt, Random(seed)).lower().rstrip(".?!。？！") == prompt.lower().rstrip(".?!。？！")


def test_a_question_does_not_end_in_an_exclamation() -> None:
    typed = {informal("Who are you?", Random(seed)) for seed in range(200)}
    assert "who are you" in typed and not any(text.endswith("!") for text in typed)
    assert any(informal("Thank you", Random(seed)).endswith("!") for seed in range(200))
