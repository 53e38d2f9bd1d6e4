"""Pretraining: batches from seed and step alone, a loss that falls, and a run that resumes bit by bit."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning import pretraining
from longjing.learning.loop import run_stage
from longjing.learning.packing import Packed
from longjing.learning.pretraining import Pretraining, PretrainingSettings, batch, rate_factor
from longjing.learning.text_losses import losses
from longjing.model.store.checkpoint import load_model
from longjing.runs import RunDirectory, StageDirectory
from longjing.text.tokenizer import Tokenizer

SETTINGS: dict[str, Any] = {
    "model": tiny.FAMILIES["deepseek_v3"], "vocabulary": 320, "tokenizer_documents": 100,
    "corpus": {"countdown": 0.5, "arithmetic": 0.3, "conversation": 0.2},
    "tasks": {"countdown": {"numbers": 2}, "arithmetic": {"difficulty": 1}},
    "steps": 6, "rows": 3, "row_length": 200, "warmup_steps": 2, "save_every": 3,
}  # fmt: skip


def stage_in(path: Path) -> StageDirectory:
    path.mkdir(exist_ok=True)
    return RunDirectory(path).stage("read")


def run(stage: StageDirectory, seed: int = 0, **changes: Any) -> None:
    settings = PretrainingSettings.model_validate(SETTINGS | changes)
    run_stage(Pretraining, settings, stage, Runtime(seed, torch.device("cpu"), torch.float32))


def logged(stage: StageDirectory) -> list[dict[str, Any]]:
    """The metrics, but for what a clock says."""
    timings = ("time", "tokens_per_second")
    return [{key: value for key, value in row.items() if key not in timings} for row in stage.metrics.rows()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StageDirectory:
    stage = stage_in(tmp_path_factory.mktemp("finished"))
    run(stage)
    return stage


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    settings = PretrainingSettings.model_validate(SETTINGS)
    ids = tiny.tokenizer()

    def parts(seed: int, step: int, **changes: Any) -> list[list[int]]:
        packed = batch(settings.model_copy(update=changes), ids, seed, step)
        return [part.tolist() for part in (packed.tokens, packed.positions, packed.segments)]

    expected = parts(1, 4)
    for seed, step in ((0, 4), (1, 5), (4, 1)):
        assert parts(seed, step) != expected
    assert parts(1, 4) == parts(1, 4, steps=1000, learning_rate=0.1) == expected


def test_a_batch_is_made_of_whole_documents_that_end() -> None:
    settings, ids = PretrainingSettings.model_validate(SETTINGS), tiny.tokenizer()
    packed = batch(settings, ids, 0, 0)
    assert packed.tokens.shape == (3, 200) and packed.loss_mask.float().mean() > 0.7
    first, last = packed.positions == 0, packed.segments != packed.segments.roll(-1, dims=1)
    inside = packed.segments > 0
    assert (packed.tokens[first & inside] == ids.bos_id).all()
    assert (packed.tokens[last & inside] == ids.eos_id).all()


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    settings = PretrainingSettings.model_validate(SETTINGS | {"steps": 100, "warmup_steps": 9, "decay_share": 0.4})
    factors = [rate_factor(step, settings) for step in range(100)]
    assert factors[:9] == pytest.approx([number / 10 for number in range(1, 10)])
    assert factors[9:61] == [1.0] * 52
    assert factors[60:] == pytest.approx([1 - number / 40 for number in range(40)])
    constant = settings.model_copy(update={"warmup_steps": 0, "decay_share": 0.0})
    assert {rate_factor(step, constant) for step in range(100)} == {1.0}
    short = settings.model_copy(update={"steps": 5})
    assert all(0 < rate_factor(step, short) <= 1 for step in range(5))


def test_the_loss_falls(tmp_path: Path) -> None:
    """In thirty steps from the loss of a uniform guess, log(vocabulary), to well below; the modules' too."""
    stage = stage_in(tmp_path)
    run(stage, steps=30, save_every=30)
    rows = stage.metrics.rows()
    assert rows[0]["loss"] > 5 and rows[0]["mtp_loss"] > 5
    assert rows[-1]["loss"] < 4.0 and rows[-1]["mtp_loss"] < 4.7
    assert all(row["balance_loss"] > 0.9 and row["load_max"] >= 1 for row in rows)


