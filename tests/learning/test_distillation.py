"""On-policy distillation: what the teacher says of each token, and where it moves the student."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_cases import CPU, Recorder, assert_same, logprob, untimed
from pydantic import ValidationError

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning.distillation import Distillation, DistillationSettings
from longjing.learning.kl import reverse_kl
from longjing.learning.loop import run_stage
from longjing.model.decoder import Decoder
from longjing.model.store.checkpoint import load_model
from longjing.planning import flops
from longjing.runs import RunDirectory
from longjing.text.tokenizer import Tokenizer

Make = Callable[..., Distillation]
SETTINGS: dict[str, Any] = {
    "task": {"name": "letters"}, "steps": 4, "prompts_per_step": 6, "group_size": 3, "max_tokens": 24,
    "learning_rate": 1e-3, "evaluation": {"problems": 3, "samples": 2},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("letters")


def settings_of(
    base: Callable[[str], Path], student: str = "llama", teacher: str = "deepseek_v3", **changes: Any
) -> DistillationSettings:
    paths = {"model": str(base(student)), "teacher": str(base(teacher))}
    return DistillationSettings.model_validate(SETTINGS | paths | changes)


@pytest.fixture
def make(base: Callable[[str], Path]) -> Make:
    return lambda *families, **changes: Distillation(
        settings_of(base, *families, **changes), Runtime(0, CPU, torch.float32)
    )


def prompt_of(learner: Distillation, row: dict[str, Any]) -> list[int]:
    return learner.tokenizer.encode_chat([{"role": "user", "content": row["prompt"]}])


@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.7, 2.0]))
def test_the_divergence_and_its_gradient(seed: int, temperature: float) -> None:
    """Zero for equal distributions, positive else; its gradient is the mean of the policy gradients of all tokens
    that could be drawn, each with the advantage log teacher - log student."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 7, generator=random, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(3, 7, generator=random, dtype=torch.float64)
    same = reverse_kl(logits, logits + 5, temperature)
    torch.testing.assert_close(same, torch.zeros(3), rtol=0, atol=1e-5)
    divergence = reverse_kl(logits, teacher, temperature)
    assert divergence.shape == (3,) and (divergence > 0).all()
    (gradient,) = torch.autograd.grad(divergence.sum(), logits)
    student = (logits / temperature).log_softmax(dim=-1)
    advantage = (teacher / temperature).log_softmax(dim=-1) - student.detach()
    (wanted,) = torch.autograd.grad(-(student.detach().exp() * advantage * student).sum(), logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("estimate", ["sampled", "exact"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("families", [("llama", "deepseek_v3"), ("deepseek_v3", "llama")])
def test_the_gradient_is_that_of_the_formula(
    make: Make, base: Callable[[str], Path], families: tuple[str, str], temperature: float, estimate: str
) -> None:
    """-mean over all tokens of (log teacher - log student) grad log student, each by one pass over one text; or
    the gradient of the mean divergence."""
    learner = make(*families, temperature=temperature, max_grad_norm=1e9, micro_tokens=200, estimate=estimate)
    student, teacher = map(load_model, map(base, families))
    learner.optimizers = recorder = Recorder(learner.model)  # type: ignore[assignment]
    metrics, rollouts, _ = learner.step(0)
    total, kl = torch.zeros((), dtype=torch.float64), 0.0
    tokens = sum(len(record["tokens"]) for row in rollouts for record in row["completions"])
    for row in rollouts:
        for record in row["completions"]:
            prompt = prompt_of(learner, row)
            own = logprob(student, record, prompt, temperature)
            with torch.no_grad():
                wanted = logprob(teacher, record, prompt, temperature)
            logged = torch.tensor(record["teacher_logprobs"])
            torch.testing.assert_close(logged, wanted.float(), rtol=0, atol=7e-5)
            gain = wanted - own.detach()
            assert record["reward"] == pytest.approx(gain.mean().item(), abs=1e-4)
            kl -= gain.sum().item() / tokens
            if estimate == "sampled":
                total = total - (gain * own).sum() / tokens
            else:
                text = torch.tensor([[*prompt, *record["tokens"]]])
                logits, others = (model(text)[0, len(prompt) - 1 : -1].double() for model in (student, teacher))
                total = total + reverse_kl(logits, others, temperature).double().sum() / tokens
    total.backward()
    (gradient,) = recorder.gradients
    assert_same(gradient, {name: p.grad for name, p in student.named_parameters() if p.grad is not None})
    assert metrics["kl"] == pytest.approx(kl, abs=1e-4) and kl > 0.1
    # On policy the ratio is 1, so the loss is the divergence itself, estimated one way or the other.
    assert metrics["loss"] == pytest.approx(kl if estimate == "sampled" else total.item(), abs=1e-4)
    assert metrics["logprob_difference"] < 1e-5


def test_a_student_that_is_its_teacher_stays_where_it_is(make: Make) -> None:
    metrics, *_ = make("deepseek_v3", "deepseek_v3").step(0)
    assert abs(metrics["kl"]) < 1e-5 and metrics["grad_norm"] < 1e-4


@pytest.mark.parametrize("estimate", ["sampled", "exact"])
@pytest.mark.parametrize("families", [("llama", "deepseek_v3"), ("deepseek_v3", "llama")])
def test_the_student_comes_closer_to_its_teacher(make: Make, families: tuple[str, str], estimate: str) -> None:
    changes = {"prompts_per_step": 8, "group_size": 8, "max_tokens": 12, "estimate": estimate}
    learner = make(*families, learning_rate=1e-2, **changes)
    before = {name: p.clone() for name, p in learner.teacher.named_parameters()}
    kls = [learner.step(step)[0]["kl"] for step in range(20)]
    assert sum(kls[-3:]) < 0.65 * sum(kls[:3]), kls
    assert all(torch.equal(p, before[name]) for name, p in learner.teacher.named_parameters())


def test_every_completion_teaches_whatever_the_task_says_of_it(make: Make) -> None:
    """The wrong, the unjudged and the cut off too; no group is dropped, none refilled."""
    learner = make(task={"name": "letters", "unreadable": "abcxyz", "wanted": ""})
    metrics, rollouts, _ = learner.step(0)
    records = [(row, record) for row in rollouts for record in row["completions"]]
    assert metrics["unjudged"] > 0 and 0 < metrics["truncated"] < 1 and metrics["accuracy"] == 0
    trained = sum(len(prompt_of(learner, row)) + len(record["tokens"]) for row, record in records)
    assert len(records) == 18 and metrics["tokens_trained"] == trained
    assert metrics["tokens_sampled"] == sum(len(record["tokens"]) for _, record in records)
    assert metrics["flops"] > trained * flops.training(learner.model.config, 1)


def test_minibatches_are_optimiser_steps_of_whole_groups(make: Make) -> None:
    learner = make(minibatches=3, learning_rate=1e-2)
    steps = []
    step = learner.optimizers.step
    learner.optimizers.step = lambda factor: (steps.append(factor), step(factor))[1]  # type: ignore[method-assign, func-returns-value]
    metrics, *_ = learner.step(0)
    assert len(steps) == 3 and abs(metrics["ratio"] - 1) > 1e-4 and metrics["logprob_difference"] < 1e-5


# What is refused


def test_another_tokenizer_is_refused(base: Callable[[str], Path], tmp_path: Path) -> None:
    tiny.save_base(tmp_path, "llama")
    Tokenizer.train(["Some other words, other words, other merges."] * 3, 290).save(tmp_path)
    settings = settings_of(base).model_copy(update={"teacher": str(tmp_path)})
    with pytest.raises(UserError, match="different tokenizers.*finetune"):
        Distillation(settings, Runtime(0, CPU, torch.float32))


def test_the_same_tokenizer_in_other_files_is_not(base: Callable[[str], Path], tmp_path: Path) -> None:
    tiny.save_base(tmp_path, "llama")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"truncation": None}), "utf-8")
    settings = settings_of(base).model_copy(update={"teacher": str(tmp_path)})
    assert Distillation(settings, Runtime(0, CPU, torch.float32)).settings.teacher == str(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"minibatches": 4}, "does not divide"),
        ({"teacher": None}, "teacher"),
        ({"rewards": {"accuracy": 1.0}}, "rewards"),
        ({"top_p": 0.9}, "top_p"),
        ({"temperature": 0.0}, "greater than 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DistillationSettings.model_validate(SETTINGS | {"teacher": "base"} | changes)


# The whole


def test_resumed_equals_uninterrupted(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off between the minibatches of the third step; the teacher is no part of the state."""
    settings = settings_of(base, steps=5, save_every=2, minibatches=2, warmup_steps=2, optimizer="muon")

    def run(name: str) -> Any:
        (tmp_path / name).mkdir(exist_ok=True)
        stage = RunDirectory(tmp_path / name).stage("distilled")
        run_stage(Distillation, settings, stage, Runtime(0, CPU, torch.float32))
        return stage

    whole = run("whole")
    optimise = Distillation._optimise
    calls = iter(range(100))

    def breaks_off(self: Distillation, *arguments: Any) -> Any:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return optimise(self, *arguments)

    monkeypatch.setattr(Distillation, "_optimise", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run("broken")
    monkeypatch.setattr(Distillation, "_optimise", optimise)
    state = RunDirectory(tmp_path / "broken").stage("distilled").load_state()
    resumed = run("broken")
    for log in ("metrics", "rollouts", "evaluations"):
        assert untimed(getattr(resumed, log).rows()) == untimed(getattr(whole, log).rows())
    for file in whole.model_path.iterdir():
        assert (resumed.model_path / file.name).read_bytes() == file.read_bytes(), file.name
    assert [(row["step"], row["split"]) for row in whole.evaluations.rows()] == [(-1, "test"), (4, "test")]
    assert whole.result["tokens_trained"] == sum(row["tokens_trained"] for row in whole.metrics.rows())
    student: Decoder = load_model(whole.model_path)
    size = sum(parameter.nbytes for parameter in student.parameters())
    assert state is not None and sum(tensor.nbytes for tensor in state[0].values()) < 3.5 * size
