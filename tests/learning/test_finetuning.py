"""Fine-tuning: every example once an epoch, the assistant's tokens only, and a run that resumes bit by bit."""

import json
import math
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from conversation_cases import read_conversations
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from longjing.cluster.runtime import Runtime
from longjing.data.conversations import Example, encode_conversation
from longjing.errors import UserError
from longjing.generation.native import Engine, Request, Sampling
from longjing.learning import pretraining
from longjing.learning.finetuning import Finetuning, FinetuningSettings, ending_at, plan, rate_factor
from longjing.learning.loop import run_stage
from longjing.learning.packing import collate
from longjing.learning.text_losses import losses
from longjing.model.config import ModelConfig
from longjing.model.store.checkpoint import load_model, save_model
from longjing.planning import flops
from longjing.runs import RunDirectory, StageDirectory
from longjing.text.tokenizer import Tokenizer

Base = Callable[[str], Path]
CPU = torch.device("cpu")
TURNS = [
    ("Write 1.", "One.", "1"), ("Write 2.", "Two, I think.", "2"), ("Hello", "", "Hello!"),
    ("Write 12.", "One and two: 12. Check: 12.", "12"), ("请写 3。", "三。", "3"), ("Who are you?", "", "Longjing."),
    ("Write 7 twice.", "7 and 7.", "77"), ("Bye", "", "Bye!"),
]  # fmt: skip


def write(path: Path, turns: list[tuple[str, str, str]] = TURNS) -> str:
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "reasoning_content": reasoning, "content": answer},
                ]
            }
        )
        for question, reasoning, answer in turns
    ]
    path.write_text("\n".join(lines))
    return str(path)


def settings_of(base: Base, data: str, family: str = "deepseek_v3", **changes: Any) -> FinetuningSettings:
    values = {
        "model": str(base(family)), "data": [data], "rows": 2, "row_length": 128, "learning_rate": 3e-3,
        "save_every": 2,
    }  # fmt: skip
    return FinetuningSettings.model_validate(values | changes)


def stage_in(path: Path) -> StageDirectory:
    path.mkdir(exist_ok=True)
    return RunDirectory(path).stage("taught")


def run(stage: StageDirectory, settings: FinetuningSettings, seed: int = 0) -> None:
    run_stage(Finetuning, settings, stage, Runtime(seed, CPU, torch.float32))


def logged(stage: StageDirectory) -> list[dict[str, Any]]:
    timings = ("time", "tokens_per_second")
    return [{key: row[key] for key in row if key not in timings} for row in stage.metrics.rows()]


# The plan

lengths = st.lists(st.integers(1, 64), min_size=1, max_size=80)


@given(lengths, st.integers(1, 5), st.integers(1, 3), st.integers(0, 3))
def test_every_epoch_has_every_example_once_in_rows_that_hold_them(
    sizes: list[int], rows: int, epochs: int, seed: int
) -> None:
    settings = FinetuningSettings(data=["x"], rows=rows, row_length=64, epochs=epochs)
    steps = plan(sizes, settings, seed)
    assert steps == plan(sizes, settings, seed)
    for step in steps:
        assert 1 <= len(step) <= rows
        assert all(0 < sum(sizes[number] for number in row) <= 64 for row in step)
    order = list(chain.from_iterable(chain.from_iterable(steps)))
    for epoch in range(epochs):
        part = order[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        assert sorted(part) == list(range(len(sizes)))


def test_epochs_and_seeds_shuffle_anew_and_steps_are_of_a_size() -> None:
    settings = FinetuningSettings(data=["x"], rows=16, row_length=64, epochs=2)
    steps = plan([64] * 17, settings, 0)
    assert [len(step) for step in steps] == [8, 9, 8, 9]  # not 16 and 1
    assert steps[:2] != steps[2:] and steps != plan([64] * 17, settings, 1)


def test_packing_wastes_little() -> None:
    sizes = [(number * 37) % 50 + 3 for number in range(400)]
    rows = list(chain.from_iterable(plan(sizes, FinetuningSettings(data=["x"], row_length=64, epochs=1), 0)))
    assert len(rows) < 1.1 * sum(sizes) / 64


def test_the_rate_rises_and_then_follows_a_cosine_to_its_end() -> None:
    settings = FinetuningSettings(data=["x"], warmup_steps=4, decay_to=0.1)
    factors = [rate_factor(step, 101, settings) for step in range(101)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8]) and max(factors) <= 1
    assert factors[50] == pytest.approx(0.55) and factors[-1] == pytest.approx(0.1)
    assert all(before >= after for before, after in zip(factors[5:], factors[6:], strict=False))
    constant = settings.model_copy(update={"warmup_steps": 0, "decay_to": 1.0})
    assert {rate_factor(step, 9, constant) for step in range(9)} == {1.0}
    assert rate_factor(0, 1, settings.model_copy(update={"warmup_steps": 0})) == 1.0


