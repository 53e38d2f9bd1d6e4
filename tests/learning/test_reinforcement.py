"""The loop of GRPO: each of the places where implementations go wrong, in the real loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from policy_cases import CPU, Recorder, assert_same, logprob, untimed
from pydantic import ValidationError
from torch import Tensor

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.generation.request import Generation, Request, Sampling
from longjing.learning import loop, policy, reinforcement
from longjing.learning.dynamic_sampling import teaches
from longjing.learning.loop import run_stage
from longjing.learning.policy import PhaseTimer
from longjing.learning.presets import PRESETS
from longjing.learning.reinforcement import Reinforcement, ReinforcementSettings
from longjing.learning.rollouts import Group, pad
from longjing.learning.state import weights
from longjing.problems import registry
from longjing.runs import RunDirectory
from longjing.text.reasoning import parse

Make = Callable[..., Reinforcement]
SETTINGS: dict[str, Any] = {
    "task": {"name": "letters"}, "steps": 4, "prompts_per_step": 4, "group_size": 6, "max_tokens": 24,
    "learning_rate": 1e-3, "evaluation": {"problems": 3, "samples": 2},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("letters")


def settings_of(base: Callable[[str], Path], family: str = "deepseek_v3", **changes: Any) -> ReinforcementSettings:
    return ReinforcementSettings.model_validate(SETTINGS | {"model": str(base(family))} | changes)


@pytest.fixture
def make(base: Callable[[str], Path]) -> Make:
    def learner(family: str = "deepseek_v3", dtype: torch.dtype = torch.float32, **changes: Any) -> Reinforcement:
        return Reinforcement(settings_of(base, family, **changes), Runtime(0, CPU, dtype))

    return learner


def gradients(learner: Reinforcement) -> list[dict[str, Tensor]]:
    """Those of a step, in its own norm."""
    recorder = Recorder(learner.model)
    learner.optimizers = recorder  # type: ignore[assignment]
    learner.settings = learner.settings.model_copy(update={"max_grad_norm": 1e9})
    learner.step(0)
    return recorder.gradients


# One gradient, written down once more without batches, masks, padding or microbatches


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("algorithm", PRESETS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_gradient_is_that_of_the_formula(make: Make, family: str, algorithm: str, temperature: float) -> None:
    """On policy all objectives have the policy gradient, -A grad log pi, and differ in weights and in A.

    Unjudged completions and groups whose rewards are all equal take no part, nor count in any denominator.
    """
    task = {"name": "letters", "unreadable": "xyz"}
    learner = make(family, algorithm=algorithm, temperature=temperature, task=task, prompts_per_step=6)
    twin = make(family).model
    recorder = Recorder(learner.model)
    learner.optimizers = recorder  # type: ignore[assignment]
    learner.settings = learner.settings.model_copy(update={"max_grad_norm": 1e9})
    metrics, rollouts, _ = learner.step(0)
    assert metrics["unjudged"] > 0 and metrics["length_max"] > metrics["length_mean"]
    kept = []
    for group in rollouts:
        judged = [record for record in group["completions"] if record["outcome"] != "unjudged"]
        rewards = torch.tensor([record["reward"] for record in judged])
        if len(set(rewards.tolist())) > 1:
            gains = rewards - rewards.mean()
            if algorithm != "dr_grpo":
                gains = gains / (rewards.std() + 1e-6)
            prompt = learner.tokenizer.encode_chat([{"role": "user", "content": group["prompt"]}])
            kept += [(record, prompt, gain) for record, gain in zip(judged, gains, strict=True)]
    assert 6 < len(kept) < 36 - metrics["unjudged"] + 1
    total = torch.zeros((), dtype=torch.float64)
    tokens = sum(len(record["tokens"]) for record, _, _ in kept)
    for record, prompt, gain in kept:
        length = len(record["tokens"])
        weight = {"grpo": 1 / (len(kept) * length), "gspo": 1 / (len(kept) * length)}.get(algorithm, 1 / tokens)
        if algorithm == "dr_grpo":
            weight = 1 / (len(kept) * 24)
        total = total - weight * gain * logprob(twin, record, prompt, temperature).sum()
    total.backward()
    (gradient,) = recorder.gradients
    assert_same(gradient, {name: p.grad for name, p in twin.named_parameters() if p.grad is not None})


@pytest.mark.parametrize("algorithm", PRESETS)
def test_microbatches_of_any_size_give_one_gradient(make: Make, algorithm: str) -> None:
    """One denominator: completion by completion (micro_tokens 1) or all at once, in each optimiser step."""
    changes = {"algorithm": algorithm, "minibatches": 2, "kl": 0.05}
    several = gradients(make(micro_tokens=1, **changes))
    medium = gradients(make(micro_tokens=150, **changes))
    whole = gradients(make(micro_tokens=10**6, **changes))
    assert len(whole) == 2
    for one, other, wanted in zip(several, medium, whole, strict=True):
        assert_same(one, wanted)
        assert_same(other, wanted)


def test_a_large_gradient_is_clipped(make: Make) -> None:
    """To the norm that the settings allow, all microbatches together; the norm before that is logged."""
    learner = make(max_grad_norm=1e-3, micro_tokens=1)
    learner.optimizers = recorder = Recorder(learner.model)  # type: ignore[assignment]
    metrics, *_ = learner.step(0)
    clipped = torch.stack([gradient.norm() for gradient in recorder.gradients[0].values()]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-2) and metrics["grad_norm"] > 1e-2


# The policy that learns is the policy that sampled


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_engine_and_trainer_agree_at_every_step(make: Make, family: str, temperature: float) -> None:
    """Below 1e-5 while the weights move, and each entry of the log is checked by a pass over it alone."""
    learner = make(family, temperature=temperature, learning_rate=1e-2, minibatches=2)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    for step in range(3):
        metrics, *_ = learner.step(step)
        assert metrics["logprob_difference"] < 1e-5
    moved = [name for name, p in learner.model.named_parameters() if (p - before[name]).abs().max() > 1e-3]
    assert len(moved) > len(before) / 2
    learner.optimizers = Recorder(learner.model)  # type: ignore[assignment]
    _, rollouts, _ = learner.step(3)
    with torch.no_grad():
        for group in rollouts:
            prompt = learner.tokenizer.encode_chat([{"role": "user", "content": group["prompt"]}])
            for record in group["completions"]:
                exact = logprob(learner.model, record, prompt, temperature)
                torch.testing.assert_close(
                    torch.tensor(record["logprobs"]), exact.float(), rtol=0, atol=6e-5
                )  # four digits are logged


def test_a_trainer_that_forgets_the_temperature_is_found_out(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference that is logged would show it: this is what the one above can't be passed by."""
    forgetful = policy.token_logprobs
    monkeypatch.setattr(policy, "token_logprobs", lambda logits, targets, temperature: forgetful(logits, targets))
    assert make(temperature=0.7).step(0)[0]["logprob_difference"] > 0.1


