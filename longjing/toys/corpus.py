"""The generated corpus: worked solutions by many imperfect solvers, and a little conversation.

Who writes the documents is declared by the toys themselves (`toy.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

from longjing.problems import Problem, registry
from longjing.text.tokenizer import Tokenizer
from longjing.toys.toy import STANDALONE, TOYS, Document

_TURNS = 3  # that a conversation has at most

SettingsByTask = Mapping[str, Mapping[str, object]]


def kinds() -> list[str]:
    """The kinds of documents: of tasks with a corpus, by their names, and those that stand alone."""
    return [*(name for name, toy in TOYS.items() if toy.write_solution), *STANDALONE]


def prompt_kinds() -> list[str]:
    """The kinds whose prompts are a task's."""
    return [kind for kind in kinds() if kind in TOYS]


def documents(
    seed: int, shares: Mapping[str, float], settings: SettingsByTask, follow_ups: float = 0.0, unthinking: float = 0.0
) -> Iterator[Document]:
    """Documents without end. `shares`: how often each of `kinds` is met; `settings`: those of each task, whose
    `difficulty` may be a list, of which each problem takes one.

    A share of `follow_ups` has the documents before it as its history. Of the guesses and the answers in one line,
    a share of `unthinking` was asked for without thinking. Problems are drawn from the training split only: what
    evaluation asks, the base has not read.
    """
    random = Random(f"corpus turns {seed}")
    earlier: tuple[tuple[str, str], ...] = ()
    for document in _single_documents(seed, shares, settings):
        if document.style in ("guess", "direct") and random.random() < unthinking:
            document = replace(document, reasoning="", thinking=False)
        if random.random() < follow_ups:
            document = replace(document, history=earlier[1 - _TURNS :])
        earlier = (*document.history, (document.prompt, document.answer))
        yield document


def _single_documents(seed: int, shares: Mapping[str, float], settings: SettingsByTask) -> Iterator[Document]:
    random = Random(f"corpus {seed}")
    problems = {
        kind: _problems(kind, settings.get(kind, {}), seed)
        for kind, share in shares.items()
        if share and kind not in STANDALONE
    }
    while True:
        (kind,) = random.choices(list(shares), list(shares.values()))
        if kind in STANDALONE:
            yield STANDALONE[kind](random)
        else:
            write_solution = TOYS[kind].write_solution
            assert write_solution is not None, kind
            yield write_solution(next(problems[kind]), random)


def levels(settings: Mapping[str, object]) -> list[dict[str, object]]:
    """The settings of a task at each of its difficulties."""
    difficulty = settings.get("difficulty")
    if not isinstance(difficulty, list) or not difficulty:
        return [dict(settings)]
    return [{**settings, "difficulty": level} for level in difficulty]


def _problems(kind: str, settings: Mapping[str, object], seed: int) -> Iterator[Problem]:
    random = Random(f"difficulty {kind} {seed}")
    sources = [registry.make(kind, **level).problems("train", seed) for level in levels(settings)]
    while True:
        yield next(random.choice(sources))


def encode(document: Document, tokenizer: Tokenizer) -> list[int]:
    """The document's tokens as a chat, from the begin token to the end token.

    Prompt and completion are encoded apart, as they are when a model is asked.
    """
    messages = []
    for question, answer in (*document.history, (document.prompt, None)):
        messages.append({"role": "user", "content": question})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
    prompt = tokenizer.encode_chat(messages, thinking=document.thinking)
    end = "\n</think>\n\n" if document.reasoning else "</think>\n\n"
    reasoning = document.reasoning + end if document.thinking else ""
    return [*prompt, *tokenizer.encode(reasoning + document.answer), tokenizer.eos_id]


def text(document: Document) -> str:
    """The document as one text, for training a tokenizer."""
    return "\n".join((document.prompt, document.reasoning, document.answer))
