"""Preference data: which of two answers is better, or whether one is good. Read from files, cut into tokens.

A row each (.jsonl, .json, .csv, .parquet), in the common forms; other keys are ignored:

    {"prompt": ..., "chosen": ..., "rejected": ...}     messages, or texts
    {"chosen": ..., "rejected": ...}                    whole conversations: messages, or texts with the turns
                                                        "\\n\\nHuman: " and "\\n\\nAssistant: "
    {"prompt": ..., "completion": ..., "label": true}   messages, or texts
    {"messages": ..., "label": true}                    a whole conversation

What the assistant wrote last is judged; a message's reasoning may stand apart, as in `conversations.py`.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from longjing.data.conversations import ConversationMessage, control_pattern, refuse_control
from longjing.errors import UserError
from longjing.problems.preference import Preference, Text
from longjing.tasks.row_files import Row, located_rows
from longjing.text.reasoning import ReasoningStream
from longjing.text.template import Message
from longjing.text.tokenizer import Tokenizer
from longjing.validation import explain_data

Judges = Literal["answer", "everything"]

_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def held_out(example: Preference, share: float) -> bool:
    """Whether the example belongs to the held-out `share`: by its prompt alone, so that no held-out prompt is
    learned from, with whatever answers."""
    return int(example.key, 16) < share * 2**64


def encode(tokenizer: Tokenizer, prompt: Sequence[Message], text: Text, judges: Judges) -> list[int]:
    """The tokens that a reward model reads: the conversation, ending in `text`.

    For `answer` without the reasoning, as the template writes a finished turn. For `everything` as it was
    sampled: behind the prompt that asks for it; a text without reasoning is the same for both.
    """
    if judges == "answer" or not text.reasoning:
        conversation = [*prompt, {"role": "assistant", "content": text.answer}]
        return tokenizer.encode_chat(conversation, add_generation_prompt=False)
    question = tokenizer.render(prompt)
    opening = "" if ReasoningStream.after(question).in_reasoning else "<think>\n"
    sampled = f"{opening}{text.reasoning}\n</think>\n\n{text.answer}"
    return [*tokenizer.encode(question), *tokenizer.encode(sampled), tokenizer.eos_id]


def read_preferences(path: str | Path, control: Collection[str] = ()) -> tuple[list[Preference], int]:
    """The examples of a file, and how many pairs were left out because their texts answer different conversations.

    `control`: tokens that must not stand in the text. Raises UserError, naming the file and the line, for what isn't
    preference data.
    """
    path, pattern = Path(path), control_pattern(control)
    examples, differing = [], 0
    for location, row in located_rows(path):
        origin = f"{path}, {location}"
        try:
            example = _read(row, origin, pattern)
        except ValueError as error:
            raise UserError(f"{origin}: {error}") from None
        if example is None:
            differing += 1
        else:
            examples.append(example)
    if not examples:
        raise UserError(
            f"{path}: `chosen` and `rejected` of each pair differ before their last message; they must answer the same"
        )
    return examples, differing


_Side = str | list[ConversationMessage]


class _Pair(BaseModel):
    prompt: _Side | None = None
    chosen: _Side
    rejected: _Side


class _Labelled(BaseModel):
    prompt: _Side | None = None
    completion: _Side | None = None
    messages: list[ConversationMessage] | None = None
    label: bool


def _read(row: Row, origin: str, control: re.Pattern[str]) -> Preference | None:
    """None for a pair of answers to different conversations: crowds' data have a few, and nothing compares them.
    Raises ValueError, with what is wrong and what would be right."""
    if not ({"chosen", "rejected"} <= row.keys() or "label" in row):
        raise ValueError("an example has `chosen` and `rejected`, or a `label`; this one hasn't")
    try:
        if "chosen" in row:
            pair = _Pair.model_validate(row)
            prompt, chosen = _conversation(pair.prompt, pair.chosen, "chosen", control)
            other, rejected = _conversation(pair.prompt, pair.rejected, "rejected", control)
            return Preference(prompt, (chosen, rejected), origin=origin) if prompt == other else None
        labelled = _Labelled.model_validate(row)
    except ValidationError as error:
        raise ValueError(explain_data(error)) from None
    name = "completion" if labelled.messages is None else "messages"
    side = labelled.completion if labelled.messages is None else labelled.messages
    if side is None:
        raise ValueError("a `label` needs the text that it is about: `messages`, or `prompt` and `completion`")
    prompt, text = _conversation(labelled.prompt, side, name, control)
    return Preference(prompt, (text,), labelled.label, origin=origin)


def _conversation(prompt: _Side | None, side: _Side, name: str, control: re.Pattern[str]) -> tuple[list[Message], Text]:
    """What was asked, and what the assistant wrote to it. A `side` that begins with the question is whole."""
    messages = _messages(side, "assistant")
    if messages and messages[0].role == "assistant":
        if prompt is None:
            raise ValueError(f"`{name}` has an answer and no question: give the whole conversation, or a `prompt`")
        messages = [*_messages(prompt, "user"), *messages]
    for message in messages:
        refuse_control(message, control, f"the conversation of `{name}`")
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise ValueError(f"`{name}` must end in a message of the assistant, which answers another")
    *earlier, last = messages
    prompt_messages: list[Message] = [{"role": each.role, "content": each.content} for each in earlier]
    return prompt_messages, Text(last.reasoning, last.content)


def _messages(side: _Side, role: Literal["user", "assistant"]) -> list[ConversationMessage]:
    """Messages as they are; a text as one of this role, or as the turns that it marks."""
    if not isinstance(side, str):
        return side
    before, *turns = _TURN.split(side)
    if not turns or before.strip():
        return [ConversationMessage(role=role, content=side)]
    if role == "user" and not turns[-1].strip():  # a prompt that names who speaks next
        turns = turns[:-2]
    return [
        ConversationMessage.model_validate({"role": _ROLES[name], "content": text.strip()})
        for name, text in zip(turns[::2], turns[1::2], strict=True)
    ]
