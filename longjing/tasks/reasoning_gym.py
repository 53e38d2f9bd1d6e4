"""The data sets of reasoning-gym: `gym:NAME` with the data set's own configuration as settings, `gym:composite` too.

An entry is stored as name, configuration, seed and index. The library makes and scores it in a process that can be
killed; none of its code runs in the trainer's. Its scorers are loose: they pay for attempts, for answers within longer
texts, for near numbers. Here a score counts as right only if it is whole, less a stated `tolerance`, and less is paid
only if asked (`partial`). Where a scorer itself allows a difference (`pool_matrix` one in a hundred) that stays.

Some scorers hand the answer to `eval` or to SymPy's `parse_expr`, which is `eval` again. No confinement makes the score
of such a process trustworthy, so those answers must first have a form that can't do anything (`_GUARDS`). All scorers
of release 0.1.25 were read for this; with another release, or for a data set that wasn't read, nothing is scored.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from longjing.errors import UserError
from longjing.problems import Completion, NoProblems, Problem, Split, Verdict, split_of
from longjing.validation import Strict, nearest, read_yaml
from longjing.verifiers import Rubric
from longjing.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.verifiers.pool import Pool, VerifierError, shared
from longjing.verifiers.scorers import text_digest

GYM_PREFIX = "gym:"
RELEASE = "0.1.25"  # whose scorers were read
_BLOCK = 10_000  # entries of one seed
_PATIENCE = 20_000  # entries in a row without a new problem, after which a split counts as exhausted
_CHUNK = 50  # entries that are made together
_MAKING, _SCORING, _MEGABYTES = 300.0, 5.0, 4096  # seconds for a chunk, seconds for a score, of one process

# Lists of numbers and words, and boards: nothing in them can be called. Sums: no names, no powers. Terms: known names.
_LISTS = re.compile(r"[\w\s,'\"\[\]-]*", re.ASCII)
_SUMS = re.compile(r"(?:[\d\s.+/()-]|\*(?!\s*\*))*", re.ASCII)
_FUNCTIONS = "sqrt|exp|log|ln|Abs|sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|pi"
_TERMS = re.compile(rf"(?:[\d\s+*/()-]|(?<=\d)\.(?=\d)|(?<![A-Za-z])(?:{_FUNCTIONS}|[A-Za-z])(?![A-Za-z]))*", re.ASCII)
_MOVES = re.compile(r"[A-Z→\s]*")  # these scorers skip whatever is no move
_FORMS = {"moves": _MOVES, "lists": _LISTS, "sums": _SUMS, "terms": _TERMS}
_LONGER = 3  # characters, and a tenth, than the right answer: where a scorer is loose, that is wrong


class _Scorers(Strict):
    """The data sets by what their scorers do (`reasoning_gym.yaml` explains the parts)."""

    guarded: dict[str, list[str]]
    loose: list[str]
    read: list[str]
    refused: dict[str, str]


_SCORERS = read_yaml(__file__, "reasoning_gym.yaml", _Scorers)
_GUARDS = {name: _FORMS[form] for form, names in _SCORERS.guarded.items() for name in names}
REFUSED = _SCORERS.refused


class ReasoningGymSettings(BaseModel):
    """Our own settings of a data set; all others are the data set's own configuration."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    tolerance: float = Field(0.0, ge=0, lt=1, description="what an answer's score may lack of 1 and be right")
    partial: bool = Field(False, description="pay scores below that, too")
    final: Literal["box", "text"] = Field("box", description="what is scored: the one box, or all after the reasoning")
    template: str = Field(
        "{prompt}\n\nPut the final answer in \\boxed{}.", description="what is asked, with the gap {prompt}"
    )


def metadata(problem: Problem) -> dict[str, Any]:
    """What the library notes beside a problem of its own, a worked solution perhaps."""
    data = problem.data
    found: dict[str, Any] = _maker().ask(
        "metadata", data["dataset"], _with_seed(data["configuration"], data["seed"]), data["index"]
    )
    return found


def names() -> list[str]:
    """The data sets whose scorers were read."""
    return sorted([*_SCORERS.read, *_GUARDS])


