"""The terminal chat: reasoning dimmed, history kept within the context, only text on the terminal."""

import io
import os
import re
import signal
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from longjing import tasks
from longjing.chat import Boxes, Conversation, converse, interruptible, printable
from longjing.engine.request import Chunk, Request
from longjing.errors import UserError


class Tokens:
    """A tokenizer of one token per character, in R1's layout."""

    def encode_chat(self, messages: list[dict[str, str]], thinking: bool) -> list[int]:
        text = "".join(f"<｜{message['role']}｜>{message['content']}" for message in messages)
        return self.encode(text + "<｜Assistant｜><think>\n" + ("" if thinking else "\n</think>\n\n"))

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, ids))


class Engine:
    """Says what it was told to, in pieces of three characters."""

    def __init__(self, *replies: str, reason: str = "stop") -> None:
        self.replies, self.reason = list(replies), reason
        self.end_tokens = {0}
        self.requests: list[Request] = []
        self.said = 0

    def stream(self, request: Request) -> Iterator[Chunk]:
        self.requests.append(request)
        text = self.replies.pop(0)
        pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
        for place, piece in enumerate(pieces):
            self.said += 1
            yield Chunk(piece, [0], self.reason if place + 1 == len(pieces) else None)  # type: ignore[arg-type]


def conversation(engine: Engine, limit: int = 10_000) -> Conversation:
    return Conversation(engine, Tokens(), limit, 1.0, 50, 0)  # type: ignore[arg-type]


def ask(talk: Conversation, question: str) -> tuple[str, str]:
    deltas = list(talk.ask(question))
    return "".join(delta.reasoning for delta in deltas), "".join(delta.answer for delta in deltas)


def test_turns_are_remembered_without_their_reasoning() -> None:
    engine = Engine("Let me see.</think>\n\nFour.", "Again.</think>Five.")
    talk = conversation(engine)
    assert ask(talk, "2+2?") == ("Let me see.", "Four.")
    assert ask(talk, "2+3?") == ("Again.", "Five.")
    assert [message["content"] for message in talk.messages] == ["2+2?", "Four.", "2+3?", "Five."]
    second = Tokens().decode(list(engine.requests[1].prompt))
    assert "2+2?" in second and "Four." in second and "Let me see" not in second
    assert engine.requests[0].sampling.seed != engine.requests[1].sampling.seed


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_the_prompt_always_fits_and_keeps_the_newest(sizes: list[int]) -> None:
    engine = Engine(*["x</think>y"] * len(sizes))
    talk = conversation(engine, limit=180)
    for size in sizes:
        ask(talk, "q" * size)
    for size, request in zip(sizes, engine.requests, strict=True):
        assert len(request.prompt) + 50 <= 180
        assert "<｜user｜>" + "q" * size + "<｜Assistant｜>" in Tokens().decode(list(request.prompt))


def test_a_question_that_never_fits_is_refused_and_forgotten() -> None:
    talk = conversation(Engine("x</think>y"), limit=100)
    with pytest.raises(UserError, match="shorten it"):
        ask(talk, "q" * 100)
    assert talk.messages == [] and ask(talk, "q") == ("x", "y")


def test_a_stopped_reply_stops_the_engine() -> None:
    engine = Engine("a" * 300)
    talk = conversation(engine)
    list(talk.ask("q", stopped=lambda: engine.said == 2))
    assert engine.said == 2 and talk.reply.truncated


def test_ctrl_c_is_noted_and_not_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped()
    assert signal.getsignal(signal.SIGINT) is before


@given(st.text())
def test_no_control_reaches_the_terminal(text: str) -> None:
    shown = printable(text + "\x1b[31m\x9b2J\r\x07\u202e")
    assert all(letter in "\n\t" or unicodedata.category(letter) != "Cc" for letter in shown)
    assert "\u202e" not in shown
    assert shown == "".join(letter for letter in text if letter in shown) + "[31m2J"


def talk(monkeypatch: pytest.MonkeyPatch, engine: Engine, lines: str, task: Any = None) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    screen = Console(file=io.StringIO(), width=40)
    converse(conversation(engine), task, screen)
    return screen.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_replies_are_shown_as_text_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "[bold]Hm.[/bold] \x1b[31m" + "x" * 60 + "</think>[red]4[/red]"
    shown = talk(monkeypatch, Engine(said), "2+2?\n\n")
    assert shown == "[bold]Hm.[/bold] [31m" + "x" * 60 + "\n\n[red]4[/red]\n\n\n"


