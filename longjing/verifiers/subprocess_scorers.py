"""The scorers of other libraries, as `worker.py` runs them: in a process that can be killed, apart from the trainer.

Like the worker it imports nothing of the package. `gym` speaks to reasoning-gym; `environments` to the `verifiers`
package in both of its forms, `verifiers.v1` with task sets and the former one with `load_environment` and rubrics;
`structures` reads JSON and asks `jsonschema-rs`.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from math import isfinite
from typing import Any


def text_digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def gym() -> Callable[..., Any]:
    """["settings", data set]: the names of its settings. ["make", data set, configuration as JSON, first, number]:
    entries, each with question, answer and source. ["score", data set, configuration, index of the entry, digest of its
    question, answer]: the score, None if the scorer can't read the answer.

    Raises ValueError if the entry isn't that of the question.
    """
    library = import_module("reasoning_gym")

    @lru_cache(maxsize=64)
    def dataset(name: str, configuration: str) -> Any:
        given = json.loads(configuration)
        if name == "composite":
            given["datasets"] = [library.composite.DatasetSpec(**spec) for spec in given["datasets"]]
        return library.create_dataset(name, **given)

    @lru_cache(maxsize=4096)
    def entry(name: str, configuration: str, index: int) -> Any:
        return dataset(name, configuration)[index]

    def settings(name: str) -> list[str]:
        return [field.name for field in fields(library.factory.DATASETS[name][1])]

    def make(name: str, configuration: str, first: int, number: int) -> list[tuple[str, str, str]]:
        made = [entry(name, configuration, index) for index in range(first, first + number)]
        return [
            (str(each["question"]), "" if each["answer"] is None else str(each["answer"]),
             each["metadata"].get("source_dataset", name)) for each in made
        ]  # fmt: skip

    def score(name: str, configuration: str, index: int, question: str, answer: str) -> float | None:
        made = entry(name, configuration, index)
        if text_digest(str(made["question"])) != question:
            raise ValueError(f"entry {index} of {name} comes out differently here")
        try:
            return float(dataset(name, configuration).score_answer(answer, made))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            return None

    works: dict[str, Callable[..., Any]] = {"settings": settings, "make": make, "score": score}
    return lambda what, *given: works[what](*given)


def environments() -> Callable[..., Any]:
    """["list", name, arguments]: the rows of a single-turn environment. ["score", name, arguments, row, digest of its
    prompt, reasoning, answer]: its reward. Raises ValueError for what isn't single-turn."""

    @lru_cache(maxsize=4)
    def opened(name: str, arguments: str) -> Any:
        try:
            return (_TaskSet if _is_task_set(name) else _Former)(name, json.loads(arguments))
        except ImportError as error:
            raise ValueError(f"{error}") from error

    def answer(what: str, name: str, arguments: str, *given: Any) -> Any:
        environment = opened(name, arguments)
        if what == "list":
            return environment.rows
        row, prompt, reasoning, said = given
        if text_digest(environment.rows[row]["prompt"]) != prompt:
            raise ValueError(f"row {row} of {name} comes out differently here")
        return asyncio.run(environment.score(row, reasoning, said))

    return answer


def _is_task_set(name: str) -> bool:
    """Whether the module is of the present form: it exports a `Taskset`. A release of the former form has no such
    loader."""
    try:
        loaders = import_module("verifiers.v1.utils.loaders")
    except ModuleNotFoundError:
        return False
    try:
        loaders.taskset_class(name)
    except (AttributeError, TypeError):
        return False
    return True


