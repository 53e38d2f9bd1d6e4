"""The data that rejection sampling makes: a model's samples as conversations, and beside them what isn't its own."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

from pydantic import Field, PositiveFloat, field_validator

from longjing.learning.settings import Settings
from longjing.problems import Completion, Problem, boxed
from longjing.runs.jsonl import Row
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.paraphrase import informal
from longjing.toys.toy import STANDALONE, UNASKED
from longjing.validation import did_you_mean_or_known

_EARLIER = 3  # exchanges that a conversation had before, at most


class SampledConversationSettings(Settings):
    """How the data are written, and what is mixed in."""

    form: Literal["as-is", "readable"] = Field("as-is", description="readable: the answer is put into words")
    others: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="shares of the data that aren't the model's own, by kinds of `STANDALONE`"
    )
    informal: float = Field(0.0, ge=0, le=1, description="share of the prompts that are put as people type them")
    follow_ups: float = Field(0.0, ge=0, le=1, description="share of the prompts that come late in a conversation")

    @field_validator("others")
    @classmethod
    def _some_is_its_own(cls, others: dict[str, float]) -> dict[str, float]:
        for kind in others.keys() - STANDALONE.keys():
            near = did_you_mean_or_known(kind, list(STANDALONE))
            raise ValueError(f"there are no documents of the kind `{kind}`{near}")
        if sum(others.values()) >= 1:
            raise ValueError(f"the shares add up to {sum(others.values()):g}, so nothing of the model's own is left")
        return others


def others_beside(settings: SampledConversationSettings, kept: int, before: int) -> range:
    """The numbers of the documents that are to be mixed in next, when `kept` of the model's own were kept in all and
    `before` others mixed in: whole ones of the running total, so that the share holds however few each step keeps."""
    foreign = sum(settings.others.values())
    return range(before, round(kept * foreign / (1 - foreign)))


def sampled_rows(
    settings: SampledConversationSettings,
    seed: int,
    kept: Sequence[tuple[Problem, Completion, int]],
    others: range,
    origin: str,
) -> list[Row]:
    """A step's data: the completions that are kept, each with its problem and its number among the problem's, and
    `others` by their numbers; some end a conversation. `origin`: the step's first problem."""
    rows = [_own(settings, seed, *each) for each in kept]
    rows += [_other(settings, seed, number) for number in others]
    random = Random(f"follow-ups {seed} {origin}")
    result = []
    for row in rows:
        late = _is_asked(row) and random.random() < settings.follow_ups
        result.append(_follow_up(row, rows, random) if late else row)
    return result


def _own(
    settings: SampledConversationSettings, seed: int, problem: Problem, completion: Completion, number: int
) -> Row:
    """A completion that is kept, as a conversation."""
    answer = completion.answer
    if settings.form == "readable" and (result := boxed(answer)):
        answer = answer_sentence(problem, result, Random(f"answer {seed} {problem.id} {number}"))
    prompt = _prompt(settings, seed, problem.prompt, f"{problem.id} {number}", problem)
    messages: list[Mapping[str, Any]] = [{"role": "user", "content": prompt}]
    for exchange in completion.earlier:
        messages += [_assistant(exchange.completion.reasoning, exchange.completion.answer), exchange.reply]
    return {
        "messages": [*messages, _assistant(completion.reasoning, answer)],
        **({"keep_reasoning": True} if completion.earlier else {}),
        **({} if completion.all_reasoning else {"thinking": False}),
        "task": problem.task, "problem": problem.id, "language": problem.language,
    }  # fmt: skip


def _other(settings: SampledConversationSettings, seed: int, number: int) -> Row:
    """What isn't the model's own, by its number."""
    random, others = Random(f"others {seed} {number}"), settings.others
    (kind,) = random.choices(list(others), list(others.values()))
    document = STANDALONE[kind](random)
    prompt, problem = document.prompt, document.problem
    if kind not in UNASKED:
        prompt = _prompt(settings, seed, prompt, f"other {number}", problem)
    return {
        "messages": [{"role": "user", "content": prompt}, _assistant(document.reasoning, document.answer)],
        "thinking": document.thinking, "task": kind, **({"problem": problem.id} if problem else {}),
        "language": "en" if document.prompt.isascii() else "zh",
    }  # fmt: skip


def _prompt(settings: SampledConversationSettings, seed: int, prompt: str, origin: str, problem: Problem | None) -> str:
    """The prompt, or how somebody might have typed it."""
    random = Random(f"typed {seed} {origin}")
    return informal(prompt, random, problem) if random.random() < settings.informal else prompt


def _is_asked(row: Mapping[str, Any]) -> bool:
    """Whether a person might say it in a conversation about anything."""
    return row["task"] not in UNASKED and not row.get("keep_reasoning")


def _follow_up(row: dict[str, Any], rows: list[dict[str, Any]], random: Random) -> dict[str, Any]:
    """The row behind one or a few of the others, which are only read; never behind an answer to its own problem."""
    problem = row.get("problem")
    others = [other for other in rows if _is_asked(other) and other is not row and other.get("problem", "") != problem]
    messages: list[Mapping[str, Any]] = []
    for earlier in random.sample(others, min(len(others), random.randint(1, _EARLIER))):
        question, answer = earlier["messages"]
        messages += [question, _assistant("", answer["content"]) | {"weight": 0}]
    return row | {"messages": [*messages, *row["messages"]]}


def _assistant(reasoning: str, answer: str) -> dict[str, Any]:
    return {"role": "assistant", "reasoning_content": reasoning, "content": answer}
