"""Rejection sampling: what is kept is right and readable, what isn't is counted, and a kill costs nothing."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tiny
import torch
from conversation_cases import read_conversations
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.generation.generator import Capabilities
from longjing.generation.request import Generation, Request
from longjing.learning import rejection_sampling as curation
from longjing.learning import settings as shared
from longjing.learning.finetuning import Finetuning, FinetuningSettings
from longjing.learning.loop import run_stage
from longjing.learning.rejection_sampling import (
    REASONS,
    KeepSettings,
    RejectionSampling,
    RejectionSamplingSettings,
    draw,
    filter_samples,
)
from longjing.learning.rollouts import Group
from longjing.learning.sampled_conversations import SampledConversationSettings
from longjing.problems import Completion, Problem, Verdict, boxed
from longjing.problems.language import share
from longjing.problems.repetition import repetition
from longjing.runs import RunDirectory, StageDirectory
from longjing.runs.jsonl import JsonLines
from longjing.text.tokenizer import Tokenizer
from longjing.toys import corpus
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.toy import STANDALONE, Document

Base = Callable[[str], Path]
CPU = torch.device("cpu")
ARITHMETIC: dict[str, Any] = {"name": "arithmetic", "difficulty": 1}


def stage_in(path: Path) -> StageDirectory:
    path.mkdir(exist_ok=True)
    return RunDirectory(path).stage("samples")


def settings_of(base: Base, **changes: Any) -> RejectionSamplingSettings:
    values = {
        "model": str(base("deepseek_v3")), "task": ARITHMETIC, "problems": 10, "problems_per_step": 4,
        "samples": 12, "max_tokens": 400, "keep": {"max_length": 120},
    }  # fmt: skip
    return RejectionSamplingSettings.model_validate(values | changes)


def run(stage: StageDirectory, settings: RejectionSamplingSettings, seed: int = 0) -> None:
    run_stage(RejectionSampling, settings, stage, Runtime(seed, CPU, torch.float32))


# A model that writes one of these, whatever it is asked

THOUGHTS = {
    "en": ["I add.", "First I add, then I check.", "Step by step."],
    "zh": ["我先加。", "我来算一算。", "一步一步来。"],
}
KINDS = (
    "right", "wrong", "truncated", "unclosed", "foreign", "circles", "long", "foreign answer", "babble", "control",
)  # fmt: skip
WHY = {
    "right": None, "wrong": "wrong", "truncated": "truncated", "unclosed": "malformed", "foreign": "language",
    "circles": "repetition", "long": "long", "foreign answer": "language", "babble": "repetition",
    "control": "malformed",
}  # fmt: skip


def say(kind: str, problem: Problem, random: Random) -> str:
    language = problem.language
    thought = random.choice(THOUGHTS["en" if (language == "en") != (kind == "foreign") else "zh"])
    thought = thought * 30 if kind == "circles" else thought
    thought += "<｜User｜>" if kind == "control" else ""
    if kind == "long":
        thought = " ".join(str(random.randrange(10**6)) for _ in range(40))
    answer = f"\\boxed{{{'123456789' if kind == 'wrong' else problem.answer}}}"
    if kind in ("foreign answer", "babble"):
        answer = THOUGHTS["en" if (language == "en") != (kind == "foreign answer") else "zh"][1] * 20 + answer
    return thought + ("\n" if kind == "unclosed" else "\n</think>\n\n") + answer


class Speaker:
    """In place of the engine: answers with a kind of text that the request's seed decides."""

    capabilities = Capabilities(routes=False, logits_processors=False, seeds=True, exact_logprobs=False)

    def __init__(self, tokenizer: Tokenizer, problems: Sequence[Problem]) -> None:
        self.tokenizer = tokenizer
        self.known = {self._prompt(problem.prompt): problem for problem in problems}
        self.kinds: list[str] = []
        self.asked: set[tuple[float, int]] = set()

    def _prompt(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode_chat([{"role": "user", "content": text}]))

    def generate(self, requests: Sequence[Request], on_step: Any = None) -> list[Generation]:
        generations = []
        for request in requests:
            random = Random(request.sampling.seed)
            kind = random.choice(("right", "right", *KINDS))
            self.asked.add((request.sampling.temperature, request.sampling.max_tokens))
            text = say(kind, self.known[tuple(request.prompt)], random)
            self.kinds.append(kind)
            tokens = [*self.tokenizer.encode(text), self.tokenizer.eos_id]
            reason = "length" if kind == "truncated" else "stop"
            generations.append(Generation([*request.prompt], tokens, [-1.0] * len(tokens), reason, text))
        return generations


