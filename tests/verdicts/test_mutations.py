"""Whatever is made of the corpus' rows, as answer and as gold: a verdict comes in its time, and nothing raises."""

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from longjing import verifiers
from longjing.tasks import Completion, Problem

ROWS = [json.loads(line) for line in (Path(__file__).parent / "verdicts.jsonl").read_text("utf-8").splitlines()]
SECONDS, MARGIN = (1.0, 2.0)  # the margin is for a busy machine; a process that is killed is replaced in milliseconds
VERIFIERS: dict[str, dict[str, Any]] = {
    "math": {"seconds": SECONDS}, "number": {}, "multiple-choice": {}, "exact": {}, "regex": {"seconds": SECONDS},
}  # fmt: skip
PIECES = (
    "the" + " " * 190 + "!", "\\boxed{The domain of the function is the set of all real numbers, so 5}", "```\n\n\n",
    "=",
    "\\\\ ", "{", "}", "\\text{", "(", "^", "\\frac", "9^{9^{9^{9}}}", "\ud800", "\x00", "(a+)+$", "5 cm ", "½", "√",
    "万",
    "\\begin{pmatrix}", ",", " and ", "\\pm ", "|", "\\left(", "'", "_", "!", "a b c ", "\\sum_{n=1}^{999999}", "\n",
    "﷽", "\\",
)  # fmt: skip


def mutated(random: Random) -> str:
    """A text of the rows, cut, repeated, nested or spliced with others, up to four times."""
    texts = [row[side] for row in random.sample(ROWS, 3) for side in ("gold", "answer")] + [*PIECES]
    text = random.choice(texts)
    for _ in range(random.randint(1, 4)):
        other, at = random.choice(texts), random.randint(0, len(text))
        how = random.randrange(6)
        if how == 0:
            text = text[:at] + other + text[at:]
        elif how == 1:
            text = text[:at]
        elif how == 2:
            text = text * random.choice((2, 3, 60, 900))
        elif how == 3:
            text = f"\\frac{{{text}}}{{{other}}}"
        elif how == 4:
            depth = random.choice((1, 5, 200))
            text = (
                random.choice(("(", "{", "\\sqrt{", "[", "\\text{")) * depth
                + text
                + random.choice((")", "}", "]")) * depth
            )
        else:
            text = text[at:] + other
        text = text[:20_000]
    return text


def check(seed: int) -> float:
    """Judge one mutation as an answer and as a gold, with every verifier; the longest verdict, in seconds."""
    random = Random(seed)
    row, text = random.choice(ROWS), mutated(random)
    longest = 0.0
    for name, settings in VERIFIERS.items():
        verifier = verifiers.get(name, **settings)
        for gold, answer in ((row["gold"], text), (text, row["answer"])):
            completion = Completion.parse(f"so\n</think>\n\n\\boxed{{{answer}}}")
            began = time.monotonic()
            judgement = verifier.judge(Problem("t", "i", "?", gold, {}, "en"), completion)
            longest = max(longest, time.monotonic() - began)
            assert judgement.reason and judgement.outcome in ("correct", "wrong", "unjudged"), (seed, name)
    return longest


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_no_mutation_raises_or_outlasts_its_time(first: int) -> None:
    pytest.importorskip("math_verify")
    warm = verifiers.get("math", seconds=SECONDS)
    warm.judge(Problem("t", "i", "?", "\\sqrt{4}", {}, "en"), Completion.parse("so\n</think>\n\n\\boxed{2+0}"))
    for seed in range(first, first + 20):
        assert check(seed) < SECONDS + MARGIN, seed
