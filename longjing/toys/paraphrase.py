"""Prompts as people type them.

A task words its problems with care: no spaces in a formula, a capital, a full stop. People don't, and a small model
that has read nothing else is lost where they don't. All this is about the wordings of a few tasks (`Toy.informal`): in
what others say, a capital or a stroke may be what is asked.
"""

import re
from collections.abc import Mapping
from random import Random

from longjing.problems import Problem
from longjing.toys.toy import TOYS

# So many prompts take a short form, if they have one; so many have each habit, the signs of schools, a sum in words; so
# many that are only talk, and no question, end in an exclamation.
_SHORT, _HABIT, _SCHOOL, _SPOKEN, _EAGER = 0.3, 0.5, 0.15, 0.15, 0.3
_TRIES = 20
# A sign between two numbers, unknowns or parentheses: not the hyphen of a word, nor the + - * / that a prompt lists.
_SIGN = re.compile(r"(?<=[\dxy)])([-+*/=×÷])(?=[\dxy(-])")
_SCHOOL_SIGNS = {"*": "×", "/": "÷"}
_SPOKEN_SIGNS = {
    "en": {"+": " plus ", "-": " minus ", "*": " times ", "/": " divided by "},
    "zh": {"+": "加", "-": "减", "*": "乘", "/": "除以"},
}


def informal_tasks() -> list[str]:
    """The tasks whose prompts may be put informally."""
    return [name for name, toy in TOYS.items() if toy.informal]


def informal(prompt: str, random: Random, problem: Problem | None = None) -> str:
    """The prompt, or a shorter one that asks for the same `problem`, with one or more of these habits: spaces around
    signs, no capitals, nothing or an exclamation at the end, × and ÷, a sum in words. It stays as it is only where
    there is nothing to change. `problem`: of one of the `informal_tasks`; None where nothing of a task's is asked."""
    for _ in range(_TRIES):
        typed = _try_habits(prompt, random, problem)
        if typed != prompt:
            return typed
    return prompt


def _try_habits(prompt: str, random: Random, problem: Problem | None) -> str:
    """The prompt with such of the habits as are drawn, maybe none."""
    is_question = prompt.endswith(("?", "？"))
    if problem is not None and random.random() < _SHORT:
        prompt = _short(problem, random) or prompt
    if problem is not None and TOYS[problem.task].spoken and random.random() < _SPOKEN:
        prompt = _with_signs(prompt, _SPOKEN_SIGNS[problem.language])
    if random.random() < _SCHOOL:
        prompt = _with_signs(prompt, _SCHOOL_SIGNS)
    if random.random() < _HABIT:
        prompt = _SIGN.sub(r" \1 ", prompt)
    if random.random() < _HABIT:
        prompt = prompt.lower()
    if random.random() < _HABIT:
        prompt = prompt.rstrip(".?!。？！")
    if problem is None and prompt[-1:].isalpha() and not is_question and random.random() < _EAGER:
        prompt += "!" if prompt.isascii() else "！"
    return prompt


def _with_signs(prompt: str, signs: Mapping[str, str]) -> str:
    return _SIGN.sub(lambda sign: signs.get(sign[1], sign[1]), prompt)


def _short(problem: Problem, random: Random) -> str | None:
    """The problem in few words; None for a task that has no short forms."""
    toy = TOYS[problem.task]
    if toy.forms.short is None:
        return None
    separator = random.choice([" ", ", "])
    gaps = {
        gap: separator.join(map(str, value)) if isinstance(value, list) else value
        for gap, value in toy.short_fields(problem.data).items()
    }
    return random.choice(toy.forms.short[problem.language]).format_map(gaps)
