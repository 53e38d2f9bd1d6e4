"""Answers that are JSON: valid by a schema, equal to the right answer, or both."""

import json
import re
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field

from longjing.errors import UserError
from longjing.tasks.base import Problem
from longjing.tasks.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.tasks.verifiers.pool import VerifierError

_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


class JsonSettings(AnswerSettings):
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description="a JSON Schema; any draft since 4"
    )
    final: Literal["box", "text"] = Field(
        "text", description="what the one box holds, or all after the reasoning"
    )


class Json(AnswerVerifier[JsonSettings]):
    """One JSON value, in a code fence or not. It must keep to the schema, if there is one, and equal the problem's
    answer, if that has one: the order of keys says nothing, and 1.0 is 1."""

    name = "json"
    settings_type = JsonSettings
    needs_answer = False

    def __init__(self, settings: JsonSettings) -> None:
        super().__init__(settings)
        self._schema: Any = None
        if settings.schema_ is None:
            return
        if find_spec("jsonschema_rs") is None:
            raise UserError("judging by a JSON Schema needs jsonschema-rs: pip install jsonschema-rs")
        import jsonschema_rs

        try:
            self._schema = jsonschema_rs.validator_for(settings.schema_, retriever=_nothing)
        except ValueError as error:  # its ValidationError is one
            raise UserError(f"the schema is no JSON Schema: {str(error).splitlines()[0]}") from None

    def compare(self, problem: Problem, answer: str) -> Judgement:
        fenced = _FENCE.fullmatch(answer)
        try:
            value = _read(fenced[1] if fenced else answer)
        except (ValueError, RecursionError) as error:
            return Judgement("wrong", 0.0, f"no JSON: {error}")
        if self._schema is not None and not self._schema.is_valid(value):
            first = next(self._schema.iter_errors(value))
            return Judgement("wrong", 0.0, f"not by the schema: {first.message[:200]}")
        if not problem.answer:
            return Judgement("correct", 1.0, "correct")
        try:
            gold = _read(problem.answer)
        except (ValueError, RecursionError) as error:
            raise VerifierError(f"the gold answer is no JSON: {error}") from None
        return Judgement.of(_same(value, gold), "another value")


def _read(text: str) -> Any:
    """Strictly: no key twice, no NaN."""
    return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _nothing(uri: str) -> Any:
    raise ValueError(f"a schema must be whole: {uri} isn't fetched")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
