"""What must not depend on how a request is run: its tokens, their log-probabilities, its order."""

import pytest
import torch
from engine_cases import CONFIGS, LATENT, MODELS, crowd, trainer_logprobs
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.generation.native import Engine, Request, Sampling
from longjing.model.decoder import Decoder


@pytest.fixture(autouse=True, scope="module")
def thrift():
    """Let newcomers in where there is hardly room, so that they are often pre-empted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("longjing.generation.native.scheduler.HEADROOM", 2)
        yield


def tokens_of(generations):
    return [generation.tokens for generation in generations]


def bytes_for(config, tokens, routes=True):
    """A cache of so many tokens."""
    mixtures = sum(map(config.has_experts, range(config.num_hidden_layers))) if routes else 0
    return tokens * (4 * config.num_hidden_layers * config.cache_width + 2 * mixtures * config.num_experts_per_tok)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}], ids=str)
def test_a_sample_depends_on_its_seed_and_not_on_its_neighbours(name, sampling):
    model, requests = MODELS[name], crowd(13, **sampling)
    reference = tokens_of(Engine(model, None).generate(requests))
    alone = Engine(model, None, max_batch=1)
    assert tokens_of(alone.generate(requests)) == reference
    assert tokens_of(Engine(model, None, max_batch=5).generate(requests[::-1])) == reference[::-1]
    tight = Engine(model, None, cache_bytes=bytes_for(CONFIGS[name], 100), record_routes=True)
    assert tokens_of(tight.generate(requests)) == reference
    assert tight.stats.peak_tokens <= 100 and tight.stats.preemptions > 0
    if name == "latent":
        drafting = Engine(model, None, speculate=True)
        assert tokens_of(drafting.generate(requests)) == reference
        assert drafting.stats.drafted >= drafting.stats.accepted


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_greedy_is_the_argmax_of_full_forward_passes(name):
    model, requests = MODELS[name], crowd(6, temperature=0.0)
    for request, generation in zip(requests, Engine(model, None, end_tokens=()).generate(requests), strict=True):
        tokens = list(request.prompt)
        for _ in range(request.sampling.max_tokens):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
        assert generation.prompt + generation.tokens == tokens
        assert generation.finish_reason == "length"


@pytest.mark.parametrize(
    ("name", "speculate"), [("latent", False), ("latent", True), ("qwen", False), ("llama", False)]
)
@pytest.mark.parametrize("area", [90, 10_000])
def test_the_engines_logprobs_are_the_trainers(name, speculate, area):
    engine = Engine(
        MODELS[name], None, cache_bytes=bytes_for(CONFIGS[name], area), record_routes=True, speculate=speculate
    )
    for generation in engine.generate(crowd(12, temperature=0.8)):
        difference = trainer_logprobs(MODELS[name], generation, 0.8) - torch.tensor(generation.logprobs)
        assert difference.abs().max() < 1e-5
        if name == "latent":
            assert generation.routes.shape == (len(generation.prompt) + len(generation.tokens) - 1, 2, 2)
            assert generation.routes.dtype == torch.int16 and not generation.routes.is_inference()
        else:
            assert generation.routes is None


def test_pre_emption_replays_the_experts_that_were_taken():
    """Rounding may choose other experts the second time; then the log-probabilities before and after would
    not belong to one sequence. Here the bias is moved in between, so that they surely would."""
    model = Decoder(LATENT).initialise(1).eval()
    engine = Engine(model, None, cache_bytes=bytes_for(LATENT, 40), record_routes=True, end_tokens=())
    ids = [engine.add(Request([3, 4, 5 + i], Sampling(max_tokens=30, seed=i))) for i in range(4)]
    finished = {}
    while engine.unfinished:
        before = engine.stats.preemptions
        for event in engine.step():
            if event.generation:
                finished[event.id] = event.generation
        if before == 0 and engine.stats.preemptions:
            routes = {sequence.id: sequence.routes.clone() for sequence in engine._scheduler.waiting if sequence.tokens}
            for router in model.routers():
                router.e_score_correction_bias += torch.linspace(-1, 1, 8)
    assert routes and sorted(finished) == ids
    for id, saved in routes.items():
        assert torch.equal(finished[id].routes[: len(saved)], saved)


requests = st.lists(
    st.builds(
        lambda prompt, seed, length, temperature: Request(
            prompt, Sampling(seed=seed, max_tokens=length, temperature=temperature)
        ),
        st.sampled_from([[5], [9, 8], [3, 4, 5, 6, 7, 8], [20] * 11]),
        st.integers(-(2**63), 2**64),
        st.integers(1, 17),
        st.sampled_from([0.0, 0.5, 1.0]),
    ),
    max_size=7,
)


@settings(max_examples=15, deadline=None)
@given(requests, st.integers(29, 90), st.integers(1, 6), st.sampled_from([False, True, "auto"]), st.integers(0, 99))
def test_nothing_is_lost_whatever_comes_and_however_little_memory_there_is(mix, area, max_batch, speculate, cancel_at):
    model = MODELS["latent"]
    token_bytes = 4 * (LATENT.num_hidden_layers + bool(speculate)) * LATENT.cache_width
    engine = Engine(model, None, cache_bytes=area * token_bytes, max_batch=max_batch, speculate=speculate)
    expected = Engine(model, None).generate(mix)
    generations = engine.generate(mix)
    assert tokens_of(generations) == tokens_of(expected)
    assert [generation.prompt for generation in generations] == [list(request.prompt) for request in mix]
    assert engine.memory_in_use == engine.unfinished == 0

    ids, finished, started = [engine.add(request) for request in mix], {}, []
    for step in range(10_000):
        if not engine.unfinished:
            break
        assert engine.memory_in_use <= area
        if mix and step == cancel_at % 10:
            victim = ids[cancel_at % len(mix)]
            cancelled = engine.cancel(victim)
            if cancelled:
                assert cancelled.finish_reason == "cancelled"
                finished[victim] = cancelled
                assert engine.cancel(victim) is None
        for event in engine.step():
            started += [event.id] if event.id not in started else []
            if event.generation:
                finished[event.id] = event.generation
    assert sorted(finished) == ids
    assert engine.memory_in_use == engine.unfinished == 0
    for id, whole in zip(ids, expected, strict=True):
        got = finished[id]
        assert got.tokens == whole.tokens[: len(got.tokens)]
        assert got.finish_reason in (whole.finish_reason, "cancelled")


def test_rows_are_pre_empted_latest_first_and_resumed_in_order():
    engine = Engine(MODELS["qwen"], None, cache_bytes=bytes_for(CONFIGS["qwen"], 60), end_tokens=())
    ids = [engine.add(Request([3 + i], Sampling(max_tokens=50))) for i in range(4)]
    ended = []
    while engine.unfinished:
        ended += [event.id for event in engine.step() if event.generation]
    assert engine.stats.preemptions > 0
    assert ended == ids


def test_a_groups_prompt_is_read_once():
    prompt = list(range(3, 40))
    engine = Engine(MODELS["latent"], None, max_batch=4)
    engine.generate([Request(prompt, Sampling(seed=i, max_tokens=3 + i)) for i in range(16)])
    assert engine.stats.tokens_prefilled == len(prompt) - 1  # decoding reads the last one


def test_the_trainers_module_is_left_as_it_was():
    model = Decoder(LATENT).initialise(0).train()
    Engine(model, None).generate(crowd(3))
    assert model.training and all(router.load.sum() == 0 for router in model.routers())
    engine = Engine(model, None)
    next(engine.stream(crowd(1)[0]))
    assert model.training


def test_a_copy_in_another_dtype_follows_updates():
    model = Decoder(LATENT).initialise(0)
    engine = Engine(model, None, dtype=torch.bfloat16)
    before = tokens_of(engine.generate(crowd(4)))
    with torch.no_grad():
        model.lm_head.weight.mul_(-1)
    assert tokens_of(engine.generate(crowd(4))) == before
    engine.update_weights()
    assert tokens_of(engine.generate(crowd(4))) != before
    chunks = engine.stream(crowd(1)[0])
    next(chunks)
    with pytest.raises(RuntimeError, match="running"):
        engine.update_weights()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([]), "prompt is empty"),
        (Request([64]), "vocabulary of 64"),
        (Request([-1]), "vocabulary of 64"),
        (Request([3] * 50, Sampling(max_tokens=51)), "needs a cache for 101, and it holds 100"),
        (Request([3], Sampling(max_tokens=2, stop=("x",))), "tokenizer"),
    ],
)
def test_what_cannot_run_is_refused_at_the_door(request_, message):
    engine = Engine(MODELS["qwen"], None, cache_bytes=bytes_for(CONFIGS["qwen"], 100))
    for call in (engine.add, engine.stream, lambda request: engine.generate([request])):
        with pytest.raises(UserError, match=message):
            call(request_)
    assert engine.unfinished == 0
    with pytest.raises(UserError, match="keep = -1"):
        Request([3], keep=-1)


def test_an_engine_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="prediction layer"):
        Engine(MODELS["qwen"], None, speculate=True)
    with pytest.raises(UserError, match="cache_bytes"):
        Engine(MODELS["qwen"], None, cache_bytes=100)
