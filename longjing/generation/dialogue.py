"""Conversations in which somebody answers the model, and it goes on: tokens in, tokens out.

The next prompt is the last one, the tokens that were sampled, and the answer's tokens. Nothing that was sampled is
encoded again (the same text can have several encodings, and the model would be taught one that it didn't choose), nor
is reasoning dropped, as templates do with earlier turns. So a conversation is one text, which only grows, and a trainer
reads it in one pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from longjing.generation.random import sample_seed
from longjing.generation.request import Generation, Generator, Request, Sampling
from longjing.text.reasoning import ReasoningStream
from longjing.text.template import Message
from longjing.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Spoken:
    """A turn of the model's. `prefilled`: its prompt had opened the reasoning; `truncated`: it was cut off; `reply`:
    what was said to it, if anything was."""

    text: str
    prefilled: bool
    truncated: bool
    reply: Message | None = None


# Asked when the model has ended a turn, by the opening's place: what to say to that. None ends the conversation.
Answer = Callable[[int, Sequence[Spoken]], Message | None]


class Dialogue:
    """One conversation as it grows: its `turns`, and all of it as one `generation` behind the first prompt.

    `sampling.max_tokens` holds for all turns together, what is said in between not counted. Each turn draws with a
    seed of its own.
    """

    generation: Generation

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], prefilled: bool, sampling: Sampling
    ) -> None:
        self._tokenizer, self._prefilled, self._sampling = tokenizer, prefilled, sampling
        self.turns: list[Spoken] = []
        self.request = Request(prompt, sampling)

    def add(self, turn: Generation) -> None:
        """Take in what the last request gave."""
        self.turns.append(Spoken(turn.text, self._prefilled, turn.finish_reason != "stop"))
        if len(self.turns) == 1:
            self.generation = turn
            return
        before, prompt = self.generation, self.generation.prompt
        said = turn.prompt[len(prompt) :]
        self.generation = replace(
            turn,
            prompt=prompt,
            tokens=said + turn.tokens,
            logprobs=before.logprobs + turn.logprobs,
            top=before.top + turn.top,
            given=(*before.given, (len(before.tokens), len(said))),
        )

    def reply(self, message: Message) -> Request | None:
        """Say something to the last turn; returns what to ask for next, None if the model may say no more."""
        done = self.generation
        if (left := self._sampling.max_tokens - done.length) < 1:
            self.generation = replace(done, finish_reason="length")
            self.turns[-1] = replace(self.turns[-1], truncated=True)
            return None
        self.turns[-1] = replace(self.turns[-1], reply=self._tokenizer.harmless(message))
        text, said = between(self._tokenizer, message, done.tokens[-1])
        self._prefilled = ReasoningStream.after(text).in_reasoning
        seed = sample_seed(self._sampling.seed, len(self.turns), "turn", 0)
        sampling = replace(self._sampling, max_tokens=left, seed=seed)
        return Request([*done.prompt, *done.tokens, *said], sampling)


def between(tokenizer: Tokenizer, message: Message, last: int) -> tuple[str, list[int]]:
    """What stands between a turn, of which `last` is the last token, and the next: the text, and its tokens
    without the one that the turn has itself."""
    text = tokenizer.render_reply(message)
    tokens = tokenizer.encode(text)
    return text, tokens[tokens[:1] == [last] :]


def converse(
    generator: Generator,
    tokenizer: Tokenizer,
    openings: Sequence[tuple[Sequence[Message], Sequence[Sampling]]],
    answer: Answer | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> list[list[Dialogue]]:
    """For each of the openings a conversation with each of its samplings, all at once: who is answered goes on while
    others still speak.

    Without an `answer` each has one turn. A turn that was cut off isn't answered. `on_step` as in `Generator`.
    """
    groups = []
    for messages, samplings in openings:
        text = tokenizer.render(messages)
        # The template says whether the prompt opens the reasoning.
        prompt, prefilled = tokenizer.encode(text), ReasoningStream.after(text).in_reasoning
        groups.append([Dialogue(tokenizer, prompt, prefilled, sampling) for sampling in samplings])
    places = [(place, dialogue) for place, group in enumerate(groups) for dialogue in group]
    requests = [dialogue.request for _, dialogue in places]
    if answer is None:
        for (_, dialogue), turn in zip(places, generator.generate(requests, on_step), strict=True):
            dialogue.add(turn)
        return groups

    def follow(number: int, turn: Generation) -> Request | None:
        place, dialogue = places[number]
        dialogue.add(turn)
        if turn.finish_reason != "stop" or (message := answer(place, dialogue.turns)) is None:
            return None
        return dialogue.reply(message)

    generator.generate(requests, on_step, follow)
    return groups
