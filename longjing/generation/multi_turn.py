"""Conversations in which somebody answers the model, and it goes on: tokens in, tokens out.

The next prompt is the last one, the tokens that were sampled, and the reply's tokens. Nothing that was sampled is
encoded again (the same text can have several encodings, and the model would be taught one that it didn't choose), nor
is reasoning dropped, as templates do with earlier turns. So a conversation is one text, which only grows, and a trainer
reads it in one pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from longjing.generation.generator import Generator
from longjing.generation.random import sample_seed
from longjing.generation.request import Generation, Request, Sampling
from longjing.problems import ModelTurn
from longjing.text.reasoning import ReasoningStream
from longjing.text.template import Message
from longjing.text.tokenizer import Tokenizer

# Called when the model has ended a turn, with the conversation's number: the message that answers it. None ends it.
ReplyTo = Callable[[int, Sequence[ModelTurn]], Message | None]


class MultiTurnRollout:
    """One conversation as it grows: its `turns`, and all of it as one `generation` behind the first prompt.

    `sampling.max_tokens` holds for all turns together, replies not counted. Each turn draws with a seed of its own.
    """

    generation: Generation

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], prefilled: bool, sampling: Sampling) -> None:
        self._tokenizer, self._prefilled, self._sampling = tokenizer, prefilled, sampling
        self.turns: list[ModelTurn] = []
        self.request = Request(prompt, sampling)

    def add(self, turn: Generation) -> None:
        """Take in what the last request gave."""
        self.turns.append(ModelTurn(turn.text, self._prefilled, turn.finish_reason != "stop"))
        if len(self.turns) == 1:
            self.generation = turn
            return
        before = self.generation
        reply = turn.prompt[len(before.prompt) + len(before.tokens) :]
        start = len(before.tokens)
        self.generation = replace(
            turn,
            prompt=before.prompt,
            tokens=[*before.tokens, *reply, *turn.tokens],
            logprobs=before.logprobs + turn.logprobs,
            top=before.top + turn.top,
            unsampled=(*before.unsampled, (start, start + len(reply))),
        )

    def reply(self, message: Message) -> Request | None:
        """Answer the last turn; returns the request for the next, or None if the model has no tokens left for it."""
        so_far = self.generation
        left = self._sampling.max_tokens - so_far.length
        if left < 1:
            self.generation = replace(so_far, finish_reason="length")
            self.turns[-1] = replace(self.turns[-1], truncated=True)
            return None
        self.turns[-1] = replace(self.turns[-1], reply=self._tokenizer.without_control_tokens(message))
        text, tokens = reply_tokens(self._tokenizer, message, so_far.tokens[-1])
        self._prefilled = ReasoningStream.after(text).in_reasoning
        seed = sample_seed(self._sampling.seed, len(self.turns), "turn", 0)
        sampling = replace(self._sampling, max_tokens=left, seed=seed)
        return Request([*so_far.prompt, *so_far.tokens, *tokens], sampling)


def reply_tokens(tokenizer: Tokenizer, message: Message, last: int) -> tuple[str, list[int]]:
    """What stands between a turn, of which `last` is the last token, and the next: the text, and its tokens
    without the one that the turn has itself."""
    text = tokenizer.render_reply(message)
    tokens = tokenizer.encode(text)
    return text, tokens[tokens[:1] == [last] :]


def generate_multi_turn(
    generator: Generator,
    tokenizer: Tokenizer,
    openings: Sequence[tuple[Sequence[Message], Sequence[Sampling]]],
    reply_to: ReplyTo | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> list[list[MultiTurnRollout]]:
    """The conversations, of each opening one with each of its samplings. All go on at once: who is answered goes on
    while others still speak.

    Without `reply_to` each has one turn. A turn that was cut off isn't answered. `on_step` as in `Generator`.
    """
    groups = []
    for messages, samplings in openings:
        text = tokenizer.render(messages)
        # The template says whether the prompt opens the reasoning.
        prompt, prefilled = tokenizer.encode(text), ReasoningStream.after(text).in_reasoning
        groups.append([MultiTurnRollout(tokenizer, prompt, prefilled, sampling) for sampling in samplings])
    numbered = [(number, rollout) for number, group in enumerate(groups) for rollout in group]
    requests = [rollout.request for _, rollout in numbered]
    if reply_to is None:
        for (_, rollout), turn in zip(numbered, generator.generate(requests, on_step), strict=True):
            rollout.add(turn)
        return groups

    def follow(index: int, turn: Generation) -> Request | None:
        number, rollout = numbered[index]
        rollout.add(turn)
        if turn.finish_reason != "stop":
            return None
        message = reply_to(number, rollout.turns)
        return None if message is None else rollout.reply(message)

    generator.generate(requests, on_step, follow)
    return groups
