"""What makes a sample readable: no running in circles, and an answer in words."""

import re
from random import Random

from longjing.problems import Problem

# A word, a number, a sign; Chinese writes no spaces, so each of its characters.
_UNIT = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+|\d+|[^\w\s]|_")

_SENTENCES: dict[str, dict[str, list[str]]] = {
    "countdown": {
        "en": [
            "This makes {target}: {box}.",
            "{box} makes {target}, and uses each number once.",
            "Each number is used once in {box}, which is {target}.",
            "You get {target} with {box}.",
        ],
        "zh": [
            "可以这样得到 {target}：{box}。",
            "答案是 {box}，结果等于 {target}。",
            "用 {box} 得到 {target}，每个数用一次。",
        ],
    },
    "arithmetic": {
        "en": ["{expression} is {box}.", "The value of {expression} is {box}.", "The result is {box}."],
        "zh": ["{expression} 等于 {box}。", "{expression} 的值是 {box}。", "结果是 {box}。"],
    },
    "equations": {
        "en": ["The solution is {box}.", "Solved: {box}.", "What solves it is {box}."],
        "zh": ["解得 {box}。", "方程的解是 {box}。", "答案是 {box}。"],
    },
    "word-problems": {
        "en": ["The answer is {box}.", "So the number asked for is {box}.", "That makes {box}."],
        "zh": ["答案是 {box}。", "所以要求的数是 {box}。", "一共算下来是 {box}。"],
    },
}
_PLAIN = {"en": ["The answer is {box}."], "zh": ["答案是 {box}。"]}


def written_answer(problem: Problem, result: str, random: Random) -> str:
    """One sentence in the problem's language that states the result, in the only `\\boxed{...}`; the bare box in a
    language without patterns."""
    sentences = _SENTENCES.get(problem.task, _PLAIN).get(problem.language, ["{box}"])
    return random.choice(sentences).format_map({**problem.data, "box": f"\\boxed{{{result}}}"})


def repetition(text: str, size: int = 12) -> float:
    """The share of the windows of `size` words, numbers and signs that occurred in the text before, in [0, 1).

    The measure seq-rep-n of Welleck et al. (arXiv 1908.04319, section 3.2). A text said k times over has about
    1 - 1/k. The size is that of a line of reasoning or two, so that lines of one pattern don't count as one.
    """
    units = _UNIT.findall(text)
    windows = [tuple(units[start : start + size]) for start in range(len(units) - size + 1)]
    return 1 - len(set(windows)) / len(windows) if windows else 0.0
