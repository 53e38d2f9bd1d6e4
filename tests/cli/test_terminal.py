"""The terminal chat: reasoning dimmed, history kept within the context, only text on the terminal."""

import io
import os
import re
import select
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from longjing import tasks
from longjing.chat.session import ChatModel, ChatSession
from longjing.cli.line_editor import MAX_LINES, History, history_file
from longjing.cli.terminal import BoxHighlighter, Commands, converse, interruptible, printable
from longjing.errors import UserError
from longjing.generation.defaults import SamplingDefaults
from longjing.generation.request import Chunk, Request
from longjing.runs.resolve import shipped


class Tokens:
    """A tokenizer of one token per character, in R1's layout."""

    template, origin, falls_back_to_bytes = "enable_thinking <think>", "fake", False

    def __init__(self) -> None:
        self.rendered = 0

    def render(
        self, messages: list[dict[str, str]], add_generation_prompt: bool = True, thinking: bool = True, _: Any = None
    ) -> str:
        self.rendered += 1
        text = "".join(f"<｜{message['role']}｜>{message['content']}" for message in messages)
        if add_generation_prompt:
            text += "<｜Assistant｜><think>\n" + ("" if thinking else "\n</think>\n\n")
        return text

    def encode_with_boundary(self, text: str, boundary: int, max_tokens: int) -> tuple[list[int], int]:
        return self.encode(text), boundary

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    falls_back_to_bytes, anchor = False, ()

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
        for index, piece in enumerate(pieces):
            self.said += 1
            yield Chunk(piece, Tokens().encode(piece), self.reason if index + 1 == len(pieces) else None)  # type: ignore[arg-type]


def model(engine: Engine, name: str = "fake", limit: int = 10_000, task: Any = None) -> ChatModel:
    return ChatModel(name, engine, Tokens(), limit, task)  # type: ignore[arg-type]


def conversation(engine: Engine, limit: int = 10_000, task: Any = None) -> ChatSession:
    return ChatSession(model(engine, limit=limit, task=task), 1.0, 50, 0)


def no_other(name: str) -> ChatModel:
    raise UserError(f"no model {name!r}")


def ask(talk: ChatSession, question: str) -> tuple[str, str]:
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


def test_the_template_is_rendered_once_for_each_question() -> None:
    engine = Engine(*["x</think>y"] * 3)
    talk = conversation(engine)
    tokenizer: Any = talk.model.tokenizer
    ask(talk, "a question")
    before = tokenizer.rendered
    ask(talk, "another")
    talk.thinking = False
    ask(talk, "one without thinking")
    assert tokenizer.rendered == before + 2
    last = engine.requests[-1]
    assert Tokens().decode(list(last.prompt[: last.keep])).endswith("one without thinking")


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_the_prompt_always_fits_and_keeps_the_newest(sizes: list[int]) -> None:
    engine = Engine(*["x</think>y"] * len(sizes))
    talk = conversation(engine, limit=180)
    for size in sizes:
        ask(talk, "q" * size)
    for size, request in zip(sizes, engine.requests, strict=True):
        assert len(request.prompt) + 50 <= 180
        assert "<｜user｜>" + "q" * size + "<｜Assistant｜>" in Tokens().decode(list(request.prompt))