@pytest.fixture
def spoken(base: Base, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[StageDirectory, Speaker]]:
    """A stage whose model speaks so."""

    def curated(path: Path, seed: int = 0, **changes: Any) -> tuple[StageDirectory, Speaker]:
        settings = settings_of(base, **changes)
        problems = [problem for _, problem in draw(settings.tasks, settings.problems, seed)]
        speaker = Speaker(Tokenizer.from_directory(base("deepseek_v3")), problems)
        monkeypatch.setattr(shared, "make_generator", lambda *arguments, **options: speaker)
        stage = stage_in(path)
        run(stage, settings, seed)
        return stage, speaker

    return curated


Spoken = Callable[..., tuple[StageDirectory, Speaker]]


def test_every_sample_is_rejected_for_what_is_wrong_with_it(spoken: Spoken, tmp_path: Path) -> None:
    stage, speaker = spoken(tmp_path / "run")
    rollouts = stage.rollouts.rows()
    completions = [one for row in rollouts for one in row["completions"]]
    assert len(rollouts) == 10 and len(completions) == len(speaker.kinds) == 120
    for kind, one in zip(speaker.kinds, completions, strict=True):
        assert one["rejected"] == WHY[kind] or (kind == "right" and one["rejected"] == "duplicate")
    for row in rollouts:  # the same reasoning is kept once
        kept = [one["text"] for one in row["completions"] if one["rejected"] is None]
        right = {one["text"] for one in row["completions"] if one["rejected"] in (None, "duplicate")}
        assert sorted(kept) == sorted(right)
    assert {one["rejected"] for one in completions} == set(REASONS) - {"unjudged", "surplus"} | {None}


def test_what_is_counted_adds_up(spoken: Spoken, tmp_path: Path) -> None:
    stage, speaker = spoken(tmp_path / "run", others={"conversation": 0.25}, temperature=0.8, max_tokens=300)
    assert speaker.asked == {(0.8, 300)}
    rows, result = stage.metrics.rows(), stage.result
    assert result is not None and [row["step"] for row in rows] == [0, 1, 2]
    assert [row["problems"] for row in rows] == [4, 4, 2]
    for name in ("sampled", "kept", "others", "tokens_sampled", "flops", *(f"rejected_{r}" for r in REASONS)):
        assert result[name] == sum(row[name] for row in rows), name
    assert result["sampled"] == result["kept"] + sum(result[f"rejected_{reason}"] for reason in REASONS)
    assert result["rejected_wrong"] == Counter(speaker.kinds)["wrong"]
    data = stage.data.rows()
    assert len(data) == result["kept"] + result["others"]
    assert abs(result["others"] - 0.25 * len(data)) <= 0.5
    assert 0 < result["tokens_kept"] < result["tokens_sampled"] and 0 < result["solved"] <= 10


