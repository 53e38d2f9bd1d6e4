"""Conversations in the chat format, and which of their tokens a model is to learn.

A file has one conversation a line:

    {"messages": [{"role": "user", "content": "What is 2+3?"},
                  {"role": "assistant", "reasoning_content": "2+3=5", "content": "\\\\boxed{5}"}]}

The reasoning may be left out, or stand in the content as `<think>...</think>`. `"thinking": false` beside the
messages says that the model was asked with thinking off. `"keep_reasoning": true` says that the conversation is one
text that only grew, as a task that replies makes it (`engine/dialogue.py`): no template took the reasoning out of
earlier turns. Other keys are ignored.
"""

import re
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from longjing.engine.dialogue import between
from longjing.errors import UserError
from longjing.learning.packing import Example
from longjing.text.reasoning import ReasoningStream, parse
from longjing.text.tokenizer import MARK, Tokenizer

_FORM = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
_TAGS = ("<think>", "</think>")


class Message(BaseModel):
    """One turn. Of an assistant's, `content` is the answer alone, whatever way the line was written."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning_content: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """Take reasoning out of the content, and white space from around it."""
        if not isinstance(given, Mapping) or given.get("role") != "assistant":
            return given
        content = given.get("content")
        if not isinstance(content, str):
            return given
        if not any(tag in content for tag in _TAGS):
            return {**given, "content": content.strip()}
        if given.get("reasoning_content"):
            raise ValueError("the reasoning stands in reasoning_content and in the content; leave one out")
        parsed = parse(content, prefilled=not content.lstrip().startswith("<think>"))
        if not parsed.closed or any(tag in parsed.reasoning + parsed.answer for tag in _TAGS):
            raise ValueError("write the content as <think>reasoning</think>answer, each tag once")
        return {**given, "content": parsed.answer, "reasoning_content": parsed.reasoning}

    @property
    def reasoning(self) -> str:
        return (self.reasoning_content or "").strip()


class Conversation(BaseModel):
    """Messages that end with the assistant's, who is asked before each of its turns and says something in it."""

    model_config = ConfigDict(frozen=True)

    messages: list[Message] = Field(min_length=2)
    thinking: bool = True
    keep_reasoning: bool = False

    @model_validator(mode="after")
    def _learnable(self) -> "Conversation":
        said = [message for message in self.messages if message.role == "assistant"]
        if self.messages[0].role == "assistant":
            raise ValueError("the first message is the assistant's; somebody has to ask")
        if self.messages[-1].role != "assistant":
            raise ValueError("the last message isn't the assistant's; there is nothing to learn after it")
        for place, (before, message) in enumerate(pairwise(self.messages), 1):
            if message.role == "assistant" and before.role not in ("user", "tool"):
                raise ValueError(
                    f"message {place} is the assistant's and follows one of the {before.role}; a user has to ask"
                )
            if self.keep_reasoning and before.role != "assistant" != message.role and place > self.first:
                raise ValueError(
                    f"message {place} follows one of the {before.role}; with keep_reasoning turns alternate"
                )
        if not all(message.content for message in said):
            raise ValueError("the assistant gives an empty answer")
        if not self.thinking and any(message.reasoning for message in said):
            raise ValueError("thinking is false, yet the assistant reasons")
        if self.keep_reasoning and not self.thinking:
            raise ValueError("there is no reasoning to keep: leave out keep_reasoning, or thinking")
        return self

    @property
    def first(self) -> int:
        """Where the assistant speaks first."""
        return next(place for place, message in enumerate(self.messages) if message.role == "assistant")


def read_conversations(path: str | Path, control: Collection[str] = ()) -> list[Conversation]:
    """All conversations of a file; blank lines are skipped. `control`: tokens that must not stand in the text.

    Raises UserError that names the file, the line, what is wrong there and what it should be.
    """
    conversations = []
    pattern = re.compile("|".join(map(re.escape, sorted(control, reverse=True)))) if control else None
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    conversations.append(_read(line, f"{path}, line {number}"))
                    if pattern is not None:
                        _refuse_control(conversations[-1], pattern, f"{path}, line {number}")
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; give a file of conversations, one a line: {_FORM}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from error
    if not conversations:
        raise UserError(f"{path} has no conversation; write one a line: {_FORM}")
    return conversations


