"""The same seed gives the same text, to the byte: every shipped model and every published number hangs on it.

The hashes were made before the prose of the toys became data. A change that is meant to change what is drawn replaces
them (`python tests/toys/test_same_text.py` prints the new ones) and says so in docs/decisions.md.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import islice
from random import Random
from typing import Any, get_args

import pytest

from longjing import tasks
from longjing.problems import Problem, Split
from longjing.toys import corpus
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.generated_preferences import GeneratedPreferences
from longjing.toys.paraphrase import informal, informal_tasks
from longjing.toys.toy import STANDALONE

HASHES = {
    "answer sentences": "28ed1df67aae59801905",
    "documents of conversation": "b30aeb70b3b866fb054e",
    "documents of drill": "94d162e80655bdf1a864",
    "documents of limits": "c676ffecf5f17e849aaf",
    "documents of practice": "944fdd2416891688f599",
    "documents of worked": "50a2c4c97d487e3265ce",
    "documents": "7cd7738e8eee9222aa91",
    "helpfulness": "1fcea9cda0ecc65fc4b6",
    "paraphrases": "0a93b5fcc3aefd01b896",
    "problems of arithmetic": "8b18a39cdca9a69e7886",
    "problems of calculator": "3459498597236a53a7a9",
    "problems of code": "8c3a5498cf251822e826",
    "problems of conversation": "e0dbddfa473877669981",
    "problems of countdown": "3abaede32611f5179a84",
    "problems of equations": "eee924ebe7c2135b02b3",
    "problems of stream-of-search": "c59350a8f259917dc061",
    "problems of word-problems": "28cb67e09e07d916a537",
    "safety": "e471eabebcfbde1a86ee",
}


def problems(name: str) -> Iterator[Problem]:
    """Some of every difficulty, language and split."""
    for difficulty in range(1, 6):
        for language in ("en", "zh"):
            task = tasks.get(name, difficulty=difficulty, language=language)
            for seed, split in enumerate(get_args(Split)):
                yield from islice(task.problems(split, seed), 8)


def talk() -> Iterator[Problem]:
    for language in ("en", "zh", "mixed"):
        yield from islice(tasks.get("conversation", language=language).problems("train", 3), 60)


def documents() -> Iterator[corpus.Document]:
    shares = dict.fromkeys(sorted(corpus.kinds()), 1.0)
    levels = {name: {"difficulty": [1, 2, 3]} for name in tasks.names() if name in shares}
    yield from islice(corpus.documents(3, shares, levels, follow_ups=0.1, unthinking=0.2), 400)


def paraphrases() -> Iterator[str]:
    for name in informal_tasks():
        for number, problem in enumerate(islice(tasks.get(name).problems("train", 1), 40)):
            yield informal(problem.prompt, Random(f"{name} {number}"), problem)
            yield informal(problem.prompt, Random(f"{name} {number}"))


def sentences() -> Iterator[str]:
    for name in tasks.names():
        for number, problem in enumerate(islice(tasks.get(name).problems("train", 1), 12)):
            for language in ("en", "zh", "de"):
                yield answer_sentence(replace(problem, language=language), problem.answer, Random(number))


def preferences(kind: Any, **settings: Any) -> Iterable[Any]:
    return GeneratedPreferences(generated=kind, examples=150, **settings).make(9)


DRAWS: dict[str, Any] = {
    **{f"problems of {name}": lambda name=name: problems(name) for name in tasks.names()},
    "problems of conversation": talk,
    "documents": documents,
    **{
        f"documents of {kind}": lambda kind=kind: (STANDALONE[kind](Random(seed)) for seed in range(60))
        for kind in STANDALONE
    },
    "helpfulness": lambda: preferences("helpfulness", length_bias=0.3),
    "safety": lambda: preferences("safety"),
    "paraphrases": paraphrases,
    "answer sentences": sentences,
}


def digest(draws: Iterable[Any]) -> str:
    total = sha256()
    for drawn in draws:
        plain = drawn if isinstance(drawn, str) else asdict(drawn)
        total.update(json.dumps(plain, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return total.hexdigest()[:20]


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_gives_the_same_text(name: str) -> None:
    assert digest(DRAWS[name]()) == HASHES[name]


if __name__ == "__main__":
    for name, draws in DRAWS.items():
        print(f'    "{name}": "{digest(draws())}",')
