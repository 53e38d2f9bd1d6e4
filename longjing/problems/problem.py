"""What a task is: it yields problems, judges completions, and can solve its own problems.

Splits are disjoint by construction: a problem belongs to the split that the hash of its canonical key says,
whatever the seed, the settings, the language or the wording. The canonical key is the same for problems that
differ only in form (the order of the numbers, the names in a story).
"""

import json
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from math import isfinite
from random import Random
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar, get_args, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from longjing.errors import UserError
from longjing.problems.answer import boxed, format_reward
from longjing.problems.expression import ExpressionError
from longjing.text import reasoning
from longjing.text.template import Message

Split = Literal["train", "validation", "test"]
Language = Literal["en", "zh"]

MAX_TURNS = 8  # of the model, in a conversation with a task that doesn't say how many
PATIENCE = 200_000  # draws in a row without a new problem, after which a split counts as exhausted
_CHINESE_SHARE = 0.3  # of the problems when `language` is "mixed"


@dataclass(frozen=True)
class Problem:
    """`prompt` is the user's message, `answer` a correct answer, `data` (JSON-able) what the verifier needs.

    `id` is the hash of the canonical key: problems with the same id differ in wording at most.
    """

    task: str
    id: str
    prompt: str
    answer: str
    data: dict[str, Any]
    language: str  # its ISO 639-1 code


class AssistantTurn(Protocol):
    """A turn of a model's as text, and what was said to it, if anything was."""

    @property
    def text(self) -> str: ...
    @property
    def prefilled(self) -> bool: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def reply(self) -> Message | None: ...


@dataclass(frozen=True)
class Completion:
    """What a model wrote, in its parts. `truncated`: it was cut off before it ended by itself. `prefilled`: the prompt
    had opened the reasoning.

    In a conversation (`Replying`) it is the last turn, and `earlier` are those before it; `well_formed` speaks of all.
    """

    reasoning: str
    answer: str
    closed: bool
    well_formed: bool
    truncated: bool
    prefilled: bool = True
    earlier: tuple["Exchange", ...] = ()
    closed_again: bool = False  # the reasoning was closed more than once, which the answer doesn't show

    @classmethod
    def parse(
        cls,
        text: str,
        prefilled: bool = True,
        truncated: bool = False,
        earlier: tuple["Exchange", ...] = (),
    ) -> Self:
        """Take sampled text apart. `prefilled`: the prompt already ended in `<think>`."""
        parts = reasoning.parse(text, prefilled=prefilled)
        formed = parts.well_formed and all(exchange.completion.well_formed for exchange in earlier)
        again = text.count("</think>") > 1
        return cls(parts.reasoning, parts.answer, parts.closed, formed, truncated, prefilled, earlier, again)

    @classmethod
    def of(cls, turns: Sequence[AssistantTurn]) -> Self:
        """The last of a conversation's turns, with those before it."""
        *before, last = turns
        earlier: tuple[Exchange, ...] = ()
        for turn in before:
            completion = cls.parse(turn.text, turn.prefilled, turn.truncated, earlier)
            earlier += (Exchange(turn.text, completion, turn.reply or {}),)
        return cls.parse(last.text, last.prefilled, last.truncated, earlier)

    @property
    def turns(self) -> list["Completion"]:
        """The earlier turns, and this one."""
        return [*(exchange.completion for exchange in self.earlier), self]

    @property
    def all_reasoning(self) -> str:
        """The reasoning of all turns."""
        return "\n\n".join(filter(None, (turn.reasoning for turn in self.turns)))


@dataclass(frozen=True)
class Exchange:
    """A turn of the model's, whole and taken apart, and what the task said to it."""

    text: str
    completion: Completion
    reply: Message


Outcome = Literal["correct", "wrong", "unjudged"]


@dataclass(frozen=True)
class Verdict:
    """`unjudged`: the verifier itself failed; such a completion is left out of the loss, and counted.

    `rewards` has the parts "accuracy" and "format", 0.0 or 1.0 unless the task gives partial credit or composes
    several verifiers, whose scores then stand beside them by name. `reason` says what is wrong.
    """

    outcome: Outcome
    rewards: dict[str, float]
    reason: str


class NoProblems(UserError):
    """A split without a problem."""


class Task(Protocol):
    """The contract of every task. Tasks are immutable; any number of iterators may be open at once."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]:
        """The settings with every default filled in, JSON-able."""

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """Problems of `split`, always the same for a seed. Train is endless and may repeat itself; validation
        and test never yield an id twice, and end when no more problems are found.
        """

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """Judge strictly, exactly and in bounded time; never raises, whatever the completion says."""

    def solve(self, problem: Problem) -> str:
        """A correct answer (what belongs in the box), found by the task's own solver."""