def test_experts_are_replayed(make: Make) -> None:
    """The trainer takes the experts that the engine took, even where its own choice would be another."""
    learner = make()
    for router in learner.model.routers():
        router.e_score_correction_bias += torch.linspace(-3, 3, 8)
    groups = learner._collect(1, PhaseTimer())
    padded = pad(groups[0].generations, learner.tokenizer.pad_id, CPU)
    assert padded.routes is not None
    for router in learner.model.routers():
        router.e_score_correction_bias.zero_()
    with torch.no_grad():
        replayed = learner._logprobs(learner.model, padded)
        chosen = learner._logprobs(learner.model, replace(padded, routes=None))
    assert (replayed - padded.old_logprobs).abs().max() < 1e-5 < 1e-4 < (chosen - padded.old_logprobs).abs().max()


@pytest.mark.parametrize("algorithm", ["grpo", "gspo"])
def test_on_policy_with_sequence_means_the_loss_is_zero(make: Make, algorithm: str) -> None:
    metrics, *_ = make(algorithm=algorithm).step(0)
    assert metrics["grad_norm"] > 1e-3 and abs(metrics["loss"]) < 1e-6
    assert metrics["kl"] == pytest.approx(0, abs=1e-8) and metrics["clip_share"] == 0


def test_bfloat16_samples_with_a_copy_that_is_renewed(make: Make) -> None:
    learner = make(dtype=torch.bfloat16, learning_rate=1e-2)
    metrics, *_ = learner.step(0)
    assert metrics["logprob_difference"] < 0.2
    copy, tokens = learner.generator.model, torch.arange(1, 20)[None]
    assert copy.embed_tokens.weight.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in learner.model.parameters())
    with torch.no_grad(), learner.runtime.autocast():
        assert torch.allclose(learner.model(tokens).float(), copy(tokens).float(), atol=1e-2)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_rollouts_do_not_depend_on_what_the_engine_did_before(make: Make, family: str) -> None:
    """Bit by bit: a resumed process has a fresh engine, and must sample what the old one would have."""
    fresh, used = make(family), make(family)
    list(used.evaluate(-1))
    used.generator.generate(
        [
            Request([5] * (1 + 7 * number % 53), Sampling(max_tokens=1 + 11 * number % 47, seed=number))
            for number in range(40)
        ]
    )
    (_, one, _), (_, other, _) = fresh.step(2), used.step(2)
    assert one == other
    for (name, got), wanted in zip(used.model.named_parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(got, wanted), name


# Groups


def test_zero_variance_groups_are_dropped_before_anything_is_counted(make: Make) -> None:
    """Beside one group that teaches, others that don't change nothing of the gradient."""
    learner = make(prompts_per_step=12, group_size=2)
    groups = learner._collect(0, PhaseTimer())
    teaching = [group for group in groups if teaches(group, learner.weights)]
    assert 0 < len(teaching) < 12
    silent = [group for group in groups if not teaches(group, learner.weights)]

    def update(groups: list[Group]) -> dict[str, Tensor]:
        learner.optimizers = recorder = Recorder(learner.model)  # type: ignore[assignment]
        rewards = torch.tensor([group.rewards(learner.settings.rewards) for group in groups])
        judged = torch.ones_like(rewards, dtype=torch.bool)
        gains = reinforcement.advantages(rewards, "group_std", judged)
        update = learner._update(0, learner._training_samples(groups, gains, judged))
        assert update.statistics is not None
        tokens = sum(len(g.tokens) for group in teaching for g in group.generations)
        assert update.statistics.tokens == tokens < update.tokens  # which counts the prompts too
        return recorder.gradients[0]

    alone = update(teaching)
    among = update([*silent, *teaching])
    assert_same(among, alone)


def test_zero_variance_groups_are_replaced(make: Make) -> None:
    """As often as the settings allow, and never more groups teach than a step has prompts."""
    changes: dict[str, Any] = {"prompts_per_step": 6, "group_size": 2}
    without, rollouts, _ = make(**changes).step(0)
    assert without["resampled_groups"] == 0 and len(rollouts) == 6 and without["zero_variance_groups"] > 0
    learner = make(dynamic_sampling=9, **changes)
    metrics, more, _ = learner.step(0)
    assert more[:6] == [row | {"completions": got["completions"]} for row, got in zip(rollouts, more[:6], strict=True)]
    teaching = [any(record["advantage"] for record in row["completions"]) for row in more]
    assert sum(teaching) == 6 and teaching[-1]
    assert metrics["resampled_groups"] == len(more) - 6 > 0
    assert metrics["zero_variance_groups"] == pytest.approx(1 - 6 / len(more))
    trained = [row for row, teaches in zip(more, teaching, strict=True) if teaches]
    sampled = sum(len(record["tokens"]) for row in trained for record in row["completions"])
    prompts = [2 * len(learner.tokenizer.encode_chat([{"role": "user", "content": row["prompt"]}])) for row in trained]
    assert metrics["tokens_trained"] == sampled + sum(prompts)


def test_a_step_in_which_nothing_teaches_changes_nothing(make: Make) -> None:
    learner = make(task={"name": "letters", "wanted": ""}, rewards={"accuracy": 1.0}, dynamic_sampling=1, minibatches=2)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    metrics, rollouts, _ = learner.step(0)
    assert metrics["zero_variance_groups"] == metrics["all_wrong_groups"] == 1 and metrics["resampled_groups"] == 4
    assert metrics["reward"] == metrics["accuracy"] == metrics["grad_norm"] == metrics["tokens_trained"] == 0
    assert len(rollouts) == 8 and "loss" not in metrics
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.model.state_dict().items())
    assert not learner.optimizers.tensors()


