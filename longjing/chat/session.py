"""A chat session: what was said so far, and the model that answers next."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from longjing.chat.prompt import Prompt, PromptBuilder
from longjing.chat.reasoning_controller import ReasoningController
from longjing.chat.thinking_budget import room_to_think
from longjing.errors import UserError
from longjing.generation.defaults import SamplingDefaults
from longjing.generation.native import Engine, Request, sample_seed
from longjing.tasks import Completion, Task
from longjing.text.reasoning import Delta
from longjing.text.tokenizer import Tokenizer

TEMPERATURE, MAX_TOKENS = 0.6, 512  # where neither the user nor the model's makers say


@dataclass(frozen=True)
class ChatModel:
    """A model that can be talked to. `limit`: tokens that fit into its context; `task`: what it has learned to do;
    `defaults`: how its makers sample it. `repetition_guard`: a reply that goes in circles is ended."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    limit: int
    task: Task | None = None
    defaults: SamplingDefaults = SamplingDefaults()
    repetition_guard: bool = True

    @cached_property
    def prompts(self) -> PromptBuilder:
        """What makes the model's prompts, of any length: a session refuses those that are too long by itself."""
        return PromptBuilder(self.tokenizer, limit=sys.maxsize)


class ChatSession:
    """A model and what was said to it so far. `thinking`: whether it thinks before it answers, for at most `budget`
    tokens; `system`: what it is told before all else. Each of them may be changed between two questions, the model too.
    What isn't given is as the model's makers have it."""

    def __init__(self, model: ChatModel, temperature: float | None, max_tokens: int | None, seed: int) -> None:
        self.model, self._temperature, self._seed = model, temperature, seed
        self._max_tokens = max_tokens or min(model.defaults.max_new_tokens or MAX_TOKENS, model.limit // 2)
        self._turns = 0
        self._budget = self._max_budget = room_to_think(self._max_tokens)
        self.thinking = True
        self._system = ""
        self.messages: list[dict[str, str]] = []
        self.reply = Completion.parse("")
        self.notices: list[str] = []  # what else there is to say of the last reply

    @property
    def temperature(self) -> float:
        """The user's, or the model's own."""
        chosen = self.model.defaults.temperature if self._temperature is None else self._temperature
        return TEMPERATURE if chosen is None else chosen

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        self._temperature = temperature

    @property
    def system(self) -> str:
        """The system prompt; empty for none. Raises UserError when it is set, if the chat template leaves it out."""
        return self._system

    @system.setter
    def system(self, text: str) -> None:
        if text and not self.model.prompts.takes_system:
            raise UserError(f"the chat template of {self.model.name} takes no system prompt; say it in your question")
        self._system = text

    @property
    def budget(self) -> int:
        """The tokens that the reasoning may take: never so many that no answer fits into `max_tokens`."""
        return self._budget

    @budget.setter
    def budget(self, tokens: int) -> None:
        self._budget = min(tokens, self._max_budget)

    def ask(self, question: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[Delta]:
        """The reply, piece by piece, cut short as soon as `stopped()`; `reply` is the whole of it afterwards.

        The answer is remembered, the oldest turns are forgotten when the context is full. Raises UserError
        for a question that doesn't fit.
        """
        engine, tokenizer = self.model.engine, self.model.tokenizer
        messages, prompt = self._fit(question)
        self._turns += 1
        seed = sample_seed(self._seed, self._turns, "chat", 0)
        sampling = self.model.defaults.sampling(temperature=self.temperature, max_tokens=self._max_tokens, seed=seed)
        controller = ReasoningController(
            tokenizer, prompt.tokens, self._max_tokens, engine.end_tokens, budget=self.budget,
            repetition_guard=self.model.repetition_guard,
        )  # fmt: skip
        prefilled, text, reason = controller.in_reasoning, "", None
        for chunk in engine.stream(Request(prompt.tokens, sampling, controller, prompt.keep)):
            text, reason = text + chunk.text, chunk.finish_reason
            controller.extend(chunk.token_ids)
            yield controller.take()
            if stopped():
                break
        controller.finish()
        yield controller.take()
        self.notices = [] if stopped() else controller.notices(reason or "stop")
        self.reply = Completion.parse(
            text, prefilled, truncated=controller.finish_reason(reason or "cancelled") != "stop"
        )
        self.messages = [*messages, {"role": "assistant", "content": self.reply.answer}]

    def _fit(self, question: str) -> tuple[list[dict[str, str]], Prompt]:
        """The newest messages that fit, with the question as their last, and their prompt."""
        opening = [{"role": "system", "content": self._system}] if self._system else []
        messages = [*self.messages, {"role": "user", "content": question}]
        while True:
            prompt = self.model.prompts.build([*opening, *messages], thinking=self.thinking)
            if len(prompt.tokens) + self._max_tokens <= self.model.limit:
                return messages, prompt
            if len(messages) == 1:
                raise UserError(
                    f"that is {len(prompt.tokens)} tokens, and with {self._max_tokens} for the reply more than the "
                    f"{self.model.limit} that the model was made for; shorten it, or lower --max-tokens"
                )
            del messages[:2]