# What is learned


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_loss_is_that_of_the_assistants_tokens(base: Base, family: str, tmp_path: Path) -> None:
    """Written down once more, one conversation at a time, without packing, masks or padding."""
    data = write(tmp_path / "data.jsonl")
    learner = Finetuning(settings_of(base, data, family, rows=8), Runtime(0, CPU, torch.float32))
    assert learner.steps == 2  # an epoch is one step
    model, ids = load_model(base(family)), Tokenizer.from_directory(base(family))
    near, far = [], []
    for one in read_conversations(data):
        prompt = ids.encode_chat([{"role": "user", "content": one.messages[0].content}])
        reasoning = one.messages[1].reasoning
        text = (reasoning + "\n" if reasoning else "") + "</think>\n\n" + one.messages[1].content
        completion = [*ids.encode(text), ids.eos_id]
        tokens = torch.tensor([prompt + completion])
        with torch.no_grad():
            context = model.context(torch.arange(tokens.shape[1])[None])
            hidden = model.hidden(tokens, context)
            logprobs = model.head(hidden)[0].log_softmax(-1)
            near += [logprobs[len(prompt) + i - 1, token].item() for i, token in enumerate(completion)]
            if model.mtp:
                ahead = model.next_hidden(
                    0, tokens[:, 1:], hidden[:, :-1], model.context(torch.arange(tokens.shape[1] - 1)[None])
                )
                further = model.head(ahead)[0].log_softmax(-1)
                far += [further[len(prompt) + i - 2, token].item() for i, token in enumerate(completion)]
    metrics = learner.step(0).metrics
    assert metrics["loss"] == pytest.approx(-sum(near) / len(near), abs=1e-5)
    assert metrics["mtp_loss"] == pytest.approx(-sum(far) / len(far) if far else 0.0, abs=1e-5)
    assert metrics["loss_mask_share"] == pytest.approx(len(near) / metrics["tokens"])


def test_what_is_only_read_is_no_target() -> None:
    """Another token in a prompt's last place changes what is learned from it, but isn't learned itself."""
    model = tiny.network("deepseek_v3")
    tokens, loss_mask = torch.tensor([4, 8, 15, 16, 23, 42]), torch.tensor([False] * 4 + [True] * 2)
    packed = collate([[Example(tokens, loss_mask)], [[7, 7, 7]]], 9, 0)
    assert packed.loss_mask.tolist() == [[False] * 4 + [True] * 2 + [False] * 3, [False, True, True] + [False] * 6]
    alone = collate([[Example(tokens, loss_mask)]], 6, 0)
    logprobs = model(tokens[None])[0].log_softmax(-1)
    expected = -(logprobs[3, 23] + logprobs[4, 42]) / 2
    torch.testing.assert_close(losses(model, alone).next_token, expected)


