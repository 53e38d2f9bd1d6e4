"""What R1's two reinforcement stages add to R1-Zero: the language reward, reward models, general prompts."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_cases import CPU, untimed
from pydantic import ValidationError

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.generation.request import Generation
from longjing.learning import reinforcement
from longjing.learning.loop import run_stage
from longjing.learning.policy import PhaseTimer
from longjing.learning.reinforcement import Reinforcement, ReinforcementSettings
from longjing.learning.rollouts import Group, add_model_rewards, judge_group, language_reward
from longjing.model.reward_model import RewardModel
from longjing.model.store.checkpoint import load_model, save_model
from longjing.problems import Completion, Problem, registry
from longjing.runs import RunDirectory

Make = Callable[..., Reinforcement]
SETTINGS: dict[str, Any] = {
    "task": {"name": "letters"}, "steps": 4, "prompts_per_step": 8, "group_size": 4, "max_tokens": 24,
    "learning_rate": 1e-3, "evaluation": {"problems": 3, "samples": 2},
}  # fmt: skip
RULES = {"accuracy": 1.0, "format": 0.5, "language": 0.25}

pytestmark = pytest.mark.usefixtures("letters")


def settings_of(base: Callable[[str], Path], **changes: Any) -> ReinforcementSettings:
    return ReinforcementSettings.model_validate(SETTINGS | {"model": str(base("deepseek_v3"))} | changes)


@pytest.fixture
def make(base: Callable[[str], Path]) -> Make:
    return lambda **changes: Reinforcement(settings_of(base, **changes), Runtime(0, CPU, torch.float32))


# The language reward


def problem_in(language: Any) -> Problem:
    return next(tasks.get("countdown", difficulty=1, language=language).problems("train", 0))


@pytest.mark.parametrize(
    ("text", "english", "chinese"),
    [
        ("Wait, take 3 and 4.\n</think>\n\n\\boxed{7}", 1.0, 0.0),
        ("等等，用 3 和 4。\n</think>\n\n\\boxed{7}", 0.0, 1.0),
        ("等 wait\n</think>\n\nThe answer is \\boxed{7}", 0.5, 0.5),  # the answer has no say
        ("3+4=7\n</think>\n\n\\boxed{7}", 1.0, 1.0),
        ("Wait, wait", 1.0, 0.0),  # never closed
        ("</think>\n\nHello!", 1.0, 0.0),  # no reasoning: the answer speaks
        ("</think>", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_language_of_the_reasoning_is_rewarded(text: str, english: float, chinese: float) -> None:
    completion = Completion.parse(text)
    assert language_reward(problem_in("en"), completion) == english
    assert language_reward(problem_in("zh"), completion) == chinese
    generation = Generation([0], [1], [-1.0], "stop", text)
    for language, wanted in (("en", english), ("zh", chinese)):
        task, problem = tasks.get("countdown", difficulty=1), problem_in(language)
        (verdict,) = judge_group(task, problem, [tiny.dialogue(generation)]).verdicts
        assert verdict.rewards["language"] == wanted and len(verdict.rewards) == 3


@given(st.sampled_from(["Wait, ", "等等，", "so 等 "]), st.integers(1, 30))
def test_the_language_reward_does_not_pay_for_length(words: str, times: int) -> None:
    once, often = (Completion.parse(words * number + "</think>7") for number in (1, times))
    assert language_reward(problem_in("en"), often) == pytest.approx(language_reward(problem_in("en"), once))


def test_the_share_is_added_and_logged(make: Make) -> None:
    metrics, rollouts, _ = make(rewards=RULES).step(0)
    records = [record for row in rollouts for record in row["completions"]]
    for record in records:
        parts = record["rewards"]
        assert record["reward"] == pytest.approx(sum(RULES[part] * parts[part] for part in RULES))
    shares = [record["rewards"]["language"] for record in records]
    assert metrics["language"] == metrics["reward_language"] == pytest.approx(sum(shares) / len(shares))
    assert len(set(shares)) > 1
    without, others, _ = make().step(0)
    assert without["language"] == metrics["language"] and "reward_language" not in without
    assert [r["rewards"] for row in others for r in row["completions"]] == [r["rewards"] for r in records]


class Chinese(tiny.Letters):
    """The task of `tiny`, asked in Chinese: a random network answers in Latin letters, more often than not."""

    def problems(self, split: Any, seed: int) -> Any:
        for problem in super().problems(split, seed):
            yield replace(problem, language="zh")


def test_the_language_reward_lowers_mixing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._TASKS, "letters", Chinese)
    learner = make(rewards={"language": 1.0}, learning_rate=1e-2, group_size=8)
    shares = [learner.step(step)[0]["language"] for step in range(12)]
    assert sum(shares[:2]) / 2 < 0.4 and sum(shares[-2:]) / 2 > 0.6, shares


def test_a_clip_of_ten_leaves_the_low_side_open_and_clips_next_to_nothing(make: Make) -> None:
    """As published for the first stage: ratios may go from 0 to 11."""
    changes = {"minibatches": 4, "learning_rate": 5e-2}
    tight, *_ = make(**changes).step(0)
    loose, *_ = make(**changes, clip_low=10, clip_high=10).step(0)
    assert loose["clip_share"] < 0.01 < 0.1 < tight["clip_share"]


def test_a_mixture_is_a_task_like_any_other(make: Make) -> None:
    parts = [{"name": "letters"}, {"name": "countdown", "difficulty": 1}]
    learner = make(task={"name": "mixture", "parts": parts})
    metrics, rollouts, _ = learner.step(0)
    letters = [row for row in rollouts if row["prompt"].startswith("Write ")]
    assert 0 < len(letters) < len(rollouts) and metrics["grad_norm"] > 0
    assert next(learner.evaluate(-1))["task"] == "mixture"


# Reward models


class RewardFunction:
    """In place of a reward model: likes answers and reasonings alike that are short; remembers what it saw."""

    def __init__(self, path: str, judges: str, device: torch.device) -> None:
        self.path, self.judges, self.model = path, judges, tiny.network("llama")
        self.seen: list[tuple[Any, list[Completion]]] = []

    def __call__(self, prompt: Any, completions: list[Completion]) -> list[float]:
        self.seen.append((prompt, completions))
        return [1 / (1 + len(completion.reasoning + completion.answer)) for completion in completions]


@pytest.fixture
def reward_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reinforcement, "PreferenceReward", RewardFunction)


PREFERENCE = {"helpfulness": "kind", "safety": "safe", "weight": 2.0, "from_share": 0.5, "general_share": 0.5}


@pytest.mark.usefixtures("reward_models")
def test_reward_models_and_general_prompts_join_late(make: Make) -> None:
    learner = make(rewards=RULES, preference=PREFERENCE)
    assert {name: (r.path, r.judges) for name, r in learner.reward_models.items()} == {  # type: ignore[attr-defined]
        "helpfulness": ("kind", "answer"), "safety": ("safe", "everything")
    }  # fmt: skip
    plain = make(rewards=RULES)
    for step in (0, 1):
        metrics, rollouts, _ = learner.step(step)
        expected, same, _ = plain.step(step)
        assert rollouts == same and metrics.keys() == expected.keys()
        assert metrics["flops"] == expected["flops"]
    general = 0
    for step in (2, 3):
        metrics, rollouts, _ = learner.step(step)
        own = {"reward_helpfulness", "reward_safety"}
        assert own <= metrics.keys() and metrics.keys() - own <= expected.keys()
        for row in rollouts:
            conversation = not row["prompt"].startswith("Write ")
            general += conversation
            for record in row["completions"]:
                parts = record["rewards"]
                wanted = {"format", "language"} | ({"helpfulness", "safety"} if conversation else {"accuracy"})
                assert parts.keys() == wanted
                weights = RULES | {"helpfulness": 2.0, "safety": 2.0}
                assert record["reward"] == pytest.approx(sum(weights[part] * parts[part] for part in parts))
    assert 3 < general < 13
    seen = sum(len(reward_model.seen) for reward_model in learner.reward_models.values())  # type: ignore[attr-defined]
    assert seen == 2 * general


@pytest.mark.usefixtures("reward_models")
def test_accuracy_is_that_of_the_problems_that_have_an_answer(make: Make) -> None:
    learner = make(preference=PREFERENCE | {"from_share": 0.0})
    metrics, rollouts, _ = learner.step(0)
    checked = [r for row in rollouts for r in row["completions"] if "accuracy" in r["rewards"]]
    share = sum(record["outcome"] == "correct" for record in checked) / len(checked)
    assert metrics["accuracy"] == metrics["reward_accuracy"] == pytest.approx(share)
    only = make(preference=PREFERENCE | {"from_share": 0.0, "general_share": 1.0})
    metrics, rollouts, _ = only.step(0)
    assert not {"accuracy", "reward_accuracy"} & metrics.keys() and metrics["reward_helpfulness"] >= 0


@pytest.mark.usefixtures("reward_models")
def test_all_prompts_are_scored_if_asked_for(make: Make) -> None:
    changes = PREFERENCE | {"from_share": 0.0, "general_share": 0.0, "rates": "all", "safety": None}
    learner = make(preference=changes)
    metrics, rollouts, _ = learner.step(0)
    assert all(row["prompt"].startswith("Write ") for row in rollouts)
    assert all("helpfulness" in r["rewards"] for row in rollouts for r in row["completions"])
    assert "reward_safety" not in metrics
    assert metrics["flops"] > make().step(0)[0]["flops"]


def test_what_has_no_answer_or_was_cut_off_is_not_liked() -> None:
    problem = problem_in("en")
    texts = ["so</think>\\boxed{1}", "so", "so</think>", "so</think>\\boxed{1}"]
    reasons: list[Any] = ["stop", "stop", "stop", "length"]
    generations = [Generation([0], [1], [-1.0], *pair) for pair in zip(reasons, texts, strict=True)]
    group = judge_group(tasks.get("countdown", difficulty=1), problem, [*map(tiny.dialogue, generations)])
    rated = add_model_rewards(group, {"helpfulness": lambda prompt, completions: [0.5, 0.6, 0.7, 0.8]})
    assert [v.rewards["helpfulness"] for v in rated.verdicts] == [0.5, 0.0, 0.0, 0.0]
    assert [{**v.rewards, "helpfulness": None} for v in rated.verdicts] == [
        {**v.rewards, "helpfulness": None} for v in group.verdicts
    ]
    assert rated.rewards({"helpfulness": 2.0, "accuracy": 1.0})[0] == 1.0


def test_a_real_reward_model_scores(base: Callable[[str], Path], make: Make, tmp_path: Path) -> None:
    model = RewardModel.from_decoder(load_model(base("llama")), None)
    torch.nn.init.normal_(model.lm_head.weight, generator=torch.Generator().manual_seed(0))
    tmp_path.mkdir(exist_ok=True)
    save_model(model, tmp_path)
    tiny.tokenizer().save(tmp_path)
    learner = make(preference={"helpfulness": str(tmp_path), "safety": str(tmp_path), "from_share": 0.0})
    groups: list[Group] = learner._collect(0, PhaseTimer())
    rated = [group for group in groups if group.problem.task == "conversation"]
    assert 0 < len(rated) < len(groups)
    for group in rated:
        whole = [bool(completion.answer) and not completion.truncated for completion in group.completions]
        for name in ("helpfulness", "safety"):
            scores = [verdict.rewards[name] for verdict in group.verdicts]
            assert [0 < score < 1 for score in scores] == whole
    metrics, *_ = learner.step(0)
    assert 0 <= metrics["reward_safety"] < 1 and metrics["grad_norm"] > 0


@pytest.mark.usefixtures("reward_models")
def test_a_stage_with_reward_models_is_resumed_exactly(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off in the step in which they join, and after it."""
    settings = settings_of(base, preference=PREFERENCE, rewards=RULES, dynamic_sampling=1, minibatches=2, steps=5)

    def run(name: str) -> Any:
        (tmp_path / name).mkdir(exist_ok=True)
        stage = RunDirectory(tmp_path / name).stage("second")
        run_stage(Reinforcement, settings, stage, Runtime(0, CPU, torch.float32))
        return stage

    whole = run("whole")
    optimise = Reinforcement._optimise
    for breaks in (7, 3):
        calls = iter(range(100))

        def breaks_off(self: Any, *arguments: Any, calls: Any = calls, last: int = breaks) -> Any:
            if next(calls) == last:
                raise KeyboardInterrupt
            return optimise(self, *arguments)

        monkeypatch.setattr(Reinforcement, "_optimise", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            run("broken")
    monkeypatch.setattr(Reinforcement, "_optimise", optimise)
    resumed = run("broken")
    for log in ("metrics", "rollouts", "evaluations"):
        assert untimed(getattr(resumed, log).rows()) == untimed(getattr(whole, log).rows())
    for file in whole.model_path.iterdir():
        assert (resumed.model_path / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "names no reward model"),
        ({"helpfulness": "kind", "general_share": 0.0}, "rates: all"),
        ({"helpfulness": "kind", "from_share": 1.0}, "less than 1"),
        ({"helpfulness": "kind", "weight": 0.0}, "greater than 0"),
        ({"helpfulnes": "kind"}, "helpfulnes"),
    ],
)
def test_preferences_that_cannot_be_honoured_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ReinforcementSettings.model_validate(SETTINGS | {"preference": changes})


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_reward_models_join_at_some_step_or_are_refused(steps: int, share: float) -> None:
    values = SETTINGS | {"steps": steps, "preference": {"safety": "safe", "from_share": share}}
    if any(step >= share * steps for step in range(steps)):
        ReinforcementSettings.model_validate(values)
    else:
        with pytest.raises(ValidationError, match="take more steps, or lower preference.from_share"):
            ReinforcementSettings.model_validate(values)


def test_the_last_quarter_is_the_paper_s(make: Make) -> None:
    """Of 1,700 steps the last 425; the paper's were the last 400."""
    settings = ReinforcementSettings.model_validate(SETTINGS | {"steps": 1700, "preference": {"safety": "safe"}})
    preference = settings.preference
    assert preference is not None
    late = [step for step in range(1700) if step >= preference.from_share * settings.steps]
    assert late == list(range(1275, 1700))
    problems = islice(tasks.get("conversation").problems("train", 0), 1)
    assert [problem.task for problem in problems] == ["conversation"]
