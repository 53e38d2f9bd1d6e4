"""What an OpenAI-compatible server sends: chat completions of several forms, and how long to wait for the next."""

import json
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import time
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from longjing.evaluation.answer_log import Reply, is_cut_off, turn_of
from longjing.problems import Completion
from longjing.validation import explain_data

_LONGEST_WAIT = 3600.0  # seconds, of what a server may ask for
_EXCERPT = 300  # characters of a server's complaint


class PassingTroubleError(Exception):
    """Asking again may help, `seconds` from now at the earliest."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class _Part(BaseModel):
    type: Literal["text", "thinking"]
    text: str = ""
    thinking: "str | list[_Part]" = ""  # Mistral

    @property
    def thought(self) -> str:
        return (
            self.thinking if isinstance(self.thinking, str) else "".join(part.text for part in self.thinking)
        )


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None  # vLLM, SGLang, DeepSeek
    reasoning: str | None = None  # OpenRouter, later vLLM

    @property
    def parts(self) -> tuple[str, str]:
        """Reasoning and answer."""
        said: list[_Part] = self.content if isinstance(self.content, list) else []
        answer = self.content if isinstance(self.content, str) else "".join(part.text for part in said)
        thought = "".join(part.thought for part in said)
        return self.reasoning_content or self.reasoning or thought, answer


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Details(BaseModel):
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_details: _Details | None = None


class _Response(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage


def seconds_until(retry_after: str) -> float:
    """What the header asks for, in seconds (decimals too) or as a date: at most an hour, 0 if it says nothing."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
            seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else 0.0


def read(response: bytes) -> Reply:
    """A chat completion as a Reply. Where the server doesn't say how many tokens the reasoning took, its share of
    the characters does. Raises PassingTroubleError for anything else."""
    try:
        completion = _Response.model_validate(json.loads(response))
    except (ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise PassingTroubleError(f"no JSON ({error}): {excerpt(response)}") from error
        # Some servers report their troubles with status 200.
        raise PassingTroubleError(
            f"no chat completion with its usage ({explain_data(error)}): {excerpt(response)}"
        ) from error
    choice, usage = completion.choices[0], completion.usage
    reasoning, answer = choice.message.parts
    finish = choice.finish_reason or "unknown"
    text = answer
    if reasoning:  # cut off before it was closed, it stays open
        text = f"<think>\n{reasoning}" + (
            f"\n</think>\n\n{answer}" if answer or not is_cut_off(finish) else ""
        )
    # A model may write half of a surrogate pair, and JSON may say so; no text that is kept or read can hold it.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    parts = Completion.of([turn_of(text)])
    details = usage.completion_tokens_details
    spent = details.reasoning_tokens if details is not None else None
    if spent is None:
        written = len(parts.reasoning) + len(parts.answer)
        spent = round(usage.completion_tokens * len(parts.reasoning) / max(written, 1))
    return Reply(
        text=text,
        finish_reason=finish,
        prompt_tokens=usage.prompt_tokens,
        tokens=usage.completion_tokens,
        reasoning_tokens=spent,
    )


def excerpt(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:_EXCERPT]
