"""What clients send to POST /v1/responses, and the same as a chat."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter
from pydantic_core import to_json

from longjing.chat.invalid_request import InvalidRequest, invalid
from longjing.chat.thinking_budget import Effort
from longjing.serving import messages as chat
from longjing.serving import schemas
from longjing.serving.messages import ChatMessage, ContentPart, JsonObject, StrictModel, Text, text_of
from longjing.serving.schemas import ChatRequest, ConversationFields, PlainFormat


class ItemStore:
    """The latest items of replies, up to `max_bytes` in memory; the AI SDK refers to them by their ids."""

    def __init__(self, max_bytes: int = 16 << 20) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._items: OrderedDict[str, tuple[Mapping[str, Any], int]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Keep each of them under its `id`."""
        with self._lock:
            for item in items:
                size = len(to_json(item))
                self._items[item["id"]] = item, size
                self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, size) = self._items.popitem(last=False)
                self._bytes -= size

    def find(self, id: str, index: int) -> Mapping[str, Any]:
        """The item of this id. Raises InvalidRequest, with its index in the `input`, if it is not there."""
        with self._lock:
            if id not in self._items:
                raise InvalidRequest(
                    f"input.{index}.id: nothing is known here of {id[:64]!r}: it was never here, store was false, or "
                    "it is forgotten; send the item itself (with store = false clients do)",
                    "input",
                )  # fmt: skip
            return self._items[id][0]


class Item(StrictModel):
    """What of an item that is sent back as it came says nothing to the model is dropped."""

    ignored = frozenset({
        "agent", "annotations", "cache_control", "created_by", "id", "namespace", "phase", "provider_specific_fields",
        "status",
    })  # fmt: skip


class ItemPart(ContentPart):
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


class FlatFunction(schemas.Function):
    """A tool as this endpoint takes it: its fields not one level down."""

    type: Literal["function"]


class FlatChoice(schemas.FunctionName):
    """The one tool that is to be called."""

    type: Literal["function"]


class FlatSchema(schemas.JsonSchema):
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


class ResponsesRequest(ConversationFields):
    """POST /v1/responses."""

    input: Text | Annotated[list[AnyItem], Field(min_length=1)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    reasoning: Reasoning | None = None
    text: TextSettings | None = None
    include: list[Included] | None = None
    tools: Annotated[list[FlatFunction], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    store: bool | None = Field(None, description="the reply's items can be referred to, as long as there is memory")
    stream_options: ResponsesStreamOptions | None = None

    @property
    def wants_logprobs(self) -> bool:
        return "message.output_text.logprobs" in (self.include or ()) or bool(self.top_logprobs)

    def as_chat(self, store: ItemStore) -> ChatRequest:
        """The request as a chat: its fields were validated here, and only what they say together is left to be. Raises
        InvalidRequest if it holds no message, for tools that don't fit together, and for a reference to what is not in
        the store."""
        messages = self._messages(store)
        if not messages:
            raise invalid("input", "it holds no message")
        choice: Any = self.tool_choice
        form: Any = self.text.format if self.text else None
        if isinstance(choice, FlatChoice):
            choice = schemas.NamedTool.model_construct(type="function", function=choice)
        if isinstance(form, FlatSchema):
            form = schemas.SchemaFormat.model_construct(type="json_schema", json_schema=form)
        return ChatRequest.model_construct(
            **{name: getattr(self, name) for name in ConversationFields.model_fields},
            messages=messages, tool_choice=choice, response_format=form,
            max_completion_tokens=self.max_output_tokens, logprobs=self.wants_logprobs,
            tools=[schemas.Tool.model_construct(type="function", function=tool) for tool in self.tools or ()],
            reasoning_effort=self.reasoning.effort if self.reasoning else None,
        ).agree()  # fmt: skip

    def _messages(self, store: ItemStore) -> list[ChatMessage]:
        messages: list[ChatMessage] = []
        if self.instructions is not None:
            messages.append(ChatMessage.model_construct(role="system", content=self.instructions))
        if isinstance(self.input, str):
            return [*messages, ChatMessage.model_construct(role="user", content=self.input)]
        for index, item in enumerate(self.input):
            if isinstance(item, ItemReference):
                item = _ITEM.validate_python(store.find(item.id, index))
            match item:
                case MessageItem():
                    messages.append(ChatMessage.model_construct(role=item.role, content=text_of(item.content)))
                case CallItem():  # it belongs to the assistant's message before it
                    if not messages or messages[-1].role != "assistant":
                        messages.append(ChatMessage.model_construct(role="assistant"))
                    function = chat.FunctionCall.model_construct(name=item.name, arguments=item.arguments)
                    call = chat.ToolCallParam.model_construct(id=item.call_id, function=function)
                    if messages[-1].tool_calls is None:
                        messages[-1].tool_calls = []
                    messages[-1].tool_calls.append(call)
                case CallOutputItem():
                    output = text_of(item.output)
                    messages.append(ChatMessage.model_construct(role="tool", tool_call_id=item.call_id, content=output))
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
_ITEM: TypeAdapter[Any] = TypeAdapter(AnyItem)