@runtime_checkable
class Replying(Protocol):
    """A task that may answer a completion, with a tool's result say; the model then goes on.

    The model gets at most `max_turns` turns, an attribute of the task; without one, `MAX_TURNS`.
    """

    def reply(self, problem: Problem, completion: Completion) -> str | Message | None:
        """What to say to a completion: a text, said by the user, or a whole message of the chat template's; None ends
        the conversation, and `completion` is judged. Of bounded time and length; never raises, whatever the completion
        says. Nothing but the arguments may count: `completion.earlier` tells of the conversation so far."""


@runtime_checkable
class Voting(Protocol):
    """A task that knows better than `evaluation.normalise` which final answers say the same."""

    def vote(self, problem: Problem, completion: Completion, verdict: Verdict) -> str | None:
        """What a completion votes for; None abstains."""


def max_turns(task: Any) -> int:
    """How many turns a model may get: one of a task that doesn't reply."""
    turns: int = getattr(task, "max_turns", MAX_TURNS) if isinstance(task, Replying) else 1
    return turns


def reply_to(task: Any, problem: Problem, completion: Completion) -> Message | None:
    """What the task says to a completion that ended by itself; None if that was the last."""
    if completion.truncated or len(completion.earlier) + 1 >= max_turns(task):
        return None
    with _blamed(task, "reply", problem, completion):
        said = task.reply(problem, completion)
    return {"role": "user", "content": said} if isinstance(said, str) else said


def verdict_of(task: Task, problem: Problem, completion: Completion) -> Verdict:
    """The task's verdict. Raises UserError, naming the task, the problem and the completion, if it breaks its contract:
    a run goes on from there once that is mended, and whatever else were made of it would be learned from."""
    with _blamed(task, "judge", problem, completion):
        verdict = task.judge(problem, completion)
        if not isinstance(verdict, Verdict) or verdict.outcome not in get_args(Outcome):
            raise TypeError(f"it gave {verdict!r:.100}, which is no Verdict")
        if not all(isinstance(paid, int | float) and isfinite(paid) for paid in verdict.rewards.values()):
            raise ValueError(f"it paid {verdict.rewards}, which are no finite numbers")
        if not all(isinstance(text, str) for text in (verdict.reason, *verdict.rewards)):
            raise TypeError(f"it gave {verdict!r:.100}, whose reason and parts are no texts")
    return verdict


def vote_of(task: "Voting", problem: Problem, completion: Completion, verdict: Verdict) -> str | None:
    """What the completion votes for. Raises UserError as `verdict_of` does."""
    with _blamed(task, "vote", problem, completion):
        return task.vote(problem, completion, verdict)


@contextmanager
def _blamed(task: Any, method: str, problem: Problem, completion: Completion) -> Iterator[None]:
    """Whatever a task's own code raises is for its author to know, but for Ctrl-C: tasks come from everywhere.
    SystemExit, too, or the answer `exit()` to a task that evaluates it would end everything without a word."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = getattr(sys.modules.get(type(task).__module__), "__file__", None)
        frame = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
        raise UserError(
            f"task {task.name!r}: `{method}` raised {_complaint(error)} ({frame.filename}, line "
            f"{frame.lineno}) on problem {problem.id}, {_excerpt(problem.prompt)}, and the answer "
            f"{_excerpt(completion.answer)} behind {len(completion.reasoning)} characters of reasoning; whatever a "
            "completion says, it must not raise: mend it (`longjing tasks check` tries much), and give the same "
            "command again"
        ) from error


def _complaint(error: BaseException) -> str:
    """Its class and what it says; saying that may fail as well."""
    try:
        said = str(error)
    except Exception:
        said = "(it can't say what)"
    return f"{type(error).__name__}: {said}".encode("utf-8", "backslashreplace").decode()


def _excerpt(text: str) -> str:
    return ascii(text if len(text) <= 200 else f"{text[:200]}...")


def split_of(key: str) -> Split:
    """The split of the problem with this canonical key: 5% test, 5% validation, the rest train."""
    bucket = int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % 100
    return "test" if bucket < 5 else "validation" if bucket < 10 else "train"


class Settings(BaseModel):
    """The settings of a task: `difficulty` is a dial that sets the defaults of the others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dial: ClassVar[Mapping[int, Mapping[str, Any]]]
    judging: ClassVar[frozenset[str]] = frozenset()
    """The settings that say how answers are judged, and nothing about which problems are drawn."""

    difficulty: int = Field(default=2, ge=1, le=5)
    language: Literal["en", "zh", "mixed"] = "mixed"

    @model_validator(mode="before")
    @classmethod
    def _turn_dial(cls, given: dict[str, Any]) -> dict[str, Any]:
        difficulty = given.get("difficulty", cls.model_fields["difficulty"].default)
        # An impossible difficulty gets its own message; any defaults keep other complaints from joining it.
        return {**cls.dial[difficulty if difficulty in range(1, 6) else 1], **given}


