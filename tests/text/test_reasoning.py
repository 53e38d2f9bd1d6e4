"""The reasoning stream: its rules, and that no way of cutting a text changes what it says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.text.reasoning import Parsed, ReasoningStream, parse

# Texts rich in tags, in pieces of tags and in white space.
texts = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</", "<th", "ink>", ">", "think", "\n", " ", "a", "思"])
    | st.text(max_size=3),
    max_size=12,
).map("".join)


def run(stream: ReasoningStream, chunks: list[str]) -> tuple[str, str, bool, bool, int, bool]:
    deltas = [stream.feed(chunk) for chunk in chunks] + [stream.finish()]
    reasoning = "".join(delta.reasoning for delta in deltas)
    answer = "".join(delta.answer for delta in deltas)
    return reasoning, answer, stream.closed, stream.in_reasoning, stream.opened, stream.well_formed


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(point % (len(text) + 1) for point in places), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def without_more_closings(answer: str) -> str:
    """The text without each `</think>` that has no `<think>` of the text's own before it."""
    opened, kept = 0, ""
    for piece in re.split("(<think>|</think>)", answer):
        if piece == "</think>" and not opened:
            continue
        opened += (piece == "<think>") - (piece == "</think>")
        kept += piece
    return kept


@given(texts, st.booleans(), st.lists(st.integers(0, 200), max_size=10))
def test_no_split_changes_the_parts_or_the_flags(text: str, prefilled: bool, places: list[int]) -> None:
    whole = run(ReasoningStream(prefilled), [text])
    assert run(ReasoningStream(prefilled), cut(text, places)) == whole
    assert run(ReasoningStream(prefilled), list(text)) == whole
    assert parse(text, prefilled) == Parsed(whole[0].rstrip(), whole[1].rstrip(), whole[2], whole[5])


@given(texts, texts)
def test_a_prompt_may_end_anywhere_in_the_turn(prompt: str, text: str) -> None:
    """Continuing a turn after a prompt that holds its start is the same as reading all of it at once."""
    whole = ReasoningStream(prefilled=False)
    whole.feed(prompt)
    assert run(ReasoningStream.after("<think>q<｜Assistant｜>" + prompt), [text]) == run(whole, [text])


@given(texts, st.booleans())
def test_the_first_opening_and_the_next_closing_cut_the_parts(text: str, prefilled: bool) -> None:
    before, tag, turn = ("", "<think>", text) if prefilled else text.partition("<think>")
    reasoning, end, answer = turn.partition("</think>")
    answer = without_more_closings(answer)
    parts = (reasoning.lstrip(), before.lstrip() + answer.lstrip())
    flags = (bool(tag and end), bool(tag and not end), text.count("<think>") + prefilled)
    assert run(ReasoningStream(prefilled), [text])[:5] == parts + flags


@given(texts, st.booleans())
def test_only_the_start_of_a_tag_is_held_back(text: str, prefilled: bool) -> None:
    stream = ReasoningStream(prefilled)
    stream.feed(text)
    held = stream.finish()
    waiting = held.reasoning + held.answer
    assert not waiting or any(tag.startswith(waiting) and tag != waiting for tag in ("<think>", "</think>"))
    assert text.endswith(waiting)


@given(st.text(), st.text())
def test_well_formed_is_one_opening_one_closing_and_two_parts(reasoning: str, answer: str) -> None:
    expected = bool(reasoning.strip()) and bool(answer.strip())
    expected &= not any(tag in part for tag in ("<think>", "</think>") for part in (reasoning, answer))
    for text, prefilled in [
        (f"{reasoning}</think>{answer}", True),
        (f"<think>{reasoning}</think>{answer}", False),
        (f"\n<think>\n{reasoning}\n</think>\n\n{answer}", False),
    ]:
        parsed = parse(text, prefilled)
        assert parsed.well_formed == expected
        if expected:
            assert (parsed.reasoning, parsed.answer) == (reasoning.strip(), answer.strip())


@pytest.mark.parametrize(
    ("text", "prefilled", "reasoning", "answer", "closed"),
    [
        ("\nend", True, "end", "", False),  # never closed
        ("a<think>b</think>c", True, "a<think>b", "c", True),  # opened twice
        ("a</think>b</think>c", True, "a", "bc", True),  # closed twice
        ("a</think>\n</think>\n\nb", True, "a", "b", True),
        ("<think>a</think></think></think>b</think>", False, "a", "b", True),
        ("a</think>b<think>c</think>d</think>e", True, "a", "b<think>c</think>de", True),  # a late one is text
        ("a</think>b<think>c", True, "a", "b<think>c", True),  # opened again after the end
        ("Sure! <think>a</think>b", False, "a", "Sure! b", True),  # text before its own opening
        ("a</think>b", False, "", "a</think>b", False),  # closed, never opened
        ("just this", False, "", "just this", False),
        ("a <b </thin", True, "a <b </thin", "", False),  # a tail that never became a tag
        ("</think>x", True, "", "x", True),  # blank reasoning
        ("a</think> \n", True, "a", "", True),  # blank answer
        ("", True, "", "", False),
    ],
)
def test_odd_turns(text: str, prefilled: bool, reasoning: str, answer: str, closed: bool) -> None:
    assert parse(text, prefilled) == Parsed(reasoning, answer, closed, well_formed=False)


@pytest.mark.parametrize(
    ("prompt", "in_reasoning", "closed", "opened"),
    [
        ("<｜User｜>what is </think>?<｜Assistant｜><think>\n", True, False, 1),
        ("<｜User｜>what is <think>?<｜Assistant｜>", False, False, 0),
        ("<｜User｜>q<｜Assistant｜><think>\n\n</think>\n\n", False, True, 1),
        ("<｜User｜>q<｜Assistant｜><think>\nfirst, ", True, False, 1),
        ("<｜Assistant｜><think>a</think>b<｜User｜>c<｜Assistant｜>", False, False, 0),
        ("<|im_start|>user\n<think>?<|im_end|>\n<|im_start|>assistant\n<think>\n", True, False, 1),
        ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", False, False, 0),
        ("a document <think>", True, False, 1),
        ("a document", False, False, 0),
    ],
)
def test_the_prompt_seeds_the_machine(prompt: str, in_reasoning: bool, closed: bool, opened: int) -> None:
    stream = ReasoningStream.after(prompt)
    assert (stream.in_reasoning, stream.closed, stream.opened) == (in_reasoning, closed, opened)
