"""What clients send to POST /v1/responses, and the same as a chat."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError

from longjing.chat.errors import InvalidRequest
from longjing.chat.thinking_budget import Effort
from longjing.serving.item_store import ItemStore
from longjing.serving.messages import JsonObject, Part, StrictModel, Text, join_parts
from longjing.serving.schemas import ChatRequest, Function, JsonSchema, PlainFormat, SamplingFields
from longjing.validation import reason


class Item(StrictModel):
    """What of an item that is sent back as it came says nothing to the model is dropped."""

    ignored = frozenset({
        "agent", "annotations", "cache_control", "created_by", "id", "namespace", "phase", "provider_specific_fields",
        "status",
    })  # fmt: skip


class ItemPart(Part):
    """A piece of a message's content."""

    type: Literal["input_text", "output_text", "text", "refusal"]  # type: ignore[assignment]


class MessageItem(Item):
    """A message, given or sent back as it came."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[ItemPart], Field(min_length=1)]


class ReasoningItem(Item):
    """Reasoning sent back: accepted, and never read again."""

    ignored = Item.ignored | {"content", "encrypted_content", "summary"}

    type: Literal["reasoning"]


class CallItem(Item):
    """A call of a tool, sent back."""

    ignored = Item.ignored | {"caller"}

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: Text | JsonObject = ""


class CallOutputItem(Item):
    """What came of a call."""

    ignored = Item.ignored | {"caller", "name"}

    type: Literal["function_call_output"]
    call_id: str
    output: Text | Annotated[list[ItemPart], Field(min_length=1)]


class ItemReference(StrictModel):
    """An item of an earlier reply."""

    type: Literal["item_reference"]
    id: str


def _type(item: Any) -> str:
    named = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return f"({named or 'message'})"


# The tags are no names, so that no refusal takes them for a part of the path.
AnyItem = Annotated[
    Annotated[MessageItem, Tag("(message)")]
    | Annotated[ReasoningItem, Tag("(reasoning)")]
    | Annotated[CallItem, Tag("(function_call)")]
    | Annotated[CallOutputItem, Tag("(function_call_output)")]
    | Annotated[ItemReference, Tag("(item_reference)")],
    Discriminator(
        _type, custom_error_type="unknown_item",
        custom_error_message="its type is none of message, reasoning, function_call, function_call_output and "
        "item_reference",
    ),
]  # fmt: skip


class FlatFunction(Function):
    """A tool as this endpoint takes it: its fields not one level down."""

    type: Literal["function"]


class FlatChoice(StrictModel):
    """The one tool that is to be called."""

    type: Literal["function"]
    name: str


class FlatSchema(JsonSchema):
    """A JSON schema as this endpoint takes it: its fields not one level down."""

    type: Literal["json_schema"]
    name: str
    schema_: JsonObject = Field(alias="schema")


class TextSettings(StrictModel):
    """What the answer is to look like."""

    verbosity: Literal["medium"] | None = None  # as it is without
    format: Annotated[PlainFormat | FlatSchema, Field(discriminator="type")] | None = None


class Reasoning(StrictModel):
    """How much it is to think."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None  # the text is given in full
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesStreamOptions(StrictModel):
    include_obfuscation: bool | None = None


# Log-probabilities are what can be; the reasoning is always there in full; the others belong to items that never come.
Included = Literal[
    "message.output_text.logprobs", "reasoning.encrypted_content", "code_interpreter_call.outputs",
    "computer_call_output.output.image_url", "file_search_call.results", "message.input_image.image_url",
    "web_search_call.action.sources", "web_search_call.results",
]  # fmt: skip


class ResponsesRequest(SamplingFields):
    """POST /v1/responses."""

    input: Text | Annotated[list[AnyItem], Field(min_length=1)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    reasoning: Reasoning | None = None
    text: TextSettings | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None
    include: list[Included] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[FlatFunction], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    store: bool | None = Field(None, description="the reply's items can be referred to, as long as there is memory")
    stream_options: ResponsesStreamOptions | None = None

    @property
    def wants_logprobs(self) -> bool:
        return "message.output_text.logprobs" in (self.include or ()) or bool(self.top_logprobs)

    def as_chat(self, store: ItemStore) -> ChatRequest:
        """The same as a chat. Raises InvalidRequest if it holds no message, for tools that don't fit together, and for
        a reference to what is not in the store."""
        same = (*SamplingFields.model_fields, "thinking_budget", "parallel_tool_calls", "top_logprobs")
        form = self.text.format if self.text else None
        try:
            messages = self._messages(store)
            if not messages:
                raise InvalidRequest("input: it holds no message", "input")
            return ChatRequest.model_validate({name: getattr(self, name) for name in same} | {
                "messages": messages, "max_completion_tokens": self.max_output_tokens, "logprobs": self.wants_logprobs,
                "reasoning_effort": self.reasoning.effort if self.reasoning else None,
                "tools": [_one_level_down(tool, "function") for tool in self.tools or ()],
                "tool_choice": _one_level_down(self.tool_choice, "function")
                if isinstance(self.tool_choice, FlatChoice) else self.tool_choice,
                "response_format": _one_level_down(form, "json_schema") if isinstance(form, FlatSchema) else form,
            })  # fmt: skip
        except ValidationError as problem:
            text = reason(problem.errors()[0])
            raise InvalidRequest(text, text.partition(":")[0].partition(".")[0]) from problem

    def _messages(self, store: ItemStore) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.instructions is not None:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        for index, item in enumerate(self.input):
            if isinstance(item, ItemReference):
                item = _ITEM.validate_python(store.find(item.id, index))
            _add(messages, item)
        return messages

    @contextmanager
    def in_own_names(self) -> Iterator[None]:
        """What is refused as a chat is refused by the names of this endpoint."""
        try:
            yield
        except InvalidRequest as problem:
            own = _NAMES.get(problem.parameter or "", problem.parameter)
            text = str(problem).replace(f"{problem.parameter}:", f"{own}:", 1)
            raise InvalidRequest(text, own, problem.code) from problem


_NAMES = {
    "messages": "input", "response_format": "text", "reasoning_effort": "reasoning",
    "max_completion_tokens": "max_output_tokens",
}  # fmt: skip


def _one_level_down(flat: FlatFunction | FlatChoice | FlatSchema, name: str) -> dict[str, Any]:
    """As a chat has it: the fields under `name`. They aren't dumped, for a schema may be too deep for that."""
    fields = {field.alias or own: getattr(flat, own) for own, field in type(flat).model_fields.items()}
    return {"type": fields.pop("type"), name: fields}


_ITEM: TypeAdapter[Any] = TypeAdapter(AnyItem)


def _add(messages: list[dict[str, Any]], item: Any) -> None:
    """One more item; calls belong to the assistant's message before them."""
    match item:
        case MessageItem():
            messages.append({"role": item.role, "content": _text(item.content)})
        case CallItem():
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "tool_calls": []})
            call = {"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}}
            messages[-1].setdefault("tool_calls", []).append(call)
        case CallOutputItem():
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})


def _text(content: str | list[ItemPart]) -> str:
    return content if isinstance(content, str) else join_parts(content)
