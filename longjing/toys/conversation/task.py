"""Conversation: what people say when there is nothing to work out, in English and Chinese.

General prompts, in R1's words: no rule can say whether an answer is right, so a verdict has no `accuracy`, only a
`format`; reward models do the rest. As documents of the corpus they are what a small model says when nothing is asked
that it could work out, and how it declines what it can't do.
"""

import json
from collections.abc import Iterator
from hashlib import blake2b
from random import Random
from typing import Any, Literal

from longjing.errors import UserError
from longjing.problems import Completion, Language, Problem, Split, Verdict, split_of
from longjing.problems.language import share
from longjing.toys.prose import Bilingual, Prose
from longjing.toys.toy import Document
from longjing.validation import Strict, read_yaml


class Subject(Prose):
    """What people say, and what is answered; every saying goes with every answer."""

    sayings: list[str]
    answers: list[str]
    share: float = 1.0


class _File(Prose):
    subjects: dict[str, Subject]
    fillers: Bilingual[dict[str, list[str]]]


_FILE = read_yaml(__file__, "talk.yaml", _File)
TALK = _FILE.subjects


def exchange(saying: str, answers: list[str], random: Random) -> tuple[str, str]:
    """A saying of `TALK` and one of the answers to it, with their gaps filled."""
    fillers = _FILE.fillers[language_of(saying)]

    def fill_in(text: str) -> str:
        return text.format(**{gap: random.choice(choices) for gap, choices in fillers.items()})

    answer = random.choice(answers)
    return fill_in(saying), fill_in(answer)


def write_conversation(random: Random) -> Document:
    """One exchange, with an empty reasoning; its style is `conversation`."""
    (subject,) = random.choices(list(TALK.values()), [subject.share for subject in TALK.values()])
    prompt, answer = exchange(random.choice(subject.sayings), subject.answers, random)
    return Document(prompt, "", answer, "conversation", thinking=random.random() < 0.5)


class ConversationSettings(Strict):
    """The settings of the task."""

    language: Literal["en", "zh", "mixed"] = "mixed"


class ConversationTask:
    """A `Task` without right answers. `correct` says that the form is kept: the reasoning, which may be empty, is
    closed, and an answer in the language of the prompt follows."""

    name = "conversation"
    settings_type = ConversationSettings

    def __init__(self, settings: ConversationSettings) -> None:
        self.options = settings

    @property
    def settings(self) -> dict[str, Any]:
        return self.options.model_dump(mode="json")

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        random = Random(json.dumps([self.name, self.settings, split, seed], sort_keys=True))
        sayings = [
            (saying, subject.answers)
            for subject in TALK.values()
            for saying in subject.sayings
            if split_of(_key(saying)) == split and self.options.language in ("mixed", language_of(saying))
        ]
        if not sayings:
            raise UserError(
                f"task {self.name!r} has no {split} prompts in the language {self.options.language!r}; "
                "take `language: mixed`"
            )
        random.shuffle(sayings)
        for saying, answers in sayings:
            yield _problem(saying, answers, random)
        while split == "train":
            yield _problem(*random.choice(sayings), random)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """The verdict on a completion (see `Task`). The reward has one part, `format`: ended by itself, closed, no tag
        in the answer."""
        answer = completion.answer.strip()
        tags = completion.closed_again or any(tag in answer for tag in ("<think>", "</think>"))
        format = float(completion.closed and not completion.truncated and bool(answer) and not tags)
        if not format:
            reason = "truncated" if completion.truncated else "not the form"
        elif share(answer, problem.language) <= 0.5:
            reason = f"not in the language {problem.language}"
        else:
            return Verdict("correct", {"format": format}, "well-formed")
        return Verdict("wrong", {"format": format}, reason)

    def solve(self, problem: Problem) -> str:
        """A fitting answer, whole: nothing belongs in a box."""
        return problem.answer


def _problem(saying: str, answers: list[str], random: Random) -> Problem:
    prompt, answer = exchange(saying, answers, random)
    id = blake2b(_key(prompt).encode(), digest_size=12).hexdigest()
    return Problem(ConversationTask.name, id, prompt, answer, {"saying": saying}, language_of(saying))


def _key(saying: str) -> str:
    return f"{ConversationTask.name} {saying}"


def language_of(saying: str) -> Language:
    """The language of what is said: English is what has no letters but ASCII's."""
    return "en" if saying.isascii() else "zh"
