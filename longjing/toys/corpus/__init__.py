"""The generated corpus: worked solutions by many imperfect solvers, and a little conversation."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

from longjing.problems import Problem, registry
from longjing.text.tokenizer import Tokenizer
from longjing.toys.arithmetic import corpus as arithmetic
from longjing.toys.code import corpus as code
from longjing.toys.conversation import corpus as conversation
from longjing.toys.corpus import drill, limits, practice, worked
from longjing.toys.corpus.document import Document
from longjing.toys.countdown import corpus as countdown
from longjing.toys.equations import corpus as equations
from longjing.toys.stream_of_search import corpus as stream_of_search
from longjing.toys.word_problems import corpus as word_problems

_WRITERS = {
    "countdown": countdown.write,
    "arithmetic": arithmetic.write,
    "equations": equations.write,
    "word-problems": word_problems.write,
    "stream-of-search": stream_of_search.write,
    "code": code.write,
}
FREE = {  # without a stream of problems behind them
    "conversation": conversation.write,
    "drill": drill.write,
    "practice": practice.write,
    "limits": limits.write,
    "worked": worked.write,
}
KINDS = (*_WRITERS, *FREE)
PROMPTS = (*_WRITERS, "conversation")  # kinds whose prompts are a task's
UNASKED = ("drill", "practice")  # kinds that answer nobody's question


Settings = Mapping[str, Mapping[str, object]]

_TURNS = 3  # that a conversation has at most


def documents(
    seed: int,
    shares: Mapping[str, float],
    settings: Settings,
    follow_ups: float = 0.0,
    unthinking: float = 0.0,
) -> Iterator[Document]:
    """Documents without end. `shares`: how often each of `KINDS` is met; `settings`: those of each task, whose
    `difficulty` may be a list, of which each problem takes one.

    A share of `follow_ups` has the documents before it as its history. Of the guesses and the answers in one line,
    a share of `unthinking` was asked for without thinking. Problems are drawn from the training split only: what
    evaluation asks, the base has not read.
    """
    random = Random(f"corpus turns {seed}")
    earlier: tuple[tuple[str, str], ...] = ()
    for document in _single(seed, shares, settings):
        if document.style in ("guess", "direct") and random.random() < unthinking:
            document = replace(document, reasoning="", thinking=False)
        if random.random() < follow_ups:
            document = replace(document, history=earlier[1 - _TURNS :])
        earlier = (*document.history, (document.prompt, document.answer))
        yield document


def _single(seed: int, shares: Mapping[str, float], settings: Settings) -> Iterator[Document]:
    """Documents by themselves."""
    random = Random(f"corpus {seed}")
    problems = {kind: _problems(kind, settings.get(kind, {}), seed) for kind in _WRITERS if shares.get(kind)}
    while True:
        (kind,) = random.choices(list(shares), list(shares.values()))
        if kind in FREE:
            yield FREE[kind](random)
        else:
            yield _WRITERS[kind](next(problems[kind]), random)


def levels(settings: Mapping[str, object]) -> list[dict[str, object]]:
    """The settings of a task at each of its difficulties."""
    difficulty = settings.get("difficulty")
    given = difficulty if isinstance(difficulty, list) else [difficulty] if "difficulty" in settings else []
    return [{**settings, "difficulty": level} for level in given] or [dict(settings)]


def _problems(kind: str, settings: Mapping[str, object], seed: int) -> Iterator[Problem]:
    random = Random(f"difficulty {kind} {seed}")
    sources = [registry.make(kind, **level).problems("train", seed) for level in levels(settings)]
    while True:
        yield next(random.choice(sources))


def encode(document: Document, tokenizer: Tokenizer) -> list[int]:
    """The document's tokens as a chat, from the begin token to the end token.

    Prompt and completion are encoded apart, as they are when a model is asked.
    """
    messages = [
        {"role": role, "content": content}
        for turn in document.history
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]
    messages.append({"role": "user", "content": document.prompt})
    prompt = tokenizer.encode_chat(messages, thinking=document.thinking)
    end = "\n</think>\n\n" if document.reasoning else "</think>\n\n"
    reasoning = document.reasoning + end if document.thinking else ""
    return [*prompt, *tokenizer.encode(reasoning + document.answer), tokenizer.eos_id]


def text(document: Document) -> str:
    """The document as one text, for training a tokenizer."""
    return "\n".join((document.prompt, document.reasoning, document.answer))
