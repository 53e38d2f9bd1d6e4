"""Single-turn environments of the `verifiers` package in both of its forms: `verifiers.v1` with task sets, and the
former one with `load_environment` and rubrics."""

import asyncio
import inspect
import json
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from . import text_digest


def scorer() -> Callable[..., Any]:
    """["list", name, arguments]: the rows of a single-turn environment. ["score", name, arguments, row, digest of its
    prompt, reasoning, answer]: its reward. Raises ValueError for what isn't single-turn."""

    @lru_cache(maxsize=4)
    def opened(name: str, arguments: str) -> Any:
        try:
            return (_TaskSet if _is_task_set(name) else _LoadedEnvironment)(name, json.loads(arguments))
        except ImportError as error:
            raise ValueError(f"{error}") from error

    def answer(what: str, name: str, arguments: str, *details: Any) -> Any:
        environment = opened(name, arguments)
        if what == "list":
            return environment.rows
        row, prompt, reasoning, reply = details
        if text_digest(environment.rows[row]["prompt"]) != prompt:
            raise ValueError(f"row {row} of {name} comes out differently here")
        return asyncio.run(environment.score(row, reasoning, reply))

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
        loaders = import_module("verifiers.v1.utils.loaders")
        generic = import_module("verifiers.v1.utils.generic")
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
        needs = any(each is not None and each.default is inspect.Parameter.empty for each in runtimes)
        if task.NEEDS_CONTAINER or needs or task.toolsets(task.config):
            raise ValueError(f"{name} needs a container, a runtime or tools: only single-turn environments can be used")
        parts = [task.data.system_prompt or "", task.data.prompt_text]
        prompt = "\n\n".join(part for part in parts if part)
        return {"prompt": prompt, "answer": str(getattr(task.data, "answer", "") or "")}

    async def score(self, row: int, reasoning: str, answer: str) -> float:
        v1, task = self.v1, self.tasks[row]
        types = import_module("verifiers.v1.types")
        prompt = types.UserMessage(content=self.rows[row]["prompt"])
        reply = types.AssistantMessage(content=answer, reasoning_content=reasoning or None)
        nodes = [v1.MessageNode(message=prompt), v1.MessageNode(message=reply, parent=0, sampled=True)]
        traced = v1.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        agent = v1.AgentInfo(config=v1.AgentConfig())
        trace = v1.Trace(task=traced, agent=agent, nodes=nodes)
        await task.score(trace)
        if not trace.rewards or any(reward is None for reward in trace.rewards.values()):
            raise ValueError("the environment gave no reward")
        return float(sum(reward.value for reward in trace.rewards.values()))


class _LoadedEnvironment:
    """The former form: `load_environment` gives a data set and a rubric, whose functions score messages."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        library = import_module("verifiers")
        if not hasattr(library, "load_environment"):
            raise ValueError(f"{name} exports no task set by `__all__`, as this release of verifiers wants it")
        environment = library.load_environment(name, **arguments)
        if not isinstance(environment, library.SingleTurnEnv):
            raise ValueError(f"{name} is a {type(environment).__name__}: only single-turn environments can be used")
        self.rubric, self.state = environment.rubric, getattr(library, "State", dict)
        rows = environment.get_dataset() if environment.dataset is not None else environment.get_eval_dataset()
        self.data = [dict(row) for row in rows]
        self.rows = [
            {"prompt": _as_one_text(row["prompt"]), "answer": str(row.get("answer") or "")} for row in self.data
        ]

    async def score(self, row: int, reasoning: str, answer: str) -> float:
        data = self.data[row]
        text = f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer
        completion = [{"role": "assistant", "content": text}]
        info = data.get("info") or {}
        inputs = {"prompt": data["prompt"], "answer": data.get("answer") or "", "task": data.get("task") or "default",
                 "info": json.loads(info) if isinstance(info, str) else info}  # fmt: skip
        state = self.state({**inputs, "completion": completion, "responses": [], "trajectory": [], "turn": 1})
        if "completion" not in inspect.signature(self.rubric.score_rollout).parameters:
            state["timing"] = {"generation_ms": 0.0, "scoring_ms": 0.0, "total_ms": 0.0}
            await self.rubric.score_rollout(state)
            return float(state["reward"])
        score = await self.rubric.score_rollout(**inputs, completion=completion, state=state)
        return float(score.reward)


def _as_one_text(prompt: Any) -> str:
    """Messages as one text; what a system prompt says comes first."""
    if isinstance(prompt, str):
        return prompt
    if any(message["role"] == "assistant" for message in prompt):
        raise ValueError("the prompts show examples of answers, which one message can't hold")
    return "\n\n".join(message["content"] for message in prompt)