class ReasoningGymTask:
    """A `Task` of a data set."""

    settings_type = ReasoningGymSettings

    def __init__(self, name: str, settings: ReasoningGymSettings) -> None:
        self.name, self.options = name, settings
        self._dataset = name.removeprefix(GYM_PREFIX)
        self._configuration: dict[str, Any] = settings.model_extra or {}
        _check_release()
        for reserved in ("seed", "size"):
            if reserved in self._configuration:
                raise UserError(f"{name} takes no `{reserved}`: entries are drawn by the run's own seed, without end")
        _check(name, self._dataset, self._configuration)
        self.rubric = Rubric.single("gym", _Score(settings))
        self._make(self._drawn("", 0), 0, 1)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.options)  # the pool of processes stays where it is

    @property
    def settings(self) -> dict[str, Any]:
        return self.options.model_dump(mode="json")

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """The problems of a split (see `Task`). The hash of the question decides about the split. Raises NoProblems if
        this one has none."""
        seen: set[str] = set()
        patience = _PATIENCE
        for problem, home in self._entries(f"{split} {seed}"):
            patience -= 1
            if home == split and problem.id not in seen:
                if split != "train":
                    seen.add(problem.id)
                patience = _PATIENCE
                yield problem
            if not patience:
                if seen:
                    return
                raise NoProblems(
                    f"task {self.name!r} has no {split} problems with the settings {self.settings}: too few "
                    "different questions; allow more or larger ones"
                )

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        return self.rubric.judge(problem, completion)

    def wants_box(self, problem: Problem) -> bool:
        """See `problems.wants_box`."""
        return self.rubric.wants_box

    def solve(self, problem: Problem) -> str:
        """The answer that the library gives."""
        return problem.answer

    def _entries(self, drawn: str) -> Iterator[tuple[Problem, Split]]:
        for block in count():
            seed = self._drawn(drawn, block)
            for first in range(0, _BLOCK, _CHUNK):
                for index, (question, answer, source) in enumerate(self._make(seed, first, _CHUNK), first):
                    guard = _GUARDS.get(source)
                    if guard is None or guard.fullmatch(answer):
                        yield self._problem(seed, index, question, answer, source)

    def _drawn(self, drawn: str, block: int) -> int:
        key = json.dumps([self.name, self._configuration, drawn, block], sort_keys=True)
        return int.from_bytes(blake2b(key.encode(), digest_size=4).digest()) % 2**31

    def _make(self, seed: int, first: int, number: int) -> list[tuple[str, str, str]]:
        """Entries: question, answer, data set. Raises UserError if the library can't make them."""
        configuration = _with_seed(self._configuration, seed)
        try:
            return _maker().ask("make", self._dataset, configuration, first, number)
        except VerifierError as error:
            raise UserError(f"reasoning-gym can't make problems of {self.name}: {error}") from None

    def _problem(self, seed: int, index: int, question: str, answer: str, source: str) -> tuple[Problem, Split]:
        key = f"gym {' '.join(question.split())}"
        id = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        data = {
            "dataset": self._dataset, "source": source, "configuration": self._configuration, "seed": seed,
            "index": index, "question": text_digest(question),
        }  # fmt: skip
        prompt = self.options.template.replace("{prompt}", question)
        return Problem(self.name, id, prompt, answer, data, "en"), split_of(key)


class _Score(AnswerVerifier[AnswerSettings]):
    """The library's score of the final answer."""

    name = "gym"
    settings_type = AnswerSettings
    needs_answer = False

    def __init__(self, settings: ReasoningGymSettings) -> None:
        super().__init__(AnswerSettings(final=settings.final))
        self._least, self._partial = 1 - settings.tolerance, settings.partial
        self.pool = shared("gym", _SCORING, _MEGABYTES)
        self.concurrency = self.pool.size

    def compare(self, problem: Problem, answer: str) -> Judgement:
        data = problem.data
        guard = _GUARDS.get(data["source"])
        if guard is not None and not guard.fullmatch(answer):
            return Judgement("wrong", 0.0, "not of the form of an answer")
        if data["source"] in _SCORERS.loose and len(answer) > 1.1 * len(problem.answer) + _LONGER:
            return Judgement("wrong", 0.0, "longer than a right answer")
        configuration = _with_seed(data["configuration"], data["seed"])
        request = ("score", data["dataset"], configuration, data["index"], data["question"])
        score = self.pool.ask(*request, answer, baseline=(*request, problem.answer))
        if score is None:
            return Judgement("wrong", 0.0, "an answer that reasoning-gym can't read")
        if not isfinite(score):
            return Judgement("unjudged", 0.0, f"reasoning-gym's score is {score}")
        if score >= self._least:
            return Judgement("correct", 1.0, "correct")
        paid = min(1.0, max(0.0, score)) if self._partial else 0.0
        return Judgement("wrong", paid, f"reasoning-gym's score is {score:g}")


@cache
def _maker() -> Pool:
    return Pool("gym", 1, _MAKING, _MEGABYTES)


def _with_seed(configuration: dict[str, Any], seed: int) -> str:
    return json.dumps(configuration | {"seed": seed, "size": _BLOCK}, sort_keys=True)


def _check_release() -> None:
    try:
        installed = version("reasoning-gym")
    except PackageNotFoundError:
        raise UserError(f"{GYM_PREFIX}NAME needs reasoning-gym: pip install 'longjing[tasks]'") from None
    if installed != RELEASE:
        raise UserError(
            f"reasoning-gym {installed} is installed, and the scorers of {RELEASE} were read: some evaluate what a "
            f"model wrote, so no other release is used; pip install reasoning-gym=={RELEASE}"
        )


def _check(name: str, dataset: str, configuration: dict[str, Any]) -> None:
    """Raises UserError for an unknown data set or setting."""
    if dataset in REFUSED:
        raise UserError(f"{name} can't be used: {REFUSED[dataset]}")
    if dataset != "composite":
        if dataset not in names():
            raise UserError(f"reasoning-gym has no data set {dataset!r} that was read{nearest(dataset, names())}")
        return _check_names(name, configuration, _maker().ask("settings", dataset))
    _check_names(name, configuration, ["datasets"])
    parts = configuration.get("datasets")
    form = "datasets: [{name: ..., weight: 1.0, config: {...}}, ...]"
    if not isinstance(parts, list) or not parts:
        raise UserError(f"{name} needs {form}")
    for part in parts:
        if not isinstance(part, dict) or part.keys() != {"name", "weight", "config"} or part["name"] == dataset:
            raise UserError(f"{name}: {part} is no part of a composite; it needs {form}")
        _check(f"{name}, {part['name']}", part["name"], part["config"])


def _check_names(name: str, arguments: dict[str, Any], setting_names: list[str]) -> None:
    own = [*ReasoningGymSettings.model_fields, *(key for key in setting_names if key not in ("seed", "size"))]
    for key in arguments:
        if key not in own:
            raise UserError(f"{name} has no setting {key!r}{nearest(key, own)}; the settings are: {', '.join(own)}")
