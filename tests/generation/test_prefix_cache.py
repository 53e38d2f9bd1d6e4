"""Beginnings that were read once: the same completions, fewer tokens read, no more memory than given."""

import pytest
import torch
from engine_cases import MODELS
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.generation.native import Engine, Request, Sampling
from longjing.generation.native.prefix_cache import BLOCK, PrefixCache

TEXTS = st.lists(st.integers(3, 6), min_size=1, max_size=70)


@st.composite
def conversations(draw) -> list[list[int]]:
    """Prompts, most of which go on where another ended."""
    prompts = [draw(TEXTS)]
    for _ in range(draw(st.integers(1, 5))):
        before = draw(st.sampled_from(prompts))
        prompts.append(before[: draw(st.integers(1, len(before)))] + draw(TEXTS))
    return prompts


@settings(max_examples=40, deadline=None)
@given(
    conversations(), st.sampled_from(sorted(MODELS)), st.sampled_from([0, 4_000, 30_000, 10**9]), st.booleans(),
    st.integers(0, 100), st.booleans(),
)  # fmt: skip
def test_the_same_is_said_whatever_is_kept(prompts, name, room, drafts, keep, together):
    model = MODELS[name]
    requests = [Request(prompt, Sampling(seed=seed, max_tokens=6), keep=keep) for seed, prompt in enumerate(prompts)]
    drafts = drafts and bool(model.config.num_nextn_predict_layers)
    plain = Engine(model, None, speculate=drafts).generate(requests)
    engine = Engine(model, None, speculate=drafts, prefix_bytes=room)
    first = engine.generate(requests[:1])
    rest = engine.generate(requests[1:]) if together else [engine.generate([one])[0] for one in requests[1:]]
    for expected, got in zip(plain, first + rest, strict=True):
        assert got.tokens == expected.tokens
        torch.testing.assert_close(torch.tensor(got.logprobs), torch.tensor(expected.logprobs), atol=1e-5, rtol=0)
    assert engine.prefixes.bytes <= room and engine.memory_in_use == 0
    assert engine.stats.tokens_reused == sum(one.reused for one in first + rest)
    if room == 0 or keep < BLOCK:
        assert engine.stats.tokens_reused == 0


@pytest.mark.parametrize("drafts", [False, True])
def test_a_conversation_is_read_once(drafts):
    engine = Engine(MODELS["latent"], None, speculate=drafts, prefix_bytes=10**9)
    text = [3 + index * 7 % 50 for index in range(200)]
    for length in (40, 90, 150, 200):
        engine.generate([Request(text[:length], Sampling(max_tokens=2), keep=length)])
    # Each turn read what is new, one token that stands before it, and not the last, which decoding reads.
    assert engine.stats.tokens_prefilled <= 200 + 2 * 4
    assert engine.stats.tokens_reused >= 40 + 90 + 150 - 2 * 4
    alone = Engine(MODELS["latent"], None, speculate=drafts, prefix_bytes=10**9)
    alone.generate([Request(text, Sampling(max_tokens=2), keep=200)])
    assert engine.prefixes.bytes == alone.prefixes.bytes  # the earlier turns are part of the last


def test_cancelled_requests_are_kept_and_new_weights_forget():
    engine = Engine(MODELS["latent"], None, prefix_bytes=10**9)
    prompt = list(range(3, 40))
    id = engine.add(Request(prompt, Sampling(max_tokens=50), keep=len(prompt)))
    engine.step()
    assert engine.cancel(id) and engine.prefixes.bytes
    engine.update_weights()
    assert not engine.prefixes.bytes
    assert engine.generate([Request(prompt, Sampling(max_tokens=2))])[0].reused == 0


def test_recording_engines_keep_nothing():
    with pytest.raises(UserError, match="prefix_bytes"):
        Engine(MODELS["latent"], None, record_routes=True, prefix_bytes=1)


@given(st.lists(TEXTS, max_size=12), TEXTS, st.integers(0, 200))
def test_the_store_finds_what_it_kept_last(texts, prompt, capacity):
    store, kept = PrefixCache(4 * capacity), []
    for text in texts:
        store.insert(text, lambda text=text: [torch.tensor(text, dtype=torch.float32)[:, None]])
        kept.append(text)
    length, entries = store.match(prompt)
    assert store.bytes <= 4 * capacity
    if length:
        assert length >= BLOCK and entries[0][:length, 0].tolist() == prompt[:length]
    elif sum(map(len, texts)) <= capacity:
        assert not any(text[:BLOCK] == prompt[:BLOCK] and len(text) >= BLOCK <= len(prompt) for text in kept)


@pytest.mark.parametrize("shared", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 5, 60])
def test_what_two_texts_share_is_found_to_the_token(shared):
    """Blocks find the entry; where the texts part within a block, the tokens decide."""
    kept, other = list(range(100, 160)), list(range(500, 570))
    store = PrefixCache(10**6)
    store.insert(kept, lambda: [torch.tensor(kept, dtype=torch.float32)[:, None]])
    length, entries = store.match(kept[:shared] + other[shared:])
    assert length == (shared if shared >= BLOCK else 0)
    assert [layer[:, 0].tolist() for layer in entries] == ([kept] if length else [])
    assert store.match(kept[:shared])[0] == length  # a prompt that ends there


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_prompt_that_parts_within_a_block_is_read_from_there(name):
    """Sixteen tokens and three are shared: all but the last are reused, and the answer is that of an engine without."""
    first = [3 + index * 7 % 50 for index in range(40)]
    second = first[: BLOCK + 3] + [3 + (index * 11 + 1) % 50 for index in range(BLOCK + 3, 40)]
    assert second[BLOCK + 3] != first[BLOCK + 3]
    request = Request(second, Sampling(seed=5, max_tokens=8))
    (plain,) = Engine(MODELS[name], None).generate([request])
    engine = Engine(MODELS[name], None, prefix_bytes=10**9)
    engine.generate([Request(first, Sampling(max_tokens=1), keep=len(first))])
    (got,) = engine.generate([request])
    # The prediction module's entry of the last shared token is of the one that followed then.
    assert got.reused == BLOCK + 2 and got.tokens == plain.tokens
    torch.testing.assert_close(torch.tensor(got.logprobs), torch.tensor(plain.logprobs), atol=1e-5, rtol=0)
