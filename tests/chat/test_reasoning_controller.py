"""One turn: the budget holds, circles end, an answer comes, stops and grammars know the answer only."""

import pytest
import torch
from engine_cases import LATENT
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.chat.reasoning_controller import ReasoningController
from longjing.chat.thinking_budget import room_to_think
from longjing.errors import UserError
from longjing.generation.native import Engine, Request, Sampling
from longjing.model.decoder import Decoder
from longjing.runs.resolve import resolve
from longjing.text.reasoning import parse
from longjing.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.from_directory(resolve("base"))
MODEL = Decoder(LATENT.__class__(**(LATENT.__dict__ | {"vocab_size": TOKENIZER.vocab_size}))).initialise(0).eval()
ASKED = [{"role": "user", "content": "3+4?"}]
PROMPT, SWITCHED_OFF = TOKENIZER.encode_chat(ASKED), TOKENIZER.encode_chat(ASKED, thinking=False)
CLOSING = TOKENIZER.encode("\n</think>\n\n")
END = TOKENIZER.eos_id
SIZE = TOKENIZER.vocab_size


def turn(max_tokens=1000, prompt=PROMPT, **settings) -> ReasoningController:
    return ReasoningController(TOKENIZER, prompt, max_tokens, [END], **settings)


def only(bias: torch.Tensor | None) -> int | None:
    """The one token that is allowed, if it is one."""
    if bias is None or bias.isinf().sum() != SIZE - 1:
        return None
    return int(bias.argmax())


class OnlyToken:
    """A guide that allows one token and notes what it was told."""

    def __init__(self, token: int) -> None:
        self.token, self.calls = token, []

    def bias(self, tokens, vocabulary):
        self.calls.append(list(tokens))
        bias = torch.full((vocabulary,), float("-inf"))
        bias[self.token] = 0
        return bias


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(8, 80), st.integers(0, 100), st.booleans())
def test_the_reasoning_ends_in_time_and_an_answer_follows(budget, max_tokens, seed, speculate):
    # A network with random weights hardly ever says </think>, or the end, by itself.
    engine = Engine(MODEL, TOKENIZER, speculate=speculate)
    guide = turn(max_tokens, budget=budget)
    (generation,) = engine.generate([Request(PROMPT, Sampling(max_tokens=max_tokens, seed=seed), guide)])
    guide.read(generation.tokens)
    guide.finish()
    parsed = parse(generation.text)
    assert parsed.closed and parsed.answer
    if guide.exhausted:
        spent = min(budget, room_to_think(max_tokens, len(CLOSING)))
        assert generation.tokens[spent : spent + len(CLOSING)] == CLOSING
        assert any("budget" in notice for notice in guide.notices(generation.finish_reason))
    assert (guide.reasoning.rstrip(), guide.answer.rstrip()) == (parsed.reasoning, parsed.answer)
    assert guide.reasoning_tokens == generation.tokens.index(TOKENIZER.end_think_id) + 1


@given(st.text("ab 12\n<", max_size=30), st.text("ab 12\n<", max_size=30), st.booleans())
def test_the_parts_are_those_of_the_whole_text(reasoning, answer, closed):
    text = f"{reasoning}</think>{answer}" if closed else reasoning
    tokens = TOKENIZER.encode(text)
    guide = turn()
    for index in range(len(tokens)):
        guide.read(tokens[: index + 1])
    guide.read([*tokens, END])
    guide.finish()
    parsed = parse(text)
    assert (guide.reasoning.rstrip(), guide.answer.rstrip()) == (parsed.reasoning, parsed.answer)
    assert guide.reasoning_tokens == (tokens.index(TOKENIZER.end_think_id) + 1 if closed else len(tokens) + 1)


def test_the_text_cannot_end_before_an_answer_is_written():
    guide = turn()
    tokens = TOKENIZER.encode("It is 7.\n</think>\n\n7")
    for index in range(len(tokens)):
        bias = guide.bias(tokens[:index], SIZE)
        assert bias is not None and bias.isinf().sum() == 1 and bias[END] == float("-inf")
    assert guide.bias(tokens, SIZE) is None and not guide.exhausted


