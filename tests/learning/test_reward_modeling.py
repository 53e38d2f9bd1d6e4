"""Reward models: what they learn, a stage that resumes bit by bit, and the reward they give."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning import loop
from longjing.learning import reward_modeling as preference
from longjing.learning.loop import run_stage
from longjing.learning.reward_modeling import (
    Data,
    RewardExample,
    RewardModeling,
    RewardModelingSettings,
    batch,
    load_data,
    measure,
    microbatches,
    steps_per_epoch,
)
from longjing.learning.reward_models import PreferenceReward
from longjing.model.reward_model import RewardModel
from longjing.model.store.checkpoint import load_reward_model
from longjing.runs import RunDirectory, StageDirectory
from longjing.tasks import Completion
from longjing.text.tokenizer import Tokenizer

Base = Callable[[str], Path]
FAMILIES = ["deepseek_v3", "llama"]
ASKED = [{"role": "user", "content": "Write 7."}]


def completion(answer: str, reasoning: str = "") -> Completion:
    return Completion(reasoning, answer, True, True, False)


def pairs(count: int) -> list[dict[str, Any]]:
    """The better answer says a; both have an even number of letters."""
    return [
        {"prompt": f"Write {n}.", "chosen": "ab" * (n % 3 + 1), "rejected": "bb" * (n % 4 + 1)} for n in range(count)
    ]


def labelled(count: int) -> list[dict[str, Any]]:
    """The text is good if its reasoning says a, which has nothing to do with what was asked."""
    random = Random(0)
    answers = [random.choice(("ab", "bb")) for _ in range(count)]
    return [
        {"prompt": f"Write {n}.", "completion": f"<think>{word}</think>cc", "label": word == "ab"}
        for n, word in enumerate(answers)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def settings(model: Path, data: Any, **changes: Any) -> RewardModelingSettings:
    values = {
        "model": str(model), "data": data, "batch_size": 16, "learning_rate": 0.01, "held_out": 0.25,
        "save_every": 2,
    }  # fmt: skip
    return RewardModelingSettings.model_validate(values | changes)


def stage_in(path: Path) -> StageDirectory:
    path.mkdir(exist_ok=True)
    return RunDirectory(path).stage("helpful")


def run(stage: StageDirectory, options: RewardModelingSettings, seed: int = 0) -> None:
    run_stage(RewardModeling, options, stage, Runtime(seed, torch.device("cpu"), torch.float32))


def logged(stage: StageDirectory) -> list[dict[str, Any]]:
    """Metrics and measurements, but for what a clock says."""
    timings = ("time", "seconds", "tokens_per_second")
    rows = [*stage.metrics.rows(), *stage.evaluations.rows()]
    return [{key: value for key, value in row.items() if key not in timings} for row in rows]


@pytest.fixture(scope="module")
def helpful(base: Base, tmp_path_factory: pytest.TempPathFactory) -> StageDirectory:
    path = tmp_path_factory.mktemp("helpful")
    stage = stage_in(path)
    run(stage, settings(base("llama"), write(path / "pairs.jsonl", pairs(120)), epochs=4))
    return stage


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_learned_and_measured_on_other_prompts(family: str, base: Base, tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    run(stage, settings(base(family), write(tmp_path / "pairs.jsonl", pairs(120)), epochs=4))
    rows, (measured,) = stage.metrics.rows(), stage.evaluations.rows()
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and rows[0]["accuracy"] == 0.5
    assert rows[-1]["loss"] < 0.2 and rows[-1]["step"] + 1 == rows[-1]["steps"] == len(rows)
    assert measured["accuracy"] > 0.9 and measured["low"] > 0.7 and measured["task"] == "pairs"
    assert stage.result is not None and stage.result["accuracy"] == measured["accuracy"]
    assert stage.result["examples"] + stage.result["held_out"] == 120 and stage.result["held_out"] > 15
    assert stage.result["judges"] == "answer" and stage.result["flops"] > stage.result["tokens"] > 0


def test_labels_are_learned_from_everything_and_not_from_the_answer_alone(base: Base, tmp_path: Path) -> None:
    data = write(tmp_path / "labels.jsonl", labelled(120))
    accuracy = {}
    for judges in (None, "answer"):
        stage = stage_in(tmp_path / str(judges))
        run(stage, settings(base("llama"), data, epochs=4, judges=judges))
        assert stage.result is not None
        accuracy[stage.result["judges"]] = stage.result["accuracy"]
    assert accuracy["everything"] > 0.9
    assert 0.2 < accuracy["answer"] < 0.8


@pytest.mark.parametrize("data", ["helpfulness", "safety"])
def test_generated_data_go_through_the_whole_stage(data: str, base: Base, tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    made = {"generated": data, "examples": 60, "corpus": {"conversation": 1.0, "arithmetic": 1.0}}
    run(stage, settings(base("llama"), made))
    (measured,) = stage.evaluations.rows()
    assert measured["task"] == data and measured["by_kind"]
    assert ("longer_better" in measured) == (data == "helpfulness")


def test_bfloat16_computes_in_autocast_and_keeps_float32_weights(base: Base, tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    options = settings(base("deepseek_v3"), write(tmp_path / "pairs.jsonl", pairs(120)), epochs=4)
    run_stage(RewardModeling, options, stage, Runtime(0, torch.device("cpu"), torch.bfloat16))
    assert {tensor.dtype for tensor in load_reward_model(stage.model_path).parameters()} == {torch.float32}
    assert stage.result is not None and stage.result["accuracy"] > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_resumed_equals_uninterrupted(family: str, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off in the fourth step, after a save in the second; then fresh objects go on."""
    options = settings(base(family), write(tmp_path / "pairs.jsonl", pairs(60)), epochs=2)
    whole, broken = stage_in(tmp_path / "whole"), stage_in(tmp_path / "broken")
    run(whole, options)
    clip, calls = preference.clip_gradients, iter(range(100))

    def breaks_off(*arguments: Any) -> float:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return clip(*arguments)

    monkeypatch.setattr(preference, "clip_gradients", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run(broken, options)
    assert len(broken.metrics.rows()) == 3 and broken.result is None
    monkeypatch.setattr(preference, "clip_gradients", clip)
    run(broken, options)
    assert logged(broken) == logged(whole)
    for file in whole.model_path.iterdir():
        assert (broken.model_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_stage_killed_before_its_end_ends_without_measuring_again(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = settings(base("llama"), write(tmp_path / "pairs.jsonl", pairs(40)))
    stage = stage_in(tmp_path)
    save = loop.save_model
    monkeypatch.setattr(loop, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(stage, options)
    monkeypatch.setattr(loop, "save_model", save)
    monkeypatch.setattr(preference, "measure", None)
    run(stage, options)
    assert stage.result is not None and len(stage.evaluations.rows()) == 1


def test_data_that_changed_are_refused(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pairs.jsonl"
    options = settings(base("llama"), write(path, pairs(60)), epochs=9)
    stage = stage_in(tmp_path)
    monkeypatch.setattr(preference, "measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(stage, options)
    write(path, pairs(61))
    with pytest.raises(UserError, match="data of the stage helpful changed"):
        run(stage, options)


def test_what_a_measurement_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pairs of four prompts: the figures by hand, with a model whose margins are given."""
    cases = [  # prompt, kind, lengths of the better and the worse text, margin
        ("p", "long", 9, 2, 1.0), ("p", "long", 9, 2, -1.0), ("q", "long", 8, 1, 2.0),
        ("r", "short", 1, 7, 3.0), ("s", "even", 6, 6, 0.0),
    ]  # fmt: skip
    examples = [RewardExample(p, kind, [[1] * good, [1] * bad], None) for p, kind, good, bad, _ in cases]

    def given_margins(model: Any, part: list[RewardExample], centre: float) -> tuple[torch.Tensor, torch.Tensor]:
        margins = [next(m for e, (*_, m) in zip(examples, cases, strict=True) if e is one) for one in part]
        return torch.tensor(margins), torch.tensor(margins)

    monkeypatch.setattr(preference, "losses_and_margins", given_margins)
    data = Data("mine", "answer", [], examples, {})
    model = RewardModel.from_decoder(tiny.network("llama"), None)
    metrics = measure(model, data, 0.01, 8192, Runtime(0, torch.device("cpu"), torch.float32))
    assert metrics["problems"] == 4 and metrics["accuracy"] == pytest.approx((0.5 + 1 + 1 + 0.5) / 4)
    assert metrics["by_kind"] == pytest.approx({"even": 0.5, "long": 2 / 3, "short": 1.0})
    assert metrics["longer_better"] == 3 / 4
    assert metrics["longer_scores_higher"] == pytest.approx((1 + 0 + 1 + 0) / 4)
    assert metrics["margin"] == pytest.approx(5 / 5) and metrics["low"] < metrics["accuracy"] < metrics["high"]
    assert model.training


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.integers(0, 5))
def test_each_epoch_has_every_example_once(count: int, size: int, epochs: int, seed: int) -> None:
    options = settings(Path("any"), "any.jsonl", batch_size=size, epochs=epochs)
    steps = steps_per_epoch(options, count)
    order = [[batch(options, count, seed, epoch * steps + n) for n in range(steps)] for epoch in range(epochs)]
    for epoch in order:
        assert all(0 < len(numbers) <= size for numbers in epoch)
        assert sorted(number for numbers in epoch for number in numbers) == list(range(count))
    if count > 9 and epochs > 1:
        assert order[0] != order[1]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 200))
def test_microbatches_keep_to_their_budget(lengths: list[int], budget: int) -> None:
    examples = [RewardExample("p", "", [[1] * length, [1]], None) for length in lengths]
    parts = microbatches(examples, budget)
    assert sorted(example.longest for part in parts for example in part) == sorted(lengths)
    for part in parts:
        assert len(part) == 1 or len(part) * 2 * max(example.longest for example in part) <= budget


def test_microbatches_do_not_change_what_is_learned(base: Base, tmp_path: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(40))
    weights, steps = [], []
    for micro_tokens in (1, 10_000):
        stage = stage_in(tmp_path / str(micro_tokens))
        run(stage, settings(base("llama"), data, micro_tokens=micro_tokens))
        weights.append(load_reward_model(stage.model_path).state_dict())
        steps.append([row[key] for row in stage.metrics.rows() for key in ("loss", "grad_norm", "margin")])
    assert steps[0] == pytest.approx(steps[1], rel=1e-3, abs=1e-5)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-4, rtol=1e-3)


def test_held_out_prompts_are_not_learned_and_long_texts_are_counted(base: Base, tmp_path: Path) -> None:
    long = {"prompt": "Long", "chosen": "a" * 300, "rejected": "b"}
    path = write(tmp_path / "pairs.jsonl", [*pairs(60), *pairs(60), long])
    data = load_data(settings(base("llama"), path, max_length=100), tiny.tokenizer(), 0)
    assert not {e.prompt for e in data.train} & {e.prompt for e in data.held_out}
    assert data.facts["too_long"] == 1 and len(data.train) + len(data.held_out) == 120


def test_pairs_that_part_early_are_counted_in_the_result(base: Base, tmp_path: Path) -> None:
    question, reply = {"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}
    parted = {"chosen": [question, reply], "rejected": [question, reply, question, reply]}
    files = [write(tmp_path / name, [*pairs(40), parted]) for name in ("a.jsonl", "b.jsonl")]
    stage = stage_in(tmp_path)
    run(stage, settings(base("llama"), files))
    assert stage.result is not None and stage.result["prompts_differ"] == 2
    assert stage.result["examples"] + stage.result["held_out"] == 80 and stage.result["too_long"] == 0


def test_what_template_and_tokenizer_refuse_is_named_with_its_line(base: Base, tmp_path: Path) -> None:
    messages = [{"role": "tool", "content": "5"}]
    for row, complaint in (
        ({"prompt": messages, "chosen": "a", "rejected": "b"}, 'has the role "tool"'),
        ({"prompt": "p", "chosen": "a<｜User｜>", "rejected": "b"}, "`chosen` has <｜User｜> in its text"),
    ):
        path = write(tmp_path / "pairs.jsonl", [*pairs(40), row])
        with pytest.raises(UserError, match=rf"pairs\.jsonl, line 41: .*{complaint}"):
            load_data(settings(base("llama"), path), tiny.tokenizer(), 0)


def test_data_of_which_nothing_can_be_made_are_refused(base: Base, tmp_path: Path) -> None:
    files = [write(tmp_path / "a.jsonl", pairs(30)), write(tmp_path / "b.jsonl", labelled(30))]
    with pytest.raises(UserError, match="mixes pairs with labelled texts"):
        load_data(settings(base("llama"), files), tiny.tokenizer(), 0)
    with pytest.raises(UserError, match="0 are left to learn from"):
        load_data(settings(base("llama"), files[:1], max_length=3), tiny.tokenizer(), 0)


def test_data_by_name_or_by_file() -> None:
    by_name = settings(Path("any"), "safety").data
    assert by_name == settings(Path("any"), {"generated": "safety"}).data
    assert settings(Path("any"), "a.jsonl").data == ["a.jsonl"]
    with pytest.raises(ValidationError, match="length_bias"):
        settings(Path("any"), {"generated": "safety", "length_bias": 1})


def test_the_reward_is_the_sigmoid_of_the_score(helpful: StageDirectory) -> None:
    reward = PreferenceReward(helpful.model_path)
    answers = ["ab", "bb", "abab", "bbbbbb", ""]
    rewards = reward(ASKED, [completion(answer) for answer in answers])
    assert reward.judges == "answer" and all(0 < value < 1 for value in rewards)
    assert min(rewards[0], rewards[2]) > max(rewards[1], rewards[3])
    ids = Tokenizer.from_directory(helpful.model_path)
    conversations = [[*ASKED, {"role": "assistant", "content": answer}] for answer in answers]
    texts = [ids.encode_chat(messages, add_generation_prompt=False) for messages in conversations]
    with torch.no_grad():
        expected = load_reward_model(helpful.model_path).score(texts).sigmoid().tolist()
    assert rewards == pytest.approx(expected, abs=1e-5)
    small = PreferenceReward(helpful.model_path, micro_tokens=1)
    assert small(ASKED, [completion(answer) for answer in answers]) == pytest.approx(rewards, abs=1e-5)
    assert reward(ASKED, []) == []


@pytest.mark.parametrize("card", ["{}", "[]", "", '{"judges": "everyone"}', '{"judges": ["answer"]}'])
def test_a_card_that_says_nothing_is_refused(tmp_path: Path, card: str) -> None:
    (tmp_path / "reward.json").write_text(card)
    (tmp_path / "config.json").touch()
    with pytest.raises(UserError, match=r"reward\.json doesn't say what the reward model judges"):
        PreferenceReward(tmp_path)


def test_what_a_reward_model_judges_is_what_it_learned(helpful: StageDirectory, tmp_path: Path) -> None:
    reward = PreferenceReward(helpful.model_path, judges="answer")
    thoughts = reward(ASKED, [completion("ab", thought) for thought in ("", "bb", "ab ab")])
    assert thoughts[0] == pytest.approx(thoughts[1], abs=1e-6) == pytest.approx(thoughts[2], abs=1e-6)
    with pytest.raises(UserError, match="learned to judge 'answer', not 'everything'"):
        PreferenceReward(helpful.model_path, judges="everything")
    for file in helpful.model_path.iterdir():
        if file.name != "reward.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="say what this reward model judges"):
        PreferenceReward(tmp_path)
    everything = PreferenceReward(tmp_path, judges="everything")
    values = everything(ASKED, [completion("ab", thought) for thought in ("", "bb", "ab ab")])
    assert values[0] == pytest.approx(thoughts[0], abs=1e-6) and len(set(values)) == 3
