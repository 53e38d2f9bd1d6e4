"""The corpus of tiny programs: what each way of writing them is worth, and that what is written is so."""

import re
from collections import Counter
from functools import cache
from itertools import islice
from random import Random

import pytest

from longjing import tasks
from longjing.problems import boxed
from longjing.tasks import Problem
from longjing.text.tokenizer import Tokenizer
from longjing.toys import corpus
from longjing.toys.code import corpus as code
from longjing.toys.code.corpus import STYLES
from longjing.toys.code.task import CodeData, compiled, hidden_tests, passes
from longjing.toys.toy import Document

COUNT = 1200
TEST = re.compile(r"(?:Test|试) (\w+) = (.*?)[:：] ?(.*)[.。]$", re.MULTILINE)


@cache
def written(difficulty: int) -> list[tuple[Problem, Document, bool]]:
    """Problems, the documents about them, and whether their programs pass."""
    random = Random(7)
    read = []
    for problem in islice(tasks.get("code", difficulty=difficulty).problems("train", 3), COUNT):
        document = code.write_solution(problem, random)
        program = boxed(document.answer)
        assert program
        tests = hidden_tests(problem.answer, CodeData.model_validate(problem.data))
        read.append((problem, document, passes(program, tests)))
    return read


@pytest.mark.parametrize("difficulty", [1, 2, 3, 4])
def test_the_share_and_the_worth_of_each_style(difficulty: int) -> None:
    count, right = Counter[str](), Counter[str]()
    for _, document, correct in written(difficulty):
        count[document.style] += 1
        right[document.style] += correct
    assert {style: count[style] / COUNT for style in STYLES} == pytest.approx(STYLES, abs=0.05)
    worth = {style: right[style] / count[style] for style in STYLES}
    assert 0.1 < worth["guess"] < 0.32
    assert 0.45 < worth["direct"] < 0.68
    assert 0.85 < worth["pieces"] <= worth["tested"]
    assert worth["tested"] > 0.97


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_what_a_tester_sees_is_so(difficulty: int) -> None:
    tried = mended = 0
    for _, document, correct in written(difficulty):
        if document.style != "tested" or not (test := TEST.search(document.reasoning)):
            continue
        tried += 1
        variable, value, results = test.groups()
        before = document.reasoning[: test.start()].strip().splitlines()
        steps = [line.split(": ", 1)[1] for line in before]
        value_given = compiled(value)
        seen = [repr(compiled(f"lambda {variable}: {step}")(value_given)) for step in steps]
        assert ", ".join(seen[: len(seen)]).startswith(results)
        if re.search("Wait|等等", document.reasoning):
            mended += 1
            assert correct
    assert tried > 60 and mended > 3


def test_documents_are_short_and_the_shipped_tokenizer_can_write_them() -> None:
    tokenizer = Tokenizer.from_directory("longjing/models/base")
    for _, document, _ in written(3):
        assert document.reasoning == document.reasoning.strip() and "think>" not in document.reasoning
        assert "boxed" not in document.reasoning and "\n" not in document.answer
        tokens = corpus.encode(document, tokenizer)
        assert len(tokens) <= 512
        assert document.answer in tokenizer.decode(tokens)


def test_most_reasoning_is_in_the_language_of_the_problem() -> None:
    guesses = [(problem, document) for problem, document, _ in written(2) if document.style == "guess"]
    same = sum((problem.language == "zh") == (not document.reasoning.isascii()) for problem, document in guesses)
    assert 0.85 < same / len(guesses) < 0.97


def test_the_style_does_not_depend_on_the_problem() -> None:
    problems = list(islice(tasks.get("code", difficulty=3).problems("train", 0), 30))
    for seed in range(20):
        assert len({code.write_solution(problem, Random(seed)).style for problem in problems}) == 1
        assert code.write_solution(problems[0], Random(seed)) == code.write_solution(problems[0], Random(seed))


def test_a_share_of_the_corpus_may_be_code() -> None:
    documents = islice(corpus.documents(0, {"code": 0.5, "arithmetic": 0.5}, {"code": {"difficulty": [1, 2]}}), 200)
    assert 70 < sum("lambda" in document.answer for document in documents) < 130
