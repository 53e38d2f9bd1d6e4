"""The corpus about countdown: every style has its share and its worth, and who never slips is never false."""

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import islice
from random import Random
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from longjing import tasks
from longjing.tasks import Completion, Problem, split_of
from longjing.toys import corpus
from longjing.toys.countdown import corpus as countdown
from longjing.toys.countdown.corpus import STYLES
from longjing.toys.toy import TOYS, Document

CLAIM = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
VERDICT = re.compile(r"=(\d+) vs (\d+) (yes!|no|对了！|不对)$", re.MULTILINE)
MENDED = re.compile(r"Wait, not|等等，不是")
GAVE_UP = re.compile(r"I give up|Not found|Enough\.|放弃了|没找到|够了")
COUNT = 2500


@cache
def written(difficulty: int = 2, slip: float = countdown.SLIP) -> list[tuple[Problem, Document, bool]]:
    """Problems, the documents about them, and whether the task judges these correct."""
    task, random, read = tasks.get("countdown", difficulty=difficulty), Random(5), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(countdown, "SLIP", slip)
        for problem in islice(task.problems("train", 3), COUNT):
            document = countdown.write_solution(problem, random)
            completion = Completion.parse(f"{document.reasoning}\n</think>\n\n{document.answer}")
            verdict = task.judge(problem, completion)
            assert verdict.rewards["format"] == 1.0, document
            assert document.prompt == problem.prompt
            read.append((problem, document, verdict.outcome == "correct"))
    return read


def claims(reasoning: str) -> list[bool]:
    """Whether each statement `a+b=c` is true."""
    operate = {
        "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
        "/": lambda a, b: a / b if b else None,
    }  # fmt: skip
    return [operate[sign](int(a), int(b)) == int(c) for a, sign, b, c in CLAIM.findall(reasoning)]


def rates(difficulty: int) -> dict[str, float]:
    """The share of right answers by style."""
    count: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for _, document, correct in written(difficulty):
        count[document.style] += 1
        right[document.style] += correct
    return {style: right[style] / count[style] for style in STYLES}


def test_every_style_has_its_share() -> None:
    count = Counter(document.style for _, document, _ in written())
    assert set(count) == set(STYLES) and sum(STYLES.values()) == pytest.approx(1)
    assert {style: number / COUNT for style, number in count.items()} == pytest.approx(STYLES, abs=0.03)


@pytest.mark.parametrize("difficulty", [2, 3])
def test_patience_pays(difficulty: int) -> None:
    """A guess is right now and then, a short search more often, and a long one nearly always."""
    rate = rates(difficulty)
    assert rate["guess"] + 0.1 < rate["short"] < rate["search"] - 0.15
    assert abs(rate["guess"] - rate["worked"]) < 0.06  # the same guess, worked out
    assert rate["checked"] > rate["search"] - 0.03
    assert rate["guess"] < 0.3 and rate["search"] > 0.75


def test_patience_costs() -> None:
    length = {
        style: sum(len(d.reasoning) for _, d, _ in written() if d.style == style)
        / sum(d.style == style for _, d, _ in written())
        for style in STYLES
    }
    assert length["guess"] < length["worked"] < length["short"] < length["search"]


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_without_slips_every_claim_is_true(difficulty: int) -> None:
    seen = 0
    for problem, document, correct in written(difficulty, slip=0.0):
        claimed = claims(document.reasoning)
        assert all(claimed), document
        seen += len(claimed)
        for result, target, verdict in VERDICT.findall(document.reasoning):
            assert int(target) == problem.data["target"]
            assert (verdict in ("yes!", "对了！")) == (result == target)
        hit = any(result == target for result, target, _ in VERDICT.findall(document.reasoning))
        if document.style not in ("guess", "worked"):
            # Who searches answers what was found, and admits it if nothing was.
            assert bool(GAVE_UP.search(document.reasoning)) != hit
            assert correct or not hit
        assert not MENDED.search(document.reasoning)
    assert seen > COUNT / 2


def test_the_answer_is_what_the_reasoning_ends_with() -> None:
    for _, document, _ in written():
        answer = re.fullmatch(r"\\boxed\{(.+)\}", document.answer)
        assert answer is not None
        if document.style != "worked":
            assert answer[1] in document.reasoning.splitlines()[-1]


def test_slips_happen_and_checks_mend_them() -> None:
    """With more slips than usual: who checks and finds is right; who doesn't check is sometimes wrong."""
    slipped, mended, fooled = 0, 0, 0
    for _, document, correct in written(2, slip=0.2):
        solved = not GAVE_UP.search(document.reasoning)
        false = not all(claims(document.reasoning))
        if document.style == "checked":
            slipped += false
            mended += bool(MENDED.search(document.reasoning))
            if solved:
                assert correct, document
                check = re.findall(r"^(?:Check: |检查：)(.*)$", document.reasoning, re.MULTILINE)
                assert check and all(all(claims(line)) for line in check)
        elif document.style in ("short", "search"):
            assert not MENDED.search(document.reasoning)
            fooled += solved and not correct
            assert correct or false or not solved
    assert slipped > 20 and mended > 5 and fooled > 5


