"""Logits processors change their own row only; and what is noted beside the tokens."""

from collections import Counter
from dataclasses import replace
from math import nan

import pytest
import torch
from engine_cases import CONFIGS, MODELS, Letters, crowd, trainer_logprobs
from hypothesis import given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.generation.native import Engine, Request, Sampling
from longjing.generation.native.logits_processors import Penalties, RepetitionPenalty, combined_bias
from longjing.generation.native.sampling import Sampler

tokens = st.lists(st.integers(0, 9), max_size=20)
numbers = st.floats(-2, 2).map(lambda number: round(number, 2))


class Dictation:
    """Forces these tokens, and then adds nothing."""

    def __init__(self, words):
        self.words, self.calls = words, []

    def bias(self, tokens, vocabulary):
        self.calls.append(list(tokens))
        if len(tokens) >= len(self.words):
            return None
        bias = torch.full((vocabulary,), float("-inf"))
        bias[self.words[len(tokens)]] = 0.0
        return bias


@given(tokens, numbers, numbers, st.dictionaries(st.integers(0, 9), numbers))
def test_penalties_are_those_of_the_definition(tokens, presence, frequency, bias):
    sampling = Sampling(presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias)
    penalties, counts = Penalties(sampling), Counter(tokens)
    expected = torch.tensor([bias.get(t, 0.0) - presence * (counts[t] > 0) - frequency * counts[t] for t in range(10)])
    for end in range(len(tokens)):  # step by step, as the engine asks
        penalties.bias(tokens[:end], 10)
    torch.testing.assert_close(penalties.bias(tokens, 10), expected, atol=1e-5, rtol=0)


def test_no_processor_adds_nothing():
    assert combined_bias([], [1, 2], 8) is None and combined_bias([Dictation([])], [], 8) is None


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("speculate", [False, True])
def test_a_processor_is_obeyed_and_neighbours_are_not_disturbed(name, speculate):
    if speculate and name != "latent":
        pytest.skip("nothing to draft with")
    plain = crowd(7)
    alone = Engine(MODELS[name], None).generate(plain)
    words = [9, 8, 7, 9]
    steered = [replace(plain[3], logits_processor=Dictation(words), sampling=Sampling(seed=3, max_tokens=10))]
    engine = Engine(MODELS[name], None, speculate=speculate, record_routes=True)
    results = engine.generate([*plain[:3], *steered, *plain[4:]])
    assert [g.tokens for index, g in enumerate(results) if index != 3] == [
        g.tokens for index, g in enumerate(alone) if index != 3
    ]
    assert results[3].tokens[:4] == words and len(results[3].tokens) > 4
    calls = steered[0].logits_processor.calls
    assert calls == [results[3].tokens[:length] for length in range(len(results[3].tokens))]
    # What was forced is as unlikely as it was.
    difference = trainer_logprobs(MODELS[name], results[3]) - torch.tensor(results[3].logprobs)
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_bias_forbids_and_forces(temperature):
    engine = Engine(MODELS["llama"], None, end_tokens=())
    wanted = Sampling(temperature=temperature, max_tokens=20, logit_bias={5: 100.0})
    (forced,) = engine.generate([Request([4], wanted)])
    assert forced.tokens == [5] * 20
    (before,) = engine.generate([Request([4], replace(wanted, logit_bias={}))])
    forbidden = dict.fromkeys(before.tokens, float("-inf"))
    (after,) = engine.generate([Request([4], replace(wanted, logit_bias=forbidden))])
    assert not set(after.tokens) & set(before.tokens)
    with pytest.raises(UserError, match="64"):
        engine.generate([Request([4], replace(wanted, logit_bias={64: 1.0}))])


def test_a_frequency_penalty_makes_for_variety():
    engine = Engine(MODELS["qwen"], None, end_tokens=())
    plain = Sampling(temperature=0.0, max_tokens=40)
    (often,) = engine.generate([Request([4], plain)])
    (seldom,) = engine.generate([Request([4], replace(plain, frequency_penalty=2.0))])
    (once,) = engine.generate([Request([4], replace(plain, presence_penalty=1000.0))])
    assert len(set(seldom.tokens)) > len(set(often.tokens))
    assert len(set(once.tokens)) == 40


