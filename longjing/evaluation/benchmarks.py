"""The paper's benchmarks by name: where their problems are, and how the paper measures.

DeepSeek-R1 (arXiv 2501.12948v2, supplement D.1): at most 32,768 tokens, temperature 0.6, top-p 0.95, and k
samples of each problem, 64 for AIME and GPQA and 16 for MATH; pass@1 is their mean, cons@64 the majority's
accuracy. All instructions are in the user's message, none in a system prompt (`benchmark_task.py`). GSM8K is not among
the paper's; it is measured likewise, with the least k that the paper names.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from longjing import tasks
from longjing.errors import UserError
from longjing.evaluation.benchmark_task import BenchmarkTask, Choice, Mathematics
from longjing.evaluation.evaluate import EvalConfig
from longjing.evaluation.hub import INSTEAD, download
from longjing.files import digest
from longjing.problems import Task
from longjing.tasks.row_files import read_rows
from longjing.validation import nearest, read_yaml


@dataclass(frozen=True)
class Benchmark:
    """A file of a data set on the Hub, as of a revision, with `problems` rows; `samples` of each (k)."""

    kind: Literal["mathematics", "choice"]
    problems: int
    samples: int
    repository: str
    file: str
    revision: str

    @property
    def config(self) -> EvalConfig:
        return EvalConfig(self.problems, self.samples, temperature=0.6, top_p=0.95, max_tokens=32_768)


_KINDS: dict[str, type[BenchmarkTask]] = {"mathematics": Mathematics, "choice": Choice}
BENCHMARKS = read_yaml(__file__, "benchmarks.yaml", dict[str, Benchmark])


def find(name: str, **settings: Any) -> tuple[Task, EvalConfig]:
    """A task or benchmark by its name, with how it is measured if nothing else is asked for.

    A benchmark has one setting: `file`, a local file of the same form. Raises UserError for an unknown name,
    an impossible setting, and problems that can't be had.
    """
    if name in tasks.names() or tasks.is_external(name):
        return tasks.get(name, **settings), EvalConfig(max_tokens=512)
    if name not in BENCHMARKS:
        names = [*tasks.names(), *BENCHMARKS]
        raise UserError(
            f"no task or benchmark {name!r}{nearest(name, names)}; there are: {', '.join(names)}; or a task of your "
            "own, problems.jsonl or my_task.py"
        )
    task = load(name, **settings)
    rows = sum(1 for _ in task.problems("test", 0))  # all, however many a file has
    return task, replace(BENCHMARKS[name].config, problems=rows)


def load(name: str, file: Any = None, **others: Any) -> BenchmarkTask:
    """The benchmark, from `file` or from the Hub. Its settings say which file it was, by name and SHA-256."""
    if others:
        raise UserError(f"{name} has no setting {next(iter(others))!r}: the only one is 'file', a local file")
    if not isinstance(file, str | None):
        raise UserError(f"{name}: `file` is {file!r}; it must be the path of a local file")
    benchmark = BENCHMARKS[name]
    if file is None:
        origin = f"{benchmark.repository}@{benchmark.revision}/{benchmark.file}"
        path = source(name)
    else:
        origin, path = file, Path(file)
    return _KINDS[benchmark.kind](name, read_rows(path), {"source": origin, "sha256": digest(path)}, origin)


def source(name: str, instead: str = INSTEAD) -> Path:
    """The benchmark's file, from the Hub. Raises UserError if it can't be had, with what may be done `instead`."""
    benchmark = BENCHMARKS[name]
    return download(benchmark.repository, benchmark.revision, benchmark.file, instead)
