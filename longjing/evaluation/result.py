"""What was sampled, how it was judged, and every figure that follows from it."""

import json
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from longjing.errors import UserError
from longjing.evaluation.bootstrap import Interval, Scores, mean_over_problems
from longjing.evaluation.pass_at_k import majority, pass_at_1, pass_at_k
from longjing.problems import Outcome
from longjing.text.reasoning import Parsed, parse
from longjing.validation import explain_data

# What a measurement says in numbers: properties of `Evaluation`.
FIGURES = (
    "problems", "samples", "pass_at_1", "low", "high", "maj_at_k", "length_mean", "reasoning_length_mean", "truncated",
    "unparsed", "well_formed", "unjudged", "tokens", "prompt_tokens", "tokens_per_solved", "flops",
    "flops_per_solved", "money", "money_per_solved", "seconds",
)  # fmt: skip
SHARES = ("pass_at_1", "low", "high", "maj_at_k", "truncated", "unparsed", "well_formed")  # of them, from 0 to 1


@dataclass(frozen=True)
class Record:
    """One problem and its samples. Lengths are in tokens; `text` is the first sample, whole, and `prefilled` whether
    its prompt had opened the reasoning. Of a conversation it is the last turn, and `earlier` are those before it, each
    with `text`, `prefilled` and the task's `reply`.

    `answers` are in the form in which they vote, None where there is no final answer.
    """

    id: str
    prompt: str
    gold: str
    language: str
    outcomes: list[Outcome]
    answers: list[str | None]
    lengths: list[int]
    reasoning_lengths: list[int]
    truncated: list[bool]
    well_formed: list[bool]
    text: str
    prefilled: bool = True
    earlier: list[dict[str, Any]] = field(default_factory=list)

    @property
    def parts(self) -> Parsed:
        """The first sample, taken apart."""
        return parse(self.text, self.prefilled)


@dataclass(frozen=True)
class Price:
    """What sampling costs, in `currency`: tokens per million, read (prompts) and written; a machine per hour."""

    read: float = 0.0
    written: float = 0.0
    hour: float = 0.0
    _: KW_ONLY
    currency: str = "$"

    def amount(self, money: float) -> str:
        return f"{self.currency}{money:.3g}"

    def __str__(self) -> str:
        rates = {
            "per million tokens read": self.read,
            "per million tokens written": self.written,
            "per hour": self.hour,
        }
        return " and ".join(f"{self.amount(rate)} {unit}" for unit, rate in rates.items() if rate) or "no cost"


