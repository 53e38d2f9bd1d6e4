"""Conversations in the chat format, and which of their tokens a model is to learn.

A file has one conversation a line:

    {"messages": [{"role": "user", "content": "What is 2+3?"},
                  {"role": "assistant", "reasoning_content": "2+3=5", "content": "\\\\boxed{5}"}]}

The reasoning may be left out, be called `reasoning`, or stand in the content as `<think>...</think>`. `"weight": 0` on
a message of the assistant says that it is only read. `"thinking": false` beside the messages says that the model was
asked with thinking off. `"keep_reasoning": true` says that the conversation is one text that only grew, as a task that
replies makes it (`generation/multi_turn.py`): no template took the reasoning out of earlier turns. Tools and calls are
refused, since no prompt would have them. Other keys are ignored.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from longjing.errors import UserError
from longjing.generation.multi_turn import reply_tokens
from longjing.text.reasoning import ReasoningStream, parse
from longjing.text.tokenizer import Tokenizer
from longjing.text.turn_end import turn_end
from longjing.validation import explain_data

_FORM = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
_TAGS = ("<think>", "</think>")
TokenSpan = tuple[list[int], bool]  # tokens, and whether they are learned
# Keys that aren't read, and without which another text would be learned than the file has.
_CALLS = "isn't learned: write the call into the content, as the model should, or leave the conversation out"
_IN_MESSAGE = {
    "tool_calls": _CALLS,
    "function_call": _CALLS,
    "thinking": "in a message isn't read: reasoning is `reasoning_content`, and `thinking` stands beside `messages`",
}
_TOOLS = "isn't shown to the model: describe it in a system message, or leave the conversation out"
_BESIDE_MESSAGES = {"tools": _TOOLS, "functions": _TOOLS}


def _refuse(data: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    """Raises ValueError for a key of `refused` that says something; tables write empty ones into every row."""
    for key, reason in refused.items():
        if data.get(key) not in (None, "", [], {}):
            raise ValueError(f"`{key}` {reason}")


class ConversationMessage(BaseModel):
    """One turn. Of an assistant's, `content` is the answer alone, whatever way the line was written; with `weight` 0
    it is only read."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning_content: str | None = None
    weight: Literal[0, 1] | None = None

    @model_validator(mode="before")
    @classmethod
    def _split(cls, data: Any) -> Any:
        """Refuse what would be lost; take reasoning out of the content, and white space from around it."""
        if not isinstance(data, Mapping):
            return data
        _refuse(data, _IN_MESSAGE)
        if data.get("role") != "assistant":
            if data.get("weight"):
                raise ValueError("only the assistant's messages are learned; leave out the `weight`")
            return data
        if data.get("reasoning"):
            if data.get("reasoning_content") not in (None, "", data["reasoning"]):
                raise ValueError("reasoning and reasoning_content differ; leave one out")
            data = {**data, "reasoning_content": data["reasoning"]}
        content = data.get("content")
        if not isinstance(content, str):
            return data
        if not any(tag in content for tag in _TAGS):
            return {**data, "content": content.strip()}
        if data.get("reasoning_content"):
            raise ValueError("the reasoning stands in reasoning_content and in the content; leave one out")
        parsed = parse(content, prefilled=not content.lstrip().startswith("<think>"))
        once = all(content.count(tag) <= 1 for tag in _TAGS)
        if not (parsed.closed and once) or any(tag in parsed.reasoning + parsed.answer for tag in _TAGS):
            raise ValueError("write the content as <think>reasoning</think>answer, each tag once")
        return {**data, "content": parsed.answer, "reasoning_content": parsed.reasoning}

    @property
    def reasoning(self) -> str:
        return (self.reasoning_content or "").strip()

    @property
    def learned(self) -> bool:
        return self.role == "assistant" and self.weight != 0


