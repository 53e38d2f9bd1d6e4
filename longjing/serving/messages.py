"""The messages of a chat, as clients send them and send them back."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

from longjing.chat.invalid_request import invalid
from longjing.chat.tool_calls import no_constant
from longjing.text import parse

_MAX_ITEMS = 10_000  # objects, or texts, in one list
_MAX_FIELDS = 1_000  # in one object
Text = Annotated[str, Field(max_length=10_000_000)]


class FieldError(ValueError):
    """Something is wrong with one field of an object: with its `field`."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field, self.text = field, text


def _bound(schema: Any) -> None:
    """Bound the lists and mappings anywhere in a core schema of pydantic's."""
    unseen = [schema]
    while unseen:
        node = unseen.pop()
        if isinstance(node, list | tuple):
            unseen += node
        elif isinstance(node, dict):
            unseen += node.values()
            if node.get("type") in ("list", "dict"):
                node["fail_fast"] = True
                # Ids of tokens may be as many as a context holds.
                if node.get("items_schema", {}).get("type") != "int":
                    node.setdefault("max_length", _MAX_ITEMS)


class StrictModel(BaseModel):
    """Unknown names are refused, and numbers are not made of text. Null means not given, whatever the field.

    Lists and mappings are refused at the first element that is wrong, and when there are too many: each of a million
    wrong elements would else be an error of its own, and be explained, which takes minutes and gigabytes.

    `ignored`: names that clients send and that say nothing to the model.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    ignored: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _bound(handler.resolve_ref_schema(schema))
        return schema

    @model_validator(mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        values = {name: one for name, one in value.items() if one is not None and name not in cls.ignored}
        if len(values) > _MAX_FIELDS:
            raise ValueError(f"more than {_MAX_FIELDS} fields")
        return values


def _sendable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as problem:
        raise ValueError("no JSON that could be written again") from problem
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_sendable)]


class ContentPart(StrictModel):
    """A piece of a message's content: text, or the assistant's refusal, which is text too."""

    ignored = frozenset({"annotations", "cache_control", "id", "logprobs", "provider_specific_fields"})

    type: Literal["text", "refusal"]
    text: Text | None = None
    refusal: Text | None = None

    @model_validator(mode="after")
    def _has_its_text(self) -> Self:
        own, other = ("refusal", "text") if self.type == "refusal" else ("text", "refusal")
        if getattr(self, own) is None or getattr(self, other) is not None:
            raise FieldError(own, f"a part of the type {self.type} has this, and nothing else")
        return self


def text_of(content: str | list[Any]) -> str:
    """The text, or its parts each on lines of its own, as vLLM has it: clients put no space between them."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text if part.text is not None else part.refusal for part in content)


class FunctionCall(StrictModel):
    """`arguments`: JSON as the model wrote it, perhaps cut off; some clients send it parsed."""

    ignored = frozenset({"parsed_arguments", "provider_specific_fields", "strict"})

    name: str
    arguments: Text | JsonObject = ""


class ToolCallParam(StrictModel):
    """A call of a tool in the history."""

    ignored = frozenset({"cache_control", "caller", "extra_content", "index", "provider_specific_fields", "status"})

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(StrictModel):
    """A message of the history, which must have something to say.

    Its reasoning is accepted under both names, and read only where the message is to be continued. What else an
    assistant's message carries when it is sent back is dropped if it says nothing to the model: the `ignored`, of
    OpenAI, OpenRouter, LiteLLM and vLLM, and of the page's own API.
    """

    ignored = frozenset({
        "annotations", "cache_control", "created", "created_at", "finish_reason", "id", "logprobs", "metadata",
        "notices", "parsed", "provider_specific_fields", "reasoning_details", "reasoning_items", "status",
        "thinking_blocks", "timestamp", "usage", "weight",
    })  # fmt: skip

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[ContentPart], Field(min_length=1)] | None = None
    refusal: Text | None = None
    name: str | None = None
    tool_calls: list[ToolCallParam] | None = None
    tool_call_id: str | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    prefix: Annotated[bool | None, Field(description="the reply goes on from this message")] = None

    @property
    def text(self) -> str:
        """What it says; the assistant's refusal if there is nothing else."""
        return self.refusal or "" if self.content is None else text_of(self.content)

    @property
    def reasoning_text(self) -> str | None:
        """The reasoning of the message, if it comes with any."""
        return self.reasoning if self.reasoning_content is None else self.reasoning_content

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.role != "assistant":
            for name in ("tool_calls", "refusal", "prefix"):
                if getattr(self, name):
                    raise FieldError(name, f"only a message of the assistant has that, not of the role {self.role}")
            if self.content is None:
                raise FieldError("content", "it is missing; an empty message has an empty text")
        elif self.content is None and not (self.refusal or self.tool_calls or self.reasoning_text):
            raise FieldError("content", "it is missing, and the message calls no tool either")
        return self


def template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as chat templates take them: no reasoning, content as text, `developer` called `system`.

    Raises InvalidRequest for calls that are nested too deeply to be written.
    """
    entries: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        text = message.text
        if message.role == "assistant" and "</think>" in text:
            text = parse(text, prefilled="<think>" not in text).answer
        role = "system" if message.role == "developer" else message.role
        entry: dict[str, Any] = {"role": role, "content": text}
        if message.tool_calls:
            entry["tool_calls"] = [_template_call(call, number) for call in message.tool_calls]
        entries.append(entry)
    return entries


def _template_call(call: ToolCallParam, number: int) -> dict[str, Any]:
    """As templates take it, the arguments as an object; what is none, cut off for instance, goes as its text."""
    name, arguments = call.function.name, call.function.arguments
    try:
        if isinstance(arguments, str):
            parsed = json.loads(arguments.strip() or "null", parse_constant=no_constant)
            if parsed is None:
                arguments = {}
            elif isinstance(parsed, dict):
                arguments = parsed
        json.dumps(arguments)  # deeper than this the template can't write it
    except RecursionError as error:
        raise invalid("messages", f"message {number} calls {name!r} with what is nested too deeply") from error
    except ValueError:
        arguments = call.function.arguments
    return {"type": "function", "function": {"name": name, "arguments": arguments}}
