"""Prompts as people type them.

A task words its problems with care: no spaces in a formula, a capital, a full stop. People don't, and a small model
that has read nothing else is lost where they don't. All this is about the wordings of a few tasks (`TYPED`): in what
others say, a capital or a stroke may be what is asked.
"""

import re
from collections.abc import Mapping
from random import Random

from longjing.problems import Problem
from longjing.toys import EVERYDAY
from longjing.toys.equations.task import Equation

# So many prompts take a short form, if they have one; so many have each habit, the signs of schools, a sum in words; so
# many that are only talk, and no question, end in an exclamation.
_SHORT, _HABIT, _SCHOOL, _SPOKEN, _EAGER = 0.3, 0.5, 0.15, 0.15, 0.3
_TRIES = 20
_SHORT_FORMS = {
    "countdown": {
        "en": ["Make {target} from {numbers}", "{numbers} to {target}", "Numbers {numbers}, target {target}"],
        "zh": ["用 {numbers} 得到 {target}", "{numbers} 算出 {target}", "数字 {numbers}，目标 {target}"],
    },
    "arithmetic": {
        "en": ["{expression}", "{expression}=", "{expression}=?", "What's {expression}?"],
        "zh": ["算 {expression}", "{expression}等于几？", "{expression}得多少"],
    },
    "equations": {
        "en": ["{equations}", "Solve {equations}", "{equations}, solve it"],
        "zh": ["解 {equations}", "{equations}，求解", "{equations} 的解"],
    },
}
# A sign between two numbers, unknowns or parentheses: not the hyphen of a word, nor the + - * / that a prompt lists.
_SIGN = re.compile(r"(?<=[\dxy)])([-+*/=×÷])(?=[\dxy(-])")
_SCHOOL_SIGNS = {"*": "×", "/": "÷"}
TYPED = (*EVERYDAY, "conversation")
_WORDS = {
    "en": {"+": " plus ", "-": " minus ", "*": " times ", "/": " divided by "},
    "zh": {"+": "加", "-": "减", "*": "乘", "/": "除以"},
}


def as_typed(prompt: str, random: Random, problem: Problem | None = None) -> str:
    """The prompt, or a shorter one that asks for the same `problem`, with one or more of these habits: spaces around
    signs, no capitals, nothing or an exclamation at the end, × and ÷, a sum in words. It stays as it is only where
    there is nothing to change. `problem`: of one of the tasks `TYPED`; None where nothing of a task's is asked."""
    tries = (_typed(prompt, random, problem) for _ in range(_TRIES))
    return next((typed for typed in tries if typed != prompt), prompt)


def _typed(prompt: str, random: Random, problem: Problem | None) -> str:
    asks = prompt.endswith(("?", "？"))
    if problem is not None and random.random() < _SHORT:
        prompt = _short(problem, random) or prompt
    if problem is not None and problem.task == "arithmetic" and random.random() < _SPOKEN:
        prompt = _with_signs(prompt, _WORDS[problem.language])
    if random.random() < _SCHOOL:
        prompt = _with_signs(prompt, _SCHOOL_SIGNS)
    if random.random() < _HABIT:
        prompt = _SIGN.sub(r" \1 ", prompt)
    if random.random() < _HABIT:
        prompt = prompt.lower()
    if random.random() < _HABIT:
        prompt = prompt.rstrip(".?!。？！")
    if problem is None and prompt[-1:].isalpha() and not asks and random.random() < _EAGER:
        prompt += "!" if prompt.isascii() else "！"
    return prompt


def _with_signs(prompt: str, signs: Mapping[str, str]) -> str:
    return _SIGN.sub(lambda sign: signs.get(sign[1], sign[1]), prompt)


def _short(problem: Problem, random: Random) -> str | None:
    """The problem in few words; None for a task that has none."""
    forms = _SHORT_FORMS.get(problem.task, {}).get(problem.language)
    if forms is None:
        return None
    data = problem.data
    fields = {
        "target": data.get("target"),
        "numbers": random.choice([" ", ", "]).join(map(str, data.get("numbers", ()))),
        "expression": data.get("expression"),
        "equations": ", ".join(str(Equation.model_validate(one)) for one in data.get("equations", ())),
    }
    return random.choice(forms).format_map(fields)