class Data(BaseModel):
    """What the verifier of a task needs to know about a problem; corrupt data can't be built."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


S = TypeVar("S", bound=Settings)
D = TypeVar("D", bound=Data)


class GeneratedTask(ABC, Generic[S, D]):
    """A task whose problems are drawn at random: a subclass draws, solves, words and checks one problem."""

    name: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    data_type: ClassVar[type[Data]]

    def __init__(self, settings: S) -> None:
        self.options = settings

    @property
    def settings(self) -> dict[str, Any]:
        return self.options.model_dump(mode="json")

    @property
    def judging(self) -> frozenset[str]:
        return self.options.judging

    @abstractmethod
    def draw(self, random: Random) -> D | None:
        """One candidate, or None for a draw that led nowhere."""

    @abstractmethod
    def key(self, data: D) -> str:
        """The canonical key: equal for problems that differ only in form."""

    def apart(self, data: D) -> str | None:
        """What decides about the split instead of the key, None if nothing does: all problems that share it are in
        one split."""
        return None

    @abstractmethod
    def answer(self, data: D) -> str | None:
        """A correct answer, or None if the problem has none (it is then dropped)."""

    @abstractmethod
    def prompt(self, data: D, language: Language, random: Random) -> str:
        """The problem in words."""

    @abstractmethod
    def mistake(self, data: D, answer: str) -> str | None:
        """What is wrong with a boxed answer, None if nothing is. An ExpressionError is a mistake, too."""

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """See `Task`. Raises NoProblems if these settings admit none in this split."""
        drawn_by = {key: value for key, value in self.settings.items() if key not in self.judging}
        random = Random(json.dumps([self.name, drawn_by, split, seed], sort_keys=True))
        seen: set[str] = set()
        latest = 0  # the draw that gave the latest problem
        for turn in count(1):
            if turn - latest > PATIENCE:
                if latest:
                    return
                raise NoProblems(
                    f"task {self.name!r} has no {split} problems with the settings {self.settings}; "
                    "allow more or larger numbers"
                )
            data = self.draw(random)
            if data is None:
                continue
            key = f"{self.name} {self.key(data)}"
            if split_of(self.apart(data) or key) != split:
                continue
            id = blake2b(key.encode(), digest_size=12).hexdigest()
            if id in seen or (answer := self.answer(data)) is None:
                continue
            if split != "train":
                seen.add(id)
            latest = turn
            language = self._language(random)
            prompt = self.prompt(data, language, random)
            yield Problem(self.name, id, prompt, answer, data.model_dump(), language)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """See `Task`. A truncated completion is wrong: what it would have said next, nobody knows."""
        format = format_reward(completion)
        try:
            data = self._read(problem)
        except ValidationError as error:
            return Verdict("unjudged", {"accuracy": 0.0, "format": format}, f"corrupt problem data: {error}")
        mistake = self._mistake(data, completion)
        accuracy = float(mistake is None)
        outcome: Literal["correct", "wrong"] = "wrong" if mistake else "correct"
        return Verdict(outcome, {"accuracy": accuracy, "format": format}, mistake or "correct")

    def solve(self, problem: Problem) -> str:
        """See `Task`. Raises ValueError if the problem's data is corrupt or has no solution."""
        answer = self.answer(self._read(problem))
        if answer is None:
            raise ValueError(f"{self.name} problem {problem.id} has no solution: {problem.data}")
        return answer

    def _read(self, problem: Problem) -> D:
        return self.data_type.model_validate(problem.data)  # type: ignore[return-value]

    def _mistake(self, data: D, completion: Completion) -> str | None:
        if completion.truncated:
            return "truncated"
        box = boxed(completion.answer)
        if box is None:
            return "the answer does not hold exactly one \\boxed{...}"
        if not box:
            return "the box is empty"
        try:
            return self.mistake(data, box)
        except ExpressionError as error:
            return str(error)

    def _language(self, random: Random) -> Language:
        if self.options.language == "mixed":
            return "zh" if random.random() < _CHINESE_SHARE else "en"
        return self.options.language
