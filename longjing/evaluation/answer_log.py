"""Replies of an endpoint, kept as they come: what was answered once is never asked again."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from longjing.errors import UserError
from longjing.files import disk_errors
from longjing.openai_client import ChatCompletion, EndpointError
from longjing.problems import Completion, ModelTurn
from longjing.runs.jsonl import JsonLines, read_jsonl

_LINE_START = b'{"base_url"'
# What OpenAI, vLLM, SGLang, TGI, llama.cpp, Mistral, Gemini, Anthropic, DeepSeek and OpenRouter say, in lower case.
# A filter cuts in mid-word or withholds everything, and an error is no ending: nobody knows what would have come.
CUT_OFF = {
    "length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded",
    "content_filter", "safety", "abort", "error", "insufficient_system_resource",
}  # fmt: skip
ENDED = {
    "stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call", "refusal",
}  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """The fields of one request, and which sample of its problem it is for (the sample's own seed), which the
    fields need not say."""

    sample: int
    request: Mapping[str, Any]

    @property
    def key(self) -> str:
        return json.dumps([self.sample, self.request], sort_keys=True)


class LoggedReply(BaseModel):
    """What came back for one request. `text` holds the reasoning in its tags; counts are in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    finish_reason: str
    prompt_tokens: int
    tokens: int
    reasoning_tokens: int

    @classmethod
    def of(cls, completion: ChatCompletion) -> "LoggedReply":
        """A chat completion as a reply. Where the server doesn't say how many tokens the reasoning took, its share of
        the characters does. Raises EndpointError for one without its usage."""
        if (usage := completion.usage) is None:
            raise EndpointError("no chat completion with its usage: what it cost isn't known")
        reasoning, answer, finish_reason = completion.reasoning, completion.answer, completion.finish_reason
        text = answer
        if reasoning:
            closed = answer or finish_reason.lower() not in CUT_OFF  # cut off before it was closed, it stays open
            text = f"<think>\n{reasoning}" + (f"\n</think>\n\n{answer}" if closed else "")
        # A model may write half of a surrogate pair, and JSON may say so; no text that is kept or read can hold it.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        reasoning_tokens = usage.reasoning_tokens
        if reasoning_tokens is None:
            parts = Completion.of([turn_of(text)])
            length = len(parts.reasoning) + len(parts.answer)
            reasoning_tokens = round(usage.completion_tokens * len(parts.reasoning) / max(length, 1))
        return cls(
            text=text, finish_reason=finish_reason, prompt_tokens=usage.prompt_tokens,
            tokens=usage.completion_tokens, reasoning_tokens=reasoning_tokens,
        )  # fmt: skip

    @property
    def turn(self) -> ModelTurn:
        return turn_of(self.text, truncated=self.finish_reason.lower() in CUT_OFF)


def turn_of(text: str, truncated: bool = False) -> ModelTurn:
    """The prompt is out of sight here: where reasoning is closed that the text didn't open, the prompt did."""
    prefilled = "</think>" in text and "<think>" not in text
    return ModelTurn(text, prefilled, truncated)


class AnswerLog:
    """Replies by what was asked, and the seconds that each took beyond the one before it, so that they add up to the
    time of asking however many are asked at once: a file to which whole lines are appended.

    The file may hold answers of any models, tasks and settings: what was asked decides what is found.
    """

    def __init__(self, path: Path, base_url: str) -> None:
        self._lines, self._base_url = JsonLines(path), base_url
        self.replies: dict[str, LoggedReply] = {}
        self.seconds: dict[str, float] = {}
        for number, row in enumerate(read_jsonl(path), 1):
            try:
                reply = LoggedReply.model_validate(row["reply"])
                key, seconds = Ask(row["sample"], row["request"]).key, float(row["seconds"])
                if row["base_url"] == base_url:
                    self.replies[key], self.seconds[key] = reply, seconds
            except (KeyError, TypeError, ValueError) as error:  # a ValidationError is a ValueError
                raise UserError(
                    f"{path}, line {number}, is no answer of an endpoint with its seconds; choose another --answers"
                ) from error

    @classmethod
    @contextmanager
    def opened(cls, path: Path, base_url: str) -> Iterator["AnswerLog"]:
        """The log, for this process alone, without the last line if that was cut off as it was written. Raises
        UserError if another process has it, it can't be written, or it is some other file."""
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is writing {path}; give another --answers") from None
            try:
                log = cls(path, base_url)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise UserError(f"{path} is no JSON by lines: {error}; choose another --answers") from error
            file.seek(0)
            last = b"\n"
            for last in file:  # noqa: B007
                pass
            if not last.endswith(b"\n"):
                if not last.startswith(_LINE_START[: len(last)]):
                    raise UserError(f"{path} holds something else than answers; choose another --answers")
                file.truncate(file.tell() - len(last))
            yield log

    def add(self, ask: Ask, reply: LoggedReply, seconds: float) -> None:
        row = {"base_url": self._base_url, **asdict(ask), "reply": reply.model_dump(), "seconds": seconds}
        self._lines.append(row)
        self.replies[ask.key], self.seconds[ask.key] = reply, seconds