def test_the_unjudged_are_counted_and_left_out(make: Make) -> None:
    """Neither reward, advantage nor the reward's parts know of them, and nothing is trained on them."""
    learner = make(task={"name": "letters", "unreadable": "abcxyz"}, prompts_per_step=6)
    metrics, rollouts, _ = learner.step(0)
    records = [record for row in rollouts for record in row["completions"]]
    judged = [record for record in records if record["outcome"] != "unjudged"]
    assert all(record["prefilled"] for record in records), "as the template has it"
    assert metrics["unjudged"] == len(records) - len(judged) > 0
    assert all(record["advantage"] == 0 for record in records if record["outcome"] == "unjudged")
    for part in ("accuracy", "format"):
        mean = sum(record["rewards"][part] for record in judged) / len(judged)
        assert metrics[f"reward_{part}"] == pytest.approx(mean)
    assert metrics["accuracy"] == metrics["reward_accuracy"]
    assert metrics["reward"] == pytest.approx(sum(record["reward"] for record in judged) / len(judged))
    nothing, *_ = make(task={"name": "letters", "unreadable": "".join(map(chr, range(0x250)))}).step(0)
    assert nothing["unjudged"] > 20 and nothing["zero_variance_groups"] == 1


# Settings that move the policy


def test_the_reference_is_replaced_every_n_steps(make: Make) -> None:
    learner = make(reference_every=2, learning_rate=1e-2, algorithm="grpo")
    assert learner.reference is not None

    def distance() -> float:
        assert learner.reference is not None
        own = weights(learner.model)
        return max((own[name] - other).abs().max().item() for name, other in learner.reference.weights.items())

    kls, distances = [], []
    for step in range(4):
        kls.append(learner.step(step)[0]["kl"])
        distances.append(distance())
    assert distances[0] > 0 and distances[1] == 0 and distances[2] > 0 and distances[3] == 0
    assert kls[0] == pytest.approx(0, abs=1e-8) and kls[2] == pytest.approx(0, abs=1e-8)
    assert kls[1] > 1e-4 and kls[3] > 1e-4


