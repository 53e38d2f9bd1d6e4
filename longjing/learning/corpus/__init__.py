"""The generated corpus: worked solutions by many imperfect solvers, and a little conversation."""

from collections.abc import Iterator, Mapping
from random import Random

from longjing import tasks
from longjing.learning.corpus import arithmetic, conversation, countdown, equations, word_problems
from longjing.learning.corpus.document import Document
from longjing.text.tokenizer import Tokenizer

_WRITERS = {
    "countdown": countdown.write,
    "arithmetic": arithmetic.write,
    "equations": equations.write,
    "word-problems": word_problems.write,
}
KINDS = (*_WRITERS, "conversation")


def documents(
    seed: int, shares: Mapping[str, float], settings: Mapping[str, Mapping[str, object]]
) -> Iterator[Document]:
    """Documents without end. `shares`: how often each of `KINDS` is met; `settings`: those of each task.

    Problems are drawn from the training split only: what evaluation asks, the base has not read.
    """
    random = Random(f"corpus {seed}")
    problems = {
        kind: tasks.get(kind, **settings.get(kind, {})).problems("train", seed)
        for kind in _WRITERS
        if shares.get(kind)
    }
    while True:
        (kind,) = random.choices(list(shares), list(shares.values()))
        if kind == "conversation":
            yield conversation.write(random)
        else:
            yield _WRITERS[kind](next(problems[kind]), random)


def encode(document: Document, tokenizer: Tokenizer) -> list[int]:
    """The document's tokens as a chat, from the begin token to the end token.

    Prompt and completion are encoded apart, as they are when a model is asked.
    """
    prompt = tokenizer.encode_chat([{"role": "user", "content": document.prompt}], thinking=document.thinking)
    end = "\n</think>\n\n" if document.reasoning else "</think>\n\n"
    reasoning = document.reasoning + end if document.thinking else ""
    return [*prompt, *tokenizer.encode(reasoning + document.answer), tokenizer.eos_id]


def text(document: Document) -> str:
    """The document as one text, for training a tokenizer."""
    return "\n".join((document.prompt, document.reasoning, document.answer))