@pytest.mark.parametrize("form", ["as-is", "readable"])
def test_the_data_are_right_conversations(spoken: Spoken, form: str, tmp_path: Path) -> None:
    stage, _ = spoken(tmp_path / "run", form=form, others={"conversation": 0.3}, problems=20)
    rows, read = stage.data.rows(), read_conversations(stage.data.path)
    problems = {problem.id: problem for _, problem in draw([tasks.get(**ARITHMETIC)], 20, 0)}
    kept = [(row, one) for row, one in zip(rows, read, strict=True) if row["task"] == "arithmetic"]
    assert len(kept) > 10 and {row["language"] for row, _ in kept} == {"en", "zh"}
    for row, one in kept:
        problem, (question, reply) = problems[row["problem"]], one.messages
        assert question.content == problem.prompt and row["language"] == problem.language
        assert reply.reasoning in THOUGHTS[problem.language] and boxed(reply.content) == problem.answer
        assert (reply.content == f"\\boxed{{{problem.answer}}}") == (form == "as-is")
    patterns = {"".join(filter(str.isalpha, one.messages[1].content)) for _, one in kept}
    assert len(patterns) > 3 if form == "readable" else patterns == {"boxed"}
    others = [(row, one) for row, one in zip(rows, read, strict=True) if row["task"] == "conversation"]
    assert others and all("problem" not in row and not one.messages[1].reasoning for row, one in others)
    assert {one.thinking for _, one in others} == {True, False}


def test_documents_of_a_kind_that_nobody_registered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="no documents of the kind `worket`; did you mean `worked`"):
        SampledConversationSettings(others={"worket": 0.2})
    monkeypatch.setitem(STANDALONE, "poems", lambda random: Document("A poem?", "", "No.", "short"))
    assert SampledConversationSettings(others={"poems": 0.2}).others == {"poems": 0.2}


def test_others_come_by_their_shares(spoken: Spoken, tmp_path: Path) -> None:
    stage, _ = spoken(tmp_path / "run", others={"conversation": 0.2, "practice": 0.6}, problems=30)
    kinds = Counter(row["task"] for row in stage.data.rows())
    assert kinds["arithmetic"] / kinds.total() == pytest.approx(0.2, abs=0.01)
    assert kinds["practice"] > 2 * kinds["conversation"] > 0
    read = read_conversations(stage.data.path)
    assert all(one.messages[1].reasoning for one in read if one.messages[1].content in ("Done.", "好了。"))


def test_worked_examples_are_typed_as_problems_and_limits_as_talk(spoken: Spoken, tmp_path: Path) -> None:
    others = {"worked": 0.4, "limits": 0.3}
    plain, _ = spoken(tmp_path / "plain", others=others, problems=30)
    typed, _ = spoken(tmp_path / "typed", others=others, problems=30, informal=1.0, follow_ups=0.3)
    rows = typed.data.rows()
    assert Counter(row["task"] for row in rows).keys() == {"arithmetic", "worked", "limits"}
    assert all(("problem" in row) == (row["task"] != "limits") for row in rows)
    worked = [(a, b) for a, b in zip(plain.data.rows(), rows, strict=True) if b["task"] == "worked"]
    assert sum(a["messages"][0] != b["messages"][-2] for a, b in worked) > 0.9 * len(worked)
    assert all(a["messages"][-1] == b["messages"][-1] for a, b in worked)
    questions = [row["messages"][-2]["content"] for _, row in worked]
    assert any(re.fullmatch(r"\d+( ?[-+] ?\d+)+=?\??", text) for text in questions)  # the short form of a sum


def test_prompts_are_typed_and_conversations_go_on(spoken: Spoken, tmp_path: Path) -> None:
    plain, _ = spoken(tmp_path / "plain", others={"conversation": 0.3}, problems=20)
    typed, _ = spoken(tmp_path / "typed", others={"conversation": 0.3}, problems=20, informal=0.5, follow_ups=0.4)
    read = read_conversations(typed.data.path)
    assert len(read) == len(plain.data.rows())
    long = [one for one in read if len(one.messages) > 2]
    assert 0.25 < len(long) / len(read) < 0.55 and {len(one.messages) for one in long} == {4, 6, 8}
    changed = 0
    for before, row, one in zip(plain.data.rows(), typed.data.rows(), read, strict=True):
        *earlier, question, reply = one.messages
        assert reply.content == before["messages"][1]["content"] and reply.learned
        changed += question.content != before["messages"][0]["content"]
        for said_before in earlier[1::2]:  # read only, without its reasoning, and not the answer to the same problem
            assert not said_before.learned and not said_before.reasoning
            assert row["task"] == "conversation" or said_before.content != reply.content
    assert 0.3 < changed / len(read) < 0.7


