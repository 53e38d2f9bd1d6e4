"""Tools: what a model that knows them is told, and the calls that it writes.

The form is that of Qwen2.5 and Hermes, which names its tags in the template: `<tool_call>{"name": ..., "arguments":
{...}}</tool_call>`. A template that is given `tools` but writes another form isn't known here.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longjing.serving.errors import Refused
from longjing.serving.schemas import ChatMessage, FunctionCall
from longjing.text import Tokenizer, parse

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Call:
    """One call of a function. `arguments`: JSON."""

    id: str
    name: str
    arguments: str


def knows_tools(template: str) -> bool:
    """Whether a chat template takes tools, in the form that is read here."""
    return "tools" in template and OPEN in template


def template_messages(messages: Sequence[ChatMessage], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """As the chat template takes them: no reasoning, content as text, `developer` called `system`.

    Raises Refused for a text that holds a mark of the template, which would then be taken for one.
    """
    told: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        text = message.text
        if message.role == "assistant":
            text = parse(text, prefilled="<think>" not in text).answer if "</think>" in text else text
        if mark := next((mark for mark in tokenizer.control_tokens if mark in text), None):
            raise Refused(
                f"messages: message {number} holds {mark!r}, a mark of the chat template", "messages"
            )
        entry: dict[str, Any] = {
            "role": "system" if message.role == "developer" else message.role, "content": text
        }  # fmt: skip
        if message.tool_calls:
            calls = (call.function for call in message.tool_calls)
            entry["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": _arguments(call, number)}}
                for call in calls
            ]
        told.append(entry)
    return told


def take_calls(answer: str) -> tuple[str, list[Call]]:
    """The answer without the calls in it, and those. What is no call stays text; the last may lack its closing tag."""
    first, *pieces = answer.split(OPEN)
    said, calls = first, []
    for piece in pieces:
        inside, _, rest = piece.partition(CLOSE)
        if call := _call(inside):
            calls.append(call)
            said += rest
        else:
            said += OPEN + piece
    return said.strip() if calls else said, calls


def _call(text: str) -> Call | None:
    try:
        written = json.loads(text)
        name, arguments = written["name"], written.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Call(f"call_{secrets.token_hex(12)}", str(name), json.dumps(arguments, ensure_ascii=False))


def _arguments(call: FunctionCall, number: int) -> Any:
    try:
        return json.loads(call.arguments)
    except ValueError as error:
        raise Refused(
            f"messages: message {number} calls {call.name!r} with what is no JSON", "messages"
        ) from error
