"""Which problems the evaluations ask too: they share a run of words with one, or are one.

The words of a problem are its letters and digits, lower case, each Chinese character a word; LaTeX's signs stand
between words. A problem is contaminated if any `size` of its words in a row are in an evaluation's problem too. An
evaluation's problem of fewer words is compared as a whole, with its signs: "2 + 3" is not "2 - 3". Thirteen words are
what GPT-3's authors searched their training data for (arXiv 2005.14165, appendix C).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longjing.data.public import INSTRUCTIONS
from longjing.errors import UserError
from longjing.evaluation.benchmarks import BENCHMARKS, source
from longjing.tasks.row_files import Row, located_rows

SIZE = 13
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_MEANING = re.compile(r"[^\s${}\\_~`\"]+")
_DELIMITER = re.compile(r"\\[()\[\],;:! ]")
_COLUMNS = ("problem", "question", "Question", "prompt")


def words(text: str) -> list[str]:
    """The words of a problem, as they are compared."""
    return _WORD.findall(_plain(text))


def whole_text(text: str) -> str:
    """All of a problem that says something, without spaces, LaTeX's delimiters, and what ends a sentence."""
    return "".join(_MEANING.findall(_DELIMITER.sub("", _plain(text)))).strip(".,;:?!")


def _plain(text: str) -> str:
    for instruction in INSTRUCTIONS:
        text = text.removesuffix(instruction)
    return unicodedata.normalize("NFKC", text).casefold()


@dataclass(frozen=True)
class Match:
    """What a problem shares with which problem of which evaluation."""

    shared: str
    evaluation: str
    location: str


class Evaluations:
    """The problems of evaluations, to be compared with. `counts` says how many of each there are."""

    def __init__(self, size: int = SIZE) -> None:
        """No evaluations yet; `size` words in a row are a match. Raises UserError for a size that would match
        everything."""
        if size < 2:
            raise UserError(f"{size} words in a row are shared by everything: take 2 at least, better {SIZE}")
        self.size = size
        self.counts: dict[str, int] = {}
        self._runs: dict[str, Match] = {}
        self._whole_texts: dict[str, Match] = {}

    def add(self, name: str, problems: Iterable[tuple[str, str]]) -> None:
        """An evaluation's problems, each with its place. Raises UserError for one without words."""
        for location, problem in problems:
            problem_words, text = words(problem), whole_text(problem)
            if not text:
                raise UserError(f"{name}, {location}: a problem without words; nothing can be compared with it")
            self.counts[name] = self.counts.get(name, 0) + 1
            if len(problem_words) < self.size:
                self._whole_texts.setdefault(text, Match(" ".join(problem.split()), name, location))
            for run in _runs(problem_words, self.size):
                self._runs.setdefault(run, Match(run, name, location))

    def match(self, problem: str) -> Match | None:
        """What the problem shares with an evaluation."""
        shared = (self._runs.get(run) for run in _runs(words(problem), self.size))
        return next(filter(None, shared), None) or self._whole_texts.get(whole_text(problem))


def _runs(problem_words: Sequence[str], size: int) -> Iterator[str]:
    """Every `size` words in a row."""
    return (" ".join(problem_words[start : start + size]) for start in range(len(problem_words) - size + 1))


def load(against: Sequence[str], size: int = SIZE) -> Evaluations:
    """Evaluations by name (`math-500`), from files of their form (`gpqa-diamond=PATH`), or any file with problems.

    Raises UserError, naming the one, for each that can't be had: nothing is passed as clean that wasn't compared.
    """
    evaluations = Evaluations(size)
    for entry in dict.fromkeys(against):
        name, equals, file = entry.partition("=")
        try:
            if entry in BENCHMARKS:
                path = source(entry, f"or give its file: --against {entry}=PATH")
            else:
                path = Path(file if equals and not Path(entry).exists() else entry)
            evaluations.add(name, _problems(path, name))
        except UserError as error:
            raise UserError(
                f"{error}; nothing was written, for nothing passes that wasn't compared with {name}. --against "
                f"says what to compare with: {', '.join(BENCHMARKS)}, or files"
            ) from None
    if not evaluations.counts:
        raise UserError("there is no evaluation to compare with")
    return evaluations


def _problems(path: Path, name: str) -> Iterator[tuple[str, str]]:
    for location, row in located_rows(path):
        column = next((column for column in _COLUMNS if isinstance(row.get(column), str)), None)
        if column is None:
            raise UserError(
                f"{name}, {location}: no column {', '.join(_COLUMNS)}; there are {', '.join(map(str, row))}"
            )
        yield location, row[column]


@dataclass
class Split:
    """The clean rows, and the others with what they share."""

    clean: list[Row]
    contaminated: list[tuple[str, Row, Match]]


def split(path: Path, evaluations: Evaluations) -> Split:
    """The rows of a file by whether an evaluation asks their `prompt` too. Raises UserError for one without."""
    result = Split([], [])
    for location, row in located_rows(path):
        if not isinstance(prompt := row.get("prompt"), str):
            raise UserError(f"{path}, {location}: no column 'prompt'; there are {', '.join(map(str, row))}")
        match = evaluations.match(prompt)
        if match is None:
            result.clean.append(row)
        else:
            result.contaminated.append((location, row, match))
    return result