def test_prompts_of_other_tasks_are_not_reworded() -> None:
    settings: dict[str, Any] = {"problems": 1, "max_tokens": 1, "informal": 0.1}
    for task in ({"name": "calculator"}, {"name": "mixture", "parts": [ARITHMETIC, {"name": "calculator"}]}):
        with pytest.raises(ValidationError, match="the task calculator"):
            RejectionSamplingSettings.model_validate(settings | {"task": task})
    RejectionSamplingSettings.model_validate(settings | {"task": {"name": "mixture", "parts": [ARITHMETIC]}})


def test_others_leave_room_for_its_own() -> None:
    with pytest.raises(ValidationError, match="add up to 1"):
        RejectionSamplingSettings(task={"name": "arithmetic"}, problems=1, max_tokens=1, others={"drill": 1.0})  # type: ignore[arg-type]


def test_a_cap_keeps_the_first(spoken: Spoken, tmp_path: Path) -> None:
    every, _ = spoken(tmp_path / "every", keep={"max_length": 120, "deduplicate": False})
    first, _ = spoken(tmp_path / "first", keep={"max_length": 120, "deduplicate": False, "per_problem": 1})
    for before, after in zip(every.rollouts.rows(), first.rollouts.rows(), strict=True):
        passed = [n for n, one in enumerate(before["completions"]) if one["rejected"] is None]
        kept = [n for n, one in enumerate(after["completions"]) if one["rejected"] is None]
        surplus = [n for n, one in enumerate(after["completions"]) if one["rejected"] == "surplus"]
        assert (kept, surplus) == (passed[:1], passed[1:])


def test_what_was_kept_can_be_learned(base: Base, spoken: Spoken, tmp_path: Path) -> None:
    stage, _ = spoken(tmp_path / "run", form="readable", others={"conversation": 0.2})
    taught = stage.run.stage("taught")
    settings = FinetuningSettings(
        model=str(base("llama")), data=[str(stage.data.path)], epochs=1, row_length=256, rows=4, learning_rate=0.01
    )
    run_stage(Finetuning, settings, taught, Runtime(0, CPU, torch.float32))
    assert taught.result is not None and taught.result["conversations"] == len(stage.data.rows())
    assert taught.result["too_long"] == 0


