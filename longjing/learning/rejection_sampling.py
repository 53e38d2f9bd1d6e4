"""Rejection sampling: a model's own completions become data, as far as they are right and readable.

Two stages of the recipe are this loop. The cold start draws from R1-Zero and puts what it keeps into R1's readable
form; the second round draws from the model of the first reinforcement stage and mixes in what isn't the model's own,
conversation above all (DeepSeek-R1, arXiv 2501.12948, sections 2.3.1 and 2.3.3; supplement, B.3). What deviates: the
paper has DeepSeek-V3 translate and rewrite; here what mixes languages is dropped, and the answer is put into words by a
few sentence patterns. The rules judge every sample; no model does.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from torch import Tensor

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.evaluation.instructions import asked, hint, instruction, knows_thinking
from longjing.generation.random import sample_seed
from longjing.learning.advice import WINDOW, Rows, values_of
from longjing.learning.loop import SILENT, Step, Trainer
from longjing.learning.rollouts import Group, judge_group, sample_groups, sampling_flops
from longjing.learning.sampled_conversations import SampledConversationSettings, others_beside, sampled_rows
from longjing.learning.settings import EngineSettings, Settings, TaskReference
from longjing.learning.stage import DATA, StageKind
from longjing.planning.bill import quantity
from longjing.problems import Completion, Problem, Task, Verdict, boxed
from longjing.problems.language import share
from longjing.problems.repetition import repetition
from longjing.runs import Watcher
from longjing.runs.jsonl import Row
from longjing.runs.metric import ChartSpec, Metric, Series
from longjing.runs.models import load
from longjing.toys.paraphrase import informal_tasks

# Why a sample isn't kept, in the order in which it is asked; the first reason counts.
REASONS = ("unjudged", "truncated", "malformed", "wrong", "language", "repetition", "long", "duplicate", "surplus")
_REJECTED = "rejected_"  # before a reason: the metric that counts the samples
SUMMED = (
    "problems", "solved", "sampled", "kept", "others", *(_REJECTED + reason for reason in REASONS),
    "tokens_sampled", "tokens_trained", "tokens_kept", "flops",
)  # fmt: skip
_PATIENCE = 10_000  # draws in a row without a new problem, after which a task counts as exhausted


# Told apart by their form, so that what is wrong inside of one is all that is complained of.
OneOrMore = Annotated[
    Annotated[TaskReference, Tag("one")] | Annotated[list[TaskReference], Tag("several")],
    Discriminator(lambda data: "several" if isinstance(data, list) else "one"),
]


Form = Literal["think", "plain", "any"]
FORMS = "think, plain or any; `instruction` tells the model which"


class KeepSettings(Settings):
    """What a sample must be to be kept. It always has to be judged, to have ended, and to keep the form."""

    form: Form | None = Field(
        None,
        description="think: R1's, reasoning between tags and then one box; plain: an answer without tags; any: either. "
        "By default think for a model that knows the tags, else plain",
    )
    correct: bool = True
    min_language: float = Field(
        0.9, ge=0, le=1, description="share of the words in the problem's language, of reasoning and answer each"
    )
    max_repetition: float = Field(0.2, ge=0, le=1, description="share of the text that repeats itself")
    max_length: int | None = Field(None, ge=1, description="tokens of the completion")
    per_problem: int | None = Field(None, ge=1, description="samples kept of one problem, the first ones")
    deduplicate: bool = Field(True, description="keep the same reasoning once")


class RejectionSamplingSettings(SampledConversationSettings, EngineSettings):
    """The settings of a sampling stage."""

    kind: Literal["sample"] = "sample"
    model: str = Field("base", description="the model to draw from: a shipped name, a directory, or a run")
    task: OneOrMore = Field(description="the tasks; their problems come in turn")
    problems: int = Field(ge=1, description="training problems, all of them different")
    samples: int = Field(4, ge=1, description="samples of each problem")
    problems_per_step: int = Field(32, ge=1, description="problems sampled together")
    temperature: float = Field(1.0, gt=0)
    max_tokens: int = Field(ge=1, description="longest completion")
    keep: KeepSettings = Field(default_factory=lambda: KeepSettings.model_validate({}))

    @field_validator("task")
    @classmethod
    def _some_task(cls, task: TaskReference | list[TaskReference]) -> TaskReference | list[TaskReference]:
        if not task:
            raise ValueError("there is no task to draw problems from")
        return task

    @model_validator(mode="after")
    def _can_be_informal(self) -> Self:
        leaves = (leaf["name"] for one in self._tasks for leaf in tasks.flatten_mixture(one.model_dump()))
        for task in leaves if self.informal else ():
            if task not in informal_tasks():
                raise ValueError(
                    f"informal rewords prompts of the tasks {', '.join(informal_tasks())} only, since in others' a "
                    f"capital or a sign may be what is asked; leave it out, or the task {task}"
                )
        return self

    @property
    def _tasks(self) -> list[TaskReference]:
        return self.task if isinstance(self.task, list) else [self.task]

    @property
    def tasks(self) -> list[Task]:
        return [one.make() for one in self._tasks]

    @property
    def steps(self) -> int:
        return math.ceil(self.problems / self.problems_per_step)


def draw(tasks: list[Task], number: int, seed: int) -> list[tuple[Task, Problem]]:
    """`number` training problems, no two the same, of each task in turn.

    Raises UserError if a task hasn't as many.
    """
    seen: set[str] = set()
    by_task = []
    for index, task in enumerate(tasks):
        wanted = len(range(index, number, len(tasks)))
        stream = task.problems("train", sample_seed(seed, 0, "curation", index))
        problems = list(islice(_different(stream, seen), wanted))
        if len(problems) < wanted:
            raise UserError(
                f"task {task.name} has about {len(problems)} different training problems with the settings "
                f"{task.settings}, not {wanted}; lower `problems`, or make the task harder"
            )
        by_task.append(problems)
    turns = (divmod(turn, len(tasks)) for turn in range(number))
    return [(tasks[index], by_task[index][row]) for row, index in turns]


def _different(problems: Iterator[Problem], seen: set[str]) -> Iterator[Problem]:
    """Those that weren't `seen`, here or by others."""
    misses = 0
    for problem in problems:
        if problem.id not in seen:
            seen.add(problem.id)
            misses = 0
            yield problem
        elif (misses := misses + 1) == _PATIENCE:
            return


