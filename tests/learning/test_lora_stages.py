"""LoRA in the stages that learn: only the adapter learns, is kept and is made; and the stages after it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from policy_cases import CPU, untimed
from pydantic import ValidationError
from safetensors.torch import load_file

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning.finetuning import FinetuningSettings
from longjing.learning.kinds import KINDS
from longjing.learning.loop import ModelTrainer, run_stage
from longjing.learning.optimizers import Optimizers
from longjing.learning.reinforcement import Reinforcement, ReinforcementSettings
from longjing.learning.reward_models import PreferenceReward
from longjing.learning.state import weights
from longjing.model.layers.lora import adapters, has_adapter, merge_lora
from longjing.model.store.adapter import base_of
from longjing.model.store.checkpoint import load_model, save_model
from longjing.problems import Completion
from longjing.runs import RunDirectory, StageDirectory
from longjing.runs.models import load

Base = Callable[[str], Path]
POLICY: dict[str, Any] = {
    "task": {"name": "letters"}, "steps": 4, "prompts_per_step": 4, "group_size": 4, "max_tokens": 16,
    "learning_rate": 1e-2, "evaluation": {"problems": 2, "samples": 1}, "save_every": 2,
}  # fmt: skip
KIND_SETTINGS: dict[str, dict[str, Any]] = {
    "finetune": {"rows": 2, "row_length": 96, "epochs": 3, "learning_rate": 1e-2, "save_every": 2},
    "reward-model": {"batch_size": 4, "held_out": 0.3, "epochs": 2, "learning_rate": 1e-2, "save_every": 2},
    "distill": POLICY | {"group_size": 2},
    "reinforce": POLICY | {"kl": 0.1, "reference_every": 3},
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", KIND_SETTINGS)
families = pytest.mark.parametrize("family", ["deepseek_v3", "llama"])

pytestmark = pytest.mark.usefixtures("letters")


def settings_of(kind: str, base: Base, family: str, directory: Path, **changes: Any) -> Any:
    values = KIND_SETTINGS[kind] | {"model": str(base(family)), "lora": {"rank": 2}}
    if kind == "distill":
        values["teacher"] = str(base("llama" if family == "deepseek_v3" else "deepseek_v3"))
    if kind == "finetune":
        values["data"] = [write(directory / "talks.jsonl", [
            {"messages": [{"role": "user", "content": f"Write {n}."}, {"role": "assistant", "content": f"{n}!" * n}]}
            for n in range(1, 9)
        ])]  # fmt: skip
    if kind == "reward-model":
        values["data"] = [write(directory / "pairs.jsonl", [
            {"prompt": f"Write {n}.", "chosen": "ab" * (n % 3 + 1), "rejected": "bb" * (n % 4 + 1)} for n in range(16)
        ])]  # fmt: skip
    return KINDS[kind].settings.model_validate(values | changes)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def run(kind: str, settings: Any, directory: Path, dtype: torch.dtype = torch.float32) -> RunDirectory:
    directory.mkdir(exist_ok=True)
    run = RunDirectory(directory)
    run_stage(KINDS[kind].trainer, settings, run.stage("it"), Runtime(0, CPU, dtype))
    return run


def trainer(kind: str, settings: Any, dtype: torch.dtype = torch.float32) -> ModelTrainer:
    made = KINDS[kind].trainer(settings, Runtime(0, CPU, dtype))
    assert isinstance(made, ModelTrainer)
    return made


@kinds
@families
def test_a_stage_makes_an_adapter_and_keeps_nothing_else(
    kind: str, family: str, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageDirectory, "drop_state", lambda stage: None)  # the last state is looked at
    stage = run(kind, settings_of(kind, base, family, tmp_path), tmp_path / "run").stage("it")
    assert base_of(stage.model_path) == str(base(family))
    names = {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names <= {file.name for file in stage.model_path.iterdir()}
    assert not (stage.model_path / "config.json").exists()
    stored = load_file(stage.model_path / "adapter_model.safetensors")
    learned = [tensor for name, tensor in stored.items() if "lora_B" in name or "score" in name]
    assert learned and all(tensor.any() for tensor in learned)
    state = load_file(sorted((stage.path / "state").iterdir())[-1])
    heads = ("model.lm_head.weight",) if kind == "reward-model" else ()
    assert all(n.endswith((".a", ".b")) or n in heads for n in state if not n.startswith("optimizer."))
    moments = [tensor for name, tensor in state.items() if name.startswith("optimizer.") and tensor.dim()]
    assert 0 < sum(map(torch.numel, moments)) <= 2 * sum(map(torch.numel, stored.values()))
    rows = stage.metrics.rows()
    assert all(row["grad_norm"] > 0 for row in rows)
    assert all(row.get("logprob_difference", 0) < 1e-5 for row in rows)  # law 1
    if kind == "reinforce":
        assert rows[0]["kl"] < 1e-6 < rows[2]["kl"]


@kinds
@families
def test_the_network_itself_does_not_change(kind: str, family: str, base: Base, tmp_path: Path) -> None:
    """Nor do the routers' biases, and prediction modules are asked for nothing."""
    learner = trainer(kind, settings_of(kind, base, family, tmp_path))
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    first = weights(learner.model)
    rows = [learner.step(step).metrics for step in range(2)]
    changed = {name for name, tensor in learner.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and changed <= first.keys()
    assert all(not row.get("mtp_loss") for row in rows)


@kinds
def test_a_stage_that_is_broken_off_goes_on_bit_by_bit(
    kind: str, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(kind, base, "deepseek_v3", tmp_path)
    whole = run(kind, settings, tmp_path / "whole").stage("it")
    step = Optimizers.step
    calls = 0

    def struck(self: Optimizers, factor: float = 1.0) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        step(self, factor)

    monkeypatch.setattr(Optimizers, "step", struck)
    with pytest.raises(KeyboardInterrupt):
        run(kind, settings, tmp_path / "broken")
    broken = run(kind, settings, tmp_path / "broken").stage("it")
    assert untimed(broken.metrics.rows()) == untimed(whole.metrics.rows())
    for file in whole.model_path.iterdir():
        assert (broken.model_path / file.name).read_bytes() == file.read_bytes(), file.name


@families
def test_bfloat16_freezes_the_base_in_bfloat16_and_learns_in_float32(family: str, base: Base, tmp_path: Path) -> None:
    learner = trainer("reinforce", settings_of("reinforce", base, family, tmp_path), torch.bfloat16)
    assert isinstance(learner, Reinforcement)
    assert {tensor.dtype for tensor in weights(learner.model).values()} == {torch.float32}
    frozen = [parameter for parameter in learner.model.parameters() if not parameter.requires_grad]
    assert {parameter.dtype for parameter in frozen} == {torch.bfloat16}
    engine = learner.generator.model  # type: ignore[attr-defined]
    assert engine.embed_tokens.weight is learner.model.embed_tokens.weight  # shared, where no packing is needed
    rows = [learner.step(step).metrics for step in range(2)]
    assert all(row["grad_norm"] > 0 and row["logprob_difference"] < 0.5 for row in rows)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_both_optimisers_move_an_adapter(optimizer: str, base: Base, tmp_path: Path) -> None:
    settings = settings_of("finetune", base, "deepseek_v3", tmp_path, optimizer=optimizer, epochs=9, learning_rate=0.05)
    losses = [row["loss"] for row in run("finetune", settings, tmp_path / "run").stage("it").metrics.rows()]
    assert losses[-1] < 0.7 * losses[0]


def test_a_later_stage_goes_on_with_the_adapter_or_merges_it(base: Base, tmp_path: Path) -> None:
    settings = settings_of("finetune", base, "llama", tmp_path)
    first = run("finetune", settings, tmp_path / "first")
    made, _ = load(first.path / "it")
    again = trainer("finetune", settings.model_copy(update={"model": str(first.path / "it")})).model.eval()
    tokens = torch.arange(12)[None]
    assert has_adapter(again) and torch.equal(again(tokens), made(tokens))
    whole = trainer(
        "reinforce", settings_of("reinforce", base, "llama", tmp_path, model=str(first.path / "it"), lora=None)
    )
    assert not has_adapter(whole.model) and all(parameter.requires_grad for parameter in whole.model.parameters())
    torch.testing.assert_close(whole.model(tokens), made(tokens), rtol=0, atol=1e-5)
    second = run(
        "reinforce",
        settings_of("reinforce", base, "llama", tmp_path, model=str(first.path / "it")),
        tmp_path / "second",
    )
    assert base_of(second.stage("it").model_path) == str(base("llama"))
    for changes in ({"rank": 3}, {"rank": 2, "alpha": 1.0}, {"rank": 2, "targets": ["q_proj"]}):
        other = settings_of("finetune", base, "llama", tmp_path, model=str(first.path / "it"), lora=changes)
        with pytest.raises(UserError, match=r"rank 2, alpha 4, .*export --merge"):
            trainer("finetune", other)


def test_what_it_learned_to_end_with_goes_with_the_adapter(base: Base, tmp_path: Path) -> None:
    model, tokenizer = load(base("llama"))
    model.config = model.config.from_dict(model.config.to_dict() | {"eos_token_id": 20})
    save_model(model, tmp_path / "base")
    tokenizer.save(tmp_path / "base")
    settings = settings_of("finetune", base, "llama", tmp_path, model=str(tmp_path / "base"))
    made, _ = load(run("finetune", settings, tmp_path / "run").path / "it")
    assert (
        made.config.eos_token_id == (20, tokenizer.eos_id) and load_model(tmp_path / "base").config.eos_token_id == 20
    )


def test_a_reward_model_with_an_adapter_rewards(base: Base, tmp_path: Path) -> None:
    stage = run("reward-model", settings_of("reward-model", base, "deepseek_v3", tmp_path), tmp_path / "run").stage(
        "it"
    )
    reward = PreferenceReward(stage.path)
    answers = [Completion("", answer, True, True, False) for answer in ("abab", "bbbb")]
    better, worse = reward([{"role": "user", "content": "Write 3."}], answers)
    assert better > worse
    with pytest.raises(UserError, match="reward model, which scores texts"):
        load(stage.path)


def test_what_cannot_be_is_refused_with_the_reason(base: Base, tmp_path: Path) -> None:
    for lora, words in (
        ({"rank": 0}, "rank"), ({"alpha": 0}, "alpha"), ({"dropout": 0.1}, "with dropout the policy"), ({"r": 8}, "r"),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=words):
            ReinforcementSettings.model_validate(POLICY | {"lora": lora})
    with pytest.raises(ValidationError, match="routers are frozen"):
        FinetuningSettings.model_validate({"data": ["x"], "lora": {}, "balance_speed": 0.1})
    with pytest.raises(ValidationError, match="pretraining begins with random weights"):
        KINDS["pretrain"].settings.model_validate({"model": {}, "corpus": {"x": 1}, "steps": 1, "lora": {"rank": 2}})
    with pytest.raises(UserError, match="no c_attn to adapt; it has"):
        trainer("reinforce", settings_of("reinforce", base, "llama", tmp_path, lora={"targets": ["c_attn"]}))


def test_alpha_is_twice_the_rank_and_experts_are_a_choice(base: Base, tmp_path: Path) -> None:
    plain = trainer("reinforce", settings_of("reinforce", base, "deepseek_v3", tmp_path)).model
    assert {adapter.scale for *_, adapter in adapters(plain)} == {2.0}
    lora = {"rank": 2, "targets": ["experts", "o_proj"]}
    chosen = trainer("reinforce", settings_of("reinforce", base, "deepseek_v3", tmp_path, lora=lora))
    assert {name.rpartition(".")[2] for _, _, name, _ in adapters(chosen.model)} == {"experts", "o_proj"}
    assert chosen.step(0).metrics["logprob_difference"] < 1e-5


@torch.no_grad()
def test_the_reference_is_the_adapter_switched_off(base: Base, tmp_path: Path) -> None:
    """Also while a network that absorbs its latents keeps the sum of weight and adapter."""
    learner = trainer("reinforce", settings_of("reinforce", base, "deepseek_v3", tmp_path))
    tokens, plain = torch.arange(12)[None], load_model(base("deepseek_v3"))
    positions = torch.arange(12)[None]

    def exact(model: Any) -> torch.Tensor:
        return model.head(model.hidden(tokens, model.context(positions, batch_invariant=True)))

    with torch.enable_grad():
        learner.step(0)
    assert learner.reference is not None and sum(t.numel() for t in learner.reference.weights.values()) < 9000
    own = exact(learner.model)
    with learner.reference.active() as reference:
        assert torch.equal(exact(reference), exact(plain))
    assert torch.equal(exact(learner.model), own) and not torch.equal(own, exact(plain))
    merge_lora(learner.model)
    torch.testing.assert_close(exact(learner.model), own, rtol=0, atol=1e-5)
