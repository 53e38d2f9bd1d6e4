"""Tools: what a model that knows them is told, and the calls that it writes.

The form is that of Qwen2.5 and Hermes, which names its tags in the template: `<tool_call>{"name": ..., "arguments":
{...}}</tool_call>`. A template that is given `tools` but writes another form isn't known here.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from longjing.engine.stops import overlap
from longjing.serving.errors import Refused
from longjing.serving.schemas import ChatMessage, ChatRequest, NamedTool, ToolCall
from longjing.serving.worker import Piece
from longjing.text import Tokenizer, parse

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Call:
    """One call of a function. `arguments`: a JSON object."""

    id: str
    name: str
    arguments: str


def knows_tools(template: str) -> bool:
    """Whether a chat template takes tools, in the form that is read here."""
    return "tools" in template and OPEN in template


def bound_tools(asked: ChatRequest) -> dict[str, Mapping[str, Any]]:
    """What binds the arguments of each tool that may be called, by name: its schema if it is strict."""
    chosen = asked.tool_choice.function.name if isinstance(asked.tool_choice, NamedTool) else None
    functions = [tool.function for tool in asked.offered if chosen in (None, tool.function.name)]
    for function in functions:
        if (function.parameters or {}).get("type", "object") != "object":
            raise Refused(f"tools: the parameters of {function.name!r} are no object", "tools")
    return {
        function.name: {"type": "object", **((function.parameters or {}) if function.strict else {})}
        for function in functions
    }


def template_messages(messages: Sequence[ChatMessage], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """As the chat template takes them: no reasoning, content as text, `developer` called `system`.

    Raises Refused for a text that holds a mark of the template, which would then be taken for one.
    """
    told: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        text = message.text
        if message.role == "assistant":
            text = parse(text, prefilled="<think>" not in text).answer if "</think>" in text else text
        entry: dict[str, Any] = {
            "role": "system" if message.role == "developer" else message.role, "content": text
        }  # fmt: skip
        if message.tool_calls:
            entry["tool_calls"] = [_told(call, number) for call in message.tool_calls]
        refuse_marks(entry, tokenizer, "messages", f"message {number}")
        told.append(entry)
    return told


def refuse_marks(told: Any, tokenizer: Tokenizer, parameter: str, what: str) -> None:
    """Raise Refused if a text anywhere in `told`, which is made of JSON, holds a mark of the chat template."""
    written = json.dumps(told, ensure_ascii=False)
    if mark := next((mark for mark in tokenizer.control_tokens if mark in written), None):
        raise Refused(f"{parameter}: {what} holds {mark!r}, a mark of the chat template", parameter)


class CallStream:
    """An answer as it comes, without the calls in it, if it may have any. What is no call stays text; the last may lack
    its closing tag.

    However it is cut, what it says is the same. White space before a call goes with it. `several`: all calls count, and
    not the first only.
    """

    def __init__(self, reads: bool = True, several: bool = True) -> None:
        self._reads, self._several = reads, several
        self._held = ""  # what may be a call, or the beginning of one
        self._said = False
        self.notices: list[str] = []

    def take(self, piece: Piece) -> tuple[str, list[Call]]:
        """What a piece adds: to the text what is certainly no call, and with the last one the calls."""
        said = self.feed(piece.answer)
        if not piece.finish_reason:
            return said, []
        rest, calls = self.finish()
        return said + rest, calls

    def feed(self, text: str) -> str:
        """What it adds to the text that is certainly no call."""
        if not self._reads:
            return text
        self._held += text
        cut = self._held.find(OPEN)
        if cut < 0:
            cut = len(self._held) - overlap(self._held, OPEN)
        certain = self._held[:cut].rstrip()
        self._held = self._held[len(certain) :]
        self._said = self._said or bool(certain)
        return certain

    def finish(self) -> tuple[str, list[Call]]:
        """No more comes: the rest of the text, and the calls."""
        said, *pieces = self._held.split(OPEN)
        calls = []
        for piece in pieces:
            inside, _, rest = piece.partition(CLOSE)
            if call := _call(inside):
                calls.append(call)
                said += rest
            else:
                said += OPEN + piece
                self.notices = ["A call of a tool is broken, or was cut off; it is told as text."]
        if calls:
            said = said.rstrip() if self._said else said.strip()
        return said, calls if self._several else calls[:1]


def _call(text: str) -> Call | None:
    try:
        written = json.loads(text, parse_constant=_no_json)
        name, arguments = written["name"], written.get("arguments", {})
        if not (isinstance(name, str) and isinstance(arguments, dict)):
            return None
        told = json.dumps(arguments, ensure_ascii=False)
        (name + told).encode()  # half of a surrogate pair can't be sent
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Call(f"call_{secrets.token_hex(12)}", name, told)


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _told(call: ToolCall, number: int) -> dict[str, Any]:
    name = call.function.name
    try:
        arguments = json.loads(call.function.arguments, parse_constant=_no_json)
        json.dumps(arguments)  # deeper than this the template can't write it
    except (ValueError, RecursionError) as error:
        reason = "what is nested too deeply" if isinstance(error, RecursionError) else "what is no JSON"
        raise Refused(f"messages: message {number} calls {name!r} with {reason}", "messages") from error
    return {"type": "function", "function": {"name": name, "arguments": arguments}}
