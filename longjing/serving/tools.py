"""Tools: what a model that knows them is told, and the calls that it writes.

The form is that of Qwen2.5 and Hermes, which names its tags in the template: `<tool_call>{"name": ..., "arguments":
{...}}</tool_call>`. A template that is given `tools` but writes another form isn't known here.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from longjing.serving.errors import Refused
from longjing.serving.messages import ChatMessage, ToolCall
from longjing.serving.schemas import ChatRequest, NamedTool
from longjing.serving.worker import ResponseDelta
from longjing.text import Tokenizer, parse
from longjing.text.stop_strings import overlap

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Call:
    """One call of a function. `arguments`: a JSON object; the beginning of one if the call is not `whole`."""

    id: str
    name: str
    arguments: str
    whole: bool = True


def knows_tools(template: str) -> bool:
    """Whether a chat template takes tools, in the form that is read here."""
    return "tools" in template and OPEN in template


def left_out(tools: Sequence[Any], choice: Any, template: str) -> list[str]:
    """What a reader should know of tools that the model isn't told of, in sentences. `choice`: the `tool_choice`."""
    if not tools or choice == "none" or knows_tools(template):
        return []
    told = "The model was not told of the tools: its chat template knows none."
    return [told] if choice in (None, "auto") else [f"{told} Its answer was bound to a call of one."]


def bound_tools(asked: ChatRequest, everyone: bool = False) -> dict[str, Mapping[str, Any]]:
    """What binds the arguments of each tool that may be called, by name: its schema if it is strict, or if `everyone`
    is to be bound; then no arguments are made up that it doesn't name."""
    chosen = asked.tool_choice.function.name if isinstance(asked.tool_choice, NamedTool) else None
    functions = [tool.function for tool in asked.offered if chosen in (None, tool.function.name)]
    for function in functions:
        if (function.parameters or {}).get("type", "object") != "object":
            raise Refused(f"tools: the parameters of {function.name!r} are no object", "tools")
    bound: dict[str, Mapping[str, Any]] = {}
    for function in functions:
        own = (function.parameters or {}) if function.strict or everyone else {}
        closed = everyone and not function.strict and not {"$ref", "allOf", "anyOf", "oneOf"} & set(own)
        bound[function.name] = {"type": "object"} | ({"additionalProperties": False} if closed else {}) | own
    return bound


def template_messages(messages: Sequence[ChatMessage], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """As the chat template takes them: no reasoning, content as text, `developer` called `system`.

    Raises Refused for a text that holds a mark of the template, which would then be taken for one.
    """
    told: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        text = message.text
        if message.tool_calls and "tool_calls" not in tokenizer.template:
            text = (
                f"messages: message {number} has tool_calls, and this model's chat template leaves them out"
            )
            raise Refused(text, "messages")
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

    def take(self, piece: ResponseDelta) -> tuple[str, list[Call]]:
        """What a piece adds: to the text what is certainly no call, and with the last one the calls."""
        said = self.feed(piece.answer)
        if not piece.finish_reason:
            return said, []
        rest, calls = self.finish(piece.finish_reason == "length")
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

    def finish(self, cut: bool = False) -> tuple[str, list[Call]]:
        """No more comes: the rest of the text, and the calls. `cut`: the text was cut off, perhaps within a call; that
        is given as far as it came, as OpenAI gives it."""
        said, *pieces = self._held.split(OPEN)
        calls, broken, lost = list[Call](), False, ""
        for number, piece in enumerate(pieces, 1):
            inside, closed, rest = piece.partition(CLOSE)
            whole = inside if closed else inside[: len(inside) - overlap(inside, CLOSE)]
            unfinished = cut and not closed and number == len(pieces)
            if call := _call(whole) or (_beginning(inside) if unfinished else None):
                calls.append(call)
                said += rest
            elif unfinished:
                lost = OPEN + piece
            else:
                said += OPEN + piece
                broken = True
        if cut and not pieces and (half := overlap(said, OPEN)) > len("<tool"):
            said, lost = said[:-half], said[-half:]
        if broken:
            self.notices.append("A call of a tool is broken; it is told as text.")
        if lost:
            self.notices.append(f"A call of a tool was cut off before its arguments: {lost[:200]!r}")
        if calls and not calls[-1].whole:
            self.notices.append("A call of a tool was cut off; its arguments are as far as they came.")
        if calls or lost:
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


# How a call begins that knows its name and no more than the beginning of its arguments.
_BEGINNING = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(\{.*)?', re.DOTALL)


def _beginning(text: str) -> Call | None:
    match = _BEGINNING.fullmatch(text)
    return match and Call(f"call_{secrets.token_hex(12)}", match[1], match[2] or "", whole=False)


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _told(call: ToolCall, number: int) -> dict[str, Any]:
    """As templates take it: the arguments as an object. What is none, cut off for instance, goes as the text that it
    is."""
    name, arguments = call.function.name, call.function.arguments
    try:
        if isinstance(arguments, str):
            parsed = json.loads(arguments.strip() or "null", parse_constant=_no_json)
            arguments = {} if parsed is None else parsed if isinstance(parsed, dict) else arguments
        json.dumps(arguments)  # deeper than this the template can't write it
    except RecursionError as error:
        text = f"messages: message {number} calls {name!r} with what is nested too deeply"
        raise Refused(text, "messages") from error
    except ValueError:
        arguments = call.function.arguments
    return {"type": "function", "function": {"name": name, "arguments": arguments}}
