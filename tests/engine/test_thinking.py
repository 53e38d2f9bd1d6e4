"""A budget for thinking: it holds, the answer has room, and a model that closes in time isn't disturbed."""

import pytest
import torch
from engine_cases import LATENT
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.engine import Engine, Request, Sampling
from longjing.engine.thinking import ThinkingBudget
from longjing.model.decoder import Decoder
from longjing.model.files import resolve
from longjing.text.reasoning import parse
from longjing.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.from_directory(resolve("base"))
MODEL = (
    Decoder(LATENT.__class__(**(LATENT.__dict__ | {"vocab_size": TOKENIZER.vocab_size}))).initialise(0).eval()
)
PROMPT = TOKENIZER.encode_chat([{"role": "user", "content": "3+4?"}])
CLOSING = len(TOKENIZER.encode("\n</think>\n\n"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 30), st.integers(0, 100), st.booleans())
def test_reasoning_ends_when_its_budget_is_spent(budget: int, seed: int, speculate: bool) -> None:
    # A network with random weights hardly ever says </think>, or the end, by itself.
    engine = Engine(MODEL, TOKENIZER, speculate=speculate)
    guide = ThinkingBudget(TOKENIZER, PROMPT, budget, engine.end_tokens)
    (said,) = engine.generate([Request(PROMPT, Sampling(max_tokens=60, seed=seed), guide)])
    parsed = parse(said.text)
    assert parsed.closed
    if guide.exhausted:
        assert budget <= guide.spent <= budget + CLOSING
        assert TOKENIZER.decode(said.tokens[budget : budget + CLOSING]) == "\n</think>\n\n"


def test_an_answer_that_follows_by_itself_is_left_alone() -> None:
    said = TOKENIZER.encode("7 it is\n</think>\n\n7")
    guide = ThinkingBudget(TOKENIZER, PROMPT, 1000, [TOKENIZER.eos_id])
    for place in range(len(said) + 1):
        bias = guide.bias(said[:place], TOKENIZER.vocab_size)
        if parse(TOKENIZER.decode(said[:place])).closed:
            assert bias is None
        else:
            assert bias is not None and bias.isinf().sum() == 1 and bias[TOKENIZER.eos_id] == float("-inf")
    assert not guide.exhausted and 0 < guide.spent < len(said)


@pytest.mark.parametrize("thinking", [True, False])
def test_without_thinking_there_is_nothing_to_budget(thinking: bool) -> None:
    prompt = TOKENIZER.encode_chat([{"role": "user", "content": "3+4?"}], thinking=thinking)
    guide = ThinkingBudget(TOKENIZER, prompt, 0, [TOKENIZER.eos_id])
    bias = guide.bias([], TOKENIZER.vocab_size)
    assert (bias is not None) is thinking is guide.exhausted
    assert bias is None or torch.isinf(bias).sum() == TOKENIZER.vocab_size - 1
