"""Fitting an update into memory: other ways to the same gradient, what is chosen, and what is said if nothing fits."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning import state
from longjing.learning.finetuning import Finetuning, FinetuningSettings
from longjing.learning.logprobs import by_chunks, token_logprobs
from longjing.learning.loop import run_stage
from longjing.learning.memory import MemoryPlan, Work, choose, memory_errors, parse_size, parts
from longjing.learning.packing import Packed, collate
from longjing.learning.text_losses import Counts, losses
from longjing.model.decoder import Decoder
from longjing.runs import RunDirectory, StageDirectory

RUNTIME = Runtime(0, torch.device("cpu"), torch.float32)


def rows(count: int = 4) -> Packed:
    """Rows of two texts each, all tokens to be learned."""
    random = torch.Generator().manual_seed(0)
    texts = [torch.randint(4, 250, (20 + 3 * number,), generator=random).tolist() for number in range(2 * count)]
    return collate([texts[2 * row : 2 * row + 2] for row in range(count)], 100, 0)


def gradients(model: Decoder, parts: list[Packed], chunk: int | None = None) -> dict[str, Tensor]:
    """Of all the losses, read part by part."""
    whole = Packed(*map(torch.cat, zip(*(vars(part).values() for part in parts), strict=True)))
    counts = Counts.of(whole, len(model.mtp))
    for part in parts:
        found = losses(model, part, counts, chunk)
        (found.next_token + 0.3 * found.further + 0.1 * found.balance).backward()
    result = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return {name: gradient for name, gradient in result.items() if gradient is not None}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_layers_computed_again_give_the_same_gradient_to_the_bit(family: str) -> None:
    """And count once: the experts' load, the balance loss, the experts taken."""
    model = tiny.network(family).train()
    plain = gradients(model, [rows()])
    load = [router.load.clone() for router in model.routers()]
    for router in model.routers():
        router.load.zero_()
    model.recomputes = True
    again = gradients(model, [rows()])
    assert plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)
    assert all(torch.equal(router.load, before) for router, before in zip(model.routers(), load, strict=True))
    context = model.context(torch.arange(9)[None])
    model.hidden(torch.arange(9)[None], context).sum().backward()
    assert len(context.routes) == len(list(model.layers)) - 1 if family == "deepseek_v3" else not context.routes


def test_layers_computed_again_take_the_experts_of_the_first_time() -> None:
    """Even if the router would choose others by then."""
    model = tiny.network("deepseek_v3").train()

    def gradient(recomputes: bool, moved: float) -> Tensor:
        model.recomputes = recomputes
        context = model.context(torch.arange(9)[None])
        loss = model.hidden(torch.arange(9)[None], context).square().sum()
        for router in model.routers():
            assert router.e_score_correction_bias is not None
            router.e_score_correction_bias += moved * torch.linspace(-9, 9, 8)
        model.zero_grad()
        loss.backward()
        for router in model.routers():
            assert router.e_score_correction_bias is not None
            router.e_score_correction_bias.zero_()
        assert model.embed_tokens.weight.grad is not None
        return model.embed_tokens.weight.grad.clone()

    assert torch.equal(gradient(False, 0), gradient(True, 1))


