"""Text in pieces: stop strings, ends, cancelling."""

import pytest
from engine_cases import MODELS, Letters, crowd
from hypothesis import given
from hypothesis import strategies as st

from longjing.generation.native import Engine, Request, Sampling
from longjing.text.stop_strings import TextStream


class Bytes:
    """Each id is a byte of UTF-8."""

    falls_back_to_bytes, anchor = False, ()

    def decode(self, ids, skip_special_tokens=False):
        return bytes(ids).decode(errors="replace")


class Pieces:
    """Each id is a piece of text."""

    def __init__(self, pieces):
        self.pieces = pieces

    falls_back_to_bytes, anchor = False, ()

    def decode(self, ids, skip_special_tokens=False):
        return "".join(self.pieces[token] for token in ids)


@given(st.lists(st.text("ab.", max_size=4), max_size=12), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3))
def test_stop_strings_end_the_text_wherever_tokens_are_cut(pieces, stops):
    stream, text, emitted = TextStream(Pieces(pieces), stops), "", ""
    for token in range(len(pieces)):
        text += pieces[token]
        ended = stream.add(token)
        assert stream.text.startswith(emitted)
        emitted = stream.text
        assert ended == any(stop in text for stop in stops)
        if ended:
            assert stream.text == text[: min(text.find(stop) for stop in stops if stop in text)]
            break
        assert text.startswith(emitted)
        held = text[len(emitted) :]
        assert not held or any(stop.startswith(held) for stop in stops)
    else:
        stream.finish()
        assert stream.text == text


def test_a_stop_string_that_the_last_token_completes_with_half_a_character():
    stream = TextStream(Bytes(), ("\ufffd",))
    assert not stream.add(ord("a")) and not stream.add(0xE7)
    assert stream.finish() and stream.text == "a"
    stream = TextStream(Bytes(), ("a",))
    assert stream.add(ord("a")) and stream.add(0xE7) and stream.finish() and stream.text == ""


@given(st.text(max_size=20))
def test_half_characters_wait(text):
    stream, seen = TextStream(Bytes(), ()), ""
    for byte in text.encode():
        stream.add(byte)
        assert text.startswith(stream.text)
        seen = stream.text
    stream.finish()
    assert text.startswith(seen) and stream.text == text


def test_a_stop_string_over_token_boundaries():
    free = Engine(MODELS["latent"], Letters(), end_tokens=())
    request = Request([5, 6], Sampling(seed=3, max_tokens=30))
    (whole,) = free.generate([request])
    assert len(whole.text) == 30 and whole.finish_reason == "length"
    stop = whole.text[11:14]
    at = whole.text.find(stop)
    stopped = Request([5, 6], Sampling(seed=3, max_tokens=30, stop=("never", stop)))
    for speculate in (False, True):
        engine = Engine(MODELS["latent"], Letters(), end_tokens=(), speculate=speculate)
        (generation,) = engine.generate([stopped])
        assert generation.finish_reason == "stop"
        assert generation.text == whole.text[:at]
        assert generation.tokens == whole.tokens[: at + 3]  # with the one that completed it
        assert len(generation.logprobs) == len(generation.tokens)
        chunks = list(engine.stream(stopped))
        assert "".join(chunk.text for chunk in chunks) == generation.text
        assert [token for chunk in chunks for token in chunk.token_ids] == generation.tokens
        assert [chunk.finish_reason for chunk in chunks][-1] == "stop"


def test_the_end_token_is_kept_and_not_shown():
    engine = Engine(MODELS["qwen"], Letters())
    generations = engine.generate(crowd(40, max_tokens=60))
    ended = [generation for generation in generations if generation.finish_reason == "stop"]
    assert ended
    for generation in ended:
        assert generation.tokens[-1] in (1, 2) and not {1, 2} & set(generation.tokens[:-1])
        assert generation.text == Letters().decode(generation.tokens[:-1])
    request = crowd(40, max_tokens=60)[generations.index(ended[0])]
    assert "".join(chunk.text for chunk in engine.stream(request)) == ended[0].text


@pytest.mark.parametrize("speculate", [False, True, "auto"])
def test_streams_side_by_side_give_what_each_gives_alone(speculate):
    engine = Engine(MODELS["latent"], Letters(), speculate=speculate)
    requests = crowd(5)
    expected = engine.generate(requests)
    streams = [engine.stream(request) for request in requests]
    texts, tokens = [""] * 5, [[] for _ in range(5)]
    open_streams = set(range(5))
    while open_streams:
        for i in sorted(open_streams):
            chunk = next(streams[i], None)
            if chunk is None:
                open_streams.remove(i)
            else:
                texts[i] += chunk.text
                tokens[i] += chunk.token_ids
    assert tokens == [generation.tokens for generation in expected]
    assert texts == [generation.text for generation in expected]


def test_closing_a_stream_frees_its_memory_and_hurts_nobody():
    engine = Engine(MODELS["latent"], Letters(), end_tokens=())
    first, second = crowd(2, max_tokens=20)
    expected = engine.generate([second])
    doomed, other = engine.stream(first), engine.stream(second)
    next(doomed)
    chunks = [next(other)]
    before = engine.memory_in_use
    doomed.close()
    assert 0 < engine.memory_in_use < before
    chunks += other
    assert [token for chunk in chunks for token in chunk.token_ids] == expected[0].tokens
    assert engine.memory_in_use == engine.unfinished == 0


def test_an_interrupted_generate_leaves_nothing_behind():
    engine = Engine(MODELS["latent"], None, max_batch=3)

    def interrupt(finished, tokens):
        if tokens > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(crowd(9), interrupt)
    assert engine.memory_in_use == engine.unfinished == 0


def test_progress_counts_what_came():
    engine, seen = Engine(MODELS["latent"], None, max_batch=3), []
    generations = engine.generate(crowd(9), lambda finished, tokens: seen.append((finished, tokens)))
    assert seen == sorted(seen)
    assert seen[-1] == (9, sum(len(generation.tokens) for generation in generations))
    assert engine.stats.tokens_sampled == seen[-1][1]