@pytest.mark.parametrize(("family", "optimizer"), [("deepseek_v3", "adamw"), ("llama", "muon")])
def test_it_learns_to_say_what_it_was_shown_and_to_stop(
    base: Base, family: str, optimizer: str, tmp_path: Path
) -> None:
    turns = TURNS[:4]
    data = write(tmp_path / "data.jsonl", turns)
    settings = settings_of(
        base, data, family, epochs=80, optimizer=optimizer, save_every=1000,
        **({"learning_rate": 0.01} if optimizer == "adamw" else {"learning_rate": 0.05, "adamw_learning_rate": 0.01}),
    )  # fmt: skip
    stage = stage_in(tmp_path / "run")
    run(stage, settings)
    rows = stage.metrics.rows()
    assert rows[0]["loss"] > 4 and rows[-1]["loss"] < 0.1
    assert rows[-1]["learning_rate"] == pytest.approx(0.1 * settings.learning_rate)
    ids = Tokenizer.from_directory(stage.model_path)
    # The tiny base ends at many tokens; here only the end that was learned counts.
    engine = Engine(load_model(stage.model_path), ids, end_tokens=[ids.eos_id])
    prompts = [ids.encode_chat([{"role": "user", "content": question}]) for question, _, _ in turns]
    greedy = Sampling(temperature=0, max_tokens=60)
    generations = engine.generate([Request(prompt, greedy) for prompt in prompts])
    assert [generation.text for generation in generations] == [
        (reasoning + "\n" if reasoning else "") + "</think>\n\n" + answer for _, reasoning, answer in turns
    ]
    assert {generation.finish_reason for generation in generations} == {"stop"}


# The loop


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write(tmp_path / "data.jsonl")


