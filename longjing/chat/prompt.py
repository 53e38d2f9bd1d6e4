"""The prompt of a chat: messages and tools through the chat template, rendered once, and encoded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longjing.chat.invalid_request import context_exceeded, invalid
from longjing.chat.tool_calls import knows_tools
from longjing.errors import UserError
from longjing.text import ReasoningStream, Tokenizer
from longjing.text.template import PLACEHOLDER, Message
from longjing.text.tokenizer import TooLong

_OPEN, _CLOSE = "<think>", "</think>"
_PROBE: Sequence[Message] = ({"role": "user", "content": "?"},)


def _takes_system(tokenizer: Tokenizer) -> bool:
    """Whether the chat template shows the model a system message."""
    try:
        return PLACEHOLDER in tokenizer.render([{"role": "system", "content": PLACEHOLDER}, *_PROBE], True, True)
    except UserError:  # it refuses one, or there is none
        return False


@dataclass(frozen=True)
class BegunReply:
    """The part of a reply that the model goes on from. `closed`: the reasoning is over, and the answer has begun."""

    reasoning: str | None
    answer: str
    closed: bool

    @classmethod
    def of(cls, reasoning: str | None, text: str) -> "BegunReply":
        """Taken apart. A text that opens its reasoning itself, with the tag, is taken at its word."""
        if not reasoning and text.lstrip().startswith(_OPEN):
            reasoning, tag, answer = text.lstrip().removeprefix(_OPEN).partition(_CLOSE)
            return cls(reasoning.lstrip("\n"), answer.lstrip("\n"), bool(tag))
        return cls(reasoning or None, text, bool(text))

    def thinks(self, thinking: bool, can_switch_off: bool) -> bool:
        """Whether the template is to open the reasoning. Raises InvalidRequest for some to go on where it is off."""
        if self.reasoning is not None and not self.closed and not thinking:
            raise invalid("messages", "the last one begins with reasoning, and thinking is turned off")
        return self.reasoning is not None or not can_switch_off or (thinking and not self.closed)

    def continue_(self, prompt: str) -> str:
        """The rendered prompt with the begun reply behind it."""
        opened = ReasoningStream.after(prompt).in_reasoning
        if self.reasoning is not None:
            if not opened:
                prompt += f"{_OPEN}\n"
            prompt += self.reasoning.rstrip() if self.closed else self.reasoning
        if self.closed and (self.reasoning is not None or opened):
            prompt += f"\n{_CLOSE}\n\n"
        return prompt + self.answer


@dataclass(frozen=True)
class Prompt:
    """A prompt, as text and as tokens. `body`: the characters before the part that asks for the reply (the template's
    generation prompt). `keep`: how many tokens may begin a later turn's prompt, as `Request` wants it."""

    text: str
    body: int
    tokens: list[int]
    keep: int


class PromptBuilder:
    """Makes prompts in the chat format of one tokenizer, of at most `limit` tokens.

    Where a prompt's body ends is known without a second rendering of the messages: the generation prompt depends on
    nothing but whether the model is to think, so it is read off a short conversation here, once.
    """

    def __init__(self, tokenizer: Tokenizer, limit: int) -> None:
        self._tokenizer, self._limit = tokenizer, limit
        template = tokenizer.template
        self.reasons = "think>" in template
        self.switches_thinking = "enable_thinking" in template
        self.knows_tools = knows_tools(template)
        self._takes_calls, self.takes_system = "tool_calls" in template, _takes_system(tokenizer)
        self._generation_prompts, bodies = {}, set()
        for thinking in (True, False) if self.switches_thinking or not self.reasons else (True,):
            body, self._generation_prompts[thinking] = self._probe(thinking)
            bodies.add(body)
        # Some templates tell the model in the system message, too, whether it is to think.
        self._differ_in_ending_only = len(bodies) == 1 and all(self._generation_prompts.values())

    def build(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), thinking: bool = True,
        begun: BegunReply | None = None,
    ) -> Prompt:  # fmt: skip
        """The prompt for the reply to `messages`, or for the rest of a `begun` one.

        Raises InvalidRequest for a prompt that is too long, for messages that the template refuses, and for reasoning
        to be continued where thinking is off.
        """
        thinks = thinking if begun is None else begun.thinks(thinking, self.switches_thinking)
        text = self._render(messages, tools, thinks)
        generation_prompt = self._generation_prompts[thinks]
        # A template that writes none here (DeepSeek's, after a tool's result) leaves the body whole.
        body = len(text) - len(generation_prompt) if text.endswith(generation_prompt) else len(text)
        return self._prompt(text if begun is None else begun.continue_(text), body)

    def without_thinking(
        self, prompt: Prompt, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> Prompt:
        """The same prompt, of these messages and tools, with thinking turned off."""
        if not self._differ_in_ending_only:
            return self.build(messages, tools, thinking=False)
        return self._prompt(prompt.text[: prompt.body] + self._generation_prompts[False], prompt.body)

    def check(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], begun: BegunReply | None) -> None:
        """Raise InvalidRequest for what the template would leave out, and for a text that holds one of its marks."""
        self._refuse_marks(tools, "tools", "one of them")
        for number, message in enumerate(messages):
            if message.get("tool_calls") and not self._takes_calls:
                text = f"message {number} has tool_calls, and this model's chat template leaves them out"
                raise invalid("messages", text)
            if message["role"] == "system" and not self.takes_system and self._tokenizer.template:
                raise invalid(
                    "messages", f"message {number} is a system message, and this model's chat template takes none"
                )
            self._refuse_marks(message, "messages", f"message {number}")
        if begun is not None:
            self._refuse_marks(begun.reasoning, "messages", "the last one's reasoning")

    def _refuse_marks(self, value: Any, parameter: str, what: str) -> None:
        """`value`: anything that JSON can write; a mark may stand in any text of it."""
        written = json.dumps(value, ensure_ascii=False)
        mark = next((mark for mark in self._tokenizer.control_tokens if mark in written), None)
        if mark is not None:
            raise invalid(parameter, f"{what} holds {mark!r}, a mark of the chat template")

    def _render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], thinking: bool) -> str:
        try:
            return self._tokenizer.render(messages, True, thinking, tools or None)
        except UserError as error:  # where the model lies is nobody's business
            raise invalid("messages", str(error).removeprefix(f"{self._tokenizer.origin}: ")) from error

    def _prompt(self, text: str, body: int) -> Prompt:
        """Of a reasoning model the next turn's prompt has the body only, for it drops this turn's reasoning; of another
        all that is written may begin it."""
        tokens, body_tokens = self.encode(text, "messages", body)
        return Prompt(text, body, tokens, body_tokens if self.reasons else self._limit)

    def encode(self, text: str, parameter: str, boundary: int = 0) -> tuple[list[int], int]:
        """The tokens of a text, and how many end before the `boundary`. Raises InvalidRequest for the `parameter`."""
        try:
            return self._tokenizer.encode_with_boundary(text, boundary, self._limit)
        except TooLong as error:
            raise context_exceeded(self._limit, error.tokens, parameter) from error
        except UserError as error:
            raise invalid(parameter, str(error)) from error

    def _probe(self, thinking: bool) -> tuple[str, str]:
        """What the template writes of a short conversation, and to ask for a reply: empty if not to be told apart."""
        try:
            body = self._tokenizer.render(_PROBE, False, thinking)
            text = self._tokenizer.render(_PROBE, True, thinking)
        except UserError:  # a template that refuses this conversation, or none at all
            return "", ""
        return body, text.removeprefix(body) if text.startswith(body) else ""