def test_nothing_kept_is_an_error_that_says_why(spoken: Spoken, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 120 samples was kept \(.*\d+ long.*`keep`"):
        spoken(tmp_path / "run", keep={"max_length": 1})


# Sifting

problem = Problem("arithmetic", "id", "What is 2+3?", "5", {"expression": "2+3"}, "en")
samples = st.lists(
    st.tuples(
        st.sampled_from(["correct", "wrong", "unjudged"]), st.booleans(), st.sampled_from([1.0, 1.0, 0.0]),
        st.sampled_from(["I add.", "I  add. ", "So.", "我加。", "so " * 40]), st.integers(1, 9),
    ),
    max_size=12,
)  # fmt: skip
keeps = st.builds(
    KeepSettings, correct=st.booleans(), min_language=st.sampled_from([0.0, 0.9]),
    max_repetition=st.sampled_from([0.2, 1.0]), max_length=st.none() | st.integers(1, 9),
    per_problem=st.none() | st.integers(1, 3), deduplicate=st.booleans(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("form", "kept"), [(None, {"think"}), ("think", {"think"}), ("plain", {"plain"}), ("any", {"think", "plain"})]
)
def test_the_form_is_a_choice(form: Any, kept: set[str]) -> None:
    think = "<think>\nI add.\n</think>\n\n\\boxed{5}"
    texts = {"think": think, "plain": "It is \\boxed{5}.", "open": "<think>\nI add."}
    said = [Completion.parse(text, prefilled=False) for text in texts.values()]
    verdicts = [Verdict("correct", {"format": float(name == "think")}, "") for name in texts]
    generations = [Generation([1], [2], [0.0], "stop") for _ in texts]
    keep = KeepSettings.model_validate({"min_language": 0, "form": form})
    reasons = filter_samples(Group(problem, generations, said, verdicts), keep)
    assert {name for name, reason in zip(texts, reasons, strict=True) if reason is None} == kept
    assert set(reasons) == {None, "malformed"}


@given(samples, keeps)
def test_sifting(drawn: list[tuple[Any, bool, float, str, int]], keep: KeepSettings) -> None:
    group = Group(problem, [], [], [])
    for outcome, truncated, format, thought, length in drawn:
        group.generations.append(Generation([1], [2] * length, [0.0] * length, "stop"))
        group.completions.append(Completion(thought, "\\boxed{5}", True, True, truncated))
        group.verdicts.append(Verdict(outcome, {"format": format}, ""))
    reasons = filter_samples(group, keep)
    fine = [
        not (outcome == "unjudged" or truncated or not format)
        and (outcome == "correct" or not keep.correct)
        and (thought != "我加。" or not keep.min_language)
        and (len(thought) < 20 or keep.max_repetition == 1)
        and (keep.max_length is None or length <= keep.max_length)
        for outcome, truncated, format, thought, length in drawn
    ]
    kept = [thought.split() for (*_, thought, _), reason in zip(drawn, reasons, strict=True) if not reason]
    assert len(reasons) == len(drawn) and set(reasons) <= {*REASONS, None}
    assert all(reason in ("duplicate", "surplus", None) for reason, ok in zip(reasons, fine, strict=True) if ok)
    assert all(reason not in ("duplicate", "surplus", None) for reason, ok in zip(reasons, fine, strict=True) if not ok)
    different = {tuple(thought.split()) for (*_, thought, _), ok in zip(drawn, fine, strict=True) if ok}
    most = len(different) if keep.deduplicate else sum(fine)
    assert len(kept) == (most if keep.per_problem is None else min(most, keep.per_problem))
    assert not keep.deduplicate or len(kept) == len({tuple(thought) for thought in kept})


texts = st.lists(st.sampled_from(["so", "12", "+", "我", "等", "wait", "."]), max_size=60).map(" ".join)


@given(texts, st.integers(2, 9))
def test_what_is_said_again_and_again_is_repetition(text: str, times: int) -> None:
    assert 0 <= repetition(text) < 1
    size = len(text.split())
    if size >= 12:
        assert repetition(" ".join([text] * times)) >= 1 - size / (times * size - 11) - 1e-9
    assert repetition(" ".join(map(str, range(size)))) == 0


def test_repetition_tells_circles_from_work() -> None:
    """The corpus searches in lines of one pattern, and is hardly ever taken for circles."""
    documents = islice(corpus.documents(0, {"countdown": 1.0, "word-problems": 0.3}, {}), 400)
    measured = [repetition(document.reasoning) for document in documents]
    assert sum(value > KeepSettings().max_repetition for value in measured) < 0.02 * len(measured)
    assert repetition("我算错了，再来一次。" * 10) > 0.8 and repetition("Wait, no. " * 20) > 0.8


@pytest.mark.parametrize("name", ["countdown", "arithmetic", "equations", "word-problems"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_written_answer_is_right_and_in_the_language(name: str, language: str) -> None:
    task, random = tasks.get(name, language=language), Random(0)
    answers = set()
    for one in islice(task.problems("train", 0), 30):
        answer = answer_sentence(one, one.answer, random)
        completion = Completion.parse(f"So.\n</think>\n\n{answer}")
        verdict = task.judge(one, completion)
        assert verdict.outcome == "correct" and verdict.rewards["format"] == 1.0, answer
        assert share(answer, language) == 1.0 and len(answer) > len(one.answer) + len("\\boxed{}") + 3
        answers.add(answer.replace(one.answer, "")[:6])
    assert len(answers) > 1


@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_answer_is_written_in_any_language_and_beside_any_column(language: str) -> None:
    problem = Problem("mine.jsonl", "1", "2+2?", "4", {"box": "red", "self": 1, "result": "no"}, language)
    answer = answer_sentence(problem, "4", Random(0))
    assert answer == {"en": "The answer is \\boxed{4}.", "fr": "\\boxed{4}"}[language]


# Drawing


def test_problems_differ_and_come_in_turn() -> None:
    both = [tasks.get("countdown", numbers=2), tasks.get("arithmetic", difficulty=1)]
    drawn = draw(both, 81, 0)
    assert [task for task, _ in drawn] == [both[turn % 2] for turn in range(81)]
    assert all(task.name == problem.task for task, problem in drawn)
    assert len({problem.id for _, problem in drawn}) == 81
    assert draw(both, 81, 0) == drawn and draw(both, 40, 0) == drawn[:40] and draw(both, 81, 1) != drawn


def test_problems_differ_even_if_a_task_comes_twice() -> None:
    easy, hard = (tasks.get("arithmetic", difficulty=level) for level in (1, 2))
    drawn = [problem.id for _, problem in draw([easy, hard, easy], 600, 0)]
    assert len(set(drawn)) == len(drawn)


def test_a_task_without_so_many_problems_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curation, "_PATIENCE", 500)
    few = tiny.Letters({"problems": 5})
    assert len(draw([few], 5, 0)) == 5
    with pytest.raises(UserError, match="letters has about 5 different.*not 6"):
        draw([few], 6, 0)
    monkeypatch.setattr(curation, "_PATIENCE", 100)  # more draws than that are in vain here, but not in a row
    assert len(draw([tiny.Letters({"problems": 60})], 58, 0)) == 58


def test_tasks_are_checked_with_the_settings() -> None:
    values: dict[str, Any] = {"problems": 1, "max_tokens": 9}
    for task, complaint in (([], "no task to draw"), ({"name": "count"}, "no task 'count'")):
        with pytest.raises(ValidationError, match=complaint):
            RejectionSamplingSettings.model_validate({**values, "task": task})
    both = RejectionSamplingSettings.model_validate({**values, "task": [ARITHMETIC, {"name": "countdown"}]})
    assert [task.name for task in both.tasks] == ["arithmetic", "countdown"]
    assert both.model_copy(update={"problems": 65}).steps == 3


# Kills, with a real engine


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("broken", [0, 3, 9, 10, 20, 27])
def test_resumed_equals_uninterrupted(base: Base, broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off before some line of some log is written, in any step."""
    settings = settings_of(
        base, task={"name": "letters", "unreadable": "xyz"}, problems=11, problems_per_step=4, samples=4, max_tokens=60,
        keep={"min_language": 0, "correct": False}, others={"conversation": 0.2},
    )  # fmt: skip
    whole, stage = stage_in(tmp_path / "whole"), stage_in(tmp_path / "broken")
    run(whole, settings)
    lines = sum(len(log.rows()) for log in (whole.metrics, whole.rollouts, whole.data))
    assert lines > 27 and whole.result is not None and whole.result["kept"] < whole.result["sampled"]
    append, calls, drawn = JsonLines.append, count(), []
    sample = curation.RejectionSampling.sample

    def noted(self: curation.RejectionSampling, step: int) -> list[Group]:
        drawn.append(step)
        return sample(self, step)

    monkeypatch.setattr(curation.RejectionSampling, "sample", noted)

    def breaks_off(log: JsonLines, row: dict[str, Any]) -> None:
        if next(calls) == broken:
            raise KeyboardInterrupt
        append(log, row)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "append", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            run(stage, settings)
    assert stage.result is None
    run(stage, settings)
    assert drawn == sorted(drawn) and len(drawn) == 4  # only the step that was broken off is drawn again
    for log in ("data.jsonl", "rollouts.jsonl"):
        assert (stage.path / log).read_bytes() == (whole.path / log).read_bytes()
    timings = ("time", "tokens_per_second_sampling")
    logged = [
        [{key: row[key] for key in row if key not in timings} for row in one.metrics.rows()] for one in (stage, whole)
    ]
    assert logged[0] == logged[1]
    assert {**(stage.result or {}), "time": 0} == {**whole.result, "time": 0}