def test_a_question_that_never_fits_is_refused_and_costs_nothing() -> None:
    talk = conversation(Engine("x</think>y", "x</think>y"), limit=120)
    ask(talk, "first")
    before = list(talk.messages)
    with pytest.raises(UserError, match="shorten it"):
        ask(talk, "q" * 100)
    assert talk.messages == before and ask(talk, "q") == ("x", "y")


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
    converse(conversation(engine, task=task), no_other, screen)
    return screen.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_replies_are_shown_as_text_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[bold]Hm.[/bold] \x1b[31m" + "x" * 60 + "</think>[red]4[/red]"
    shown = talk(monkeypatch, Engine(text), "2+2?\n\n")
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


def test_an_empty_line_parts_reasoning_and_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for ending in ("", "\n"):
        assert talk(monkeypatch, Engine(f"a{ending}</think>b"), "q\n") == "a\n\nb\n\n\n"


def test_a_reply_that_was_cut_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cut off" in talk(monkeypatch, Engine("thinking", reason="length"), "q\n")


def test_thinking_is_turned_off_and_budgeted(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("Seven.", "x</think>y", "x</think>y")
    talk = conversation(engine)
    lines = iter(["/think off", "3+4?", "/think on", "/budget 7", "3+4?", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    shown = io.StringIO()
    converse(talk, no_other, Console(file=shown, width=200))
    first, second = engine.requests
    assert Tokens().decode(list(first.prompt)).endswith("<think>\n\n</think>\n\n")
    assert Tokens().decode(list(second.prompt)).endswith("<think>\n")
    assert "thinking is off" in shown.getvalue() and "7 tokens" in shown.getvalue()
    assert talk.budget == 7


class Obedient(Engine):
    """Says z for ever, unless the guide says otherwise."""

    def stream(self, request: Request) -> Iterator[Chunk]:
        assert request.logits_processor is not None
        tokens: list[int] = []
        for _ in range(request.sampling.max_tokens):
            bias = request.logits_processor.bias(tokens, 0x10000)
            allowed = [] if bias is None else bias.isfinite().nonzero()[:, 0].tolist()
            token = allowed[0] if len(allowed) == 1 else ord("z")
            tokens.append(token)
            yield Chunk(chr(token), [token], "length" if len(tokens) == request.sampling.max_tokens else None)


def test_the_budget_holds_and_an_answer_follows() -> None:
    talk = conversation(Obedient())
    talk.budget = 7
    ask(talk, "q")
    assert talk.reply.reasoning == "z" * 7 and talk.reply.answer
    assert any("budget of 7" in notice for notice in talk.notices)


def plain(shown: str) -> str:
    """Without colours, and what else steers a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def commands(talk: ChatSession, load: Any = no_other) -> tuple[Commands, io.StringIO]:
    shown = io.StringIO()
    return Commands(talk, load, Console(file=shown, width=200)), shown


NUMBERS = st.one_of(st.integers(), st.floats()).map(str)


@given(st.sampled_from(["/think", "/budget", "/temperature"]), st.one_of(st.text(), NUMBERS))
@example("/temperature", "inf")
@example("/temperature", "nan")
@example("/budget", "9" * 5000)
def test_a_setting_is_changed_or_says_what_it_takes(command: str, value: str) -> None:
    talk = conversation(Engine())
    before = talk.thinking, talk.budget, talk.temperature
    try:
        commands(talk)[0].obey(command, value)
    except UserError as error:
        assert (talk.thinking, talk.budget, talk.temperature) == before
        assert str(error).startswith(command) and "it is" in str(error) and "\n" not in str(error)
    else:
        assert 0 <= talk.budget <= 21, "of 50 tokens the answer keeps half, and what closes the reasoning four"
        assert 0 <= talk.temperature < float("inf")


def test_settings_hold_for_the_next_question() -> None:
    talk = conversation(Engine("x</think>y"))
    chat, shown = commands(talk)
    chat.obey("/temperature", "0.25")
    chat.obey("/budget", "5000")
    ask(talk, "q")
    assert talk.model.engine.requests[0].sampling.temperature == 0.25  # type: ignore[attr-defined]
    assert "the temperature is 0.25" in shown.getvalue()
    assert "21 tokens; with more, no answer would fit" in shown.getvalue()


def test_another_model_goes_on_with_what_was_said() -> None:
    first, second = Engine("x</think>one"), Engine("two")
    talk = conversation(first)
    ask(talk, "1?")
    chat, shown = commands(talk, {"other": model(second, "other")}.__getitem__)
    talk.thinking, talk.budget = False, 9
    chat.obey("/model", "other")
    assert ask(talk, "2?") == ("", "two")
    assert [message["content"] for message in talk.messages] == ["1?", "one", "2?", "two"]
    assert "1?" in Tokens().decode(list(second.requests[0].prompt)) and len(first.requests) == 1
    assert (talk.thinking, talk.budget) == (False, 9)
    chat.obey("/model")
    assert "other answers" in shown.getvalue() and ", ".join(shipped()) in shown.getvalue()


@pytest.mark.parametrize("error", [UserError("no model 'other'"), PermissionError("other is locked")])
def test_a_model_that_is_not_there_leaves_the_old_one(error: Exception) -> None:
    def load(name: str) -> ChatModel:
        raise error

    talk = conversation(Engine("x</think>y"))
    with pytest.raises(UserError, match=f"{error}\nfake goes on"):
        commands(talk, load)[0].obey("/model", "other")
    assert ask(talk, "q") == ("x", "y")


def test_ctrl_c_stops_the_loading_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> ChatModel:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.StringIO("/model other\nq\n"))
    screen = io.StringIO()
    converse(conversation(Engine("x</think>y")), load, Console(file=screen))
    assert screen.getvalue() == "(stopped)\nx\n\ny\n\n\n"


def test_problems_are_those_of_the_model_that_answers() -> None:
    tasks_of = [tasks.get("countdown"), tasks.get("arithmetic")]
    first, second = (next(task.problems("test", 0)) for task in tasks_of)
    engine = Engine(f"x</think>\\boxed{{{first.answer}}}", f"x</think>\\boxed{{{second.answer}}}")
    talk = conversation(engine, task=tasks_of[0])
    chat, shown = commands(talk, lambda name: model(engine, name, task=tasks_of[1]))
    chat.obey("/problem")
    chat.obey("/model", "other")
    chat.obey("/problem")
    assert first.prompt in shown.getvalue() and second.prompt in shown.getvalue()
    assert shown.getvalue().count("correct") == 2


@given(st.lists(st.one_of(st.text(), st.sampled_from("ab")), max_size=20), st.binary(max_size=40))
def test_lines_are_found_in_the_next_session(lines: list[str], rubbish: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "longjing" / "history"
        history = History(file)
        for line in lines:
            history.add(line)
        assert history.lines == [line for line, _ in groupby(lines)] == History(file).lines
        if lines:
            assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
            with file.open("ab") as damaged:
                damaged.write(b"\xff" + rubbish)
            assert History(file).lines[: len(history.lines)] == history.lines


def test_the_history_stays_short(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    for number in range(MAX_LINES + 5):
        history.add(str(number))
    expected = [str(number) for number in range(5, MAX_LINES + 5)]
    assert History(tmp_path / "history").lines == expected
    assert len((tmp_path / "history").read_text().splitlines()) == MAX_LINES


def test_a_history_that_cannot_be_kept_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "history", Path("/proc/nowhere/history"), None):
        history = History(path)
        history.add("q")
        assert history.lines == ["q"]


@pytest.mark.parametrize("state", [None, "", "relative", "/state"])
def test_the_history_lies_where_the_user_keeps_state(monkeypatch: pytest.MonkeyPatch, state: str | None) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    root = "/state" if state == "/state" else "/home/somebody/.local/state"
    assert history_file() == Path(root) / "longjing" / "history"


# The program behind the terminal. The engine answers for ever, until Ctrl-C; `other` answers at once.
AT_A_TERMINAL = """
import itertools, os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs the tests may have ignored
os.close(os.open(os.ttyname(0), os.O_RDWR))  # of which this becomes the session, so that Ctrl-C reaches it
from rich.console import Console
from longjing.cli.terminal import converse
from longjing.generation.request import Chunk
from test_terminal import Engine, Tokens, conversation, model

class Endless(Engine):
    def stream(self, request):
        for number in itertools.count():
            time.sleep(0.01)
            yield Chunk(f"{number} ", Tokens().encode(f"{number} "), None)

other = Engine("x</think>Said " + "at once.")
converse(conversation(Endless()), {"other": model(other, "other")}.__getitem__, Console())
"""


class Terminal:
    """A session of the chat in a pseudo-terminal."""

    def __init__(self, state: Path) -> None:
        self._keyboard, end = os.openpty()
        environment = os.environ | {
            "XDG_STATE_HOME": str(state), "TERM": "xterm",
            "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)]),
        }  # fmt: skip
        self.program = subprocess.Popen(
            [sys.executable, "-c", AT_A_TERMINAL],
            stdin=end, stdout=end, stderr=end, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(end)
        self._shown = ""
        self.until("> ")

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def until(self, text: str) -> str:
        """What the screen shows next, until `text` has come."""
        end = time.monotonic() + 60
        while text not in self._shown:
            came = select.select([self._keyboard], [], [], 60)[0]
            assert came and time.monotonic() < end, f"no {text!r} in {self._shown[-1000:]!r}"
            self._shown = plain(self._shown + os.read(self._keyboard, 4096).decode())
        before, _, self._shown = self._shown.partition(text)
        return before

    def close(self) -> None:
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait()
        os.close(self._keyboard)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    opened: list[Terminal] = []

    def start() -> Terminal:
        opened.append(Terminal(tmp_path))
        return opened[-1]

    yield start
    for session in opened:
        session.close()


def test_at_a_terminal_ctrl_c_stops_the_answer_and_the_arrows_bring_questions_back(
    terminal: Callable[[], Terminal], tmp_path: Path
) -> None:
    session = terminal()
    session.type("count\r")
    session.until("9 10 ")
    session.type("\x03")
    session.until("Stopped.")
    session.until("> ")
    session.type("unfinished")
    session.until("unfinished")
    time.sleep(0.5)  # a signal that comes before readline waits again is seen only at the next key
    session.type("\x03")
    session.until("/quit or Ctrl-D leaves")
    session.until("> ")
    session.type("/model other\r")
    session.until("> ")
    session.type("\x1b[A\x1b[A\r")  # the line before the last
    assert "count" in session.until("Said at once.")
    session.until("> ")
    session.type("\x04")
    assert session.program.wait(60) == 0
    history = tmp_path / "longjing" / "history"
    assert history.read_text().splitlines() == ['"count"', '"/model other"', '"count"']
    again = terminal()
    again.type("\x1b[A")
    again.until("count")


@given(
    st.lists(st.sampled_from(["\\boxed{", "\\box", "{", "}", "a", "1+", " ", "\\", "boxed"]), max_size=12),
    st.lists(st.integers(1, 5), max_size=30),
)
def test_boxes_are_found_however_the_text_is_cut(parts: list[str], cuts: list[int]) -> None:
    text, whole = "".join(parts), BoxHighlighter()
    expected = "".join(
        f"[{piece}]" if boxed else piece for piece, boxed in _joined([*whole.feed(text), *whole.finish()])
    )
    boxes, spans, rest = BoxHighlighter(), list[tuple[str, bool]](), text
    for cut in cuts:
        spans += boxes.feed(rest[:cut])
        rest = rest[cut:]
    spans += [*boxes.feed(rest), *boxes.finish()]
    assert "".join(f"[{piece}]" if boxed else piece for piece, boxed in _joined(spans)) == expected
    assert "\\boxed{" not in "".join(piece for piece, boxed in spans if not boxed)


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
        converse(talk, no_other, Console(file=shown, width=200, force_terminal=terminal, no_color=True))
        assert ("\\boxed" in shown.getvalue()) is not terminal
        assert "\\frac{1}{2}" in plain(shown.getvalue())
        assert talk.messages[-1]["content"] == "It is \\boxed{\\frac{1}{2}}, sure", "it remembers what it wrote"


def test_a_system_prompt_comes_first_and_stays() -> None:
    engine = Engine(*["x</think>y"] * 4)
    talk = conversation(engine, limit=180)
    console = Console(file=io.StringIO())
    commands = Commands(talk, no_other, console)
    commands.obey("/system", "Be brief.")
    for _ in range(3):
        ask(talk, "q" * 40)  # the oldest turns are forgotten, and what it is told isn't
    prompt = Tokens().decode(list(engine.requests[-1].prompt))
    assert prompt.startswith("<｜system｜>Be brief.") and "system" not in {m["role"] for m in talk.messages}
    commands.obey("/system", "")
    assert "Be brief." in console.file.getvalue()  # type: ignore[attr-defined]
    commands.obey("/system", "off")
    ask(talk, "?")
    assert "<｜system｜>" not in Tokens().decode(list(engine.requests[-1].prompt))


def test_a_template_without_a_system_prompt_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = conversation(Engine("x</think>y"))
    monkeypatch.setattr(talk.model.prompts, "takes_system", False)
    with pytest.raises(UserError, match="takes no system prompt"):
        talk.system = "Be brief."
    assert talk.system == ""


def test_a_models_own_settings_hold_where_nobody_says_otherwise() -> None:
    engine = Engine("x</think>y", "x</think>y")
    own = SamplingDefaults(temperature=0.3, top_k=7, repetition_penalty=1.1, max_new_tokens=40)
    talk = ChatSession(replace(model(engine), defaults=own), None, None, 0)
    ask(talk, "?")
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.repetition_penalty, sampling.max_tokens) == (0.3, 7, 1.1, 40)
    talk.temperature = 0.0
    ask(talk, "?")
    assert engine.requests[1].sampling.temperature == 0 and engine.requests[1].sampling.top_k == 7