def test_the_reference_policy_borrows_the_network_for_a_while(make: Make) -> None:
    """It is what the policy was, and afterwards the policy is itself again, in the memory that it had."""
    learner = make(algorithm="grpo", learning_rate=1e-2)
    tokens = torch.arange(12)[None]
    before = learner.model(tokens)
    learner.step(0)
    assert learner.reference is not None
    now, places = learner.model(tokens), [tensor.data_ptr() for tensor in weights(learner.model).values()]
    with pytest.raises(KeyError), learner.reference.active() as reference:
        assert torch.equal(reference(tokens), before) and not reference(tokens).requires_grad
        raise KeyError
    assert torch.equal(learner.model(tokens), now) and not torch.equal(now, before)
    assert [tensor.data_ptr() for tensor in weights(learner.model).values()] == places


def test_the_divergence_pulls_back_to_the_reference(make: Make) -> None:
    """With a weight that drowns the rewards, a policy that was moved away returns."""
    learner = make(kl=50.0, learning_rate=3e-3, reference_every=100)
    with torch.no_grad():
        learner.model.lm_head.weight.add_(0.2 * torch.randn(290, 32, generator=torch.Generator().manual_seed(0)))
    kls = [learner.step(step)[0]["kl"] for step in range(8)]
    assert kls[0] > 0.1 and kls[-1] < 0.6 * kls[0]


def test_without_a_divergence_there_is_no_reference(make: Make) -> None:
    assert make(algorithm="dapo").reference is None and make(kl=0.0).reference is None
    assert make(algorithm="dapo", kl=0.1).reference is not None


def test_minibatches_are_optimiser_steps_of_whole_groups(make: Make) -> None:
    """The later ones are off policy, so ratios move; the log speaks of the policy that sampled."""
    learner = make(minibatches=4, learning_rate=5e-2, clip_low=0.01, clip_high=0.01, prompts_per_step=8)
    steps = []
    step = learner.optimizers.step
    learner.optimizers.step = lambda factor: (steps.append(factor), step(factor))[1]  # type: ignore[method-assign, func-returns-value]
    metrics, rollouts, _ = learner.step(0)
    teaching = sum(any(record["advantage"] for record in row["completions"]) for row in rollouts)
    assert len(steps) == min(4, teaching) == 4
    assert metrics["clip_share"] > 0.1 and abs(metrics["ratio"] - 1) > 1e-4
    assert metrics["logprob_difference"] < 1e-5