def test_reasoning_in_circles_is_closed_and_an_answer_in_circles_ended():
    guide, tokens = turn(), []
    circle = TOKENIZER.encode("1+2=3 no\n")
    for token in circle * 40:
        if (forced := only(guide.bias(tokens, SIZE))) is not None:
            break
        tokens.append(token)
    assert guide.reasoning_repeats and forced == CLOSING[0] and len(tokens) < 80
    tokens.append(forced)
    for token in CLOSING[1:]:
        assert only(guide.bias(tokens, SIZE)) == token
        tokens.append(token)
    for _ in range(40):
        tokens += circle
        if (forced := only(guide.bias(tokens, SIZE))) is not None:
            break
    assert guide.answer_repeats and forced == END
    assert len(guide.notices("stop")) == 2


def test_without_the_guard_a_text_may_repeat_itself():
    guide, said = turn(prompt=SWITCHED_OFF, repetition_guard=False), TOKENIZER.encode("0 " * 200)
    for index in range(len(said)):
        assert only(guide.bias(said[:index], SIZE)) is None
    assert not guide.answer_repeats and guide.finish_reason("stop") == "stop"
    guide = turn(prompt=SWITCHED_OFF)
    guide.bias(said, SIZE)
    assert guide.answer_repeats and guide.finish_reason("stop") == "length"


def test_stops_know_the_answer_only_unless_told_otherwise():
    tokens = TOKENIZER.encode("so STOP it is\n</think>\n\nI STOP here")
    guide = turn(stops=("STOP",))
    guide.read(tokens)
    assert guide.stopped and guide.answer == "I " and "STOP" in guide.reasoning
    guide = turn(stops=("STOP",), everywhere=True)
    guide.read(tokens)
    assert guide.stopped and guide.reasoning == "so " and guide.answer == ""
    guide = turn(stops=("I",))
    guide.read(tokens)
    guide.finish()
    assert guide.stopped and guide.answer == "" and "stop string" in " ".join(guide.notices("stop"))


TAGGED = st.lists(st.sampled_from(["a", "<", "</think>", "<think>", "\n", "STOP", "ST", "</th"])).map("".join)


@given(TAGGED, st.sampled_from(["STOP", "</think>", "\n</think>\na", "k>a", "<"]), st.booleans())
def test_stops_everywhere_see_the_text_as_it_is_written_tags_too(text, stop, prefilled):
    prompt = PROMPT if prefilled else TOKENIZER.encode("<｜Assistant｜>")
    guide, taken = turn(prompt=prompt, stops=(stop,), everywhere=True), ["", ""]
    for token in TOKENIZER.encode(text):
        guide.extend([token])
        grown = guide.take()
        taken = [taken[0] + grown.reasoning, taken[1] + grown.answer]
        if guide.stopped:
            break
    guide.finish()
    grown = guide.take()
    whole = parse(text.partition(stop)[0], prefilled)
    assert [taken[0] + grown.reasoning, taken[1] + grown.answer] == [whole.reasoning, whole.answer]
    assert guide.stopped == (stop in text)


def test_stops_everywhere_leave_the_rules_on():
    circle = TOKENIZER.encode("1+2=3 no\n") * 40
    for more, flag in (({"budget": 5}, "exhausted"), ({}, "reasoning_repeats")):
        guide, tokens = turn(stops=("STOP",), everywhere=True, **more), []
        while (forced := only(guide.bias(tokens, SIZE))) is None and len(tokens) < len(circle):
            tokens.append(circle[len(tokens)])
        assert forced == CLOSING[0] and getattr(guide, flag)
    assert guide.bias([*tokens, *CLOSING], SIZE)[END] == float("-inf")