@dataclass(frozen=True)
class Evaluation:
    """What was sampled and how it was judged; every figure is worked out from that.

    `settings` are the task's, `sampling` how the samples were drawn. `seconds`: wall time of sampling and
    judging. `flops`: spent on sampling, None if nobody counted. `prompt_tokens`: as often as they were read.
    `model` and `price`: as stated by whoever measured, and so is `provenance`: by which version, where, and of
    which weights or endpoint it was made. Shares and means are over samples.
    """

    task: str
    settings: dict[str, Any]
    split: str
    sampling: dict[str, Any]
    records: list[Record]
    seconds: float
    flops: int | None = None
    prompt_tokens: int = 0
    model: str = ""
    price: Price | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def problems(self) -> int:
        return len(self.records)

    @property
    def samples(self) -> int:
        """Samples of each problem."""
        return len(self.records[0].outcomes)

    @cached_property
    def scores(self) -> Scores:
        """`[problems, samples]`: 1 correct, 0 wrong or unjudged: what nobody could judge isn't right."""
        return np.array([[float(each == "correct") for each in record.outcomes] for record in self.records])

    @cached_property
    def accuracy(self) -> Interval:
        """pass@1 with its 95% interval; unjudged samples count as not right."""
        return pass_at_1(self.scores)

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
    def pass_at_k_intervals(self) -> dict[int, Interval]:
        """pass@k with its 95% interval, for k = 1, 2, 4, ... up to the number of samples."""
        return {k: pass_at_k(self.scores, k) for k in (2**power for power in range(self.samples.bit_length()))}

    @property
    def pass_at_k(self) -> dict[int, float]:
        """The mean pass@k by k."""
        return {k: interval.mean for k, interval in self.pass_at_k_intervals.items()}

    @cached_property
    def majorities(self) -> Scores:
        """`[problems]`: the accuracy of the majority's answer, ties and abstentions as in `pass_at_k.majority`."""
        pairs = zip(self.records, self.scores.tolist(), strict=True)
        return np.array([majority(record.answers, scores) for record, scores in pairs])

    @cached_property
    def majority(self) -> Interval:
        """maj@k with its 95% interval, k being the number of samples."""
        return mean_over_problems(self.majorities)

    @property
    def maj_at_k(self) -> float:
        return self.majority.mean

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
    def unparsed(self) -> float:
        """The share of samples that ended by themselves, and yet hold no final answer."""
        pairs = [pair for record in self.records for pair in zip(record.answers, record.truncated, strict=True)]
        return float(np.mean([answer is None and not cut for answer, cut in pairs]))

    @property
    def well_formed(self) -> float:
        """The share of samples whose reasoning was opened once and closed once, with an answer after it."""
        return self._mean("well_formed")

    @property
    def unjudged(self) -> int:
        """Samples on which the verifier failed."""
        return sum(record.outcomes.count("unjudged") for record in self.records)

    @property
    def tokens_per_solved(self) -> float:
        """Tokens sampled for each correct answer: what one costs if the wrong are thrown away. May be inf."""
        return self._per_solved(self.tokens)

    @property
    def flops_per_solved(self) -> float | None:
        return None if self.flops is None else self._per_solved(self.flops)

    @property
    def money(self) -> float | None:
        """What sampling cost at `price`, in its currency."""
        if self.price is None:
            return None
        tokens = self.prompt_tokens * self.price.read + self.tokens * self.price.written
        return tokens / 1e6 + self.seconds / 3600 * self.price.hour

    @property
    def money_per_solved(self) -> float | None:
        return None if self.money is None else self._per_solved(self.money)

    def _mean(self, name: str) -> float:
        return float(np.mean([getattr(record, name) for record in self.records]))

    def _per_solved(self, spent: float) -> float:
        solved = float(self.scores.sum())
        return spent / solved if solved else float("inf")

    def summary(self) -> dict[str, Any]:
        """Every figure, JSON-able; what can't be computed (a price of nothing solved) is None."""
        return (
            {name: getattr(self, name) for name in ("model", "task", "settings", "split", "sampling")}
            | {name: _finite(getattr(self, name)) for name in FIGURES}
            | {"interval": self.accuracy.method, "price": self.price and asdict(self.price)}
            | {"pass_at_k": {str(k): _finite(value) for k, value in self.pass_at_k.items()}}
            | {"maj_at_k_interval": _ends(self.majority)}
            | {"pass_at_k_intervals": {str(k): _ends(of) for k, of in self.pass_at_k_intervals.items()}}
            | ({"provenance": self.provenance} if self.provenance else {})
        )

    def examples(self, count: int) -> list[dict[str, Any]]:
        """The first sample of the first problems, as a run's evaluations.jsonl shows them."""
        return [
            {"problem": record.id, "prompt": record.prompt, "text": record.text, "prefilled": record.prefilled}
            | ({"earlier": record.earlier} if record.earlier else {})
            | {"outcome": record.outcomes[0]}
            for record in self.records[:count]
        ]

    def summary_rows(self) -> list[tuple[str, str]]:
        """Label and value of each figure, for a table."""
        k = self.samples
        flops, money = self.flops_per_solved, self.money_per_solved
        cost = f"{self.price.amount(money)} at {self.price}" if self.price and money is not None else ""
        return [
            ("problems x samples", f"{self.problems} x {k} ({self.split})"),
            ("sampling", ", ".join(f"{name} {value}" for name, value in self.sampling.items())),
            ("pass@1", str(self.accuracy)),
            *((f"pass@{k}", str(of)) for k, of in self.pass_at_k_intervals.items() if k > 1),
            (f"maj@{k}", str(self.majority)),
            ("mean length", f"{self.length_mean:.0f} tokens, {self.reasoning_length_mean:.0f} of reasoning"),
            ("truncated", f"{self.truncated:.1%}"),
            ("no final answer", f"{self.unparsed:.1%}"),
            ("well-formed", f"{self.well_formed:.1%}"),
            ("unjudged", f"{self.unjudged}{', counted as not right' if self.unjudged else ''}"),
            ("tokens per solved problem", f"{self.tokens_per_solved:,.0f}"),
            *([("FLOPs per solved problem", f"{flops:.2e}")] if flops is not None else []),
            *([("cost per solved problem", cost)] if cost else []),
            ("seconds", f"{self.seconds:.1f}"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The summary and all records, JSON-able; `from_dict` reads it back."""
        return self.summary() | {"records": [asdict(record) for record in self.records]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises UserError if it isn't that."""
        none = "not an evaluation, as `longjing eval --json` writes it"
        if "certificate" in values:  # its name in earlier versions
            values = {"provenance": values["certificate"], **values}
        try:
            evaluation = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise UserError(f"{none}: {explain_data(error)}") from error
        per_sample = ("outcomes", "answers", "lengths", "reasoning_lengths", "truncated", "well_formed")
        counts = {len(getattr(record, name)) for record in evaluation.records for name in per_sample}
        if len(counts) != 1 or counts == {0}:
            raise UserError(f"{none}: its problems have no samples, or one has more than another")
        return evaluation

    @classmethod
    def read(cls, path: Path) -> Self:
        """The evaluation in a file of `to_dict`'s JSON. Raises UserError, naming the file, if it isn't that."""
        try:
            return cls.from_dict(json.loads(path.read_text("utf-8")))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:  # no JSON, or no evaluation
            raise UserError(f"{path}: {error}") from error


def _ends(interval: Interval) -> dict[str, Any]:
    return {"low": _finite(interval.low), "high": _finite(interval.high), "method": interval.method}


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or isfinite(value) else None
