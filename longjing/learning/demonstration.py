"""Demonstrations: solutions that programs write become data, for a model that doesn't think yet.

DeepSeek-R1's cold start learns from thousands of long chains of thought, which R1-Zero and people made (arXiv
2501.12948, section 2.3.1). A small instruct model wrote none that are right, so a program writes them
(`data/demonstrations/`); the rest is as in rejection sampling.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal

from pydantic import Field, field_validator
from torch import Tensor

from longjing.cluster.runtime import Runtime
from longjing.data.demonstrations import demonstrable, demonstrable_names, demonstrate
from longjing.errors import UserError
from longjing.evaluation.instructions import asked, untold, wanted_form
from longjing.learning.loop import SILENT, Step, Trainer
from longjing.learning.rejection_sampling import OneOrMore, draw
from longjing.learning.sampled_conversations import SampledConversationSettings, others_beside, sampled_rows
from longjing.learning.settings import TaskReference
from longjing.learning.stage import DATA, StageKind, facts_of
from longjing.problems import Completion, Problem, Task
from longjing.runs import Watcher
from longjing.runs.jsonl import Row
from longjing.runs.metric import ChartSpec, Metric, Series
from longjing.validation import did_you_mean_or_known


class DemonstrationSettings(SampledConversationSettings):
    """The settings of a stage of demonstrations."""

    kind: Literal["demonstrate"] = "demonstrate"
    task: OneOrMore = Field(description="the tasks; their problems come in turn")
    problems: int = Field(ge=1, description="training problems, all of them different")
    problems_per_step: int = Field(64, ge=1, description="problems solved together")
    told: float = Field(
        0.3, ge=0, le=1, description="share of the prompts that say the form; of the others half don't mention a box"
    )

    @field_validator("task")
    @classmethod
    def _can_be_demonstrated(cls, task: TaskReference | list[TaskReference]) -> TaskReference | list[TaskReference]:
        for one in task if isinstance(task, list) else [task]:
            if not demonstrable(one.name):
                near = did_you_mean_or_known(one.name, demonstrable_names())
                raise ValueError(f"nobody has written how to solve problems of {one.name}{near}")
        return task

    @property
    def tasks(self) -> list[Task]:
        return [one.make() for one in (self.task if isinstance(self.task, list) else [self.task])]

    @property
    def steps(self) -> int:
        return math.ceil(self.problems / self.problems_per_step)


class Demonstration(Trainer):
    """Problems, and solutions of them as conversations."""

    preparing = "drawing the problems"
    totals = ("problems", "kept", "others", "tokens_sampled", "tokens_trained", "flops")
    logs_totals = exports = False

    def __init__(self, settings: DemonstrationSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        self.settings, self.seed, self.steps, self.runtime = settings, runtime.seed, settings.steps, runtime
        self.problems = draw(settings.tasks, settings.problems, self.seed)
        self._kept = self._others = 0

    def step(self, step: int) -> Step:
        """Solve the step's problems, and mix in what is nobody's problem."""
        settings, count = self.settings, self.settings.problems_per_step
        problems = self.problems[step * count : (step + 1) * count]
        solved: list[tuple[Problem, Completion, int]] = []
        for task, problem in problems:
            random = Random(f"demonstration {self.seed} {problem.id}")
            if completion := demonstrate(task, problem, random):
                solved.append((replace(problem, prompt=self._prompt(task, problem, random)), completion, 0))
        self._kept += len(solved)
        others = others_beside(settings, self._kept, self._others)
        self._others = others.stop
        metrics = {
            "problems": len(problems), "kept": len(solved), "others": len(others),
            "tokens_sampled": 0, "tokens_trained": 0, "flops": 0.0,
        }  # fmt: skip
        return Step(metrics, data=sampled_rows(settings, self.seed, solved, others, problems[0][1].id))

    def _prompt(self, task: Task, problem: Problem, random: Random) -> str:
        """The prompt with all that is wanted of the form; else as the task asks it, or without a word of the form."""
        if random.random() < self.settings.told:
            return asked(problem, wanted_form(task, problem, tags=True))
        return random.choice([problem, untold(problem)]).prompt

    def restore(self, tensors: dict[str, Tensor], totals: Mapping[str, Any]) -> None:
        self._kept, self._others = totals["kept"], totals["others"]

    def summary(self, totals: Mapping[str, Any], evaluations: Sequence[Row]) -> dict[str, Any]:
        if not totals["kept"]:
            raise UserError(f"none of {totals['problems']} problems was solved; choose easier ones")
        return {}


STAGE = StageKind(
    DemonstrationSettings, Demonstration,
    (Metric("kept", "solved a step", "{:.0f}"),),
    (ChartSpec("Solved", [Series("kept", "solved", per="problems")], "Of the problems.", percent=True, first=True),),
    makes=DATA, takes={}, facts=facts_of("problems", "kept", "others"),
    steps=lambda settings: math.ceil(settings["problems"] / settings["problems_per_step"]),
)  # fmt: skip
