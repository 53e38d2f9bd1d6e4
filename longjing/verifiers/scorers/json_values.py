"""JSON, read strictly, compared, and held against a schema by `jsonschema-rs`."""

import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import import_module
from math import isfinite
from typing import Any


def scorer() -> Callable[..., str]:
    """[schema as JSON or null, gold answer or null, answer]: what is wrong with the answer, "" if nothing is.

    Raises ValueError if the gold answer is no JSON."""
    sys.set_int_max_str_digits(0)  # time is kept by the other side
    compiled = lru_cache(maxsize=64)(lambda schema: validator(json.loads(schema)))

    def mistake(schema: str | None, gold: str | None, answer: str) -> str:
        try:
            right = None if gold is None else _read(gold)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the gold answer is no JSON: {error}") from None
        try:
            value = _read(answer)
        except (ValueError, RecursionError) as error:
            return f"no JSON: {error}"
        if schema is not None and (violation := _violation(compiled(schema), value)):
            return violation
        return "" if gold is None or _same(right, value) else "another value"

    return mistake


def validator(schema: Any) -> Any:
    """A validator of a JSON Schema, which must be whole. Raises ValueError if it is none."""
    library = import_module("jsonschema_rs")
    return library.validator_for(schema, retriever=_nothing)  # its ValidationError is a ValueError


def _nothing(uri: str) -> Any:
    raise ValueError(f"a schema must be whole: {uri} isn't fetched")


def _violation(schema: Any, value: Any) -> str:
    try:
        if schema.is_valid(value):
            return ""
        return f"not by the schema: {next(schema.iter_errors(value)).message[:200]}"
    except (ValueError, RecursionError) as error:  # the library's own bounds
        return f"not by the schema: {error}"


def _read(text: str) -> Any:
    """Strictly: no key twice, no NaN, no half of a surrogate pair; numbers that no float holds are exact."""
    value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_number)
    for part in _parts(value):
        if isinstance(part, str):
            part.encode()  # UnicodeEncodeError is a ValueError
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is given twice")
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _number(text: str) -> float | Decimal:
    value = float(text)
    if value and isfinite(value):
        return value
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("a number beyond all measure") from None


def _parts(value: Any) -> Iterator[Any]:
    """The value, the keys and values in it, and so on, however deep."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part


def _same(one: Any, other: Any) -> bool:
    waiting = [(one, other)]
    while waiting:
        one, other = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            waiting += [(one[key], other[key]) for key in one]
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            waiting += zip(one, other, strict=True)
        elif isinstance(one, bool) or isinstance(other, bool):
            if one is not other:
                return False
        elif one != other:
            return False
    return True