def test_a_mended_slip_is_named() -> None:
    """The check shows the true result where the search had the false one, which `not` then names."""
    for _, document, _ in written(2, slip=0.2):
        lines = document.reasoning.splitlines()
        for check, verdict in zip(lines, lines[1:], strict=False):
            if MENDED.search(verdict):
                false = re.search(r"\d+", verdict)
                true = CLAIM.findall(check)[-1]
                assert false is not None and false[0] != true[3]
                claims_made = [claim for claim in CLAIM.findall(document.reasoning) if claim[:3] == true[:3]]
                assert (*true[:3], false[0]) in claims_made


@given(st.integers(0, 2**32))
def test_problems_are_of_the_training_split(seed: int) -> None:
    """What evaluation asks, the base has not read; not even in other words."""
    random, task = Random(seed), tasks.get("countdown", difficulty=1)
    problem = next(task.problems("train", seed))
    document = countdown.write_solution(problem, random)
    key = f"countdown {sorted(problem.data['numbers'])} {problem.data['target']}"
    assert split_of(key) == "train" and document.prompt == problem.prompt


def test_the_corpus_asks_nothing_that_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any task: the problems that its writers are given are in no other split."""
    prompts: dict[str, set[str]] = {}
    solved = {name: toy for name, toy in TOYS.items() if toy.write_solution}
    for name, toy in solved.items():

        def note(problem: Problem, random: Random, writer: Any = toy.write_solution) -> Document:
            prompts.setdefault(problem.task, set()).add(problem.id)
            return writer(problem, random)

        monkeypatch.setitem(TOYS, name, replace(toy, write_solution=note))
    shares = dict.fromkeys(solved, 1.0)
    assert len(list(islice(corpus.documents(0, shares, {}), 2500))) == 2500
    assert set(prompts) == set(shares)
    for name, texts in prompts.items():
        task = tasks.get(name)
        held_out = {p.id for split in ("validation", "test") for p in islice(task.problems(split, 0), 150)}
        assert len(held_out) == 300 and len(texts) > 300 and not held_out & texts


def test_the_style_does_not_depend_on_the_problem() -> None:
    problems = list(islice(tasks.get("countdown", difficulty=2).problems("train", 0), 25))
    for seed in range(20):
        assert len({countdown.write_solution(problem, Random(seed)).style for problem in problems}) == 1


def test_most_reasoning_is_in_the_language_of_the_problem() -> None:
    ends = [(p.language, d.reasoning) for p, d, _ in written() if d.style != "search"]
    same = sum((language == "zh") == (not reasoning.isascii()) for language, reasoning in ends) / len(ends)
    assert 0.88 < same < 0.96


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_the_same_random_state_writes_the_same_document(seed: int, difficulty: int) -> None:
    problem = next(tasks.get("countdown", difficulty=difficulty).problems("train", seed))
    assert countdown.write_solution(problem, Random(seed)) == countdown.write_solution(problem, Random(seed))


def test_documents_come_by_their_shares_and_from_the_seed() -> None:
    shares, settings = {"countdown": 3.0, "conversation": 1.0}, {"countdown": {"difficulty": 1}}
    first = list(islice(corpus.documents(7, shares, settings), 800))
    assert first == list(islice(corpus.documents(7, shares, settings), 800))
    assert first[:20] != list(islice(corpus.documents(8, shares, settings), 20))
    talk = sum(document.style == "conversation" for document in first)
    assert 150 < talk < 250


def test_a_document_is_encoded_as_a_model_is_asked() -> None:
    """Prompt and completion apart; the end token last; reasoning closed for who wasn't asked to think."""
    ids = tiny.tokenizer()
    for document in islice(corpus.documents(0, {"countdown": 1.0, "conversation": 1.0}, {}), 40):
        encoded = corpus.encode(document, ids)
        chat = [{"role": "user", "content": document.prompt}]
        prompt = ids.encode_chat(chat, thinking=document.thinking)
        assert encoded[: len(prompt)] == prompt and encoded[-1] == ids.eos_id
        completion = ids.decode(encoded[len(prompt) : -1])
        if document.thinking:
            parsed = Completion.parse(completion)
            assert (parsed.reasoning, parsed.answer) == (document.reasoning, document.answer)
        else:
            assert (document.reasoning, document.answer) == ("", completion)
