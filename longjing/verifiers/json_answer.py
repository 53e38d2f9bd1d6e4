"""Answers that are JSON: valid by a schema, equal to the right answer, or both."""

import json
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field

from longjing.errors import UserError
from longjing.problems import Problem
from longjing.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.verifiers.pool import shared
from longjing.verifiers.scorers.json_values import validator


class JsonSettings(AnswerSettings):
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="a JSON Schema; any draft since 4")
    final: Literal["box", "text"] = Field("text", description="what the one box holds, or all after the reasoning")
    seconds: float = Field(5.0, gt=0, description="that a verdict may take; then the answer is wrong")


class Json(AnswerVerifier[JsonSettings]):
    """One JSON value, in a code fence or not. It must keep to the schema, if there is one, and equal the problem's
    answer, if that has one: the order of keys says nothing, and 1.0 is 1. In a process that can be stopped: schemas
    and the patterns in them may have no end."""

    name = "json"
    settings_type = JsonSettings
    needs_answer = False

    def __init__(self, settings: JsonSettings) -> None:
        super().__init__(settings)
        self._schema: str | None = None
        self._pool = shared("json_values", settings.seconds, 512)
        self.concurrency = self._pool.size
        if settings.schema_ is None:
            return
        if find_spec("jsonschema_rs") is None:
            raise UserError("judging by a JSON Schema needs jsonschema-rs: pip install jsonschema-rs")
        try:
            validator(settings.schema_)
            self._schema = json.dumps(settings.schema_)
        except (ValueError, TypeError) as error:
            raise UserError(f"the schema is no JSON Schema: {str(error).splitlines()[0]}") from None

    def compare(self, problem: Problem, answer: str) -> Judgement:
        gold = problem.answer or None
        question = (self._schema, gold)
        mistake = self._pool.ask(*question, _unfenced(answer), baseline=(*question, gold or "null"))
        return Judgement.of(not mistake, mistake)


def _unfenced(answer: str) -> str:
    """What the code fence holds that the answer is, or else the answer."""
    opening, _, rest = answer.partition("\n")
    inner, _, closing = rest.rpartition("\n")
    return inner if opening.rstrip() in ("```", "```json") and closing.strip() == "```" else answer