@given(st.integers(1, 40), st.integers(1, 45), st.sampled_from([1.0, 0.7]))
def test_chunks_add_up_to_the_whole(tokens: int, chunk: int, temperature: float) -> None:
    random = torch.Generator().manual_seed(tokens)
    hidden, head = (torch.randn(size, 6, generator=random, requires_grad=True) for size in (tokens, 50))
    targets = torch.randint(50, (tokens,), generator=random)

    def chosen(hidden: Tensor, targets: Tensor) -> Tensor:
        return token_logprobs(hidden @ head.T, targets, temperature)

    weights = torch.randn(tokens, generator=random)
    plain, chunked = chosen(hidden, targets), by_chunks(chosen, chunk, hidden, targets)
    torch.testing.assert_close(chunked, plain)
    for ours, theirs in zip(
        *(torch.autograd.grad((each * weights).sum(), (hidden, head)) for each in (chunked, plain)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@given(st.integers(1, 40), st.integers(1, 45), st.booleans())
def test_a_frozen_head_gives_the_same_gradient_at_once(tokens: int, chunk: int, by_sum: bool) -> None:
    random = torch.Generator().manual_seed(tokens)
    hidden, head = torch.randn(tokens, 6, generator=random, requires_grad=True), torch.randn(50, 6, generator=random)
    targets, weights = torch.randint(50, (tokens,), generator=random), torch.randn(tokens, generator=random)
    passes = 0

    def chosen(hidden: Tensor, targets: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        result = token_logprobs(hidden @ head.T, targets)
        return result.sum()[None] if by_sum else result

    gradients = []
    for frozen in (True, False):
        result = by_chunks(chosen, chunk, hidden, targets, frozen=frozen)
        loss = (result * (2.0 if by_sum else weights)).sum()
        before = passes
        gradients += torch.autograd.grad(loss, hidden)
        assert (passes > before) == (not frozen and chunk < tokens)
    torch.testing.assert_close(*gradients)


def test_microbatches_add_up_to_the_step() -> None:
    model = tiny.network("deepseek_v3").train()
    whole = rows()
    together = gradients(model, [whole])
    for gradient in (gradients(model, whole.split(1)), gradients(model, whole.split(3), 7)):
        for name in together:
            torch.testing.assert_close(gradient[name], together[name], rtol=1e-4, atol=1e-6)


def test_all_at_once_is_the_plain_mean_to_the_bit() -> None:
    model, whole = tiny.network("llama").train(), rows()
    found = gradients(model, [whole])
    hidden = model.hidden(whole.tokens, model.context(whole.positions, segments=whole.segments))
    same = (whole.segments[:, 1:] == whole.segments[:, :-1]) & whole.loss_mask[:, 1:]
    F.cross_entropy(model.head(hidden[:, :-1][same]).float(), whole.tokens[:, 1:][same]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.equal(parameter.grad, found[name]), name


PEAK = """
import sys, torch
from longjing.learning.logprobs import by_chunks, token_logprobs
def peak():  # of this program alone: ru_maxrss begins with that of the process which started it
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
hidden, head = torch.randn(4096, 32, requires_grad=True), torch.randn(50_000, 32, requires_grad=True)
targets = torch.randint(50_000, (4096,))
before = peak()
chunk = int(sys.argv[1]) or None
by_chunks(lambda h, t: token_logprobs(h @ head.T, t), chunk, hidden, targets).sum().backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_large_vocabulary_is_never_in_memory_as_a_whole() -> None:
    """4,096 tokens of 50,000 logits are 819 MB in float32, of which the plain way holds several."""

    def kilobytes(chunk: int) -> int:
        # Blocks of this size glibc would otherwise put where small ones keep them from being joined.
        plain = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
        command = [sys.executable, "-c", PEAK, str(chunk)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
        return int(done.stdout)

    assert kilobytes(128) < 250_000 < 600_000 < kilobytes(0)


# The choice

REAL = Work(
    config=replace(tiny.network("llama").config, vocab_size=49152, hidden_size=576, intermediate_size=1536,
                   num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64),
    weights=4 * 134_515_008, numbers=134_515_008, learned=134_515_008, longest=512, most=16384, ordinary=16384,
    half=False,
)  # fmt: skip


def chosen(memory: str | None, **given: Any) -> MemoryPlan:
    asked: dict[str, Any] = {"micro_tokens": None, "chunk_tokens": None, "recomputes": None} | given
    return choose(REAL, memory, **asked)


def test_the_more_memory_the_faster_the_way() -> None:
    plans = [chosen(f"{size / 4}GB") for size in range(14, 80)]
    assert all(plan.bytes <= parse_size(str(plan.asked["memory"])) for plan in plans)
    order = [(not plan.recomputes, plan.micro_tokens) for plan in plans]
    assert order == sorted(order) and len(set(order)) > 2
    assert plans[0].recomputes and not plans[-1].recomputes
    assert plans[-1].micro_tokens == chosen(None).micro_tokens  # more than the ordinary is never taken


def test_what_is_given_is_left_as_it_is() -> None:
    plan = chosen("6GB", micro_tokens=1024, chunk_tokens=100)
    assert (plan.micro_tokens, plan.chunk_tokens) == (1024, 100)
    assert chosen("16GB", recomputes=True).recomputes and not chosen(None).recomputes
    assert chosen(None, recomputes=True).recomputes


def test_what_does_not_fit_is_refused_with_what_takes_how_much() -> None:
    with pytest.raises(UserError, match="optimiser's state 1.08.*lora") as caught:
        chosen("2GB")
    found = re.search(r"takes (.*?) GB", str(caught.value))
    assert found is not None
    least = float(found[1])
    assert chosen(f"{least + 0.01:.2f}GB").recomputes
    with pytest.raises(UserError, match="too little"):
        chosen(f"{least - 0.01:.2f}GB")
    with pytest.raises(UserError, match="adapter's rank"):
        choose(replace(REAL, learned=1_000_000), "0.6 GB", None, None, None)


def test_every_part_counts() -> None:
    total = sum(parts(REAL, False, 2048, 341).values())
    for other in (
        parts(REAL, True, 2048, 341), parts(REAL, False, 1024, 341), parts(REAL, False, 2048, 64),
        parts(replace(REAL, learned=10**6), False, 2048, 341),
    ):  # fmt: skip
        assert sum(other.values()) < total


def test_sizes() -> None:
    assert (
        parse_size("20GB") == 20 * 10**9 and parse_size("1.5 GiB") == 3 * 2**29 and parse_size("512mb") == 512 * 10**6
    )
    for wrong in ("", "20", "GB", "0GB", "-1GB", "20 G", "20GB more"):
        with pytest.raises(UserError, match="is no size"):
            parse_size(wrong)
    with pytest.raises(ValidationError, match="is no size"):
        FinetuningSettings(data=["x"], memory="much")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("std::bad_alloc"),
    ],
)  # fmt: skip
def test_running_out_of_memory_says_what_to_lower(error: Exception) -> None:
    with pytest.raises(UserError, match="memory is exhausted.*micro_tokens"), memory_errors():
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors():
        raise RuntimeError("shapes differ")


# States


@pytest.mark.parametrize("wrong", ["60", "s", "1d", "-1s", 0, -3])
def test_what_is_no_interval_is_refused(wrong: int | str) -> None:
    with pytest.raises(ValidationError, match="save_every"):
        FinetuningSettings(data=["x"], save_every=wrong)


def test_states_are_saved_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(state, "monotonic", lambda: now)
    saving, due = state.Saving("1min"), []
    for step in range(10):
        now += 25
        if saving.due(step):
            due.append(step)
    assert due == [2, 5, 8]  # 75 seconds after the last, each
    assert [step for step in range(10) if state.Saving(4).due(step)] == [3, 7]


def taught(base: Callable[[str], Path], path: Path, **changes: Any) -> tuple[StageDirectory, FinetuningSettings]:
    data = path.parent / "data.jsonl"
    turns = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}] for n in range(12)]
    data.write_text("\n".join(json.dumps({"messages": each}) for each in turns))
    given = {"model": str(base("deepseek_v3")), "data": [str(data)], "rows": 1, "row_length": 64, "epochs": 4}
    path.mkdir(exist_ok=True)
    return RunDirectory(path).stage("taught"), FinetuningSettings.model_validate(given | changes)


def test_killed_between_states_it_ends_with_the_same_bytes(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs had gone on beyond the last state; finished, a stage has no state any more, and goes by one plan."""
    now = 0.0
    monkeypatch.setattr(state, "monotonic", lambda: now)
    step, broken = Finetuning.step, False

    def stepping(self: Finetuning, number: int) -> Any:
        nonlocal now
        now += 25
        if broken and number == 7:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Finetuning, "step", stepping)
    asked = {"save_every": "60s", "memory": "2GB", "micro_tokens": 64, "activation_checkpointing": True}
    whole, settings = taught(base, tmp_path / "whole", **asked)
    run_stage(Finetuning, settings, whole, RUNTIME)
    broken = True
    killed, settings = taught(base, tmp_path / "killed", **asked)
    with pytest.raises(KeyboardInterrupt):
        run_stage(Finetuning, settings, killed, RUNTIME)
    saved = killed.load_state()
    assert saved is not None and saved[1]["step"] == 5
    broken = False
    plan = killed.memory
    run_stage(Finetuning, settings, killed, RUNTIME)
    assert (whole.model_path / "model.safetensors").read_bytes() == (
        killed.model_path / "model.safetensors"
    ).read_bytes()
    timeless = [
        [{key: row[key] for key in row if key not in ("time", "tokens_per_second")} for row in stage.metrics.rows()]
        for stage in (whole, killed)
    ]
    assert timeless[0] == timeless[1]
    assert not (killed.path / "state").exists() and killed.memory == plan and plan["recomputes"]
    assert FinetuningSettings(data=["x"]).save_every is None and Finetuning(settings, RUNTIME).save_every == "60s"
    small, settings = taught(base, tmp_path / "small")
    assert Finetuning(settings, RUNTIME).save_every == 20  # as often as ever


def test_a_plan_that_was_noted_holds_until_other_settings_are_given(
    base: Callable[[str], Path], tmp_path: Path
) -> None:
    stage, settings = taught(base, tmp_path / "run", memory="2GB", save_every=1)
    trainer = Finetuning(settings, RUNTIME)
    other = {**vars(trainer.memory), "micro_tokens": 32}
    stage.load_state()
    stage.save_state(0, trainer.tensors() | {}, {"time": 0.0, "tokens": 0, "flops": 0, **trainer.facts})
    stage.memory = other
    run_stage(Finetuning, settings, stage, RUNTIME)
    assert stage.memory["micro_tokens"] == 32
