"""Policies that learn from conversations: what the task said has no gradient, and counts nowhere."""

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_cases import CPU, Recorder, assert_same, untimed
from pydantic import ValidationError

from longjing.cluster.runtime import Runtime
from longjing.data.conversations import Conversation, encode_conversation
from longjing.errors import UserError
from longjing.generation.request import Generation
from longjing.learning.distillation import Distillation, DistillationSettings
from longjing.learning.finetuning import Finetuning, FinetuningSettings
from longjing.learning.loop import run_stage
from longjing.learning.reinforcement import Reinforcement, ReinforcementSettings
from longjing.learning.rejection_sampling import RejectionSampling, RejectionSamplingSettings
from longjing.learning.rollouts import pad
from longjing.problems import registry
from longjing.runs import RunDirectory
from longjing.text.reasoning import parse

SETTINGS: dict[str, Any] = {
    "task": {"name": "talks"}, "steps": 3, "prompts_per_step": 4, "group_size": 6, "max_tokens": 60,
    "learning_rate": 1e-2, "evaluation": {"problems": 3, "samples": 2},
}  # fmt: skip
IDS = tiny.tokenizer()

pytestmark = pytest.mark.usefixtures("letters")
Base = Callable[[str], Path]


def settings_of(base: Base, family: str = "deepseek_v3", **changes: Any) -> ReinforcementSettings:
    return ReinforcementSettings.model_validate(SETTINGS | {"model": str(base(family))} | changes)


def learner_of(base: Base, family: str = "deepseek_v3", **changes: Any) -> Reinforcement:
    return Reinforcement(settings_of(base, family, **changes), Runtime(0, CPU, torch.float32))


@pytest.mark.parametrize("kl", [0.0, 0.05])
@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "gspo", "dr_grpo"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_gradient_is_that_of_what_was_sampled(base: Base, family: str, algorithm: str, kl: float) -> None:
    """Written down once more from the log alone: one forward pass over each conversation, no masks, no batches."""
    learner = learner_of(base, family, algorithm=algorithm, kl=kl)
    twin = learner_of(base, family).model
    recorder = Recorder(learner.model)
    learner.optimizers = recorder  # type: ignore[assignment]
    learner.settings = learner.settings.model_copy(update={"max_grad_norm": 1e9})
    metrics, rollouts, _ = learner.step(0)
    assert metrics["turns"] > 1.5 and metrics["logprob_difference"] < 1e-5
    kept = [
        (record, row["prompt"])
        for row in rollouts
        for record in row["completions"]
        if any(other["advantage"] for other in row["completions"])
    ]
    counts = [sum(value is not None for value in record["logprobs"]) for record, _ in kept]
    total = torch.zeros((), dtype=torch.float64)
    for (record, prompt), count in zip(kept, counts, strict=True):
        start = IDS.encode_chat([{"role": "user", "content": prompt}])
        text = torch.tensor([*start, *record["tokens"]])
        logits = twin(text[None])[0, len(start) - 1 : -1].double()
        values = logits.log_softmax(-1).gather(1, text[len(start) :, None])[:, 0]
        own = [index for index, value in enumerate(record["logprobs"]) if value is not None]
        logged = torch.tensor([record["logprobs"][index] for index in own], dtype=torch.float64)
        torch.testing.assert_close(values[own].detach(), logged, rtol=0, atol=1e-4)
        weight = {"dapo": 1 / sum(counts), "dr_grpo": 1 / (len(kept) * 60)}.get(algorithm, 1 / (len(kept) * count))
        total = total - weight * record["advantage"] * values[own].sum()
    total.backward()
    (gradient,) = recorder.gradients
    # On policy the divergence from an equal reference has no gradient.
    assert_same(gradient, {name: p.grad for name, p in twin.named_parameters() if p.grad is not None})


