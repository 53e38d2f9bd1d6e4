"""The conversation on the screen: questions and commands are read, replies shown as they come."""

import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from longjing.chat.session import ChatModel, ChatSession
from longjing.cli.line_editor import read_lines
from longjing.cli.output import say
from longjing.errors import UserError
from longjing.problems import Problem, verdict_of
from longjing.problems.answer import BOX
from longjing.runs.models import at_hand

HELP = """\
/model        who answers, as in /model base; alone it says which models there are
/think        on or off: whether it thinks before it answers
/budget       tokens that it may think for, as in /budget 100; then it has to answer
/temperature  how freely it draws, as in /temperature 0.6; 0 takes the likeliest token
/system       what it is told before all else, as in /system Be brief.; off: nothing; alone it says what it is told
/problem      draw a problem of the model's task, and see whether it finds the answer
/new          forget what was said
/help         this
/quit         leave, as Ctrl-D does; Ctrl-C stops an answer"""
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

N = TypeVar("N", int, float)


def converse(session: ChatSession, load: Callable[[str], ChatModel], console: Console) -> None:
    """Read questions and show replies until the user leaves. `load` finds another model by its name, or raises
    UserError."""
    if sys.stdin.isatty():
        say(console, HELP, "dim")
    commands = Commands(session, load, console)
    for line in read_lines(console):
        if line == "/quit":
            return
        try:
            if line.startswith("/"):
                commands.obey(*line.split(maxsplit=1))
            else:
                _reply(session, line, console)
        except UserError as error:
            say(console, str(error), "yellow")
        except KeyboardInterrupt:
            say(console, "(stopped)", "yellow")


class Commands:
    """What the lines that begin with a slash do to a conversation."""

    def __init__(self, session: ChatSession, load: Callable[[str], ChatModel], console: Console) -> None:
        self._session, self._load, self._console = session, load, console
        self._problems = _problems(session.model)

    def obey(self, command: str, value: str = "") -> None:
        """Do what a command says. Raises UserError if it can't be done, saying what can."""
        session = self._session
        match command, value:
            case "/model", _:
                self._switch(value)
            case "/think", "on" | "off":
                session.thinking = value == "on"
                self._say(f"thinking is {value}")
            case "/think", _:
                raise UserError(f"/think on, or /think off; it is {'on' if session.thinking else 'off'}")
            case "/budget", _:
                if (tokens := _number(int, value)) is None:
                    raise UserError(f"/budget takes a number of tokens, 0 or more; it is {session.budget}")
                session.budget = tokens
                more = "; with more, no answer would fit into --max-tokens" if session.budget < tokens else ""
                self._say(f"it may think for {session.budget} tokens{more}")
            case "/temperature", _:
                if (temperature := _number(float, value)) is None:
                    raise UserError(f"/temperature takes a number, 0 or more; it is {session.temperature:g}")
                session.temperature = temperature
                self._say(f"the temperature is {temperature:g}")
            case "/system", "":
                self._say(printable(session.system) or "there is no system prompt")
            case "/system", _:
                session.system = "" if value == "off" else value
                self._say("it is told so from now on" if session.system else "there is no system prompt any more")
            case "/problem", "":
                self._ask_problem()
            case "/new", "":
                session.messages = []
                self._say("what was said is forgotten")
            case "/help", "":
                self._say(HELP)
            case _:
                text = printable(f"{command} {value}".strip())
                raise UserError(f"there is no command {text}; /help says which there are")

    def _switch(self, name: str) -> None:
        """Let another model go on with what was said. If it can't be loaded the old one stays."""
        session = self._session
        if not name:
            names = ", ".join(at_hand())
            self._say(f"{session.model.name} answers; /model takes {names}, a run, or a model directory")
            return
        try:
            session.model = self._load(os.path.expanduser(name))
        except (UserError, OSError) as error:
            raise UserError(f"{printable(str(error))}\n{session.model.name} goes on") from None
        self._problems = _problems(session.model)

    def _ask_problem(self) -> None:
        problem, task = next(self._problems, None), self._session.model.task
        if problem is None or task is None:
            raise UserError("this model has no task to draw problems from")
        say(self._console, printable(problem.prompt), "bold")
        _reply(self._session, problem.prompt, self._console)
        verdict = verdict_of(task, problem, self._session.reply)
        style = {"correct": "green", "wrong": "red", "unjudged": "yellow"}[verdict.outcome]
        text = verdict.outcome if verdict.outcome == verdict.reason else f"{verdict.outcome}: {verdict.reason}"
        self._console.print(Text(printable(f"{text}\n"), style))

    def _say(self, text: str) -> None:
        say(self._console, text, "dim")


def _problems(model: ChatModel) -> Iterator[Problem]:
    return model.task.problems("test", 0) if model.task else iter(())


def _number(kind: type[N], text: str) -> N | None:
    """A number from 0 on, or None."""
    try:
        number = kind(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


class BoxHighlighter:
    """Tells what stands in `\\boxed{...}` from the rest of a text that comes in pieces."""

    def __init__(self) -> None:
        self._held, self._depth = "", 0  # what may yet become the command; open braces in the box

    def feed(self, text: str) -> Iterator[tuple[str, bool]]:
        """What is certain by now, letter by letter, and whether it stands in a box. The command and its braces are
        left out."""
        for letter in text:
            if self._depth:
                self._depth += (letter == "{") - (letter == "}")
                if self._depth:
                    yield letter, True
                continue
            self._held += letter
            if self._held == BOX:
                self._held, self._depth = "", 1
            elif not BOX.startswith(self._held):
                keep = letter == BOX[0]  # another beginning
                yield self._held[:-1] if keep else self._held, False
                self._held = letter if keep else ""

    def finish(self) -> Iterator[tuple[str, bool]]:
        """No more comes: what was held back is text."""
        yield self._held, False
        self._held = ""


def _reply(session: ChatSession, question: str, console: Console) -> None:
    """Show a reply as it comes; on a terminal what is boxed stands out, and elsewhere the text is as it was written."""
    reasoning, answered = "", False
    boxes = BoxHighlighter()
    with interruptible() as stopped:
        for delta in session.ask(question, stopped):
            console.print(Text(printable(delta.reasoning), "dim italic"), end="", soft_wrap=True)
            reasoning += delta.reasoning
            if delta.answer and reasoning and not answered:
                console.print("\n\n"[reasoning.endswith("\n") :], end="")
            answered |= bool(delta.answer)
            answer = printable(delta.answer)
            _show_answer(boxes.feed(answer) if console.is_terminal else [(answer, False)], console)
        _show_answer(boxes.finish(), console)
        notices = ["Stopped."] if stopped() else session.notices
        if notices:
            console.print(Text("\n" + "\n".join(notices), "yellow"), end="", soft_wrap=True)
    console.print("\n")


def _show_answer(pieces: Iterable[tuple[str, bool]], console: Console) -> None:
    """`pieces`: text, and whether it is boxed."""
    for piece, boxed in pieces:
        console.print(Text(piece, "bold green" if boxed else ""), end="", soft_wrap=True)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """While the block runs Ctrl-C raises nothing; it makes the function that the block is given return True. So the
    engine is stopped between two steps, never inside one."""
    pressed: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)


def printable(text: str) -> str:
    """Without what could steer a terminal: control characters, except newline and tab, and text direction."""
    return "".join(
        letter
        for letter in text
        if letter in "\n\t" or not (letter in _BIDIRECTIONAL or unicodedata.category(letter) in ("Cc", "Cs"))
    )
