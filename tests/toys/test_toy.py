"""A toy declares in its folder what it has, and nobody else knows it by name."""

from itertools import islice
from pathlib import Path
from random import Random

import pytest

import longjing
from longjing import toys
from longjing.problems import Language, Problem, registry
from longjing.toys import corpus
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.countdown.task import Countdown, CountdownData
from longjing.toys.prose import Bilingual, Forms
from longjing.toys.toy import STANDALONE, TOYS, UNASKED, Document, Toy, register_documents, register_toy

PACKAGE = Path(longjing.__file__).parent


def test_nobody_else_imports_a_toy() -> None:
    folders = [path.parent.name for path in Path(toys.__file__).parent.glob("*/task.py")]
    assert len(folders) == len(TOYS) == 8
    for path in PACKAGE.rglob("*.py"):
        if PACKAGE / "toys" not in path.parents:
            text = path.read_text("utf-8")
            assert not [toy for toy in folders if f"longjing.toys.{toy}" in text], path


class Doubles(Countdown):
    name = "doubles"

    def draw(self, random: Random) -> CountdownData:
        number = random.randint(1, 500)
        return CountdownData(numbers=[number, number], target=2 * number)

    def prompt(self, data: CountdownData, language: Language, random: Random) -> str:
        return f"Double {data.numbers[0]}."


def write_doubled(problem: Problem, random: Random) -> Document:
    return Document(problem.prompt, "twice", f"\\boxed{{{problem.answer}}}", "direct")


def write_greeting(random: Random) -> Document:
    return Document("Hi", "", "Hello", "greeting")


def test_a_new_toy_declares_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else needs to know of it: not the corpus, not the answer sentences, not the paraphrases."""
    for table in (TOYS, STANDALONE, registry._TASKS):
        for name, value in dict(table).items():  # what is registered here goes when the test ends
            monkeypatch.setitem(table, name, value)  # type: ignore[arg-type]
    monkeypatch.setattr("longjing.toys.toy.UNASKED", set(UNASKED))
    answers = Bilingual(en=["Twice it is {box}."], zh=["两倍是 {box}。"])
    monkeypatch.setitem(TOYS, "doubles", None)  # so that it is taken out at the end
    monkeypatch.setitem(registry._TASKS, "doubles", None)
    monkeypatch.setitem(STANDALONE, "greeting", None)
    register_toy(Toy(Doubles, write_doubled, forms=Forms(answers=answers)))
    register_documents("greeting", write_greeting, answers_question=False)
    assert {"doubles", "greeting"} <= set(corpus.kinds()) and "doubles" in corpus.prompt_kinds()
    met = list(islice(corpus.documents(0, {"doubles": 1, "greeting": 1}, {}), 40))
    assert {document.style for document in met} == {"direct", "greeting"}
    problem = next(registry.make("doubles", language="en").problems("train", 0))
    assert answer_sentence(problem, "6", Random(0)) == "Twice it is \\boxed{6}."
