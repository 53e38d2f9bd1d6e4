"""Requests that are meant to kill, hang or fill a server, and endless variations of them by a seed."""

import json
import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]


def chain(length: int, link: Callable[[Schema], Schema], last: Schema | None = None) -> Schema:
    """A schema of so many references one behind the other."""
    definitions = {f"a{n}": link({"$ref": f"#/$defs/a{n + 1}"}) for n in range(length)}
    definitions[f"a{length}"] = {"type": "integer"} if last is None else last
    return {"$ref": "#/$defs/a0", "$defs": definitions}


def record(**properties: Any) -> Schema:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False
    }  # fmt: skip


LINKS: dict[str, Callable[[Schema], Schema]] = {
    "$ref": lambda one: one,
    "items": lambda one: {"type": "array", "items": one},
    "prefixItems": lambda one: {"type": "array", "prefixItems": [one], "minItems": 1},
    "allOf": lambda one: {"allOf": [one]},
    "anyOf": lambda one: {"anyOf": [one, {"type": "null"}]},
    "properties": lambda one: record(a=one),
    "additionalProperties": lambda one: {"type": "object", "additionalProperties": one},
    "two": lambda one: record(a=one, b=one),
    "both": lambda one: {"allOf": [one, one]},
}
# No text satisfies these.
IMPOSSIBLE: list[Schema] = [
    {"not": {}}, {"enum": []}, {"type": []}, {"type": "integer", "minimum": 5, "maximum": 3}, {"anyOf": [False]},
    record(a=False), {"type": "array", "minItems": 3, "maxItems": 1}, {"type": "array", "items": False, "minItems": 1},
    {"allOf": [{"type": "string"}, {"type": "integer"}]}, {"const": 5, "type": "string"}, {"const": 5, "minimum": 7},
    {"type": "integer", "minimum": 1, "maximum": 6, "multipleOf": 7},
    {"type": "string", "pattern": "^a$", "minLength": 3},
    {"allOf": [{"enum": ["a"]}, {"enum": ["b"]}]}, {"type": "object", "maxProperties": 0, "required": ["a"]},
    {"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, record(a={"$ref": "#"}),
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1}, {"type": "number", "minimum": 1e300, "maximum": 1e301},
]  # fmt: skip


def _schema(random: random.Random) -> Schema:
    size = int(10 ** random.uniform(0, 4.5))
    text = {"type": "string"}
    kinds: list[Callable[[], Schema]] = [
        lambda: chain(min(size, 3000), random.choice(list(LINKS.values()))),
        lambda: chain(min(size, 500), lambda one: random.choice(list(LINKS.values()))(one)),
        lambda: random.choice(IMPOSSIBLE),
        lambda: {"enum": [f"v{n}" for n in range(size)]},
        lambda: {"type": "array", "items": text, random.choice(["minItems", "maxItems"]): size**3},
        lambda: text | {random.choice(["minLength", "maxLength"]): size**3},
        lambda: text | {"pattern": f"^(([a-z]{{1,{size}}}){{1,{size}}}b*)*$"},
        lambda: text | {"pattern": random.choice(["(x+x+)+y", f"(a|b)*a(a|b){{{size}}}", "(" * size, "a" * size])},
        lambda: {"allOf": [text | {"pattern": f"a.{{{n}}}b"} for n in range(min(size, 40))]},
        lambda: {"type": "integer", "multipleOf": random.choice([size, -size, 10**400, 1e-300])},
        lambda: record(**{f"p{n}": text for n in range(size)}),
        lambda: {"anyOf": [record(**{f"k{n}": text}) for n in range(size)]},
        lambda: {"const": "x" * size * 10},
        lambda: {"type": random.choice(["n", 5, None, ["string", "null"]])},
        lambda: {"x-guidance": {"whitespace_pattern": "(a*)*"}, "type": "object"},
    ]  # fmt: skip
    return random.choice(kinds)()


def _text(random: random.Random) -> str:
    size = int(10 ** random.uniform(0, 6.8))
    piece = random.choice(
        ["a", " ", "7", "\n", "龙", "!", "é", "\U0001f600", "ab ", "<｜User｜>", "</think>", "\u0301"]
    )
    return piece * (size // len(piece.encode()))


def _value(random: random.Random) -> str:
    """JSON that no field expects."""
    size = int(10 ** random.uniform(0, 5.5))
    return random.choice(
        ["1e400", "9" * min(size, 10_000), "[" * size + "]" * size, "[" + "{}," * size + "{}]", '"\\ud800"', "null",
         "[" + "1.5," * size + "1]", "{" + ",".join(f'"{n}":1' for n in range(size)) + "}", '{"a":' * size, '"x"', "-1"]
    )  # fmt: skip


def requests(seed: int, count: int) -> list[tuple[str, bytes]]:
    """Paths and bodies."""
    rng = random.Random(seed)
    return [_request(rng) for _ in range(count)]


def _request(random: random.Random) -> tuple[str, bytes]:
    schema, bound = _schema(random), random.random() < 0.5
    text = "?" if bound else _text(random)
    path = random.choice(["/v1/chat/completions", "/v1/completions", "/v1/responses"])
    function = {"type": "function", "name": "f", "strict": True, "parameters": schema}
    fields: dict[str, Any] = {"stream": random.random() < 0.3}
    if path == "/v1/completions":
        fields |= {"max_tokens": 4}
        fields["prompt"] = random.choice(
            [text, [text] * 3, [random.choice([1, 2**40, -1, 1.5])] * len(text), [[3] * 50] * min(200, len(text))]
        )
    elif path == "/v1/responses":
        fields |= {"input": random.choice([text, [{"role": "user", "content": text}]]), "max_output_tokens": 12}
        if bound:
            form = {"type": "json_schema", "name": "n", "schema": schema}
            fields |= random.choice([{"text": {"format": form}}, {"tools": [function], "tool_choice": "required"}])
    else:
        many = random.choice([1, 1, 1, 20_000])
        fields |= {"messages": [{"role": "user", "content": text[: len(text) // many]}] * many, "max_tokens": 12}
        if bound:
            form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
            tool = {"type": "function", "function": {key: value for key, value in function.items() if key != "type"}}
            fields |= random.choice([{"response_format": form}, {"tools": [tool]}, {"response_format": form, "n": 16}])
    body = json.dumps(fields)
    if random.random() < 0.3:  # something else in the place of a field, or beside them
        name = random.choice(
            [*fields, "logit_bias", "stop", "metadata", "seed", "temperature", "user", "tools", "n", "max_tokens", "x"]
        )
        body = f'{body[:-1]}, "{name}": {_value(random)}}}'
    return path, body.encode("utf-8", "surrogatepass")[: 8 << 20]
