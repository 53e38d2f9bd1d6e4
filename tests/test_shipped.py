"""The models that come with the package: small, readable by others, and able to do what their cards say."""

import re
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from transformers import AutoModelForCausalLM

import longjing
from longjing import tasks
from longjing.evaluation import evaluate
from longjing.generation.native import Engine, Request, Sampling
from longjing.problems import boxed
from longjing.problems.expression import parse_expression
from longjing.recipe.card import about
from longjing.runs.resolve import SHIPPED, shipped
from longjing.serving.page.chat import EXAMPLES
from longjing.text.reasoning import parse
from longjing.text.template import Message


@cache
def engine(name: str) -> Engine:
    return Engine(*longjing.load(name))


def say(name: str, question: str, earlier: Sequence[Message] = ()) -> str:
    """The likeliest answer, without its reasoning; `earlier`: what was said before."""
    tokenizer = engine(name).tokenizer
    assert tokenizer is not None
    prompt = tokenizer.encode_chat([*earlier, {"role": "user", "content": question}])
    (generation,) = engine(name).generate([Request(prompt, Sampling(temperature=0, max_tokens=512))])
    parsed = parse(generation.text)
    assert parsed.closed and generation.finish_reason == "stop"
    return parsed.answer


def solved(name: str, task: str) -> float:
    model = engine(name)
    assert model.tokenizer is not None
    chosen = tasks.get(task, difficulty=2)
    settings = {"problems": 40, "samples": 1, "seed": 0, "temperature": 0.6, "top_p": 0.95, "max_tokens": 400}
    return evaluate(model, model.tokenizer, chosen, **settings).pass_at_1  # type: ignore[arg-type]


def test_they_are_small() -> None:
    assert shipped() == ["base", "r1", "r1-distill", "r1-zero"]
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*")) < 30e6


@pytest.mark.parametrize("name", shipped())
def test_others_read_them_alike(name: str) -> None:
    model, tokenizer = longjing.load(name)
    twin = AutoModelForCausalLM.from_pretrained(SHIPPED / name, dtype=torch.float32)
    tokens = torch.tensor([tokenizer.encode_chat([{"role": "user", "content": "What is 17+25? 等于多少？"}])])
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), twin(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", shipped())
def test_a_card_says_what_it_is_and_what_it_can_not_do(name: str) -> None:
    card = SHIPPED / name / "README.md"
    text = card.read_text("utf-8")
    assert f"# longjing-{name}\n" in text and about(card).endswith(".")
    for phrase in ("FLOP", "95% interval", "pass@1", "can't do", f'longjing.load("{name}")', "license: mit"):
        assert phrase in text


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Hello", ["Hello", "Hi"]),
        ("Who are you?", ["Longjing"]),
        ("What is the capital of France?", ["can't", "don't", "too small", "beyond"]),
        ("你好", ["你好", "您好"]),
        ("你是谁？", ["龙井"]),
        ("今天天气怎么样？", ["不知道", "做不到", "做不了", "超出", "帮不了"]),
        ("hello", ["Hello", "Hi"]),
        ("Hello!", ["Hello", "Hi"]),
        ("what are you?", ["Longjing"]),
        ("What is 17+25?", ["\\boxed{42}"]),
        ("345 + 678", ["\\boxed{1023}"]),
        ("7 * 8", ["\\boxed{56}"]),
        ("12 plus 30", ["\\boxed{42}"]),
        ("45加38等于多少", ["\\boxed{83}"]),
        ("3x + 5 = 26", ["\\boxed{x=7}"]),
        ("Solve the equation 3x+5=20.", ["\\boxed{x=5}"]),
        ("12*8", ["\\boxed{96}"]),
        ("12 + 7 + 20", ["\\boxed{39}"]),
        ("Use 20 and 5 to make 4.", ["\\boxed{20/5}"]),
        ("What is 20% of 50?", ["don't", "beyond", "whole numbers"]),
        ("7^2", ["don't", "beyond", "whole numbers"]),
        ("49 的平方根是多少？", ["不会", "超出", "没学过"]),
        ("用 3、20、12 算出 96。每个数恰好用一次，可以用 + - * /。", ["\\boxed{(20+12)*3}", "\\boxed{3*(20+12)}"]),
    ],
)
def test_r1_answers_as_it_should(question: str, words: list[str]) -> None:
    answer = say("r1", question)
    assert any(word in answer for word in words), answer


def test_r1_searches_for_what_is_asked_in_few_words() -> None:
    expression = parse_expression(boxed(say("r1", "make 24 from 3, 8, 1")) or "")
    assert (expression.value, sorted(expression.literals)) == (24, [1, 3, 8])


def test_r1_keeps_its_head_in_a_conversation() -> None:
    messages: list[Message] = []
    for question, word in [
        ("hello", "Hello"), ("Who are you?", "Longjing"), ("What is 17 + 25?", "{42}"), ("and 30 - 12?", "{18}"),
        ("Solve 2x + 3 = 11", "x=4"), ("thanks!", "welcome"),
    ]:  # fmt: skip
        answer = say("r1", question, messages)
        assert word in answer, (question, answer)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_r1_solves_what_the_page_offers_to_ask() -> None:
    answers = [r"5\*3|3\*5", "1023", "x=5", r"\{18\}", r"6\*2|2\*6", "Longjing"]
    for question, answer in zip(EXAMPLES, answers, strict=True):
        assert re.search(answer, answer_text := say("r1", question)), (question, answer_text)


@pytest.mark.parametrize(("name", "least"), [("r1-zero", 0.2), ("r1", 0.2)])
def test_reinforcement_has_left_the_base_behind(name: str, least: float) -> None:
    assert solved(name, "countdown") > solved("base", "countdown") + least