def test_what_is_counted_was_sampled(base: Base) -> None:
    metrics, rollouts, _ = learner_of(base).step(0)
    records = [record for row in rollouts for record in row["completions"]]
    several = [record for record in records if "earlier" in record]
    assert len(several) > 5
    lengths = [sum(value is not None for value in record["logprobs"]) for record in records]
    assert metrics["tokens_sampled"] == sum(lengths) < sum(len(record["tokens"]) for record in records)
    assert metrics["length_max"] == max(lengths) <= 60
    assert metrics["length_mean"] == pytest.approx(sum(lengths) / len(records))
    values = [value for record in records for value in record["logprobs"] if value is not None]
    assert metrics["entropy"] == pytest.approx(-sum(values) / len(values), abs=1e-3)
    assert metrics["truncated"] == sum(r["finish_reason"] == "length" for r in records) / len(records)
    turns = [len(record.get("earlier", [])) + 1 for record in records]
    assert metrics["turns"] == sum(turns) / len(turns)
    for record in several:
        for turn, (start, end) in zip(record["earlier"], record["given"], strict=True):
            assert record["logprobs"][start:end] == [None] * (end - start)
            assert turn["reply"]["content"] in IDS.decode(record["tokens"][start:end])
        texts = [*(turn["text"] for turn in record["earlier"]), record["text"]]
        assert IDS.decode(record["tokens"][: record["given"][0][0]]).startswith(texts[0])
    thought = [
        "\n\n".join(filter(None, (parse(t).reasoning for t in [*(e["text"] for e in r.get("earlier", [])), r["text"]])))
        for r in records
    ]
    assert metrics["reasoning_length_mean"] == sum(len(IDS.encode(text)) for text in thought) / len(thought)


def test_resumed_equals_uninterrupted(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(base, kl=0.01)

    def run(path: Path) -> Any:
        with RunDirectory(path).writing({"stages": []}):
            stage = RunDirectory(path).stage("zero")
            run_stage(Reinforcement, settings, stage, Runtime(0, CPU, torch.float32))
            return stage

    whole = run(tmp_path / "whole")
    step = Reinforcement.step

    def breaks_off(self: Reinforcement, number: int) -> Any:
        done = step(self, number)
        if number == 1:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Reinforcement, "step", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken")
    monkeypatch.undo()
    monkeypatch.setitem(registry._TASKS, "talks", tiny.Talks)
    resumed = run(tmp_path / "broken")
    for log in ("metrics", "rollouts", "evaluations"):
        assert untimed(getattr(resumed, log).rows()) == untimed(getattr(whole, log).rows())
    for file in whole.model_path.iterdir():
        assert (resumed.model_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_teacher_scores_what_was_sampled(base: Base) -> None:
    settings = DistillationSettings.model_validate(
        {key: SETTINGS[key] for key in SETTINGS if key != "evaluation"}
        | {"model": str(base("deepseek_v3")), "teacher": str(base("deepseek_v3")), "kind": "distill"}
    )
    metrics, rollouts, _ = Distillation(settings, Runtime(0, CPU, torch.float32)).step(0)
    records = [record for row in rollouts for record in row["completions"]]
    assert any("earlier" in record for record in records) and metrics["kl"] == pytest.approx(0, abs=1e-4)
    for record in records:
        nowhere = [value is None for value in record["logprobs"]]
        assert [value is None for value in record["teacher_logprobs"]] == nowhere


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=4), st.integers(1, 6))
def test_masks_line_up_with_tokens(turns: list[tuple[int, int]], prompt: int) -> None:
    """Of any turns and replies, in a batch with a longer one: what is masked in is what has a log-probability."""
    tokens: list[int] = []
    given_spans, logprobs = [], []
    for number, (sampled, reply) in enumerate(turns):
        logprobs += [-1.0 - len(tokens) - index for index in range(sampled)]
        tokens += [100 + number] * sampled
        if number < len(turns) - 1:
            given_spans.append((len(tokens), len(tokens) + reply))
            tokens += [200 + number] * reply
    one = Generation([1] * prompt, tokens, logprobs, "stop", unsampled=tuple(given_spans))
    other = Generation([1] * 3, [100] * 40, [-0.5] * 40, "stop")
    padded = pad([one, other], 0, CPU)
    assert one.length == len(logprobs) == sum(one.sampled) == int(padded.sampled[0].sum())
    assert all(100 <= token < 200 for token in padded.tokens[0, 1:][padded.sampled[0]].tolist())
    assert padded.old_logprobs[0][padded.sampled[0]].tolist() == logprobs
    # A value says where its token stands: nothing has moved.
    places = padded.sampled[0].nonzero()[:, 0] + 1 - prompt
    assert (-1.0 - places).tolist() == logprobs
    assert not padded.old_logprobs[0][~padded.sampled[0]].any()