def test_the_rate_warms_up(make: Make) -> None:
    learner = make(warmup_steps=3)
    rates = [learner.step(step)[0]["learning_rate"] for step in range(5)]
    assert rates == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3])


def test_only_the_mixture_of_sampled_tokens_moves(make: Make) -> None:
    """Reinforcement leaves the routers' biases and the prediction modules as they were."""
    learner = make(learning_rate=1e-2)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    learner.step(0)
    still = {name for name, tensor in learner.model.state_dict().items() if torch.equal(tensor, before[name])}
    assert {name for name in before if name.startswith("mtp.") or name.endswith("correction_bias")} == still


# What is logged


def test_a_step_logs_what_happened(make: Make) -> None:
    metrics, rollouts, _ = make().step(0)
    records = [record for row in rollouts for record in row["completions"]]
    lengths = [len(record["tokens"]) for record in records]
    assert metrics["length_mean"] == pytest.approx(sum(lengths) / len(lengths))
    assert metrics["length_max"] == max(lengths) == 24 and metrics["tokens_sampled"] == sum(lengths)
    thought = [parse(record["text"]).reasoning for record in records]  # nothing closes it here
    assert metrics["reasoning_length_mean"] == pytest.approx(
        sum(len(tiny.tokenizer().encode(text)) for text in thought) / len(records)
    )
    cut = [record["finish_reason"] == "length" for record in records]
    assert metrics["truncated"] == pytest.approx(sum(cut) / len(cut)) and 0 < metrics["truncated"] < 1
    every = [value for record in records for value in record["logprobs"]]
    assert metrics["entropy"] == pytest.approx(-sum(every) / len(every), abs=1e-4)
    assert metrics["flops"] > 0 and metrics["tokens_per_second_sampling"] > 0
    for record in records:
        assert record["reward"] == record["rewards"]["accuracy"] + record["rewards"]["format"]
        assert len(record["logprobs"]) == len(record["tokens"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"minibatches": 3}, "does not divide"),
        ({"rewards": {"acuracy": 1.0}}, "'acuracy'.*accuracy, format and language"),
        ({"rewards": {"accuracy": 0.0}}, "weigh nothing"),
        ({"rewards": {}}, "weigh nothing"),
        ({"group_size": 1}, "greater than or equal to 2"),
        ({"top_p": 0.9}, "top_p"),
        ({"top_k": 20}, "top_k"),
        ({"temperature": 0.0}, "greater than 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    """Top-p and top-k among them: what is sampled from must be what is learned."""
    with pytest.raises(ValidationError, match=words):
        ReinforcementSettings.model_validate(SETTINGS | changes)


# The whole


@pytest.mark.parametrize("algorithm", PRESETS)
def test_reward_rises(make: Make, algorithm: str) -> None:
    """From a random network, in fifteen steps: write digits, which a third of completions hold at first."""
    learner = make(
        algorithm=algorithm, learning_rate=1e-2, prompts_per_step=8, group_size=8, max_tokens=12,
        rewards={"accuracy": 1.0}, max_grad_norm=1.0,
    )  # fmt: skip
    accuracies = [learner.step(step)[0]["accuracy"] for step in range(15)]
    before, after = sum(accuracies[:2]) / 2, sum(accuracies[-2:]) / 2
    assert before < 0.5 and after > before + 0.35, accuracies


def test_it_learns_with_muon_too(make: Make) -> None:
    learner = make(
        optimizer="muon", learning_rate=0.02, adamw_learning_rate=1e-2, prompts_per_step=8, group_size=8,
        max_tokens=12, rewards={"accuracy": 1.0},
    )  # fmt: skip
    accuracies = [learner.step(step)[0]["accuracy"] for step in range(15)]
    assert sum(accuracies[-2:]) / 2 > sum(accuracies[:2]) / 2 + 0.35, accuracies


def run(path: Path, settings: ReinforcementSettings) -> Any:
    path.mkdir(exist_ok=True)
    stage = RunDirectory(path).stage("zero")
    run_stage(Reinforcement, settings, stage, Runtime(0, CPU, torch.float32))
    return stage


def test_a_stage_measures_before_between_and_after_once_each(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it was killed after the last measurement, before the model was written."""
    changes = {"evaluation": {"every": 2, "problems": 3, "samples": 2}, "save_every": 3}
    settings = settings_of(base, **changes)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_model", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, settings)
    monkeypatch.undo()
    monkeypatch.setitem(registry._TASKS, "letters", tiny.Letters)
    stage = run(tmp_path, settings)
    measured = [(row["step"], row["split"]) for row in stage.evaluations.rows()]
    assert measured == [(-1, "test"), (1, "validation"), (3, "test")]
    assert [row["step"] for row in stage.metrics.rows()] == [0, 1, 2, 3]
    assert stage.result["tokens_sampled"] == sum(row["tokens_sampled"] for row in stage.metrics.rows())


def test_resumed_equals_uninterrupted(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off in the fourth of five steps, with a reference, minibatches, refills, measurements."""
    settings = settings_of(
        base, steps=5, save_every=2, reference_every=2, minibatches=2, dynamic_sampling=1, warmup_steps=3,
        evaluation={"every": 2, "problems": 3, "samples": 2}, optimizer="muon", learning_rate=0.02,
    )  # fmt: skip
    whole = run(tmp_path / "whole", settings)
    optimise = Reinforcement._optimise
    calls = iter(range(100))

    def breaks_off(self: Reinforcement, *arguments: Any) -> Any:
        if next(calls) == 7:  # between the minibatches of step 3
            raise KeyboardInterrupt
        return optimise(self, *arguments)

    monkeypatch.setattr(Reinforcement, "_optimise", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", settings)
    monkeypatch.setattr(Reinforcement, "_optimise", optimise)
    resumed = run(tmp_path / "broken", settings)
    for log in ("metrics", "rollouts", "evaluations"):
        assert untimed(getattr(resumed, log).rows()) == untimed(getattr(whole, log).rows())
    for file in whole.model_path.iterdir():
        assert (resumed.model_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_divergence_stops_the_run_with_the_last_state_whole(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weigh = policy.token_weights
    calls = iter(range(100))
    monkeypatch.setattr(
        policy, "token_weights", lambda *arguments: weigh(*arguments) * (float("nan") if next(calls) == 2 else 1)
    )
    with pytest.raises(UserError, match="diverged"):
        run(tmp_path, settings_of(base))
    saved = RunDirectory(tmp_path).stage("zero").load_state()
    assert saved is not None and saved[1]["step"] == 1
    assert all(tensor.isfinite().all() for tensor in saved[0].values())


def test_a_disk_too_small_is_refused_before_the_first_step(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: RunDirectory, size: int) -> None:
        parameters = sum(p.numel() for p in tiny.network("deepseek_v3").parameters())
        assert size >= 4 * 9 * parameters  # a model, and two states of weights, two moments and the reference
        raise UserError("the disk is full")

    monkeypatch.setattr(RunDirectory, "reserve", refuse)
    with pytest.raises(UserError, match="full"):
        run(tmp_path, settings_of(base))
    stage = RunDirectory(tmp_path).stage("zero")
    assert not stage.metrics.rows() and not stage.evaluations.rows()


def test_the_end_token_is_learned_and_a_cut_completion_has_none(make: Make) -> None:
    """Rows of one update: what ended by itself holds an end token, which is in the mask; padding never is."""
    learner = make()
    groups = learner._collect(0, PhaseTimer())
    generations: list[Generation] = [g for group in groups for g in group.generations]
    padded = pad(generations, learner.tokenizer.pad_id, CPU)
    ends = {learner.tokenizer.eos_id, *range(20, 30)}
    for row, generation in enumerate(generations):
        learned = padded.tokens[row, 1:][padded.sampled[row]].tolist()
        assert learned == generation.tokens
        assert (learned[-1] in ends) == (generation.finish_reason == "stop") and not ends & set(learned[:-1])
