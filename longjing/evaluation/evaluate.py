"""Measures a generator on a task: the same problems for everyone, several samples of each, reproducibly."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from math import isfinite
from time import perf_counter
from typing import Any, Self

import numpy as np

from longjing.engine.random import sample_seed
from longjing.engine.request import Generation, Generator, Request, Sampling
from longjing.errors import UserError
from longjing.evaluation import statistics
from longjing.evaluation.statistics import Interval, Scores
from longjing.tasks.answer import boxed
from longjing.tasks.base import Completion, Problem, Split, Task
from longjing.tasks.expression import ExpressionError, parse_number, plain
from longjing.text.reasoning import ReasoningStream
from longjing.text.tokenizer import Tokenizer

_SCORE = {"correct": 1.0, "wrong": 0.0, "unjudged": np.nan}


@dataclass(frozen=True)
class Record:
    """One problem and its samples. Lengths are in tokens; `text` is the first sample, whole."""

    id: str
    prompt: str
    gold: str
    language: str
    outcomes: list[str]
    answers: list[str | None]
    lengths: list[int]
    reasoning_lengths: list[int]
    truncated: list[bool]
    well_formed: list[bool]
    text: str


@dataclass(frozen=True)
class Evaluation:
    """What was sampled and how it was judged; every figure is worked out from that.

    `settings` are the task's, `sampling` how the samples were drawn. `seconds`: wall time of sampling and
    judging. `flops`: spent on sampling, None if nobody counted. Shares and means are over samples.
    """

    task: str
    settings: dict[str, Any]
    split: str
    sampling: dict[str, Any]
    records: list[Record]
    seconds: float
    flops: int | None = None

    @property
    def problems(self) -> int:
        return len(self.records)

    @property
    def samples(self) -> int:
        """Samples of each problem."""
        return len(self.records[0].outcomes)

    @cached_property
    def scores(self) -> Scores:
        """`[problems, samples]`: 1 correct, 0 wrong, NaN unjudged."""
        return np.array([[_SCORE[outcome] for outcome in record.outcomes] for record in self.records])

    @cached_property
    def accuracy(self) -> Interval:
        """pass@1 with its 95% interval; unjudged samples are left out."""
        return statistics.pass_at_1(self.scores)

    @property
    def pass_at_1(self) -> float:
        return self.accuracy.mean

    @property
    def low(self) -> float:
        return self.accuracy.low

    @property
    def high(self) -> float:
        return self.accuracy.high

    @cached_property
    def pass_at_k(self) -> dict[int, float]:
        """For k = 1, 2, 4, ... up to the number of samples."""
        ks = [2**power for power in range(self.samples.bit_length())]
        return {k: statistics.pass_at_k(self.scores, k) for k in ks}

    @cached_property
    def maj_at_k(self) -> float:
        """The accuracy of the majority's answer, k being the number of samples; ties and abstentions as in
        `statistics.majority`. Problems of which nothing was judged are left out."""
        won = [
            statistics.majority(record.answers, scores.tolist())
            for record, scores in zip(self.records, self.scores, strict=True)
            if not np.isnan(scores).all()
        ]
        return float(np.mean(won)) if won else np.nan

    @property
    def tokens(self) -> int:
        """Tokens sampled."""
        return sum(sum(record.lengths) for record in self.records)

    @property
    def length_mean(self) -> float:
        return self._mean("lengths")

    @property
    def reasoning_length_mean(self) -> float:
        return self._mean("reasoning_lengths")

    @property
    def truncated(self) -> float:
        """The share of samples cut off at `max_tokens`."""
        return self._mean("truncated")

    @property
    def well_formed(self) -> float:
        """The share of samples whose reasoning was opened once and closed once, with an answer after it."""
        return self._mean("well_formed")

    @property
    def unjudged(self) -> int:
        """Samples on which the verifier failed."""
        return int(np.isnan(self.scores).sum())

    @property
    def tokens_per_solved(self) -> float:
        """Tokens sampled for each correct answer: what one costs if the wrong are thrown away. May be inf."""
        return self._per_solved(self.tokens)

    @property
    def flops_per_solved(self) -> float | None:
        return None if self.flops is None else self._per_solved(self.flops)

    def _mean(self, name: str) -> float:
        return float(np.mean([getattr(record, name) for record in self.records]))

    def _per_solved(self, spent: int) -> float:
        solved = float(np.nansum(self.scores))
        return spent / solved if solved else float("inf")

    def summary(self) -> dict[str, Any]:
        """Every figure, JSON-able; what can't be computed (nothing solved, nothing judged) is None."""
        figures = (
            "problems", "samples", "pass_at_1", "low", "high", "maj_at_k", "length_mean",
            "reasoning_length_mean", "truncated", "well_formed", "unjudged", "tokens", "tokens_per_solved",
            "flops", "flops_per_solved", "seconds",
        )  # fmt: skip
        return (
            {name: getattr(self, name) for name in ("task", "settings", "split", "sampling")}
            | {name: _finite(getattr(self, name)) for name in figures}
            | {"interval": self.accuracy.method}
            | {"pass_at_k": {str(k): _finite(value) for k, value in self.pass_at_k.items()}}
        )

    def examples(self, count: int) -> list[dict[str, Any]]:
        """The first sample of the first problems, as a run's evaluations.jsonl shows them."""
        return [
            {"problem": r.id, "prompt": r.prompt, "text": r.text, "outcome": r.outcomes[0]}
            for r in self.records[:count]
        ]

    def summary_rows(self) -> list[tuple[str, str]]:
        """Label and value of each figure, for a table."""
        accuracy, k, flops = self.accuracy, self.samples, self.flops_per_solved
        return [
            ("problems x samples", f"{self.problems} x {k} ({self.split})"),
            ("pass@1", f"{accuracy.mean:.1%}  (95%: {accuracy.low:.1%} to {accuracy.high:.1%})"),
            *((f"pass@{k}", f"{value:.1%}") for k, value in self.pass_at_k.items() if k > 1),
            (f"maj@{k}", f"{self.maj_at_k:.1%}"),
            ("mean length", f"{self.length_mean:.0f} tokens, {self.reasoning_length_mean:.0f} of reasoning"),
            ("truncated", f"{self.truncated:.1%}"),
            ("well-formed", f"{self.well_formed:.1%}"),
            ("unjudged", str(self.unjudged)),
            ("tokens per solved problem", f"{self.tokens_per_solved:,.0f}"),
            *([("FLOPs per solved problem", f"{flops:.2e}")] if flops is not None else []),
            ("seconds", f"{self.seconds:.1f}"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The summary and all records, JSON-able; `from_dict` reads it back."""
        return self.summary() | {"records": [asdict(record) for record in self.records]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises UserError if it isn't that."""
        try:
            records = [Record(**record) for record in values["records"]]
            names = ("task", "settings", "split", "sampling", "seconds", "flops")
            return cls(records=records, **{name: values[name] for name in names})
        except (KeyError, TypeError) as error:
            raise UserError(f"not an evaluation, as `longjing eval --json` writes it: {error!r}") from error


def evaluate(
    generator: Generator,
    tokenizer: Tokenizer,
    task: Task,
    *,
    split: Split = "test",
    problems: int = 200,
    samples: int = 4,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_tokens: int = 256,
    flops: Callable[[int, Sequence[int]], int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Draw `samples` completions of each of the first `problems` problems of a split, and judge them.

    The problems don't depend on `seed`, so that all models and seeds answer the same; a split that has fewer
    gives what it has. Each sample depends only on (seed, problem, sample). `flops` says what a problem's
    samples cost, from the length of the prompt and the lengths of the completions
    (`planning.flops.generation`). `on_progress(finished samples, tokens so far)` is called as the generator
    goes. Raises UserError for settings that make no sense.
    """
    if problems < 1 or samples < 1:
        raise UserError(f"problems ({problems}) and samples ({samples}) must be at least 1")
    if temperature == 0 and samples > 1:
        raise UserError(
            f"at temperature 0 all {samples} samples would be the same: ask for 1, or for a temperature"
        )
    started = perf_counter()
    chosen = list(islice(task.problems(split, 0), problems))
    if not chosen:
        raise UserError(f"task {task.name} has no {split} problems with the settings {task.settings}")
    chats = [[{"role": "user", "content": problem.prompt}] for problem in chosen]
    prompts = [tokenizer.encode_chat(chat) for chat in chats]
    prefilled = [ReasoningStream.after(tokenizer.render(chat)).in_reasoning for chat in chats]
    requests = [
        Request(
            prompt,
            Sampling(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_tokens,
                seed=sample_seed(seed, 0, f"evaluation {problem.id}", sample),
            ),
        )
        for problem, prompt in zip(chosen, prompts, strict=True)
        for sample in range(samples)
    ]
    generations = generator.generate(requests, on_progress)
    groups = [generations[start : start + samples] for start in range(0, len(generations), samples)]
    records = [
        _record(task, tokenizer, problem, group, opened)
        for problem, group, opened in zip(chosen, groups, prefilled, strict=True)
    ]
    cost = None
    if flops is not None:
        lengths = [record.lengths for record in records]
        cost = sum(flops(len(prompt), drawn) for prompt, drawn in zip(prompts, lengths, strict=True))
    sampling = {"seed": seed, "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
    return Evaluation(task.name, task.settings, split, sampling, records, perf_counter() - started, cost)


def compare(before: Evaluation, after: Evaluation) -> Interval:
    """How much `after` solves more of the same problems, with a paired 95% interval.

    Raises UserError if the two didn't answer the same problems.
    """
    if [record.id for record in before.records] != [record.id for record in after.records]:
        one, other = (f"{side.problems} of {side.task} {side.settings}" for side in (before, after))
        raise UserError(
            f"the evaluations differ in their problems ({one}; {other}): "
            "run both with the same task, settings and number of problems"
        )
    judged = ~np.isnan(before.scores).all(axis=1) & ~np.isnan(after.scores).all(axis=1)
    if not judged.any():
        raise UserError("no problem was judged in both evaluations: there is nothing to compare")
    first, second = (statistics.problem_means(side.scores[judged]) for side in (before, after))
    return statistics.paired_difference(first, second)


def normalise(answer: str) -> str:
    """The form in which final answers vote: numbers by their value (`0.5` is `1/2`), other text without white
    space, variants of signs, or case."""
    try:
        return str(parse_number(answer))
    except ExpressionError:
        pass
    try:
        answer = plain(answer)
    except ExpressionError:  # too long to be an answer: it votes as it stands
        return answer
    return "".join(answer.split()).casefold()


def _record(
    task: Task, tokenizer: Tokenizer, problem: Problem, group: Sequence[Generation], prefilled: bool
) -> Record:
    completions = [
        Completion.parse(generation.text, prefilled, truncated=generation.finish_reason != "stop")
        for generation in group
    ]
    # What was cut off has no final answer: nobody knows what it would have said next.
    boxes = [None if completion.truncated else boxed(completion.answer) for completion in completions]
    return Record(
        id=problem.id,
        prompt=problem.prompt,
        gold=problem.answer,
        language=problem.language,
        outcomes=[task.judge(problem, completion).outcome for completion in completions],
        answers=[normalise(box) if box else None for box in boxes],
        lengths=[len(generation.tokens) for generation in group],
        reasoning_lengths=[len(tokenizer.encode(completion.reasoning)) for completion in completions],
        truncated=[completion.truncated for completion in completions],
        well_formed=[completion.well_formed for completion in completions],
        text=group[0].text,
    )


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or isfinite(value) else None