class _TaskSet:
    """The present form: a task set yields tasks, whose `@reward` methods score a trace."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        self.v1 = import_module("verifiers.v1")
        loaders, generic = (
            import_module("verifiers.v1.utils.loaders"),
            import_module("verifiers.v1.utils.generic"),
        )
        kind = loaders.taskset_class(name)
        if loaders.environment_class(name) is not self.v1.SingleAgentEnv:
            raise ValueError(f"{name} has an environment of its own: only single-turn ones can be used")
        settings = generic.concrete_type(kind, self.v1.TasksetConfig) or self.v1.TasksetConfig
        taskset = kind(settings.model_validate({"id": name, **arguments}))
        if not taskset.bounded:
            raise ValueError(f"{name} yields tasks without end, which can't be split by their prompts")
        if taskset.toolsets(taskset.config):
            raise ValueError(f"{name} has tools: only single-turn environments can be used")
        self.tasks = list(taskset)
        self.rows = [self._row(name, task) for task in self.tasks]

    def _row(self, name: str, task: Any) -> dict[str, str]:
        runtimes = [inspect.signature(hook).parameters.get("runtime") for hook in task.hooks("reward")]
        needs = any(found is not None and found.default is inspect.Parameter.empty for found in runtimes)
        if task.NEEDS_CONTAINER or needs or task.toolsets(task.config):
            raise ValueError(
                f"{name} needs a container, a runtime or tools: only single-turn environments can be used"
            )
        said = [task.data.system_prompt or "", task.data.prompt_text]
        prompt = "\n\n".join(part for part in said if part)
        return {"prompt": prompt, "answer": str(getattr(task.data, "answer", "") or "")}

    async def score(self, row: int, reasoning: str, answer: str) -> float:
        v1, task = self.v1, self.tasks[row]
        types = import_module("verifiers.v1.types")
        prompt, said = (
            types.UserMessage(content=self.rows[row]["prompt"]),
            {"reasoning_content": reasoning or None},
        )
        reply = types.AssistantMessage(content=answer, **said)
        nodes = [v1.MessageNode(message=prompt), v1.MessageNode(message=reply, parent=0, sampled=True)]
        traced = v1.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        agent = v1.AgentInfo(config=v1.AgentConfig())
        trace = v1.Trace(task=traced, agent=agent, nodes=nodes)
        await task.score(trace)
        if not trace.rewards or any(reward is None for reward in trace.rewards.values()):
            raise ValueError("the environment gave no reward")
        return float(sum(reward.value for reward in trace.rewards.values()))


class _Former:
    """The former form: `load_environment` gives a data set and a rubric, whose functions score messages."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        library = import_module("verifiers")
        if not hasattr(library, "load_environment"):
            raise ValueError(
                f"{name} exports no task set by `__all__`, as this release of verifiers wants it"
            )
        environment = library.load_environment(name, **arguments)
        if not isinstance(environment, library.SingleTurnEnv):
            raise ValueError(
                f"{name} is a {type(environment).__name__}: only single-turn environments can be used"
            )
        self.rubric, self.state = environment.rubric, getattr(library, "State", dict)
        found = (
            environment.get_dataset() if environment.dataset is not None else environment.get_eval_dataset()
        )
        self.data = [dict(row) for row in found]
        self.rows = [
            {"prompt": _said(row["prompt"]), "answer": str(row.get("answer") or "")} for row in self.data
        ]

    async def score(self, row: int, reasoning: str, answer: str) -> float:
        data = self.data[row]
        text = f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer
        completion = [{"role": "assistant", "content": text}]
        info = data.get("info") or {}
        asked = {"prompt": data["prompt"], "answer": data.get("answer") or "", "task": data.get("task") or "default",
                 "info": json.loads(info) if isinstance(info, str) else info}  # fmt: skip
        state = self.state({**asked, "completion": completion, "responses": [], "trajectory": [], "turn": 1})
        if "completion" not in inspect.signature(self.rubric.score_rollout).parameters:
            state["timing"] = {"generation_ms": 0.0, "scoring_ms": 0.0, "total_ms": 0.0}
            await self.rubric.score_rollout(state)
            return float(state["reward"])
        score = await self.rubric.score_rollout(**asked, completion=completion, state=state)
        return float(score.reward)


def _said(prompt: Any) -> str:
    """Messages as one text; what a system prompt says comes first."""
    if isinstance(prompt, str):
        return prompt
    if any(message["role"] == "assistant" for message in prompt):
        raise ValueError("the prompts show examples of answers, which one message can't hold")
    return "\n\n".join(message["content"] for message in prompt)


def structures() -> Callable[..., str]:
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
    """Of a JSON Schema, which must be whole. Raises ValueError if it is none."""
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
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


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