def test_new_forgets_and_quit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("a</think>b", "a</think>b", "never asked")
    talk(monkeypatch, engine, "first\n/new\nsecond\n/unknown\n/quit\nthird\n")
    assert len(engine.requests) == 2 and "first" not in Tokens().decode(list(engine.requests[1].prompt))


def test_a_problem_of_the_task_is_asked_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.get("countdown")
    first, second = (problem for problem, _ in zip(task.problems("test", 0), range(2), strict=False))
    engine = Engine(f"x</think>\\boxed{{{first.answer}}}", f"x</think>\\boxed{{{second.answer}0}}")
    shown = talk(monkeypatch, engine, "/problem\n/problem\n", task)
    assert first.prompt in shown and second.prompt in shown
    assert shown.count("\ncorrect\n") == 1 and shown.count("\nwrong: ") == 1


def test_without_a_task_there_are_no_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no task" in talk(monkeypatch, Engine(), "/problem\n")


def test_a_reply_that_was_cut_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cut off" in talk(monkeypatch, Engine("thinking", reason="length"), "q\n")


def test_thinking_is_turned_off_and_budgeted(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("Seven.", "x</think>y", "x</think>y")
    talk = conversation(engine)
    lines = iter(["/think off", "3+4?", "/think on", "/budget 7", "3+4?", "/budget many", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    shown = io.StringIO()
    converse(talk, None, Console(file=shown, width=200))
    first, second = engine.requests
    assert Tokens().decode(list(first.prompt)).endswith("<think>\n\n</think>\n\n")
    assert Tokens().decode(list(second.prompt)).endswith("<think>\n")
    assert "thinking is off" in shown.getvalue() and "7 tokens" in shown.getvalue()
    assert talk.budget == 7 and "/budget    tokens" in shown.getvalue(), "what can't be understood gets help"
    guide = second.guide
    assert guide is not None
    vocabulary, said = 0x10000, [ord("z")] * 7
    closing = Tokens().encode("\n</think>\n\n")
    for place in range(7):
        bias = guide.bias(said[:place], vocabulary)
        assert bias is not None and bias[0] == float("-inf") and bias[ord("z")] == 0
    for token in closing:
        bias = guide.bias(said, vocabulary)
        assert bias is not None and bias.argmax() == token and bias.isinf().sum() == vocabulary - 1
        said.append(token)
    assert guide.bias(said, vocabulary) is None


@given(
    st.lists(st.sampled_from(["\\boxed{", "\\box", "{", "}", "a", "1+", " ", "\\", "boxed"]), max_size=12),
    st.lists(st.integers(1, 5), max_size=30),
)
def test_boxes_are_found_however_the_text_is_cut(parts: list[str], cuts: list[int]) -> None:
    text, whole = "".join(parts), Boxes()
    expected = "".join(
        f"[{piece}]" if boxed else piece for piece, boxed in _joined([*whole.feed(text), *whole.finish()])
    )
    boxes, found, rest = Boxes(), list[tuple[str, bool]](), text
    for cut in cuts:
        found += boxes.feed(rest[:cut])
        rest = rest[cut:]
    found += [*boxes.feed(rest), *boxes.finish()]
    assert "".join(f"[{piece}]" if boxed else piece for piece, boxed in _joined(found)) == expected
    assert "\\boxed{" not in "".join(piece for piece, boxed in found if not boxed)


def _joined(pieces: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    joined: list[tuple[str, bool]] = []
    for piece, boxed in pieces:
        if not piece:
            continue
        if joined and joined[-1][1] == boxed:
            piece = joined.pop()[0] + piece
        joined.append((piece, boxed))
    return joined


def test_what_is_boxed_stands_out_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        talk = conversation(Engine("x</think>It is \\boxed{\\frac{1}{2}}, sure"))
        lines = iter(["1/2?", "/quit"])
        monkeypatch.setattr("builtins.input", lambda prompt, lines=lines: next(lines))
        shown = io.StringIO()
        converse(talk, None, Console(file=shown, width=200, force_terminal=terminal, no_color=True))
        assert ("\\boxed" in shown.getvalue()) is not terminal
        assert "\\frac{1}{2}" in re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
        assert talk.messages[-1]["content"] == "It is \\boxed{\\frac{1}{2}}, sure", (
            "it remembers what it wrote"
        )
