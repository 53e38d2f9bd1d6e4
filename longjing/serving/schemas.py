"""What clients send: OpenAI's requests, as far as they can be honoured.

What is unknown or can't be honoured is refused with its name. A parameter that changes nothing in what is written,
such as `user`, is accepted and has no effect.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from longjing.chat.invalid_request import invalid
from longjing.chat.thinking_budget import Effort
from longjing.serving.messages import ChatMessage, JsonObject, StrictModel, Text

StopString = Annotated[str, Field(min_length=1, max_length=1000)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]


class JsonSchema(StrictModel):
    name: str = "answer"
    description: str | None = None
    schema_: JsonObject = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class PlainFormat(StrictModel):
    type: Literal["text", "json_object"]


class SchemaFormat(StrictModel):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]


class Function(StrictModel):
    """A function that the model may call. `parameters`: the JSON schema of its arguments."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(StrictModel):
    type: Literal["function"]
    function: Function


class FunctionName(StrictModel):
    name: str


class NamedTool(StrictModel):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: FunctionName


class TemplateSettings(StrictModel):
    """Settings of the chat template, as vLLM and SGLang take them."""

    enable_thinking: bool | None = None
    thinking: bool | None = None  # DeepSeek-V3.1's name
    thinking_budget: Annotated[int, Field(ge=0)] | None = None


class StreamOptions(StrictModel):
    """What a stream tells besides the reply."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None  # vLLM's: with each piece, and not only at the end
    include_obfuscation: bool | None = None


def _not_too_cold(temperature: float) -> float:
    if 0 < temperature < 1e-4:
        raise ValueError("from 0.0001 on, or 0 for the likeliest tokens")
    return temperature


class SamplingFields(StrictModel):
    """What all three endpoints know."""

    model: Annotated[str, Field(max_length=1000)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(_not_too_cold)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31, description="0 or -1 is off")] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=128)] | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Bias], Field(max_length=10_000)] | None = None
    ignore_eos: Annotated[bool | None, Field(description="write until max_tokens; vLLM's, for benchmarks")] = None
    # Without any effect on what is written.
    user: str | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """One by one."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @model_validator(mode="after")
    def _ids(self) -> Self:
        for token in self.logit_bias or {}:
            if not (token.isdecimal() and token.isascii() and len(token) < 10):
                raise ValueError(f"logit_bias: {token[:20]!r} is no token's id")
        return self


class ConversationFields(SamplingFields):
    """What /v1/chat/completions and /v1/responses share."""

    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateSettings | None = None
    thinking_budget: Annotated[int, Field(ge=0, description="tokens that it may think for")] | None = None
    repetition_guard: Annotated[
        bool | None, Field(description="end a text that goes in circles; if not given, as the server was started")
    ] = None
    stop_in_reasoning: Annotated[
        bool | None, Field(description="stop and the answer's format act on all that is written, reasoning too")
    ] = None


class CompletionFields(SamplingFields):
    """What /v1/chat/completions and /v1/completions share."""

    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_usage_throughout(self) -> bool:
        """Whether each of its pieces says it."""
        return bool(self.wants_usage and self.stream_options and self.stream_options.continuous_usage_stats)

    @model_validator(mode="after")
    def _streams(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream = true")
        return self


class ChatRequest(CompletionFields, ConversationFields):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    reasoning_effort: Effort | None = None
    include_reasoning: bool | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None  # as it is without
    store: Annotated[bool | None, Field(description="nothing is stored, whatever it says")] = None
    # As vLLM has them; a last message of the assistant's is continued unless one of them says no.
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    def agree(self) -> Self:
        """The request itself, if its fields don't contradict each other. Raises InvalidRequest."""
        self._agree_on_continuing()
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs", "only with logprobs = true")
        if len({self.max_tokens, self.max_completion_tokens} - {None}) > 1:
            raise invalid("max_tokens", "differs from max_completion_tokens, which is its newer name")
        settings = self.chat_template_kwargs or TemplateSettings()
        if len({settings.enable_thinking, settings.thinking} - {None}) > 1:
            raise invalid("chat_template_kwargs", "enable_thinking and thinking differ")
        if len({settings.thinking_budget, self.thinking_budget} - {None}) > 1:
            raise invalid("thinking_budget", "given twice, and differently")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise invalid("tools", "two have one name")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise invalid("tool_choice", f"no tool is named {self.tool_choice.function.name!r}")
        if self.tool_choice == "required" and not names:
            raise invalid("tool_choice", "required, and there are no tools")
        if self.thinking is True and self.reasoning_effort == "none":
            raise invalid("reasoning_effort", "none, though enable_thinking is true")
        return self

    # Apart from the method, which /v1/responses calls for a chat whose fields it has validated itself.
    _agree = model_validator(mode="after")(agree)

    def _agree_on_continuing(self) -> None:
        *before, last = self.messages
        for number, message in enumerate(before):
            if message.prefix:
                raise invalid(f"messages.{number}.prefix", "only the last message can be continued")
        settings = {
            f"messages.{len(before)}.prefix": last.prefix,
            "continue_final_message": self.continue_final_message,
            "add_generation_prompt": None if self.add_generation_prompt is None else not self.add_generation_prompt,
        }  # fmt: skip
        wanted = {name: value for name, value in settings.items() if value is not None}
        if len(set(wanted.values())) > 1:
            raise invalid(min(wanted), f"differs from {max(wanted)}: is the last message to be continued?")
        if any(wanted.values()) and last.role != "assistant":
            raise invalid(min(wanted), "the last message is not the assistant's, which could be continued")
        if self.continued and last.tool_calls:
            raise invalid("messages", "the last one calls a tool, and nothing tells what came of it")

    @property
    def continued(self) -> ChatMessage | None:
        """The message that the reply goes on from, if any."""
        last = self.messages[-1]
        wanted = (last.prefix, self.continue_final_message)
        return last if last.role == "assistant" and False not in wanted and not self.add_generation_prompt else None

    @property
    def has_grammar(self) -> bool:
        """Whether a grammar binds the reply."""
        return (
            (self.response_format is not None and self.response_format.type != "text")
            or self.tool_choice not in (None, "auto", "none")
            or any(tool.function.strict for tool in self.offered_tools)
        )  # fmt: skip

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that may be called."""
        return self.tools if self.tools and self.tool_choice != "none" else []

    @property
    def reply_tokens(self) -> int | None:
        """Tokens of the reply at most, if the client says so."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def thinking(self) -> bool | None:
        """Whether it should think, if the client says so."""
        settings = self.chat_template_kwargs or TemplateSettings()
        return settings.thinking if settings.enable_thinking is None else settings.enable_thinking

    @property
    def budget(self) -> int | None:
        """Tokens to think for, if the client says so."""
        settings = self.chat_template_kwargs or TemplateSettings()
        return settings.thinking_budget if self.thinking_budget is None else self.thinking_budget


class CompletionRequest(CompletionFields):
    """POST /v1/completions: text is continued as it stands, without a template and without taking it apart."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=128)] | TokenIds | Annotated[
        list[TokenIds], Field(min_length=1, max_length=128)
    ]  # fmt: skip
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: Literal[""] | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.best_of not in (None, self.n or 1):
            raise ValueError("best_of: only the same as n; the best of several isn't chosen here")
        if not self.max_tokens and not self.echo:
            raise ValueError("max_tokens: 0 only with echo = true, which gives the prompt back")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One by one."""
        return [self.prompt] if isinstance(self.prompt, str) or isinstance(self.prompt[0], int) else list(self.prompt)
