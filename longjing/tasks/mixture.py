"""Several tasks as one: each problem comes from one of them, and is judged by it."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from longjing.problems import Completion, Problem, Split, Task, Verdict, max_turns, reply_to, wants_box
from longjing.text.template import Message


class MixturePart(BaseModel):
    """A task by name, and how often it is met; everything else is a setting of the task itself."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str
    weight: float = Field(1.0, gt=0)


class MixtureSettings(BaseModel):
    """The settings of a mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parts: list[MixturePart] = Field(min_length=1)


class Mixture:
    """A `Task` made of `parts`, pairs of a task and its weight; a mixture among them counts as its own parts."""

    name = "mixture"
    settings_type = MixtureSettings

    def __init__(self, parts: Sequence[tuple[Task, float]]) -> None:
        self.parts: list[tuple[Task, float]] = []
        for task, weight in parts:
            # A mixture's parts share its weight as they share its problems.
            inner = task.parts if isinstance(task, Mixture) else [(task, 1.0)]
            total = sum(share for _, share in inner)
            self.parts += [(part, weight * share / total) for part, share in inner]
        self._judges = {task.name: task for task, _ in self.parts}

    @property
    def settings(self) -> dict[str, Any]:
        return {"parts": [{"name": task.name, "weight": weight} | task.settings for task, weight in self.parts]}

    @property
    def judge_settings(self) -> frozenset[str]:
        return frozenset().union(*(getattr(task, "judge_settings", ()) for task, _ in self.parts))

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """The problems of all parts (see `Task`). Each part yields the problems that it yields alone; held out, a part
        that has no more leaves the others to go on, and a problem that two parts share comes once."""
        random = Random(f"{self.name} {split} {seed}")
        sources = {index: task.problems(split, seed) for index, (task, _) in enumerate(self.parts)}
        seen: set[str] = set()
        while sources:
            (index,) = random.choices(list(sources), [self.parts[index][1] for index in sources])
            problem = next(sources[index], None)
            if problem is None:
                del sources[index]
            elif split == "train":
                yield problem
            elif problem.id not in seen:
                seen.add(problem.id)
                yield problem

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        if problem.task not in self._judges:
            return Verdict("unjudged", {"accuracy": 0.0, "format": 0.0}, f"no part is called {problem.task!r}")
        return self._judges[problem.task].judge(problem, completion)

    def wants_box(self, problem: Problem) -> bool:
        """See `problems.wants_box`."""
        return wants_box(self._judges.get(problem.task), problem)

    @property
    def max_turns(self) -> int:
        return max(max_turns(task) for task, _ in self.parts)

    def reply(self, problem: Problem, completion: Completion) -> Message | None:
        task = self._judges.get(problem.task)
        return None if task is None else reply_to(task, problem, completion)

    def solve(self, problem: Problem) -> str:
        return self._judges[problem.task].solve(problem)
