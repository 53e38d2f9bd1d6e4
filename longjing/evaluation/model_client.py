"""Whoever answers questions: a generator of tokens with its tokenizer here, or an endpoint (`endpoint_client.py`)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from longjing.errors import UserError
from longjing.generation.generator import Generator
from longjing.generation.multi_turn import generate_multi_turn
from longjing.generation.request import Sampling
from longjing.problems import Completion, ModelTurn
from longjing.text.template import Message
from longjing.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # (finished samples, tokens so far)
CountFlops = Callable[[int, Sequence[int]], int]
Opening = tuple[Sequence[Message], Sequence[Sampling]]


@dataclass(frozen=True)
class Question:
    """A chat that ends in the user's message, to be answered once for each of `samplings`. `reply`: what is said to an
    answer, so that it is gone on with; None ends the conversation, of which an answer is then the whole. `instruction`:
    what the message has behind the problem's prompt."""

    messages: Sequence[Message]
    samplings: Sequence[Sampling]
    reply: Callable[[Completion], Message | None] | None = None
    instruction: str = ""


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
    as they were read, FLOPs if somebody counted, and the seconds of those that were known from an earlier time.
    `sampling`: what of it was otherwise than asked for."""

    groups: list[list[Answer]]
    prompt_tokens: int
    flops: int | None = None
    seconds_before: float = 0.0
    sampling: Mapping[str, Any] = field(default_factory=dict)


class ModelClient(Protocol):
    """Answers all questions or raises UserError. An answer depends on its question and sampling only."""

    def answer(self, questions: Sequence[Question], on_progress: Progress | None = None) -> Answers: ...


@dataclass(frozen=True)
class LocalClient:
    """A generator with its tokenizer.

    `flops` says what a question's answers cost, from the length of the prompt and the lengths of the answers
    (`planning.flops.generation`). `context`: the tokens that the model was made for, prompt and answer together. An
    answer that may grow longer is bounded by it, with a note in the log and in `Answers.sampling`; `strict` refuses it.
    What a task replies isn't counted.
    """

    generator: Generator
    tokenizer: Tokenizer
    flops: CountFlops | None = None
    context: int | None = None
    strict: bool = False

    def answer(self, questions: Sequence[Question], on_progress: Progress | None = None) -> Answers:
        def reply(index: int, turns: Sequence[ModelTurn]) -> Message | None:
            reply_to = questions[index].reply
            return reply_to(Completion.of(turns)) if reply_to else None

        groups: list[list[Answer]] = []
        prompt_tokens, flops = 0, 0
        openings, sampling = self._within_context(questions)
        reply_to = reply if any(question.reply for question in questions) else None
        for dialogues in generate_multi_turn(self.generator, self.tokenizer, openings, reply_to, on_progress):
            group = []
            for dialogue in dialogues:
                completion, generation = Completion.of(dialogue.turns), dialogue.generation
                reasoning = len(self.tokenizer.encode(completion.all_reasoning))
                group.append(Answer(generation.text, completion, generation.length, reasoning))
                prompt_tokens += len(generation.tokens) - generation.length  # what the task replied
            groups.append(group)
            generations = [dialogue.generation for dialogue in dialogues]
            prompt_tokens += len(generations[0].prompt)
            if self.flops is not None:
                flops += self.flops(len(generations[0].prompt), [len(each.tokens) for each in generations])
        return Answers(groups, prompt_tokens, None if self.flops is None else flops, sampling=sampling)

    def _within_context(self, questions: Sequence[Question]) -> tuple[list[Opening], dict[str, int]]:
        """What is asked with how it is answered, and the shortest bound if the context made one."""
        openings: list[Opening] = [(question.messages, question.samplings) for question in questions]
        if self.context is None:
            return openings, {}
        lengths = [len(self.tokenizer.encode(self.tokenizer.render(messages))) for messages, _ in openings]
        longest, wanted = max(lengths), max(each.max_tokens for _, group in openings for each in group)
        room, made_for = self.context - longest, f"the {self.context} tokens that the model was made for"
        if wanted <= room:
            return openings, {}
        if room < 1:
            raise UserError(f"a prompt has {longest} tokens, which leaves no answer in {made_for}")
        if self.strict:
            raise UserError(
                f"{wanted} tokens of an answer and {longest} of a prompt are more than {made_for}: "
                f"give --max-tokens {room} at most"
            )
        _log.warning(
            "prompt and answer have %s: the longest prompt leaves %d to the answer, not %d",
            made_for, room, wanted,
        )  # fmt: skip
        for number, ((messages, samplings), length) in enumerate(zip(openings, lengths, strict=True)):
            most = self.context - length
            openings[number] = messages, [replace(each, max_tokens=min(each.max_tokens, most)) for each in samplings]
        return openings, {"max_tokens": room, "context": self.context}