def test_reward_models_do_not_read_conversations(base: Base) -> None:
    preference = {"helpfulness": "some", "rates": "all", "from_share": 0.0}
    with pytest.raises(ValidationError, match="not conversations"):
        settings_of(base, preference=preference)
    assert settings_of(base, preference=preference, task={"name": "letters"})


CHAT = {
    "messages": [
        {"role": "user", "content": "What is 12*12?"},
        {"role": "assistant", "reasoning_content": "12*12", "content": "<calc>12*12</calc>"},
        {"role": "user", "content": "= 144"},
        {"role": "assistant", "reasoning_content": "144", "content": "\\boxed{144}"},
    ],
    "keep_reasoning": True,
}


def test_examples_are_laid_out_as_conversations_are_sampled() -> None:
    (example,) = encode_conversation(IDS, Conversation.model_validate(CHAT))
    pairs = zip(example.tokens.tolist(), example.loss_mask.tolist(), strict=True)
    pieces = [IDS.decode([token for token, _ in run]) for _, run in groupby(pairs, lambda pair: pair[1])]
    assert pieces == [
        "<｜begin▁of▁sentence｜><｜User｜>What is 12*12?<｜Assistant｜><think>\n",
        "12*12\n</think>\n\n<calc>12*12</calc><｜end▁of▁sentence｜>",
        "<｜User｜>= 144<｜Assistant｜><think>\n",
        "144\n</think>\n\n\\boxed{144}<｜end▁of▁sentence｜>",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"thinking": False, "messages": [CHAT["messages"][0], {"role": "assistant", "content": "1"}]}, "reasoning"),
        ({"messages": [*CHAT["messages"][:3], CHAT["messages"][2], CHAT["messages"][3]]}, "alternate"),
    ],
)  # fmt: skip
def test_what_was_no_conversation_of_a_task_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Conversation.model_validate(CHAT | change)


def test_what_was_kept_can_be_learned(base: Base, tmp_path: Path) -> None:
    """Rejection sampling writes conversations down as they were, and fine-tuning lays them out so again."""
    with RunDirectory(tmp_path).writing({"stages": []}):
        stage = RunDirectory(tmp_path).stage("kept")
        settings = RejectionSamplingSettings.model_validate(
            {
                "model": str(base("deepseek_v3")), "task": {"name": "talks"}, "problems": 12, "samples": 4,
                "max_tokens": 60,
                "keep": {"correct": False, "min_language": 0, "max_repetition": 1, "deduplicate": False},
            }
        )  # fmt: skip
        try:
            run_stage(RejectionSampling, settings, stage, Runtime(0, CPU, torch.float32))
        except UserError as error:  # a random network may keep no form at all
            assert "none of" in str(error)
        rows = [each for row in stage.rollouts.rows() for each in row["completions"]]
        assert any("earlier" in row and row["given"] for row in rows)
        data = tmp_path / "data.jsonl"
        data.write_text(json.dumps(CHAT) + "\n")
        learning = FinetuningSettings.model_validate(
            {"model": str(base("deepseek_v3")), "data": [str(data)], "row_length": 256}
        )
        tuned = RunDirectory(tmp_path).stage("tuned")
        run_stage(Finetuning, learning, tuned, Runtime(0, CPU, torch.float32))
        assert (tuned.result or {})["examples"] == 1
