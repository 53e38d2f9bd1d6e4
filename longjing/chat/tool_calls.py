"""Tool calls: which templates know them, and the calls that a model writes, found in its answer as it comes.

The form is that of Qwen2.5 and Hermes, which names its tags in the template: `<tool_call>{"name": ..., "arguments":
{...}}</tool_call>`. A template that is given `tools` but writes another form isn't known here.
"""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from longjing.text.stop_strings import partial_match

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class ToolCall:
    """One call of a function. `arguments`: a JSON object; the beginning of one if the call is not `whole`."""

    id: str
    name: str
    arguments: str
    whole: bool = True


def knows_tools(template: str) -> bool:
    """Whether a chat template takes tools, in the form that is read here."""
    return "tools" in template and OPEN in template


class ToolCallParser:
    """Gives an answer as it comes without the calls in it, if it may have any, and the calls at its end. What is no
    call stays text; the last may lack its closing tag.

    However the answer is cut, the result is the same. White space before a call goes with it. `several`: all calls
    count, and not the first only. `notices`: what a reader should know, at the end `last_notices` too.
    """

    def __init__(self, enabled: bool = True, several: bool = True, last_notices: Sequence[str] = ()) -> None:
        self._enabled, self._several, self._last_notices = enabled, several, last_notices
        self._held = ""  # what may be a call, or the beginning of one
        self._has_text = False
        self.notices: list[str] = []

    def take(self, text: str, finish_reason: str | None) -> tuple[str, list[ToolCall]]:
        """What a piece of the answer adds: to the text what is certainly no call, and with the last one the calls."""
        certain = self.feed(text)
        if not finish_reason:
            return certain, []
        rest, calls = self.finish(cut=finish_reason == "length")
        return certain + rest, calls

    def feed(self, text: str) -> str:
        """What it adds to the text that is certainly no call."""
        if not self._enabled:
            return text
        self._held += text
        end = self._held.find(OPEN)
        if end < 0:
            end = len(self._held) - partial_match(self._held, OPEN)
        certain = self._held[:end].rstrip()
        self._held = self._held[len(certain) :]
        self._has_text = self._has_text or bool(certain)
        return certain

    def finish(self, cut: bool = False) -> tuple[str, list[ToolCall]]:
        """The rest of the text, and the calls. `cut`: a call that was cut off is given as far as it came."""
        text, *segments = self._held.split(OPEN)
        calls, broken, lost = list[ToolCall](), False, ""
        for number, segment in enumerate(segments, 1):
            inside, closed, rest = segment.partition(CLOSE)
            whole = inside if closed else inside[: len(inside) - partial_match(inside, CLOSE)]
            unfinished = cut and not closed and number == len(segments)
            call = _parse(whole)
            if call is None and unfinished:
                call = _parse_beginning(inside)
            if call is not None:
                calls.append(call)
                text += rest
            elif unfinished:
                lost = OPEN + segment
            else:
                text += OPEN + segment
                broken = True
        if cut and not segments and (half := partial_match(text, OPEN)) > len("<tool"):
            text, lost = text[:-half], text[-half:]
        if broken:
            self.notices.append("A call of a tool is broken; it is told as text.")
        if lost:
            self.notices.append(f"A call of a tool was cut off before its arguments: {lost[:200]!r}")
        if calls and not calls[-1].whole:
            self.notices.append("A call of a tool was cut off; its arguments are as far as they came.")
        self.notices += self._last_notices
        if calls or lost:
            text = text.rstrip() if self._has_text else text.strip()
        return text, calls if self._several else calls[:1]


def _parse(text: str) -> ToolCall | None:
    """The call that a text between the tags is, or None."""
    try:
        written = json.loads(text, parse_constant=no_constant)
        name, arguments = written["name"], written.get("arguments", {})
        if not (isinstance(name, str) and isinstance(arguments, dict)):
            return None
        as_json = json.dumps(arguments, ensure_ascii=False)
        (name + as_json).encode()  # half of a surrogate pair can't be sent
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return ToolCall(_call_id(), name, as_json)


# How a call begins that knows its name and no more than the beginning of its arguments.
_BEGINNING = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(\{.*)?', re.DOTALL)


def _parse_beginning(text: str) -> ToolCall | None:
    match = _BEGINNING.fullmatch(text)
    return match and ToolCall(_call_id(), match[1], match[2] or "", whole=False)


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def no_constant(constant: str) -> NoReturn:
    """Refuse a number that isn't one, for `json.loads`, which would take NaN and Infinity. Raises ValueError."""
    raise ValueError(f"{constant} is no JSON")