def _read(line: str, origin: str) -> Conversation:
    try:
        return Conversation.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        complaint = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{origin}: {place + ': ' if place else ''}{complaint}; the form is {_FORM}"
        ) from None


def _refuse_control(conversation: Conversation, pattern: re.Pattern[str], origin: str) -> None:
    """A token of the template's in the text would end a turn, or begin one, where none does."""
    for place, message in enumerate(conversation.messages):
        if (found := pattern.search(f"{message.content} {message.reasoning}")) is not None:
            raise UserError(
                f"{origin}: messages.{place} has {found[0]} in its text, which the model would read as the end or the "
                "beginning of something; take it out"
            )


def encode_conversation(tokenizer: Tokenizer, conversation: Conversation) -> list[Example]:
    """The conversation as the model meets it: prompts to read, and completions to learn with their end token.

    A turn's prompt is what the template makes of the messages before it, and its completion what the model
    should then sample, each encoded by itself, as they are when the model is asked. Where a prompt continues
    the text of the turn before, both are one example. Where it doesn't, as in R1's template, which drops the
    reasoning of earlier turns, the turn begins an example of its own, in which the earlier ones are only read.
    """
    messages = [message.model_dump(exclude_none=True) for message in conversation.messages]
    if conversation.keep_reasoning:
        return [_one_text(tokenizer, conversation, messages)]
    runs: list[tuple[list[int], list[bool]]] = []
    text, end = None, _end_token(tokenizer, messages)
    for place, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        prompt = tokenizer.render(messages[:place], thinking=conversation.thinking)
        completion = _completion(prompt, message)
        if text is None or not prompt.startswith(text):
            runs.append(([], []))
            text = ""
        tokens, learns = runs[-1]
        for part, learned in (
            (tokenizer.encode(prompt.removeprefix(text)), False),
            ([*tokenizer.encode(completion), end], True),
        ):
            tokens += part
            learns += [learned] * len(part)
        text = prompt + completion + tokenizer.decode([end])
    return [Example(torch.tensor(tokens, dtype=torch.int32), torch.tensor(learns)) for tokens, learns in runs]


def _one_text(tokenizer: Tokenizer, conversation: Conversation, messages: list[dict[str, Any]]) -> Example:
    """A conversation with `keep_reasoning`, put together as `engine.dialogue` does."""
    first, end = conversation.first, _end_token(tokenizer, messages)
    text = tokenizer.render(messages[:first])
    tokens = tokenizer.encode(text)
    learns = [False] * len(tokens)
    for place in range(first, len(messages), 2):
        if place > first:
            text, said = between(tokenizer, messages[place - 1], end)
            tokens += said
            learns += [False] * len(said)
        turn = [*tokenizer.encode(_completion(text, conversation.messages[place])), end]
        tokens += turn
        learns += [True] * len(turn)
    return Example(torch.tensor(tokens, dtype=torch.int32), torch.tensor(learns))


def _completion(prompt: str, message: Message) -> str:
    """What the model writes behind the prompt, up to its end token."""
    reasoning, answer = message.reasoning, message.content
    line = "\n" if reasoning else ""
    if ReasoningStream.after(prompt).in_reasoning:
        return f"{reasoning}{line}</think>\n\n{answer}"
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def _end_token(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> int:
    """The special token that the template writes behind an answer; the tokenizer's where it writes none."""
    place = next(place for place, message in enumerate(messages) if message["role"] == "assistant")
    marked = [*messages[:place], {"role": "assistant", "content": MARK}]
    _, mark, tail = tokenizer.render(marked, add_generation_prompt=False).rpartition(MARK)
    first = tokenizer.encode(tail)[:1] if mark else []
    return first[0] if first and not tokenizer.decode(first, skip_special_tokens=True) else tokenizer.eos_id