class Conversation(BaseModel):
    """Messages that end with the assistant's, who is asked before each of its turns and says something in it."""

    model_config = ConfigDict(frozen=True)

    messages: list[ConversationMessage] = Field(min_length=2)
    thinking: bool = True
    keep_reasoning: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_tools(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            _refuse(data, _BESIDE_MESSAGES)
        return data

    @model_validator(mode="after")
    def _learnable(self) -> "Conversation":
        replies = [message for message in self.messages if message.role == "assistant"]
        if self.messages[0].role == "assistant":
            raise ValueError("the first message is the assistant's; somebody has to ask")
        if self.messages[-1].role != "assistant":
            raise ValueError("the last message isn't the assistant's; there is nothing to learn after it")
        for index, (before, message) in enumerate(pairwise(self.messages), 1):
            if message.role == "assistant" and before.role not in ("user", "tool"):
                raise ValueError(
                    f"message {index} is the assistant's and follows one of the {before.role}; a user has to ask"
                )
            if self.keep_reasoning and before.role != "assistant" != message.role and index > self.first:
                raise ValueError(
                    f"message {index} follows one of the {before.role}; with keep_reasoning turns alternate"
                )
        if not all(message.content for message in replies):
            raise ValueError("the assistant gives an empty answer")
        if not any(message.learned for message in replies):
            raise ValueError("each answer has weight 0; there is nothing to learn, so leave the conversation out")
        if not self.thinking and any(message.reasoning for message in replies):
            raise ValueError("thinking is false, yet the assistant reasons")
        if self.keep_reasoning and not self.thinking:
            raise ValueError("there is no reasoning to keep: leave out keep_reasoning, or thinking")
        return self

    @property
    def first(self) -> int:
        """The index of the assistant's first message."""
        return next(index for index, message in enumerate(self.messages) if message.role == "assistant")


def placed_conversations(path: str | Path, control: Collection[str] = ()) -> Iterator[tuple[str, Conversation]]:
    """The conversations of a file, each with where it is: `data.jsonl, line 3`; blank lines are skipped. `control`:
    tokens that must not stand in the text.

    Raises UserError that names the file, the line, what is wrong there and what it should be.
    """
    pattern, origin = control_pattern(control), None
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    origin = f"{path}, line {number}"
                    yield origin, _read(line, origin, pattern)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a file of conversations, one a line: {_FORM}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from error
    if origin is None:
        raise UserError(f"{path} has no conversation; write one a line: {_FORM}")


def _read(line: str, origin: str, control: re.Pattern[str]) -> Conversation:
    try:
        conversation = Conversation.model_validate_json(line)
    except ValidationError as error:
        raise UserError(f"{origin}: {explain_data(error)}; the form is {_FORM}") from None
    for number, message in enumerate(conversation.messages):
        try:
            refuse_control(message, control, f"messages.{number}")
        except ValueError as error:
            raise UserError(f"{origin}: {error}") from None
    return conversation


def control_pattern(control: Collection[str]) -> re.Pattern[str]:
    """What finds any of these tokens in a text."""
    return re.compile("|".join(map(re.escape, sorted(control, reverse=True))) or "(?!)")


def refuse_control(message: ConversationMessage, control: re.Pattern[str], where: str) -> None:
    """A token of the template's in the text would end a turn, or begin one, where none does: raises ValueError."""
    if (match := control.search(f"{message.content} {message.reasoning}")) is not None:
        raise ValueError(
            f"{where} has {match[0]} in its text, which the model would read as the end or the beginning of something; "
            "take it out"
        )


@dataclass(frozen=True, eq=False)
class Example:
    """A document of which a part is learned: `tokens` int32 and `loss_mask` bool, both `[length]`."""

    tokens: Tensor
    loss_mask: Tensor

    def __len__(self) -> int:
        return len(self.tokens)


def encode_conversation(tokenizer: Tokenizer, conversation: Conversation) -> list[Example]:
    """The conversation as the model meets it: prompts to read, and completions to learn with their end token.

    A turn's prompt is what the template makes of the messages before it, and its completion what the model
    should then sample, each encoded by itself, as they are when the model is asked. Where a prompt continues
    the text of the turn before, both are one example. Where it doesn't, as in R1's template, which drops the
    reasoning of earlier turns, the turn begins an example of its own, in which the earlier ones are only read.
    A turn of weight 0 is a part of the prompts behind it, and nothing else.
    """
    messages = [message.model_dump(exclude_none=True, exclude={"weight"}) for message in conversation.messages]
    if conversation.keep_reasoning:
        return [_one_text(tokenizer, conversation, messages)]
    runs: list[list[TokenSpan]] = []
    text, end = None, _end_token(tokenizer, messages)
    for index, message in enumerate(conversation.messages):
        if not message.learned:
            continue
        prompt = tokenizer.render(messages[:index], thinking=conversation.thinking)
        completion = _completion(prompt, message)
        if text is None or not prompt.startswith(text):
            runs.append([])
            text = ""
        # What a prompt adds is encoded by itself, as the engine does: a token never spans prompt and completion.
        runs[-1].append((tokenizer.encode(prompt.removeprefix(text)), False))
        runs[-1].append(([*tokenizer.encode(completion), end], True))
        text = prompt + completion + tokenizer.decode([end])
    return [_example(run) for run in runs]


def _one_text(tokenizer: Tokenizer, conversation: Conversation, messages: list[dict[str, Any]]) -> Example:
    """A conversation with `keep_reasoning`, put together as `generation.multi_turn` does."""
    first, end = conversation.first, _end_token(tokenizer, messages)
    text = tokenizer.render(messages[:first])
    parts: list[TokenSpan] = [(tokenizer.encode(text), False)]
    last = max(index for index, message in enumerate(conversation.messages) if message.learned)
    for index in range(first, last + 1, 2):
        if index > first:
            text, reply = reply_tokens(tokenizer, messages[index - 1], end)
            parts.append((reply, False))
        message = conversation.messages[index]
        parts.append(([*tokenizer.encode(_completion(text, message)), end], message.learned))
    return _example(parts)


def _example(parts: Sequence[TokenSpan]) -> Example:
    tokens = [token for part, _ in parts for token in part]
    loss_mask = [learned for part, learned in parts for _ in part]
    return Example(torch.tensor(tokens, dtype=torch.int32), torch.tensor(loss_mask))


def _completion(prompt: str, message: ConversationMessage) -> str:
    """What the model writes behind the prompt, up to its end token."""
    reasoning, answer = message.reasoning, message.content
    line = "\n" if reasoning else ""
    if ReasoningStream.after(prompt).in_reasoning:
        return f"{reasoning}{line}</think>\n\n{answer}"
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def _end_token(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> int:
    """The special token that the template writes behind an answer; the tokenizer's where it writes none."""
    index = next(index for index, message in enumerate(messages) if message["role"] == "assistant")
    end = turn_end(tokenizer, messages[:index])
    return tokenizer.eos_id if end is None else end
