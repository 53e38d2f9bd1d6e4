"""What binds a reply: a schema of `response_format`, or tools that are strict or have to be called."""

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from longjing.chat.grammar import Grammar, GrammarCompiler
from longjing.chat.invalid_request import InvalidRequest, invalid
from longjing.errors import UserError
from longjing.serving.schemas import ChatRequest, Function, NamedTool, PlainFormat, SchemaFormat
from longjing.text import Tokenizer


class ReplyGrammars:
    """Makes the grammars of requests to one model. `knows_tools`: whether its chat template tells it of tools."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, end_tokens: Collection[int], knows_tools: bool) -> None:
        self._of_model = tokenizer, vocabulary, sorted(end_tokens)
        self._knows_tools = knows_tools
        self._made: GrammarCompiler | None = None  # at the first request that needs them
        self._making = threading.Lock()

    def of(self, request: ChatRequest) -> Grammar | None:
        """The grammar that binds the answer, if any does. Raises InvalidRequest for one that can't be kept."""
        schema = _schema(request)
        forced = request.tool_choice not in (None, "auto", "none")
        # A model that isn't told of the tools calls none by itself, and knows no arguments but by the grammar.
        tools = request.offered_tools if forced or self._knows_tools else []
        if schema is None and not forced and not any(tool.function.strict for tool in tools):
            return None
        parameter = grammar_parameter(request)
        _refuse_contradictions(request, parameter)
        try:
            if schema is not None and not tools:
                return self._grammars().json(schema)
            # Who names one call gets one, and a model that isn't told of the tools would go on calling.
            chosen = request.tool_choice.function.name if isinstance(request.tool_choice, NamedTool) else None
            several = request.parallel_tool_calls is not False and self._knows_tools and chosen is None
            functions = [tool.function for tool in tools if chosen in (None, tool.function.name)]
            return self._grammars().calls(_bound(functions, not self._knows_tools), schema, forced, several)
        except InvalidRequest:
            raise
        except UserError as error:
            raise invalid(parameter, str(error)) from error

    def _grammars(self) -> GrammarCompiler:
        with self._making:
            if self._made is None:
                self._made = GrammarCompiler(*self._of_model)
            return self._made


def grammar_parameter(request: ChatRequest) -> str:
    """The parameter that a grammar comes from, if there is one."""
    return "response_format" if _schema(request) is not None else "tools"


def _schema(request: ChatRequest) -> dict[str, Any] | None:
    match request.response_format:
        case PlainFormat(type="json_object"):
            return {"type": "object"}
        case SchemaFormat(json_schema=named):
            return named.schema_
    return None


def _refuse_contradictions(request: ChatRequest, parameter: str) -> None:
    """What a reply can't do while a grammar binds it."""
    if request.continued and request.continued.text:
        raise invalid(parameter, "it binds a whole answer, and the last message has begun it")
    if request.ignore_eos:
        raise invalid("ignore_eos", "not where a grammar binds the answer, which then comes to its end")
    if request.stop_in_reasoning and request.budget:
        text = "with stop_in_reasoning the grammar binds the reasoning, which can't be closed then"
        raise invalid("thinking_budget", text)


def _bound(functions: Sequence[Function], everyone: bool) -> dict[str, Mapping[str, Any]]:
    """What binds the arguments of each tool, by name: its schema if it is strict, or if `everyone` is to be bound."""
    bound: dict[str, Mapping[str, Any]] = {}
    for function in functions:
        parameters = function.parameters or {}
        if parameters.get("type", "object") != "object":
            raise invalid("tools", f"the parameters of {function.name!r} are no object")
        schema: dict[str, Any] = {"type": "object"}
        if everyone and not function.strict and not {"$ref", "allOf", "anyOf", "oneOf"} & set(parameters):
            schema["additionalProperties"] = False  # else arguments could be made up that it doesn't name
        bound[function.name] = schema | (parameters if function.strict or everyone else {})
    return bound
