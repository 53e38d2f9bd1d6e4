"""Whoever answers questions: a generator of tokens with its tokenizer here, or an endpoint (`endpoint.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from longjing.engine.request import Generator, Request, Sampling
from longjing.tasks.base import Completion
from longjing.text.reasoning import ReasoningStream
from longjing.text.template import Message
from longjing.text.tokenizer import Tokenizer

Progress = Callable[[int, int], None]  # (finished samples, tokens so far)
CountFlops = Callable[[int, Sequence[int]], int]


@dataclass(frozen=True)
class Question:
    """A chat that ends in the user's message, to be answered once for each of `samplings`."""

    messages: Sequence[Message]
    samplings: Sequence[Sampling]


@dataclass(frozen=True)
class Answer:
    """One sample, whole and in its parts. Lengths are in tokens."""

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
        prompts = [self.tokenizer.encode_chat(question.messages) for question in questions]
        requests = [
            Request(prompt, sampling)
            for question, prompt in zip(questions, prompts, strict=True)
            for sampling in question.samplings
        ]
        generations = iter(self.generator.generate(requests, on_progress))
        groups = []
        for question in questions:
            # The template says whether the prompt opens the reasoning.
            opened = ReasoningStream.after(self.tokenizer.render(question.messages)).in_reasoning
            group = []
            for _ in question.samplings:
                generation = next(generations)
                cut = generation.finish_reason != "stop"
                completion = Completion.parse(generation.text, opened, truncated=cut)
                reasoning = len(self.tokenizer.encode(completion.reasoning))
                group.append(Answer(generation.text, completion, len(generation.tokens), reasoning))
            groups.append(group)
        flops = None
        if self.flops is not None:
            lengths = [[answer.length for answer in group] for group in groups]
            flops = sum(
                self.flops(len(prompt), drawn) for prompt, drawn in zip(prompts, lengths, strict=True)
            )
        return Answers(groups, sum(map(len, prompts)), flops)