@given(st.lists(st.sampled_from(["a ", "\n", " ", "b", "</think>", "<", "等"])).map("".join), st.data())
def test_the_pieces_are_the_whole_without_white_space_at_its_ends(text, data):
    tokens, parts, position = TOKENIZER.encode(text), ["", ""], 0
    guide = turn()
    while position < len(tokens):
        step = data.draw(st.integers(1, 3))
        guide.extend(tokens[position : position + step])
        grown, position = guide.take(), position + step
        parts = [parts[0] + grown.reasoning, parts[1] + grown.answer]
    guide.finish()
    grown, whole = guide.take(), parse(text)
    assert [parts[0] + grown.reasoning, parts[1] + grown.answer] == [whole.reasoning, whole.answer]


def test_a_grammar_begins_where_the_answer_does():
    seven = TOKENIZER.encode("7")[0]
    for prompt, tokens in ((PROMPT, TOKENIZER.encode("ab\n</think>")), (SWITCHED_OFF, [])):
        grammar = OnlyToken(seven)
        guide = turn(prompt=prompt, grammar=grammar)
        for index in range(len(tokens)):
            guide.bias(tokens[:index], SIZE)
        if tokens:  # what stands between the parts belongs to neither
            assert not grammar.calls and only(guide.bias(tokens, SIZE)) == CLOSING[-1]
            tokens.append(CLOSING[-1])
        assert only(guide.bias(tokens, SIZE)) == seven
        assert grammar.calls == [[]]
        guide.bias([*tokens, seven], SIZE)
        assert grammar.calls[-1] == [seven]
    grammar = OnlyToken(seven)
    assert only(turn(grammar=grammar, everywhere=True).bias([], SIZE)) == seven


class Allows:
    """A guide that allows some tokens, others from some place on."""

    def __init__(self, first: str, later: str, position: int, end: bool = False) -> None:
        self.allowed, self.position = [TOKENIZER.encode(first), TOKENIZER.encode(later) + [END] * end], position

    def bias(self, tokens, vocabulary):
        bias = torch.full((vocabulary,), float("-inf"))
        bias[self.allowed[len(tokens) >= self.position]] = 0
        return bias


@pytest.mark.parametrize(("later", "end", "way"), [("1}", False, "}"), ('1"', False, '"'), ("1", True, None)])
def test_an_answer_in_circles_ends_as_soon_as_its_grammar_allows(later, end, way):
    guide = turn(prompt=SWITCHED_OFF, grammar=Allows("1", later, 100, end))
    (one,) = TOKENIZER.encode("1")
    for length in range(120):
        bias = guide.bias([one] * length, SIZE)
        assert bias[one].isfinite() == (length < 100) and bias.isfinite().any()
    assert only(bias) == (TOKENIZER.encode(way)[0] if way else END) and guide.answer_repeats


def test_a_grammar_that_fails_ends_the_answer_and_is_told():
    class Fails:
        def bias(self, tokens, vocabulary):
            raise UserError("too large")

    guide = turn(prompt=SWITCHED_OFF, grammar=Fails())
    assert only(guide.bias([], SIZE)) == END
    guide.read([*TOKENIZER.encode("1"), END])
    guide.finish()
    assert guide.answer == "1" and "too large" in " ".join(guide.notices("stop"))


def test_a_grammar_opens_the_reasoning_that_the_prompt_did_not():
    grammar = OnlyToken(5)
    guide = turn(prompt=TOKENIZER.encode("no template here"), grammar=grammar)
    assert only(guide.bias([], SIZE)) == TOKENIZER.think_id and not grammar.calls


@pytest.mark.parametrize("budget", [0, None])
def test_without_thinking_there_is_nothing_to_budget(budget):
    guide = turn(prompt=SWITCHED_OFF, budget=budget)
    bias = guide.bias([], SIZE)
    assert bias is not None and bias.isinf().sum() == 1 and not guide.exhausted


@given(st.integers(1, 5000))
def test_room_is_left(max_tokens):
    room = room_to_think(max_tokens, 4)
    assert 0 <= room < max_tokens
    assert max_tokens < 8 or max_tokens - room - 4 >= min(64, max_tokens // 2) - 4


def test_an_empty_answer_has_a_reason():
    guide = turn(3)
    guide.read(CLOSING[:1])
    guide.finish()
    assert "empty" in " ".join(guide.notices("length"))
