"""What a model still knows: plain questions that have nothing to do with what r1-smollm2 learns, before and after.

    python benchmarks/plain_questions.py --models smollm2 runs/r1-smollm2 --out benchmarks/results/plain_questions.json

Each is asked once, without sampling, in a conversation of its own. An answer counts if it holds one of the words that
are looked for, as a word; reasoning doesn't.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import longjing
from longjing.evaluation.bootstrap import wilson
from longjing.generation.native import Engine, Request, Sampling
from longjing.problems import Completion
from longjing.validation import Strict, read_yaml


class Question(Strict):
    """A question, and words of which a right answer has one."""

    ask: str
    words: list[str]

    def is_answered(self, text: str) -> bool:
        return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in self.words)


QUESTIONS = read_yaml(__file__, "plain_questions.yaml", list[Question])


def answers(model: str, max_tokens: int) -> list[Completion]:
    engine = Engine(*longjing.load(model, dtype="auto"), max_batch=64)
    assert engine.tokenizer is not None
    requests = [
        Request(
            engine.tokenizer.encode_chat([{"role": "user", "content": each.ask}]), Sampling(0, max_tokens=max_tokens)
        )
        for each in QUESTIONS
    ]
    return [
        Completion.parse(one.text, prefilled=False, truncated=one.finish_reason == "length")
        for one in engine.generate(requests)
    ]


def result(model: str, max_tokens: int) -> dict[str, Any]:
    rows = [
        {
            "ask": question.ask,
            "right": question.is_answered(reply.answer),
            "answer": reply.answer,
            "thought": bool(reply.reasoning),
        }
        for question, reply in zip(QUESTIONS, answers(model, max_tokens), strict=True)
    ]
    right = sum(row["right"] for row in rows)
    return {
        "model": model,
        "right": right,
        "of": len(rows),
        "interval": wilson(right / len(rows), len(rows)),
        "answers": rows,
    }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", nargs="+", default=["smollm2"])
    options.add_argument("--max-tokens", type=int, default=96)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    results = [result(model, given.max_tokens) for model in given.models]
    for one in results:
        print(f"{one['model']}: {one['right']} of {one['of']} ({one['interval'][0]:.0%} to {one['interval'][1]:.0%})")
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
