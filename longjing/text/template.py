"""Messages to a prompt: a Jinja chat template, run as `transformers` runs it."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from longjing.errors import UserError

Message = Mapping[str, Any]
PLACEHOLDER = "\N{OBJECT REPLACEMENT CHARACTER}"  # what no template trims or cuts


class ChatTemplate:
    """`origin` says whose template it is; `tokens` are the names it may use, such as `bos_token`.

    A template is somebody's program, so it runs in Jinja's sandbox. Raises UserError if it is no Jinja.
    """

    def __init__(self, source: str, origin: str, tokens: Mapping[str, str]) -> None:
        self.source, self._origin, self._tokens = source, origin, tokens
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{origin}: broken chat template, line {error.lineno}: {error}") from error

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        thinking: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The prompt. Raises UserError for messages that the template refuses, and for a setting that it can't
        honour."""
        if not messages:
            raise UserError("a chat needs at least one message")
        if not thinking and "think>" in self.source and "enable_thinking" not in self.source:
            raise UserError(f"{self._origin}: thinking can't be turned off: the chat template has no `enable_thinking`")
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=thinking,
                tools=tools,
                **self._tokens,
            )
        except (jinja2.TemplateError, TypeError) as error:  # TypeError: None met where text was expected
            raise UserError(f"{self._origin}: the chat template refused the messages: {error}") from error


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