def filter_samples(group: Group, keep: KeepSettings, control: Collection[str] = ()) -> list[str | None]:
    """The reason why each sample of a problem isn't kept, one of `REASONS`, or None if it is.

    `control`: tokens of the template's, which nobody can learn to say.
    """
    reasons: list[str | None] = []
    seen: set[str] = set()
    for number in range(len(group.generations)):
        reason = _flaw(group, number, keep, control)
        completion = group.completions[number]
        text = " ".join((completion.all_reasoning or completion.answer).split())
        if reason is None and keep.deduplicate and text in seen:
            reason = "duplicate"
        if reason is None and reasons.count(None) == keep.per_problem:
            reason = "surplus"
        if reason is None:
            seen.add(text)
        reasons.append(reason)
    return reasons


def _flaw(group: Group, number: int, keep: KeepSettings, control: Collection[str]) -> str | None:
    """What is wrong with a sample by itself."""
    completion, verdict = group.completions[number], group.verdicts[number]
    if verdict.outcome == "unjudged":
        return "unjudged"
    if completion.truncated:
        return "truncated"
    parts = [part for turn in completion.turns for part in (turn.reasoning, turn.answer) if part]
    if not _has_form(completion, verdict, keep.form) or any(token in part for token in control for part in parts):
        return "malformed"
    if keep.correct and verdict.outcome != "correct":
        return "wrong"
    if min((share(part, group.problem.language) for part in parts), default=0.0) < keep.min_language:
        return "language"
    if max(map(repetition, parts), default=0.0) > keep.max_repetition:
        return "repetition"
    if keep.max_length is not None and group.generations[number].length > keep.max_length:
        return "long"
    return None


