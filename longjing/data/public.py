"""Public sets of problems: where they are, and how a row becomes a problem with what its verifier needs.

Columns and files are as the sets' owners show them on the Hub (looked up in November 2026): the card of BAAI/TACO, the
READMEs of SynthLabsAI/Big-Math-RL-Verified and EleutherAI/hendrycks_math, the listings of files of hendrycks_math,
DeepScaleR, OpenR1-Math-220k and codeparrot/apps, and OpenR1's features as `datasets` prints them. Big-Math and TACO are
taken as they are today; `SetReading.origin` says as of which commit.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from longjing.errors import UserError
from longjing.evaluation.benchmark_task import REASON
from longjing.evaluation.hub import snapshot
from longjing.problems import boxed
from longjing.tasks.row_files import READERS, Row, cell_text, stream_rows
from longjing.validation import nearest, read_yaml
from longjing.verifiers.code_execution import MOST_TESTS

BOXED = f"\n\n{REASON}"  # as the evaluations ask
PROGRAM = (
    "\n\nWrite a Python program that reads the input from standard input and writes the output to standard output. "
    "Give the whole program in one code block."
)
FUNCTION = "\n\nGive the whole Python function in one code block."
INSTRUCTIONS = (BOXED, PROGRAM, FUNCTION)  # what prompts here end in, which is no part of the problem


class Unusable(ValueError):
    """A row that is no problem whose answer can be checked; says why."""


@dataclass(frozen=True)
class PublicSet:
    """A data set on the Hub (`public.yaml`): the `files` of a split there, in so many `folders`, the `columns` that are
    read, and the `verifier` that judges.

    The `form` of a row names the function that gives `prompt`, `answer` and whatever else the verifier reads, or raises
    Unusable; the columns `kept` are added as they are.
    """

    repository: str
    revision: str
    files: str
    splits: tuple[str, ...]
    verifier: str
    form: str
    columns: tuple[str, ...]
    kept: tuple[str, ...] = ()
    folders: int = 1


def _gsm8k(row: Row) -> Row:
    _, mark, answer = row["answer"].rpartition("####")
    if not mark:
        raise Unusable("no #### before the answer")
    return _mathematics(row["question"], answer.replace(",", ""))


def _math(row: Row) -> Row:
    """The answer is in the solution's last box."""
    start = row["solution"].rfind("\\boxed")
    return _mathematics(row["problem"], (boxed(row["solution"][start:]) if start >= 0 else None) or "")


def _answered(row: Row) -> Row:
    return _mathematics(row["problem"], row["answer"])


def _openr1(row: Row) -> Row:
    """Where a letter is the answer, one guess in four would be paid for; a proof has no answer to compare."""
    if row["question_type"] == "MCQ":
        raise Unusable("multiple choice")
    if row["question_type"] == "proof" or row["answer"].strip().casefold() in ("proof", "notfound"):
        raise Unusable("a proof, or no answer")
    return _answered(row)


def _code(row: Row) -> Row:
    """`input_output` is JSON: `inputs`, `outputs`, and `fn_name` where a function is called."""
    try:
        tests = json.loads(row["input_output"])
        inputs, outputs, name = tests["inputs"], tests["outputs"], tests.get("fn_name")
        if not isinstance(inputs, list) or not isinstance(outputs, list):
            raise TypeError("no lists")
        pairs = list(zip(inputs, outputs, strict=True))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unusable("no tests that can be read") from None
    if not pairs:
        raise Unusable("no tests")
    if name is None:
        prompt = row["question"].strip() + PROGRAM
        cases = [{"stdin": _lines(stdin), "stdout": _lines(stdout)} for stdin, stdout in pairs]
    else:
        starter = row["starter_code"].rstrip()
        prompt = f"{row['question'].strip()}\n\nThe function is called `{name}`.\n\n{starter}".rstrip() + FUNCTION
        cases = _calls(name, starter, pairs)
    return {"prompt": prompt, "answer": "", "tests": cases}


def _calls(name: Any, starter: str, pairs: list[tuple[Any, Any]]) -> list[Row]:
    is_name = isinstance(name, str) and name.isidentifier()
    if not is_name or not all(isinstance(arguments, list) for arguments, _ in pairs):
        raise Unusable("no tests that can be read")
    if "class " in starter:
        raise Unusable("the function is a method")
    # The sets' own judge takes [x] for x too, so nobody knows which of them is meant.
    if any(isinstance(returned, list) and len(returned) == 1 for _, returned in pairs):
        raise Unusable("what the function returns is ambiguous")
    return [{"function": name, "arguments": arguments, "returns": returned} for arguments, returned in pairs]


