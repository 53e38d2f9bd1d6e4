"""How often a model solves each problem of a file, measured once and kept, and which problems are as hard as wanted.

Group-relative advantages learn nothing from a problem that is solved always, or never (DAPO, arXiv 2503.14476,
section 3.2).
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import torch

from longjing.errors import UserError
from longjing.evaluation.evaluate import EvalConfig, question_of
from longjing.evaluation.model_client import ModelClient, Progress
from longjing.files import disk_errors, to_json, write_lines
from longjing.model.layers.packed_linear import PackedLinear
from longjing.problems import Problem, verdict_of
from longjing.runs.jsonl import JsonLines, read_jsonl
from longjing.tasks import ListedTask
from longjing.tasks.row_files import Row, located_rows

COLUMN = "pass_rate"
_AT_ONCE = 64  # problems between two lines written: what a kill may cost


@dataclass(frozen=True)
class PassRate:
    """The verdicts on the `samples` of one problem: how many are correct, how many got a verdict, how many were cut
    off."""

    correct: int
    judged: int
    truncated: int
    samples: int

    @property
    def share(self) -> float | None:
        """The share of all samples that is correct: what nobody could judge isn't right. None if none was judged: that
        says nothing of the model."""
        return self.correct / self.samples if self.judged else None


@dataclass(frozen=True)
class RateBand:
    """The pass rates that are wanted, ends included."""

    least: float
    most: float

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most <= 1:
            raise UserError(f"pass rates go from 0 to 1: none is at least {self.least} and at most {self.most}")


def weights_digest(model: torch.nn.Module) -> str:
    """Tells the weights of one model from another's, by the first of each tensor."""
    digest = blake2b(digest_size=12)
    packed = ((name, part.dense()) for name, part in model.named_modules() if isinstance(part, PackedLinear))
    for name, weight in chain(model.named_parameters(), packed):
        first = weight.detach().flatten()[:64].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + first.numpy().tobytes())
    return digest.hexdigest()


def measure_pass_rates(
    client: ModelClient,
    task: ListedTask,
    config: EvalConfig,
    model: Row,
    kept: Path,
    *,
    at_once: int = _AT_ONCE,
    on_progress: Progress | None = None,
) -> list[tuple[Row, PassRate]]:
    """The task's rows, each with its rate: `config.samples` samples of every problem, judged by the task.

    Rates are kept in the file `kept`, beneath a line that says what they are rates of (`model` and settings), and what
    stands there isn't measured again. Raises UserError if they are of something else.
    """
    rows: dict[str, tuple[Row, Problem]] = {}
    for location, row in task.located_rows():
        problem = task.problem(location, row)
        rows.setdefault(_key(problem), (row, problem))
    sampling = asdict(config)
    del sampling["problems"]
    how = {key: value for key, value in task.settings.items() if key not in ("sha256", "prompt", "answer")}
    log, rates = _opened(kept, {"model": model, "sampling": sampling, "task": how})
    missing = [(key, problem) for key, (_, problem) in rows.items() if key not in rates]
    finished, tokens = len(rows) - len(missing), 0
    for start in range(0, len(missing), at_once):
        part = missing[start : start + at_once]
        questions = [question_of(client, task, problem, config) for _, problem in part]
        answers = client.answer(questions, _after(on_progress, finished * config.samples, tokens))
        for (key, problem), group in zip(part, answers.groups, strict=True):
            outcomes = [verdict_of(task, problem, answer.completion).outcome for answer in group]
            rates[key] = PassRate(
                outcomes.count("correct"),
                len(outcomes) - outcomes.count("unjudged"),
                sum(answer.completion.truncated for answer in group),
                len(group),
            )
            log.append({"problem": key, **asdict(rates[key])})
            tokens += sum(answer.length for answer in group)
        finished += len(part)
    return [(row, rates[key]) for key, (row, _) in rows.items()]


def _key(problem: Problem) -> str:
    """The same for what is asked and judged alike."""
    judged = json.dumps([problem.id, problem.answer, problem.data], sort_keys=True)
    return blake2b(judged.encode(), digest_size=12).hexdigest()


def _after(on_progress: Progress | None, samples: int, tokens: int) -> Progress | None:
    return None if on_progress is None else lambda done, more: on_progress(samples + done, tokens + more)


def _opened(path: Path, header: Row) -> tuple[JsonLines, dict[str, PassRate]]:
    """The file to go on with, and what it knows. A last line that was cut off is cut away."""
    header = json.loads(json.dumps(header))
    try:
        with disk_errors(path):
            first, *others = read_jsonl(path) or [header]
            samples = header["sampling"]["samples"]
            rates = {
                row["problem"]: PassRate(row["correct"], row["judged"], row["truncated"], samples) for row in others
            }
            changed = [key for key in header if first.get(key) != header[key]]
    except UserError:  # the disk's
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} holds no pass rates ({error!r}): remove it, or choose another --out") from None
    if changed:
        raise UserError(
            f"{path} has the pass rates of another measurement: another {', '.join(changed)}; remove it, or choose "
            "another --out"
        )
    write_lines(path, (to_json(line) + "\n" for line in (first, *others)))
    return JsonLines(path), rates


@dataclass
class Filtered:
    """The rows `kept`, each with its rate under `pass_rate`; how many were too hard, too easy, or have no rate."""

    kept: list[Row]
    harder: int = 0
    easier: int = 0
    unknown: int = 0


def filter_by_rate(rated: Iterable[tuple[Row, float | None]], band: RateBand) -> Filtered:
    """The rows whose rate the band holds."""
    filtered = Filtered([])
    for row, rate in rated:
        if rate is None:
            filtered.unknown += 1
        elif rate < band.least:
            filtered.harder += 1
        elif rate > band.most:
            filtered.easier += 1
        else:
            filtered.kept.append({**row, COLUMN: rate})
    return filtered


def recorded(path: Path, column: str) -> list[tuple[Row, float | None]]:
    """The rows of a file with the rates that stand in one of its columns, None where there is none.

    Raises UserError for a value that is no rate, and if no row has the column.
    """
    rows = located_rows(path)
    if not any(column in row for _, row in rows):
        raise UserError(f"{path}: no column {column!r}; there are {', '.join(map(str, rows[0][1]))}")
    for location, row in rows:
        rate = row.get(column)
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1):
            raise UserError(f"{path}, {location}: {column} is {rate!r}, which is no share from 0 to 1")
    return [(row, row.get(column)) for _, row in rows]