def test_resumed_equals_uninterrupted(
    finished: StageDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off in the fifth of six steps, after a save in the third; then fresh objects go on."""
    stage = stage_in(tmp_path)
    read = pretraining.losses
    calls = iter(range(100))

    def breaks_off(*arguments: Any) -> Any:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(pretraining, "losses", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run(stage)
    assert len(stage.metrics.rows()) == 4 and stage.result is None
    monkeypatch.setattr(pretraining, "losses", read)
    run(stage)
    assert logged(stage) == logged(finished)
    assert [row["step"] for row in stage.metrics.rows()] == list(range(6))
    for file in finished.model_path.iterdir():
        assert (stage.model_path / file.name).read_bytes() == file.read_bytes(), file.name
    assert stage.result is not None and finished.result is not None
    assert stage.result["tokens"] == finished.result["tokens"] > 0


def test_the_model_is_whole_and_its_tokenizer_lies_with_it(finished: StageDirectory) -> None:
    model, ids = load_model(finished.model_path), Tokenizer.from_directory(finished.model_path)
    config = json.loads((finished.model_path / "config.json").read_text())
    assert config["vocab_size"] == ids.vocab_size == 320 and config["eos_token_id"] == ids.eos_id
    assert len(model.mtp) == 1
    rows = finished.metrics.rows()
    settings = PretrainingSettings.model_validate(SETTINGS)
    with torch.no_grad():
        loss = losses(model, batch(settings, ids, 0, 5)).next_token.item()
    assert loss < rows[0]["loss"] - 0.5


def test_another_seed_reads_something_else_and_begins_elsewhere(finished: StageDirectory, tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    run(stage, seed=1, steps=1)
    assert stage.metrics.rows()[0]["loss"] != finished.metrics.rows()[0]["loss"]


def packed_batch() -> Packed:
    return batch(PretrainingSettings.model_validate(SETTINGS), tiny.tokenizer(), 0, 0)


def test_balancing_moves_the_biases_and_nothing_else() -> None:
    """Up by gamma where a router sent fewer tokens than the mean, down where more; in the modules too."""
    model = tiny.network("deepseek_v3").train()
    losses(model, packed_batch())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loads = [router.load.clone() for router in model.routers()]
    assert len(loads) == 2 and all(load.sum() > 0 for load in loads)
    model.rebalance(0.01)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.endswith("e_score_correction_bias") for name in changed)
    for router, load in zip(model.routers(), loads, strict=True):
        expected = 0.01 * torch.sign(load.mean() - load)
        torch.testing.assert_close(router.e_score_correction_bias, expected)
        assert (router.load == 0).all()


def test_each_loss_trains_what_it_should() -> None:
    """The modules learn from the further tokens' loss only, which trains the decoder too."""
    model = tiny.network("deepseek_v3").train()
    packed = packed_batch()

    def reached(name: str) -> set[str]:
        model.zero_grad()
        getattr(losses(model, packed), name).backward()
        return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    everything = {name for name, _ in model.named_parameters()}
    modules = {name for name in everything if name.startswith("mtp.")}
    assert reached("next_token") == everything - modules
    assert reached("further") == everything
    balance = reached("balance")
    assert "layers.1.mlp.gate.weight" in balance and "lm_head.weight" not in balance and not balance & modules


def test_the_losses_are_weighed_as_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.3 of the further tokens' loss until the rate decays, then 0.1; alpha of the balance loss."""
    totals: list[float] = []
    backward = torch.autograd.backward

    def noted(total: torch.Tensor) -> None:
        totals.append(total.item())
        backward(total)

    monkeypatch.setattr(torch.autograd, "backward", noted)
    stage = stage_in(tmp_path)
    run(stage, decay_share=0.5, balance_weight=0.01)
    for row, total in zip(stage.metrics.rows(), totals, strict=True):
        weight = 0.3 if row["step"] < 3 else 0.1
        expected = row["loss"] + weight * row["mtp_loss"] + 0.01 * row["balance_loss"]
        assert total == pytest.approx(expected, rel=1e-5)


def test_bfloat16_computes_in_autocast_and_keeps_float32_weights(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    settings = PretrainingSettings.model_validate(SETTINGS | {"steps": 2})
    run_stage(Pretraining, settings, stage, Runtime(0, torch.device("cpu"), torch.bfloat16))
    assert {tensor.dtype for tensor in load_file(stage.model_path / "model.safetensors").values()} == {torch.float32}
    assert all(4 < row["loss"] < 8 for row in stage.metrics.rows())


def test_rows_that_no_document_fits_into_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="16 tokens.*row_length"):
        run(stage_in(tmp_path), row_length=16, corpus={"countdown": 1.0})


def test_divergence_stops_the_run_with_the_last_state_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_in(tmp_path)
    read = pretraining.losses
    calls = iter(range(100))

    def poisoned(*arguments: Any) -> Any:
        loss = read(*arguments)
        return replace(loss, next_token=loss.next_token * (math.nan if next(calls) == 4 else 1))

    monkeypatch.setattr(pretraining, "losses", poisoned)
    with pytest.raises(UserError, match="diverged"):
        run(stage)
    saved = stage.load_state()
    assert saved is not None and saved[1]["step"] == 2
    assert all(tensor.isfinite().all() for tensor in saved[0].values())


def test_a_disk_too_small_is_refused_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: RunDirectory, size: int) -> None:
        parameters = sum(p.numel() for p in tiny.network("deepseek_v3").parameters())
        assert size > 4 * 7 * parameters  # the model, and two states of weights and two moments
        raise UserError("the disk is full")

    monkeypatch.setattr(RunDirectory, "reserve", refuse)
    stage = stage_in(tmp_path)
    with pytest.raises(UserError, match="full"):
        run(stage)
    assert not stage.metrics.rows()
