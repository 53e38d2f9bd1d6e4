"""Preference data for our size, generated: what a helpful answer is, and what a harmless text is.

Both are about manner. Whether a result is right is for the rules to say, so all answers to a problem here state
the right one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from longjing.problems import Language, Problem, boxed, registry
from longjing.problems.preference import Preference, Text
from longjing.toys import EVERYDAY, corpus
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.conversation.task import TALK, ConversationTask, exchange, language_of
from longjing.toys.prose import OTHER, Bilingual, Prose
from longjing.toys.toy import Document
from longjing.validation import read_yaml


class _Exchange(Prose):
    share: int
    deed: Literal["harmful", "harmless"]
    reasoning: Literal["willing", "unwilling", "deceitful"]
    answer: Literal["helps", "refuses"]
    label: bool


class _File(Prose):
    worse: dict[str, int]
    bare: Bilingual[str]
    stated: Bilingual[str]
    exchanges: dict[str, _Exchange]
    deeds: Bilingual[list[dict[Literal["harmful", "harmless"], str]]]
    sentences: dict[str, Bilingual[list[str]]]


_PROSE = read_yaml(__file__, "generated_preferences.yaml", _File)


class GeneratedPreferences(BaseModel):
    """Preference data of our own making (`toys/generated_preferences.py`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generated: Literal["helpfulness", "safety"]
    examples: int = Field(4000, ge=2)
    length_bias: float = Field(
        0.0, ge=0, le=1, description="share of the pairs whose rater takes the longer answer, whatever it says"
    )
    corpus: dict[str, float] = Field(
        dict.fromkeys((*EVERYDAY, ConversationTask.name), 1.0), description="how often each kind of prompt is met"
    )
    tasks: dict[str, dict[str, Any]] = Field({}, description="settings of the tasks, by name")

    @model_validator(mode="after")
    def _possible(self) -> "GeneratedPreferences":
        if self.generated == "safety" and self.length_bias:
            raise ValueError("length_bias speaks of pairs; safety has none")
        if unknown := self.corpus.keys() - set(corpus.prompt_kinds()):
            kinds = ", ".join(corpus.prompt_kinds())
            raise ValueError(f"there are no prompts {min(unknown)!r}; known are {kinds}")
        if min(self.corpus.values(), default=0) < 0 or not any(self.corpus.values()):
            raise ValueError("the shares in corpus must not be negative, nor all zero")
        for name, settings in self.tasks.items():
            registry.make(name, **settings)
        return self

    def make(self, seed: int) -> list[Preference]:
        """The examples, from the seed alone."""
        if self.generated == "helpfulness":
            examples = helpfulness(seed, self.corpus, self.tasks, self.length_bias)
        else:
            examples = safety(seed, self.corpus, self.tasks)
        return list(islice(examples, self.examples))


_MOST_FILLERS = 8
WORSE = _PROSE.worse  # what makes the rejected answer worse, and how often
# Three prompts in ten are Chinese. Were answers in the other language no likelier there, "English is better" would
# be right often enough, and nobody would look at the prompt.
_WORSE: dict[Language, dict[str, int]] = {"en": WORSE, "zh": WORSE | {"language": 9}}


def helpfulness(
    seed: int, shares: Mapping[str, float], settings: Mapping[str, Mapping[str, object]], length_bias: float = 0.0
) -> Iterator[Preference]:
    """Pairs without end: a clear short answer in the language of the prompt, against one that is worse in one of the
    ways of `WORSE`. Prompts are training problems, of which `shares` and `settings` speak as in `corpus.documents`.

    `length_bias`: the share of the pairs whose rater takes the longer answer (in characters), whatever it says. The
    answers don't depend on it, only which of the two is preferred.
    """
    random = Random(f"helpfulness {seed}")
    problems = {
        kind: registry.make(kind, **settings.get(kind, {})).problems("train", seed) for kind in shares if shares[kind]
    }
    while True:
        (kind,) = random.choices(list(shares), list(shares.values()))
        yield _pair(next(problems[kind]), random, length_bias)


def _pair(problem: Problem, random: Random, length_bias: float) -> Preference:
    language: Language = "zh" if problem.language == "zh" else "en"
    fillers = _PROSE.sentences["fillers"][language]
    if problem.task == ConversationTask.name:
        bare, good = _PROSE.bare[language], problem.answer
        foreign = _talk(random, OTHER[language])
    else:
        bare = f"\\boxed{{{problem.answer}}}"
        good = answer_sentence(replace(problem, language=language), problem.answer, random)
        foreign = answer_sentence(replace(problem, language=OTHER[language]), problem.answer, random)
        fillers = [*fillers, *[good.replace(bare, problem.answer)] * 2]
    (worse,) = random.choices(list(WORSE), list(_WORSE[language].values()))
    count = random.randint(1, _MOST_FILLERS)
    fillers = random.sample(fillers, count)
    better = good
    if worse == "rambling" and count > 1 and random.random() < 0.5:  # this one rambles, too, but less
        better = _ramble(random, good, fillers[: random.randint(1, count - 1)])
    # All are made, whichever is taken: the draws that follow don't depend on it.
    rejected = {
        "bare": bare,
        "empty": "",
        "rambling": _ramble(random, good, fillers),
        "evasive": random.choice(_PROSE.sentences["evasive"][language]),
        "beside the point": _talk(random, language, problem.data.get("saying")),
        "language": foreign,
    }[worse]
    sides = Text("", better), Text("", rejected)
    if random.random() < length_bias and len(rejected) > len(better):
        sides = sides[::-1]
    return Preference([{"role": "user", "content": problem.prompt}], sides, kind=worse)


def safety(
    seed: int, shares: Mapping[str, float], settings: Mapping[str, Mapping[str, object]]
) -> Iterator[Preference]:
    """Texts without end, each labelled harmless or not, about as many of either.

    Half are of the pretraining corpus (`corpus.documents`), as they are or with an insult, in the answer or in
    the reasoning; half are requests for deeds, harmful and not, which are met or refused.
    """
    random = Random(f"safety {seed}")
    documents = corpus.documents(seed, shares, settings)
    while True:
        yield _labelled(next(documents), random) if random.random() < 0.5 else _request(random)


def _labelled(document: Document, random: Random) -> Preference:
    """A document, as it is or with an insult."""
    prompt, reasoning, answer = document.prompt, document.reasoning, document.answer
    language = language_of(prompt)
    insult = random.choice(_PROSE.sentences["insults"][language])
    if boxed(answer) and random.random() < 0.5:
        answer = _PROSE.stated[language].format(answer)
    (kind,) = random.choices(["ordinary", "insult", "insult in the reasoning"], [3, 1, 1])
    if kind == "insult":
        answer = " ".join(random.sample([answer, insult], 2))
    elif kind == "insult in the reasoning":
        reasoning = "\n".join(random.sample([reasoning, insult], 2))
    return _text(prompt, reasoning, answer, kind == "ordinary", kind)


def _request(random: Random) -> Preference:
    """A request for a deed, with what is thought of it and answered."""
    language = random.choice(list(OTHER))
    exchanges = list(_PROSE.exchanges.items())
    ((kind, exchange),) = random.choices(exchanges, [exchange.share for _, exchange in exchanges])
    deed = random.choice(_PROSE.deeds[language])[exchange.deed]
    parts = ("requests", exchange.reasoning, exchange.answer)
    prompt, reasoning, answer = (random.choice(_PROSE.sentences[part][language]).format(deed) for part in parts)
    return _text(prompt, reasoning, answer, exchange.label, kind)


def _text(prompt: str, reasoning: str, answer: str, label: bool, kind: str) -> Preference:
    return Preference([{"role": "user", "content": prompt}], (Text(reasoning.strip(), answer),), label, kind)


def _ramble(random: Random, answer: str, fillers: Sequence[str]) -> str:
    """The answer somewhere among sentences that say nothing new."""
    index = random.randint(0, len(fillers))
    return (" " if answer.isascii() else "").join([*fillers[:index], answer, *fillers[index:]])


def _talk(random: Random, language: Language, saying: str | None = None) -> str:
    """Something that is said in this language to something else than `saying` and its like."""
    subjects = [subject for subject in TALK.values() if language_of(subject.sayings[0]) == language]
    subject = random.choice([subject for subject in subjects if saying not in subject.sayings])
    return exchange(subject.sayings[0], subject.answers, random)[1]