def _lines(text: Any) -> str:
    """A test's text; some are lists of lines."""
    lines = text if isinstance(text, list) else [text]
    if not all(isinstance(line, str) for line in lines):
        raise Unusable("no tests that can be read")
    return "\n".join(lines)


def _mathematics(problem: str, answer: str) -> Row:
    if not problem.strip() or not answer.strip():
        raise Unusable("no answer" if problem.strip() else "no problem")
    return {"prompt": problem.strip() + BOXED, "answer": answer.strip()}


_FORMS: dict[str, Callable[[Row], Row]] = {
    "gsm8k": _gsm8k, "math": _math, "answered": _answered, "openr1": _openr1, "code": _code,
}  # fmt: skip
PUBLIC = read_yaml(__file__, "public.yaml", dict[str, PublicSet])


def find(name: str) -> PublicSet:
    """The set of that name, ours or the Hub's. Raises UserError for another."""
    by_repository = {public.repository.casefold(): public for public in PUBLIC.values()}
    public = PUBLIC.get(name) or by_repository.get(name.casefold())
    if public is None:
        raise UserError(f"no set {name!r}{nearest(name, list(PUBLIC))}; the sets are: {', '.join(PUBLIC)}")
    return public


@dataclass
class SetReading:
    """The usable rows of a set, as they are read; then `read` says how many rows there were, and `left_out` how many
    were no problems, by reason. Of a prompt that comes again the first row stays, whatever the other's answer is."""

    public: PublicSet
    files: list[Path]
    origin: str
    most_tests: int
    read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def rows(self) -> Iterator[Row]:
        """The problems as rows, each prompt once. Raises UserError for a file that can't be read, or is of another
        form."""
        answers: dict[str, str] = {}  # by the prompts that were met
        for file in self.files:
            for location, row in stream_rows(file, self.public.columns):
                self.read += 1
                try:
                    problem = self._problem(row, f"{file}, {location}")
                    key = " ".join(problem["prompt"].split()).casefold()  # as ListedTask compares them
                    if key in answers:
                        same = answers[key] == problem["answer"]
                        raise Unusable("came before" if same else "came before with another answer")
                    answers[key] = problem["answer"]
                    yield problem
                except Unusable as reason:
                    self.left_out[str(reason)] += 1

    def _problem(self, row: Mapping[str, Any], where: str) -> Row:
        absent = [column for column in self.public.columns if column not in row]
        if absent:
            raise UserError(f"{where}: no column {absent[0]!r}; there are {', '.join(map(str, row))}")
        needed = set(self.public.columns) - set(self.public.kept)
        cells = {key: cell_text(row[key]) if key in needed else row[key] for key in self.public.columns}
        problem = _FORMS[self.public.form](cells) | {column: row[column] for column in self.public.kept}
        if "tests" in problem:  # too many: every second one, third one, ...
            problem["tests"] = problem["tests"][:: ceil(len(problem["tests"]) / self.most_tests)]
        try:
            json.dumps(problem, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError):
            raise Unusable("not Unicode, or not to be written as JSON") from None
        return problem


def open_set(
    name: str,
    split: str = "train",
    source: Path | None = None,
    revision: str | None = None,
    most_tests: int = MOST_TESTS,
) -> SetReading:
    """A split of a set from the Hub, or from `source`, a file or a folder of the same form. A program keeps at most
    `most_tests` tests.

    Raises UserError for an unknown set or split, and if there are no such files.
    """
    public = find(name)
    if split not in public.splits:
        raise UserError(f"{public.repository} has no split {split!r}, but {', '.join(public.splits)}")
    pattern = public.files.format(split=split)
    if not 1 <= most_tests <= MOST_TESTS:
        raise UserError(f"a problem may have 1 to {MOST_TESTS} tests, not {most_tests}")
    if source is not None and revision is not None:
        raise UserError("--revision is for the Hub; files from --from are taken as they are")
    if source is not None and not source.is_dir():
        return SetReading(public, [source], str(source), most_tests)
    if source is None:
        folder, commit = snapshot(public.repository, revision or public.revision, pattern, "or give --from PATH")
        origin = f"{public.repository}@{commit}/{pattern}"
    else:
        folder, origin = source, f"{source}/{pattern}"
    files = sorted(folder.glob(pattern)) or sorted(
        path for path in folder.glob(f"{split}*") if path.suffix in READERS and source is not None
    )
    if not files:
        raise UserError(f"{origin}: there are no such files")
    shards = {(file.parent, count[1]) for file in files if (count := re.search(r"-of-(\d+)\.", file.name))}
    folders = {file.parent for file in files}
    if (shards and sum(int(count) for _, count in shards) != len(files)) or (
        source is None and len(folders) != public.folders
    ):
        raise UserError(f"{origin}: only some of its files are here, {len(files)} of them; try again while online")
    return SetReading(public, files, origin, most_tests)
