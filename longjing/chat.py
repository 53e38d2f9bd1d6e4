"""Talking to a model in the terminal: the reasoning dimmed, the answer not, and every turn remembered."""

import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from longjing.engine import Engine, Request, Sampling, sample_seed
from longjing.engine.thinking import ThinkingBudget
from longjing.errors import UserError
from longjing.tasks import Completion, Problem, Task
from longjing.tasks.answer import BOX
from longjing.text.reasoning import Delta, ReasoningStream
from longjing.text.tokenizer import Tokenizer

HELP = """\
/think     on or off: whether it thinks before it answers
/budget    tokens that it may think for, as in /budget 100; then it has to answer
/problem   draw a problem of the model's task, and see whether it finds the answer
/new       forget what was said
/quit      leave, as Ctrl-D does; Ctrl-C stops an answer"""
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ANSWER = 64  # tokens of a reply that are kept for the answer


class Conversation:
    """A model and what was said to it so far. `limit`: tokens that fit into its context. `thinking`: whether it thinks
    before it answers, for at most `budget` tokens, and never so long that no answer fits into `max_tokens`."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, limit: int, temperature: float, max_tokens: int, seed: int
    ) -> None:
        self._engine, self._tokenizer, self._limit = engine, tokenizer, limit
        self._temperature, self._max_tokens, self._seed = temperature, max_tokens, seed
        self._turn = 0
        self._longest = max(max_tokens - _ANSWER, max_tokens // 2)
        self.thinking, self.budget = True, self._longest
        self.messages: list[dict[str, str]] = []
        self.reply = Completion.parse("")
        self.exhausted = False  # whether the budget closed the last reasoning

    def ask(self, question: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[Delta]:
        """The reply, piece by piece, cut short as soon as `stopped()`; `reply` is the whole of it afterwards.

        The answer is remembered, the oldest turns are forgotten when the context is full. Raises UserError
        for a question that doesn't fit.
        """
        prompt = self._fit(question)
        self._turn += 1
        seed = sample_seed(self._seed, self._turn, "chat", 0)
        sampling = Sampling(temperature=self._temperature, max_tokens=self._max_tokens, seed=seed)
        stream = ReasoningStream.after(self._tokenizer.decode(prompt))
        prefilled, text, reason = stream.in_reasoning, "", None
        budget = min(self.budget, self._longest)
        guide = ThinkingBudget(self._tokenizer, prompt, budget, self._engine.end_tokens)
        for chunk in self._engine.stream(Request(prompt, sampling, guide)):
            text, reason = text + chunk.text, chunk.finish_reason
            yield stream.feed(chunk.text)
            if stopped():
                break
        yield stream.finish()
        self.exhausted = guide.exhausted
        self.reply = Completion.parse(text, prefilled, truncated=reason != "stop")
        self.messages.append({"role": "assistant", "content": self.reply.answer})

    def _fit(self, question: str) -> list[int]:
        """The tokens of the conversation with its new question."""
        self.messages.append({"role": "user", "content": question})
        while True:
            prompt = self._tokenizer.encode_chat(self.messages, thinking=self.thinking)
            if len(prompt) + self._max_tokens <= self._limit:
                return prompt
            if len(self.messages) == 1:
                self.messages.clear()
                raise UserError(
                    f"that is {len(prompt)} tokens, and with {self._max_tokens} for the reply more than the "
                    f"{self._limit} that the model was made for; shorten it, or lower --max-tokens"
                )
            del self.messages[:2]


def converse(conversation: Conversation, task: Task | None, console: Console) -> None:
    """Read questions and show replies until the user leaves. `task`: where /problem draws from."""
    problems = task.problems("test", 0) if task else iter(())
    if sys.stdin.isatty():
        console.print(Text(HELP if task else HELP.partition("\n")[2], "dim"))
    while (line := _read(console)) is not None:
        problem = None
        if line == "/quit":
            return
        if line == "/new":
            conversation.messages.clear()
            continue
        if line == "/problem":
            problem = next(problems, None)
            if problem is None:
                console.print(Text("this model has no task to draw problems from", "yellow"))
                continue
            line = problem.prompt
            console.print(Text(printable(line), "bold"), soft_wrap=True)
        elif line.startswith("/"):
            console.print(Text(_set(conversation, line) or HELP, "dim"))
            continue
        try:
            _reply(conversation, line, console)
        except UserError as error:
            console.print(Text(str(error), "yellow"))
            continue
        if problem is not None and task is not None:
            _verdict(task, problem, conversation.reply, console)


def _set(conversation: Conversation, line: str) -> str | None:
    """Change what the line says, and say so; None if it says nothing that can be changed."""
    command, _, value = line.partition(" ")
    if command == "/think" and value in ("on", "off"):
        conversation.thinking = value == "on"
        return f"thinking is {value}"
    if command == "/budget" and value.isdecimal():
        conversation.budget = int(value)
        return f"it may think for {conversation.budget} tokens"
    return None


class Boxes:
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


def _reply(conversation: Conversation, question: str, console: Console) -> None:
    """Show a reply as it comes; on a terminal what is boxed stands out, and elsewhere the text is as it was written."""
    thought = answered = False
    boxes = Boxes()
    with interruptible() as stopped:
        for delta in conversation.ask(question, stopped):
            console.print(Text(printable(delta.reasoning), "dim italic"), end="", soft_wrap=True)
            thought |= bool(delta.reasoning)
            if delta.answer and thought and not answered:
                console.print("\n")
            answered |= bool(delta.answer)
            answer = printable(delta.answer)
            _show_answer(boxes.feed(answer) if console.is_terminal else [(answer, False)], console)
        _show_answer(boxes.finish(), console)
        if conversation.exhausted:
            console.print(Text(" (it had no more time to think: /budget)", "yellow"), end="")
        if stopped():
            console.print(Text(" (stopped)", "yellow"), end="")
        elif conversation.reply.truncated:
            console.print(Text(" (cut off: raise --max-tokens)", "yellow"), end="")
    console.print("\n")


def _show_answer(pieces: Iterable[tuple[str, bool]], console: Console) -> None:
    """`pieces`: text, and whether it is boxed."""
    for piece, boxed in pieces:
        console.print(Text(piece, "bold green" if boxed else ""), end="", soft_wrap=True)


def _verdict(task: Task, problem: Problem, completion: Completion, console: Console) -> None:
    verdict = task.judge(problem, completion)
    style = {"correct": "green", "wrong": "red", "unjudged": "yellow"}[verdict.outcome]
    said = verdict.outcome if verdict.outcome == verdict.reason else f"{verdict.outcome}: {verdict.reason}"
    console.print(Text(printable(f"{said}\n"), style))


def _read(console: Console) -> str | None:
    """The next line that says something, None at the end of the input."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            console.print()
            return None
        except KeyboardInterrupt:
            console.print("\n/quit or Ctrl-D leaves")
            continue
        if line:
            return line.encode(errors="replace").decode()  # a terminal may hand in halves of characters


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """While the block runs Ctrl-C raises nothing; it makes the function that the block is given return True.

    So the engine is stopped between two steps, never inside one.
    """
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
