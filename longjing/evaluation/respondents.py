"""Whoever answers questions: a generator of tokens with its tokenizer here, or an endpoint (`endpoint.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from longjing.engine.dialogue import Spoken, converse
from longjing.engine.request import Generator, Sampling
from longjing.tasks.base import Completion
from longjing.text.template import Message
from longjing.text.tokenizer import Tokenizer

Progress = Callable[[int, int], None]  # (finished samples, tokens so far)
CountFlops = Callable[[int, Sequence[int]], int]


@dataclass(frozen=True)
class Question:
    """A chat that ends in the user's message, to be answered once for each of `samplings`. `reply`: what is said to an
    answer, so that it is gone on with; None ends the conversation, of which an answer is then the whole."""

    messages: Sequence[Message]
    samplings: Sequence[Sampling]
    reply: Callable[[Completion], Message | None] | None = None


@dataclass(frozen=True)
class Answer:
    """One sample, whole and in its parts; of a conversation the last turn. Lengths are in tokens, and of all turns."""

    text: str
    completion: Completion
    length: int
    reasoning_length: int


@dataclass(frozen=True)
class Answers:
    """The answers to each question, in the order of its samplings, and what they took: prompt tokens as often
    as they were read, FLOPs if somebody counted, and the seconds of those that were known from an earlier time."""

    groups: list[list[Answer]]
    prompt_tokens: int
    flops: int | None = None
    seconds_before: float = 0.0


class Respondent(Protocol):
    """Answers all questions or raises UserError. An answer depends on its question and sampling only."""

    def answer(self, questions: Sequence[Question], on_progress: Progress | None = None) -> Answers: ...


@dataclass(frozen=True)
class Local:
    """A generator with its tokenizer.

    `flops` says what a question's answers cost, from the length of the prompt and the lengths of the answers
    (`planning.flops.generation`).
    """

    generator: Generator
    tokenizer: Tokenizer
    flops: CountFlops | None = None

    def answer(self, questions: Sequence[Question], on_progress: Progress | None = None) -> Answers:
        def reply(place: int, turns: Sequence[Spoken]) -> Message | None:
            said = questions[place].reply
            return said(Completion.of(turns)) if said else None

        groups: list[list[Answer]] = []
        read, flops = 0, 0
        openings = [(question.messages, question.samplings) for question in questions]
        replying = any(question.reply for question in questions)
        for dialogues in converse(
            self.generator, self.tokenizer, openings, reply if replying else None, on_progress
        ):
            group = []
            for dialogue in dialogues:
                completion, generation = Completion.of(dialogue.turns), dialogue.generation
                reasoning = len(self.tokenizer.encode(completion.all_reasoning))
                group.append(Answer(generation.text, completion, generation.length, reasoning))
                read += len(generation.tokens) - generation.length
            groups.append(group)
            generations = [dialogue.generation for dialogue in dialogues]
            read += len(generations[0].prompt)
            if self.flops is not None:
                flops += self.flops(len(generations[0].prompt), [len(each.tokens) for each in generations])
        return Answers(groups, read, None if self.flops is None else flops)
