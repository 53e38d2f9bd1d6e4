"""What clients send to POST /v1/responses, and the same as a chat."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from longjing.serving.errors import Refused
from longjing.serving.schemas import (
    ChatMessage,
    ChatRequest,
    Effort,
    Function,
    FunctionCall,
    FunctionName,
    JsonFormat,
    JsonObject,
    JsonSchema,
    NamedTool,
    SamplingFields,
    SchemaFormat,
    Strict,
    Text,
    TextFormat,
    Tool,
    ToolCall,
)


class Item(Strict):
    """What of an item that is sent back as it came doesn't matter is dropped: ids, statuses, annotations."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Part(Item):
    """A piece of a message's content."""

    type: Literal["input_text", "output_text", "text"]
    text: Text


class Message(Item):
    """A message, given or sent back as it came."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]


class ReasoningItem(Item):
    """Reasoning sent back: accepted, and never read again."""

    type: Literal["reasoning"]


class CallItem(Item):
    """A call of a tool, sent back."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: Text


class CallOutputItem(Item):
    """What came of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: Text | list[Part]


class FlatFunction(Function):
    """A tool as this endpoint takes it: its fields not one level down."""

    type: Literal["function"]


class FlatChoice(Strict):
    type: Literal["function"]
    name: str


class FlatSchema(Strict):
    """A JSON schema as this endpoint takes it: its fields not one level down."""

    type: Literal["json_schema"]
    name: str
    schema_: JsonObject = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextSettings(Strict):
    format: Annotated[TextFormat | JsonFormat | FlatSchema, Field(discriminator="type")] | None = None


class Reasoning(Strict):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None  # the text is given in full
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesStreamOptions(Strict):
    include_obfuscation: bool | None = None


class ResponsesRequest(SamplingFields):
    """POST /v1/responses."""

    input: Text | Annotated[list[Message | ReasoningItem | CallItem | CallOutputItem], Field(min_length=1)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    reasoning: Reasoning | None = None
    text: TextSettings | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None
    include: Annotated[list[Literal["reasoning.encrypted_content"]], Field(max_length=0)] | None = None
    tools: Annotated[list[FlatFunction], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    store: bool | None = Field(None, description="nothing is stored, whatever it says")
    stream_options: ResponsesStreamOptions | None = None

    def as_chat(self) -> ChatRequest:
        """The same as a chat. Raises Refused if it holds no message, and for tools that don't fit together."""
        messages = (
            [] if self.instructions is None else [ChatMessage(role="system", content=self.instructions)]
        )
        if isinstance(self.input, str):
            messages.append(ChatMessage(role="user", content=self.input))
        else:
            for item in self.input:
                _add(messages, item)
        if not messages:
            raise Refused("input: it holds no message", "input")
        shared = {name: getattr(self, name) for name in SamplingFields.model_fields}
        choice = self.tool_choice
        try:
            return ChatRequest(
                **shared, messages=messages, max_completion_tokens=self.max_output_tokens,
                reasoning_effort=self.reasoning.effort if self.reasoning else None,
                thinking_budget=self.thinking_budget, response_format=self._format(),
                tools=None if self.tools is None else [_tool(tool) for tool in self.tools],
                tool_choice=NamedTool(type="function", function=FunctionName(name=choice.name))
                if isinstance(choice, FlatChoice) else choice,
                parallel_tool_calls=self.parallel_tool_calls,
            )  # fmt: skip
        except ValueError as problem:
            text = problem.errors()[0]["msg"].removeprefix("Value error, ")  # type: ignore[attr-defined]
            raise Refused(text, text.partition(":")[0]) from problem

    @contextmanager
    def in_own_names(self) -> Iterator[None]:
        """What is refused as a chat is refused by the names of this endpoint."""
        try:
            yield
        except Refused as problem:
            own = _NAMES.get(problem.parameter or "", problem.parameter)
            text = str(problem)
            if own != problem.parameter:
                text = text.replace(f"{problem.parameter}:", f"{own}:", 1)
            raise Refused(text, own, problem.code) from problem

    def _format(self) -> TextFormat | JsonFormat | SchemaFormat | None:
        wanted = self.text.format if self.text else None
        if isinstance(wanted, FlatSchema):
            schema = JsonSchema(name=wanted.name, schema=wanted.schema_)
            return SchemaFormat(type="json_schema", json_schema=schema)
        return wanted


_NAMES = {
    "messages": "input", "response_format": "text", "reasoning_effort": "reasoning",
    "max_completion_tokens": "max_output_tokens",
}  # fmt: skip


def _tool(tool: FlatFunction) -> Tool:
    return Tool(type="function", function=Function(**tool.model_dump(exclude={"type"})))


def _add(messages: list[ChatMessage], item: Message | ReasoningItem | CallItem | CallOutputItem) -> None:
    """One more item; calls belong to the assistant's message before them."""
    match item:
        case Message():
            messages.append(ChatMessage(role=item.role, content=_text(item.content)))
        case CallItem():
            if not messages or messages[-1].role != "assistant":
                messages.append(ChatMessage(role="assistant"))
            call = ToolCall(id=item.call_id, function=FunctionCall(name=item.name, arguments=item.arguments))
            messages[-1].tool_calls = [*(messages[-1].tool_calls or ()), call]
        case CallOutputItem():
            messages.append(ChatMessage(role="tool", tool_call_id=item.call_id, content=_text(item.output)))


def _text(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
