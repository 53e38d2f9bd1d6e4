"""A task that isn't in the package: the change at a till.

    python examples/till.py > examples/till-worked.jsonl     # worked examples, of training problems only
    longjing tasks check examples/till.py --model base
    longjing run examples/till.yaml

`docs/your-own-task.md` goes through it.
"""

import json
from collections.abc import Iterator
from itertools import islice, product
from random import Random
from typing import Any

from longjing import tasks
from longjing.tasks import ListedTask

GOODS = ["a tea", "a cake", "an apple", "a book", "a lamp", "a pen"]


class Till(ListedTask):
    """Two things are bought, and paid for with a note."""

    name = "till"
    verifier = "number"

    def rows(self) -> Iterator[dict[str, Any]]:
        random = Random(0)
        for one, other in product(range(2, 50), repeat=2):
            note = random.choice([note for note in (20, 50, 100) if note > one + other] or [200])
            first, second = random.sample(GOODS, 2)
            prompt = f"I buy {first} for {one} and {second} for {other}, and pay with {note}. How much change do I get?"
            yield {"prompt": prompt, "answer": note - one - other, "prices": [one, other], "note": note}


def worked(count: int) -> Iterator[dict[str, Any]]:
    """Conversations to learn the kind of answer from."""
    for problem in islice(tasks.get(__file__).problems("train", 1), count):
        (one, other), note = problem.data["prices"], problem.data["note"]
        thought = f"{one}+{other}={one + other}\n{note}-{one + other}={problem.answer}\nThat gives {problem.answer}."
        answer = {"role": "assistant", "reasoning_content": thought, "content": f"\\boxed{{{problem.answer}}}"}
        yield {"messages": [{"role": "user", "content": problem.prompt}, answer]}


if __name__ == "__main__":
    for conversation in worked(100):
        print(json.dumps(conversation))
