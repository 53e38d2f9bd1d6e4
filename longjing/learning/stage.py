"""What a kind of stage declares, in the file of its trainer: all that a recipe, a report or a page needs to know of it.

A new kind is one file, with its settings, its trainer and a `StageKind`, and a line in `kinds.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from longjing.learning.advice import Rule
from longjing.learning.loop import Trainer
from longjing.learning.settings import Settings
from longjing.runs.metric import ChartSpec, Metric

MODEL, DATA, REWARD_MODEL = "model", "data", "reward model"
PREFERENCES = "preference data"  # which no stage makes
_LOOP = ("step", "steps", "time")  # what the loop itself logs
Facts = Callable[[Mapping[str, Any]], list[tuple[str, str]]]


def facts_of(*names: str) -> Facts:
    """What the report says of a result: these of its values, as they are."""
    return lambda result: [(name.replace("_", " "), str(result[name])) for name in names if name in result]


@dataclass(frozen=True)
class StageKind:
    """A kind of stage. `takes`: the settings (dotted) that may name an earlier stage, and what of it.

    `measured`: the tasks on whose test problems a stage of these settings measures what it makes. `more_metrics`: the
    names of the metrics that it logs because of its settings. `facts`: what the report says of a result. `practises`:
    its model learns from the rewards of its `task`, so that this is what one can ask it. `group_note`: what a reader
    should know of the groups of completions that it logs. `steps`: how many, if that follows from the settings (plain
    data).
    """

    settings: type[Settings]
    trainer: type[Trainer]
    metrics: Sequence[Metric]
    charts: Sequence[ChartSpec]
    advice: Sequence[Rule] = ()
    makes: str = MODEL
    takes: Mapping[str, str] = field(default_factory=lambda: {"model": MODEL})
    samples: bool = False
    measured: Callable[[Any], list[str]] = lambda settings: []
    more_metrics: Callable[[Any], list[str]] = lambda settings: []
    facts: Facts = facts_of()
    practises: bool = False
    group_note: str = ""
    steps: Callable[[Mapping[str, Any]], int | None] = lambda settings: settings.get("steps")

    @property
    def name(self) -> str:
        """What recipes call it."""
        return str(self.settings.model_fields["kind"].default)

    def figures(self, settings: Any) -> tuple[str, ...]:
        """The numbers by name that a stage of these settings logs: what a gate without a task may ask for."""
        declared = (metric.name for metric in self.metrics)
        return tuple(dict.fromkeys([*_LOOP, *self.trainer.totals, *declared, *self.more_metrics(settings)]))
