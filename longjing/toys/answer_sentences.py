"""Answers in words: a sentence that states a result, as the readable form of a sample has it."""

from random import Random

from longjing.problems import Problem
from longjing.toys.toy import TOYS

_PLAIN = {"en": ["The answer is {box}."], "zh": ["答案是 {box}。"]}


def answer_sentence(problem: Problem, result: str, random: Random) -> str:
    """One sentence in the problem's language that states the result, in the only `\\boxed{...}`; the bare box in a
    language without sentences."""
    if problem.language not in _PLAIN:
        sentences = ["{box}"]
    elif problem.task in TOYS and (answers := TOYS[problem.task].forms.answers):
        sentences = answers[problem.language]
    else:
        sentences = _PLAIN[problem.language]
    return random.choice(sentences).format_map({**problem.data, "box": f"\\boxed{{{result}}}"})