@pytest.mark.parametrize(("family", "optimizer"), [("deepseek_v3", "muon"), ("llama", "adamw")])
@pytest.mark.parametrize("broken", range(1, 6))
def test_resumed_equals_uninterrupted(
    base: Base, data: str, family: str, optimizer: str, broken: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Broken off in the first, second, ... of six steps, with a save after every second one."""
    settings = settings_of(base, data, family, optimizer=optimizer, epochs=3, row_length=64, warmup_steps=1)
    whole, stage = stage_in(tmp_path / "whole"), stage_in(tmp_path / "broken")
    run(whole, settings)
    assert len(whole.metrics.rows()) >= 6
    read, calls = pretraining.losses, count()

    def breaks_off(*arguments: Any) -> Any:
        if next(calls) == broken:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(pretraining, "losses", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run(stage, settings)
    assert len(stage.metrics.rows()) == broken and stage.result is None
    run(stage, settings)
    again = broken % 2  # steps since the last save, of which the broken one never ended
    assert next(calls) == len(whole.metrics.rows()) + again + 1
    assert logged(stage) == logged(whole)
    for file in whole.model_path.iterdir():
        assert (stage.model_path / file.name).read_bytes() == file.read_bytes(), file.name
    timeless = [{**(one.result or {}), "time": 0} for one in (stage, whole)]
    assert timeless[0] == timeless[1]


def test_other_data_do_not_go_on_with_a_state(
    base: Base, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, settings = stage_in(tmp_path / "run"), settings_of(base, data, epochs=3, row_length=64)
    save = StageDirectory.save_state

    def saves_once(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageDirectory, "save_state", saves_once)
        with pytest.raises(KeyboardInterrupt):
            run(stage, settings)
    text = Path(data).read_text()
    Path(data).write_text(text.replace("Hello!", "Hallo!"))
    with pytest.raises(UserError, match="data of the stage taught changed.*data.jsonl"):
        run(stage, settings)
    Path(data).write_text(text)
    run(stage, settings)
    assert stage.result is not None


def test_the_result_counts_what_was_read_and_what_it_cost(base: Base, data: str, tmp_path: Path) -> None:
    """Examples too long for a row are left out and counted; several files are read."""
    more = write(tmp_path / "more.jsonl", [("Hi", "so " * 200, "Hi!"), ("Hi", "", "Hi!")])
    stage = stage_in(tmp_path / "run")
    run(stage, settings_of(base, data).model_copy(update={"data": [data, more]}))
    assert stage.result is not None
    assert {name: stage.result[name] for name in ("conversations", "examples", "too_long")} == {
        "conversations": 10, "examples": 9, "too_long": 1,
    }  # fmt: skip
    rows, ids = stage.metrics.rows(), Tokenizer.from_directory(base("deepseek_v3"))
    lengths = [
        len(example)
        for path in (data, more)
        for one in read_conversations(path)
        for example in encode_conversation(ids, one)
    ]
    assert rows[-1]["tokens"] == stage.result["tokens"] == 2 * (sum(lengths) - max(lengths))
    assert rows[-1]["epoch"] == 2 and rows[-1]["step"] + 1 == rows[-1]["steps"] == stage.result["steps"]
    assert stage.result["flops"] > 0 and all(0 < row["loss_mask_share"] < 1 for row in rows)
    assert len(stage.result["data"]) == 2


def test_a_row_that_holds_no_example_is_refused(base: Base, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", TURNS[:2])
    with pytest.raises(UserError, match="row of 16 tokens; raise `row_length` to at least"):
        run(stage_in(tmp_path / "run"), settings_of(base, data, row_length=16))


def test_what_the_template_refuses_is_named_with_its_line(base: Base, data: str, tmp_path: Path) -> None:
    question, reply = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}
    path = tmp_path / "more.jsonl"
    conversations = [[question, reply], [question, reply, {"role": "tool", "content": "5"}, reply]]
    path.write_text("\n" + "\n".join(json.dumps({"messages": messages}) for messages in conversations))
    settings = settings_of(base, data).model_copy(update={"data": [data, str(path)]})
    with pytest.raises(UserError, match=r'more\.jsonl, line 3: .*has the role "tool"'):
        run(stage_in(tmp_path / "run"), settings)


@pytest.mark.usefixtures("letters")
def test_tasks_are_measured_before_and_after(base: Base, data: str, tmp_path: Path) -> None:
    stage = stage_in(tmp_path / "run")
    tasks = [{"name": "letters"}, {"name": "countdown", "difficulty": 1}]
    run(stage, settings_of(base, data, evaluation={"tasks": tasks, "problems": 3, "samples": 2, "max_tokens": 8}))
    rows, last = stage.evaluations.rows(), stage.metrics.rows()[-1]["step"]
    assert [(row["step"], row["task"]) for row in rows] == [
        (-1, "letters"), (-1, "countdown"), (last, "letters"), (last, "countdown"),
    ]  # fmt: skip
    assert all(row["problems"] == 3 and row["flops"] > 0 and len(row["examples"]) == 3 for row in rows)
    assert rows[0]["examples"] != rows[2]["examples"]


def test_a_task_that_cannot_be_is_refused_with_the_settings() -> None:
    with pytest.raises(ValidationError, match="no task 'count'"):
        FinetuningSettings.model_validate({"data": ["x"], "evaluation": {"tasks": [{"name": "count"}]}})


def test_a_model_stops_at_the_end_that_it_learned() -> None:
    """A base's config may name another end token than the template it is fine-tuned with."""

    def ends(end_tokens: Any, learned: set[int]) -> Any:
        config = tiny.FAMILIES["llama"] | {"vocab_size": 290, "eos_token_id": end_tokens}
        return ending_at(ModelConfig.from_dict(config), learned).eos_token_id

    assert ends(1, {1}) == 1
    assert ends(1, {7}) == (1, 7)
    assert ends([1, 7], {7}) == (1, 7)
    assert ends(None, {7}) == 7


def test_the_finished_model_stops_where_its_template_does(data: str, tmp_path: Path) -> None:
    save_model(tiny.network("llama", eos_token_id=20), tmp_path)
    tiny.tokenizer().save(tmp_path)
    stage = stage_in(tmp_path / "run")
    run(stage, settings_of(lambda family: tmp_path, data, epochs=1))
    assert load_model(stage.model_path).config.eos_token_id == (20, tiny.tokenizer().eos_id)


def test_bfloat16_computes_in_autocast_and_keeps_float32_weights(base: Base, data: str, tmp_path: Path) -> None:
    stage = stage_in(tmp_path / "run")
    run_stage(Finetuning, settings_of(base, data), stage, Runtime(0, CPU, torch.bfloat16))
    assert {parameter.dtype for parameter in load_model(stage.model_path).parameters()} == {torch.float32}
    assert all(0 < row["loss"] < 8 and math.isfinite(row["grad_norm"]) for row in stage.metrics.rows())


def test_the_weights_add_the_losses_and_the_gradient_is_clipped(
    base: Base, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals, norms = [], []
    backward = torch.autograd.backward

    def noted(total: torch.Tensor) -> None:
        totals.append(total.item())
        backward(total)

    monkeypatch.setattr(torch.autograd, "backward", noted)
    settings = settings_of(base, data, mtp_weight=0.5, balance_weight=0.01, max_grad_norm=0.25)
    learner = Finetuning(settings, Runtime(0, CPU, torch.float32))

    class Recorder:
        def step(self, factor: float) -> None:
            gradients = [p.grad.norm() for p in learner.model.parameters() if p.grad is not None]
            norms.append(torch.stack(gradients).norm().item())

    learner.optimizers = Recorder()  # type: ignore[assignment]
    metrics = learner.step(0).metrics
    expected = metrics["loss"] + 0.5 * metrics["mtp_loss"] + 0.01 * metrics["balance_loss"]
    assert totals == [pytest.approx(expected, rel=1e-6)]
    assert metrics["grad_norm"] > 0.25 and norms == [pytest.approx(0.25, rel=1e-4)]


def test_flops_are_those_of_each_example(base: Base, data: str) -> None:
    learner = Finetuning(settings_of(base, data), Runtime(0, CPU, torch.float32))
    sizes = [len(learner.examples[number]) for row in learner.plan[0] for number in row]
    expected = sum(size * flops.training(learner.model.config, size, mtp=True) for size in sizes)
    assert len(set(sizes)) > 1 and learner.step(0).metrics["flops"] == pytest.approx(expected)


def test_balancing_is_off_unless_asked_for(base: Base, data: str, tmp_path: Path) -> None:
    for speed in (0.0, 0.01):
        learner = Finetuning(settings_of(base, data, balance_speed=speed), Runtime(0, CPU, torch.float32))
        metrics = learner.step(0).metrics
        assert metrics["load_max"] > 1
        moved = max(router.e_score_correction_bias.abs().max().item() for router in learner.model.routers())
        assert moved == pytest.approx(speed)


@pytest.mark.usefixtures("letters")
def test_a_stage_broken_off_at_its_very_end_only_writes_its_model_again(
    base: Base, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"tasks": [{"name": "letters"}], "problems": 2, "samples": 1, "max_tokens": 8}
    stage, settings = stage_in(tmp_path / "run"), settings_of(base, data, evaluation=measured)
    with monkeypatch.context() as patch:
        patch.setattr(StageDirectory, "finish", lambda stage, result: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(stage, settings)
    logs = [stage.metrics.rows(), stage.evaluations.rows()]
    weights = (stage.model_path / "model.safetensors").read_bytes()
    monkeypatch.setattr(pretraining, "losses", lambda *arguments: 1 / 0)
    run(stage, settings)
    assert stage.result is not None and [stage.metrics.rows(), stage.evaluations.rows()] == logs
    assert (stage.model_path / "model.safetensors").read_bytes() == weights
