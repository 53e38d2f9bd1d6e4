"""Each remark comes when there is cause for it, and a healthy run gets none."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from run_cases import curation_row, distillation_row, finetuning_row, preference_row, pretraining_row, reinforcement_row

from longjing import tasks
from longjing.learning.advice import diagnose, rounding, tolerance
from longjing.learning.kinds import KINDS

Change = Callable[[int], dict[str, Any]]
ROWS = {
    "pretrain": pretraining_row, "sample": curation_row, "finetune": finetuning_row,
    "reward-model": preference_row, "reinforce": reinforcement_row, "distill": distillation_row,
}  # fmt: skip
TROUBLE: list[tuple[str, str, str, Change]] = [
    ("reinforce", "off_policy", "1.0e-03", lambda step: {"logprob_difference": 1e-3}),
    ("reinforce", "not_finite", "loss of step 112", lambda step: {"loss": None if step >= 112 else 0.0}),
    ("reinforce", "verifier_failed", "20 completions", lambda step: {"unjudged": 2}),
    ("reinforce", "zero_variance", "71% of groups had equal rewards, most of them all wrong", lambda step: {
        "zero_variance_groups": 0.71, "all_wrong_groups": 0.6}),
    ("reinforce", "zero_variance", "most of them all right", lambda step: {
        "zero_variance_groups": 0.71, "all_wrong_groups": 0.1}),
    ("reinforce", "truncated", "30% of completions", lambda step: {"truncated": 0.3}),
    ("reinforce", "badly_formed", "only 20%", lambda step: {"reward_format": 0.2}),
    ("reinforce", "entropy_collapsed", "0.50 to 0.01", lambda step: {"entropy": 0.5 if step < 50 else 0.01}),
    ("reinforce", "far_from_reference", "0.90 nats", lambda step: {"kl": 0.9}),
    ("reinforce", "clipped", "40% of tokens", lambda step: {"clip_share": 0.4}),
    ("reinforce", "gradient_spikes", "jumped to 50", lambda step: {"grad_norm": 50 if step == 115 else 1}),
    ("reinforce", "nothing_learned", "in 120 steps", lambda step: {"reward": 0.5 + step % 2 / 10}),
    ("pretrain", "not_finite", "norm of step 110", lambda step: {"grad_norm": None if step > 109 else 1}),
    ("pretrain", "loss_rises", "rose to 4.00 after 2.00", lambda step: {"loss": 2.0 if step < 110 else 4.0}),
    ("pretrain", "gradient_spikes", "usually 0.5", lambda step: {"grad_norm": 50.0 if step == 115 else 0.5}),
    ("pretrain", "experts_unbalanced", "6.0 times", lambda step: {"load_max": 6.0}),
    ("finetune", "not_finite", "loss of step 110", lambda step: {"loss": None if step > 109 else 1}),
    ("finetune", "loss_rises", "rose to 4.00 after 2.00", lambda step: {"loss": 2.0 if step < 110 else 4.0}),
    ("finetune", "gradient_spikes", "usually 0.5", lambda step: {"grad_norm": 50.0 if step == 115 else 0.5}),
    ("finetune", "experts_unbalanced", "6.0 times", lambda step: {"load_max": 6.0}),
    ("reward-model", "not_finite", "loss of step 110", lambda step: {"loss": None if step > 109 else 1}),
    ("reward-model", "loss_rises", "4.00 after 2.00", lambda step: {"loss": 2.0 if step < 110 else 4.0}),
    ("reward-model", "gradient_spikes", "to 50", lambda step: {"grad_norm": 50.0 if step == 115 else 0.5}),
    ("sample", "little_kept", "only 3.1% of the samples are kept, most of the others were wrong", lambda step: {
        "kept": 1}),
    ("distill", "off_policy", "1.0e-03", lambda step: {"logprob_difference": 1e-3}),
    ("distill", "not_finite", "loss of step 112", lambda step: {"loss": None if step >= 112 else 0.0}),
    ("distill", "truncated", "30% of completions", lambda step: {"truncated": 0.3}),
    ("distill", "gradient_spikes", "jumped to 50", lambda step: {"grad_norm": 50 if step == 115 else 1}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "topic", "expected", "change"), TROUBLE)
def test_trouble_is_named(kind: str, topic: str, expected: str, change: Change) -> None:
    advice = diagnose(KINDS[kind].advice, [ROWS[kind](step, **change(step)) for step in range(120)])
    assert [one.topic for one in advice] == [topic] and expected in advice[0].text


def test_every_rule_is_tried() -> None:
    named = {(kind, topic) for kind, topic, _, _ in TROUBLE if topic != "off_policy"}
    assert named == {(name, rule.__name__) for name, kind in KINDS.items() for rule in kind.advice}


def test_advice_names_settings_that_exist() -> None:
    setting_names = {name for stage in KINDS.values() for name in stage.settings.model_fields}
    setting_names |= {name for task in tasks.names() for name in tasks.get(task).settings}
    for kind, _, _, change in TROUBLE:
        for advice in diagnose(KINDS[kind].advice, [ROWS[kind](step, **change(step)) for step in range(120)]):
            assert set(re.findall("`(.*?)`", advice.text)) <= setting_names


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("count", [0, 1, 2, 5, 30, 120])
def test_a_healthy_run_gets_no_advice(kind: str, count: int) -> None:
    assert diagnose(KINDS[kind].advice, [ROWS[kind](step) for step in range(count)]) == []


@pytest.mark.parametrize("kind", ROWS)
def test_rows_may_lack_anything(kind: str) -> None:
    assert diagnose(KINDS[kind].advice, [{"step": step, "time": 1.0} for step in range(120)]) == []


def test_what_rounding_explains_depends_on_where_it_runs() -> None:
    assert tolerance("cpu", "float32") == 1e-5 < tolerance("cuda:1", "float32") < tolerance("cpu", "bfloat16")
    rows = [reinforcement_row(step, logprob_difference=1e-4) for step in range(9)]
    assert diagnose(KINDS["reinforce"].advice, rows, tolerance("cuda", "float32")) == []


def off_policy(**row: float) -> bool:
    rows = [reinforcement_row(step, **row) for step in range(9)]
    return any(advice.topic == "off_policy" for advice in diagnose(KINDS["reinforce"].advice, rows))


def test_rounding_grows_with_depth_and_with_the_logits() -> None:
    assert rounding(4, 0.0) == rounding(2, 12.0) == 1, "the smallest networks are held to 1e-5"
    assert rounding(30, 12.0) == 7.5 and rounding(4, 40.0) == 2 and rounding(61, 40.0) > 30
    # What a network of 30 layers, SmolLM2-135M, was measured at; and the same in one of four.
    assert not off_policy(logprob_difference=4.1e-5, rounding=rounding(30, 12.0))
    assert off_policy(logprob_difference=4.1e-5, rounding=rounding(4, 12.0))
    assert off_policy(logprob_difference=1e-3, rounding=rounding(30, 12.0))


def test_the_mean_is_small_in_any_format() -> None:
    rows = [reinforcement_row(step, logprob_difference=0.5, logprob_difference_mean=0.004) for step in range(9)]
    assert diagnose(KINDS["reinforce"].advice, rows, tolerance("cpu", "bfloat16")) == []
    rows = [reinforcement_row(step, logprob_difference=0.5, logprob_difference_mean=0.02) for step in range(9)]
    (advice,) = diagnose(KINDS["reinforce"].advice, rows, tolerance("cpu", "bfloat16"))
    assert advice.topic == "off_policy" and "2.0e-02 a token on average" in advice.text