def _has_form(completion: Completion, verdict: Verdict, form: Form | None) -> bool:
    plain = all(turn.answer.strip() and not turn.reasoning and not turn.closed for turn in completion.turns)
    return (form != "plain" and bool(verdict.rewards.get("format"))) or (form in ("plain", "any") and plain)


class RejectionSampling(Trainer):
    """A model, the problems it is asked, and what becomes of its samples."""

    preparing = "drawing the problems"
    totals = SUMMED
    logs_totals = exports = False

    def __init__(self, settings: RejectionSamplingSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        self.settings, self.seed, self.steps = settings, runtime.seed, settings.steps
        self.model, self.tokenizer = load(settings.model, runtime.device)
        form = settings.keep.form or ("think" if knows_thinking(self.tokenizer) else "plain")
        self.keep = settings.keep.model_copy(update={"form": form})
        self.problems = draw(settings.tasks, settings.problems, self.seed)
        self.generator = settings.generator(self.model, self.tokenizer, runtime, watcher)
        self.generator.capabilities.require("rejection sampling that can be resumed", "seeds")
        self._kept = self._others = 0  # rows of the data so far: its own, and others
        self._hint: str | None = None  # on the answers' form

    def step(self, step: int) -> Step:
        """Sample the step's problems, filter the samples, and mix in what isn't the model's own."""
        began = time.perf_counter()
        groups = self.sample(step)
        control = self.tokenizer.control_tokens
        reasons = [filter_samples(group, self.keep, control) for group in groups]
        seconds = time.perf_counter() - began
        rollouts = []
        for group, why in zip(groups, reasons, strict=True):
            details = zip(group.generations, why, strict=True)
            rollouts.append(group.to_row([{"length": each.length, "rejected": reason} for each, reason in details]))
        metrics = self.metrics(groups, reasons)
        self._kept += metrics["kept"]
        others = others_beside(self.settings, self._kept, self._others)
        self._others = others.stop
        metrics |= {"others": len(others), "tokens_per_second_sampling": metrics["tokens_sampled"] / seconds}
        kept = [
            (group.problem, completion, number)
            for group, why in zip(groups, reasons, strict=True)
            for number, (completion, reason) in enumerate(zip(group.completions, why, strict=True))
            if reason is None
        ]
        rows = sampled_rows(self.settings, self.seed, kept, others, groups[0].problem.id)
        return Step(metrics, rollouts, rows)

    def restore(self, tensors: dict[str, Tensor], totals: Mapping[str, Any]) -> None:
        self._kept, self._others = totals["kept"], totals["others"]

    def summary(self, totals: Mapping[str, Any], evaluations: Sequence[Row]) -> dict[str, Any]:
        if not totals["kept"]:
            raise UserError(
                f"none of {totals['sampled']} samples was kept ({_rejections(totals)}); ask for less in `keep` (its "
                f"`form` is {self.keep.form}: {FORMS}), draw more `samples`, or start from a better model"
                + (f". {self._hint}" if self._hint else "")
            )
        return {}

    def sample(self, step: int) -> list[Group]:
        """The step's problems with their samples, judged."""
        settings, count = self.settings, self.settings.problems_per_step
        problems = self.problems[step * count : (step + 1) * count]
        sampling = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        told, tags = settings.instruction, self.keep.form == "think"
        sampled = sample_groups(
            self.generator, self.tokenizer, problems, settings.samples, sampling, self.seed, step, 0, told, tags
        )
        groups = []
        for (task, problem), dialogues in zip(problems, sampled, strict=True):
            group = judge_group(task, problem, dialogues)
            # The data ask as the samples were asked.
            prompt = asked(problem, instruction(self.tokenizer, task, problem, told, tags))
            groups.append(replace(group, problem=replace(problem, prompt=prompt)))
        whole = [completion for group in groups for completion in group.completions if not completion.truncated]
        unboxed = sum(boxed(completion.answer) is None for completion in whole) / max(1, len(whole))
        self._hint = hint(*problems[0], unboxed)
        return groups

    def metrics(self, groups: list[Group], reasons: list[list[str | None]]) -> dict[str, Any]:
        """What a step sampled and what of it is kept."""
        generations = [generation for group in groups for generation in group.generations]
        flat = [reason for why in reasons for reason in why]
        kept = [each.length for each, reason in zip(generations, flat, strict=True) if reason is None]
        outcomes = [verdict.outcome for group in groups for verdict in group.verdicts]
        tokens = sum(generation.length for generation in generations)
        return {
            "problems": len(groups),
            "solved": sum(None in why for why in reasons),
            "sampled": len(flat),
            "kept": len(kept),
            **{_REJECTED + reason: flat.count(reason) for reason in REASONS},
            "accuracy": outcomes.count("correct") / max(1, len(outcomes)),
            "length_mean": tokens / len(flat),
            "tokens_sampled": tokens,
            "tokens_trained": 0,
            "tokens_kept": sum(kept),
            "flops": sampling_flops(self.model.config, groups),
        }


def little_kept(rows: Rows) -> str | None:
    recent = rows[-WINDOW:]
    sampled, kept = (sum(values_of(recent, key)) for key in ("sampled", "kept"))
    if not sampled or kept >= 0.05 * sampled:
        return None
    reason = max(REASONS, key=lambda reason: sum(values_of(recent, _REJECTED + reason)))
    return (
        f"only {kept / sampled:.1%} of the samples are kept, most of the others were {reason}; ask for less in `keep`, "
        f"or begin from a better model{f' (keep.form is {FORMS})' * (reason == 'malformed')}"
    )


def _rejections(totals: Mapping[str, Any]) -> str:
    """How many samples weren't kept, by reason."""
    counts = {key.removeprefix(_REJECTED): count for key, count in totals.items() if key.startswith(_REJECTED)}
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What became of the samples, for the report."""
    if not result:
        return []
    kept, sampled = result["kept"], result["sampled"]
    return [
        ("problems", f"{result['problems']:,}, of {result['solved']:,} something is kept"),
        ("samples", f"{sampled:,}, {quantity(result['tokens_sampled'], 'tokens')}"),
        ("kept", f"{kept:,} ({kept / sampled:.1%}), {quantity(result['tokens_kept'], 'tokens')}"),
        ("not kept", _rejections(result) or "none"),
        ("documents added", f"{result['others']:,}"),
    ]


STAGE = StageKind(
    RejectionSamplingSettings, RejectionSampling,
    (
        Metric("accuracy", "right", "{:.0%}"), Metric("kept", "kept a step", "{:.0f}"),
        Metric("length_mean", "length", "{:.0f}"), Metric("tokens_per_second_sampling", "tokens/s", "{:,.0f}"),
    ),
    (
        ChartSpec("Kept", [Series("kept", "kept", per="sampled"), Series("accuracy", "right")], "Of the samples.",
                  percent=True, first=True),
        ChartSpec("Not kept", [Series("rejected_*", per="sampled")],
                  "Of the samples, by the first reason that was found; the commonest ones.", percent=True),
        ChartSpec("Length", [Series("length_mean", "mean")], "Tokens of a sample.", first=True),
        ChartSpec("Speed", [Series("tokens_per_second_sampling", "sampling")], "Tokens a second.", first=True),
    ),
    (little_kept,), makes=DATA, samples=True, facts=_facts,
    steps=lambda settings: math.ceil(settings["problems"] / settings["problems_per_step"]),
)  # fmt: skip