@pytest.mark.parametrize("speculate", [False, True])
def test_the_likeliest_are_noted_where_somebody_asks(speculate):
    model = MODELS["latent"]
    engine = Engine(model, None, speculate=speculate, end_tokens=())
    sampling = Sampling(temperature=0.8, max_tokens=12, top_logprobs=3, seed=5)
    requests = [Request([4, 9], sampling), Request([4], replace(sampling, top_logprobs=0)), Request([7], sampling)]
    for request, generation in zip(requests, engine.generate(requests), strict=True):
        if not request.sampling.top_logprobs:
            assert generation.top == []
            continue
        read = torch.tensor([generation.prompt + generation.tokens[:-1]])
        with torch.no_grad():
            logits = model(read)[0, len(request.prompt) - 1 :]
        values, ids = (logits / 0.8).log_softmax(-1).topk(3)
        assert [[token for token, _ in likeliest] for likeliest in generation.top] == ids.tolist()
        noted = torch.tensor([[value for _, value in likeliest] for likeliest in generation.top])
        torch.testing.assert_close(noted, values, atol=1e-4, rtol=0)
    pieces = list(engine.stream(requests[0]))
    assert sum((piece.top for piece in pieces), []) == engine.generate(requests[:1])[0].top
    assert sum((piece.logprobs for piece in pieces), []) == engine.generate(requests[:1])[0].logprobs


@pytest.mark.parametrize("setting", ["presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_penalties_are_numbers(setting, value):
    with pytest.raises(UserError, match=setting):
        Sampling(**{setting: value})


@given(tokens, tokens, st.floats(0.2, 3), st.integers(0, 9))
def test_the_repetition_penalty_is_that_of_transformers(prompt, said, penalty, seed):
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(1, 10, generator=torch.Generator().manual_seed(seed))
    read = torch.tensor([[*prompt, *said] or [0]])
    expected = RepetitionPenaltyLogitsProcessor(penalty)(read, logits.clone())
    mine = RepetitionPenalty(penalty, prompt or ([] if said else [0]))
    for end in range(len(said)):  # step by step, as the engine asks
        mine.factors(said[:end], 10)
    sampler = Sampler.of([Sampling(temperature=0.0)], torch.device("cpu"))
    drawn = sampler.draw(logits, torch.tensor([0]), None, mine.factors(said, 10)[None])
    assert drawn.tokens.item() == expected.argmax().item()
    assert drawn.logprobs.item() == logits.log_softmax(-1)[0, drawn.tokens].item(), "the model's own"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("speculate", [False, True])
def test_settings_of_one_row_leave_the_others_alone(name, speculate):
    if speculate and name != "latent":
        pytest.skip("nothing to draft with")
    plain, model = crowd(6), MODELS[name]
    settings = [{"repetition_penalty": 1.7}, {"min_tokens": 9, "max_tokens": 30}, {"stop_token_ids": tuple(range(30))}]
    mixed = [
        replace(request, sampling=replace(request.sampling, **settings[index // 2])) if index % 2 else request
        for index, request in enumerate(plain)
    ]
    alone = [Engine(model, None).generate([request])[0].tokens for request in mixed]
    together = Engine(model, None, speculate=speculate, cache_bytes=1 << 15).generate(mixed)
    assert [generation.tokens for generation in together] == alone


def test_a_token_may_end_a_text_and_one_not_before_its_time():
    engine = Engine(MODELS["llama"], Letters())
    wanted = Sampling(max_tokens=40, seed=3, logit_bias=dict.fromkeys(engine.end_tokens, 3.0))
    (free,) = engine.generate([Request([4], wanted)])
    assert free.finish_reason == "stop" and len(free.tokens) < 20
    (late,) = engine.generate([Request([4], replace(wanted, min_tokens=20))])
    assert len(late.tokens) >= 20 and not engine.end_tokens & {*late.tokens[:20]}
    third = free.tokens[2]
    (stopped,) = engine.generate([Request([4], replace(wanted, stop_token_ids=(third,)))])
    assert stopped.tokens == free.tokens[: free.tokens.index(third) + 1] and stopped.finish_reason == "stop"
    assert stopped.text == Letters().decode(stopped.tokens), "an ordinary token stays"
    with pytest.raises(UserError, match="stop_token_ids.*64"):
        engine.generate([Request([4], replace(wanted, stop_token_ids=(64,)))])
    refused = {"min_tokens": (41, -1), "repetition_penalty": (0, 1e-300, 1e300, nan)}  # 1e-300 made logits of infinity
    for name, value in ((name, value) for name, values in refused.items() for value in values):
        with pytest.raises(UserError, match=name):
            replace(wanted, **{name: value})


def test_a_grammar_that_leaves_nothing_but_the_end_goes_before_min_tokens():
    (end, *_) = sorted(Engine(MODELS["llama"], None).end_tokens)
    request = Request([4], Sampling(max_tokens=9, min_tokens=9), Dictation([5, end]))
    assert Engine(MODELS["llama"], None).generate([request])[0].tokens == [5, end]
