"""Reinforcement learning from rewards: GRPO as R1-Zero and both reinforcement stages of R1 use it.

One step: sample a group of completions for each problem, judge them, compare each with its group, and move
the policy (DeepSeek-R1, arXiv 2501.12948, section 2.2; the objective in `objectives.py`, the machinery in
`policy.py`). The settings bear the paper's names. Rewards come from rules; reward models join late, if at all
(section 3.2.2: for longer, they are hacked).
"""

from dataclasses import replace
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.data.preference_data import Judges
from longjing.learning import policy_metrics as shared
from longjing.learning.advantages import Scale, advantages
from longjing.learning.advice import WINDOW, Rows, gradient_spikes, mean_of, not_finite, threshold, truncated, values_of
from longjing.learning.dynamic_sampling import collect_groups, teaches
from longjing.learning.loop import SILENT, Step
from longjing.learning.objectives import Aggregation
from longjing.learning.policy import OnPolicyTrainer, PhaseTimer, PolicySettings, TrainingSample, mean, record
from longjing.learning.presets import PRESETS, Preset
from longjing.learning.reference_policy import ReferencePolicy
from longjing.learning.reward_modeling import reading_flops
from longjing.learning.reward_models import PreferenceReward
from longjing.learning.rollouts import Group, add_model_rewards
from longjing.learning.settings import Settings
from longjing.learning.stage import MODEL, REWARD_MODEL, StageKind
from longjing.learning.surrogates import Kind
from longjing.problems import max_turns
from longjing.runs import Watcher
from longjing.runs.metric import ChartSpec, Metric, Series
from longjing.tasks.mixture import Mixture

RULES = ("accuracy", "format", "language")


class PreferenceRewards(Settings):
    """Reward models, and the general prompts they are for: both in the last part of a stage only."""

    helpfulness: str | None = Field(None, description="a reward model that judges the final answer only")
    safety: str | None = Field(None, description="a reward model that judges everything")
    weight: float = Field(1.0, gt=0, description="of each model's score, beside the weights in `rewards`")
    from_share: float = Field(0.75, ge=0, lt=1, description="the share of the steps before they join")
    general_share: float = Field(0.5, ge=0, le=1, description="share of general prompts in those steps")
    rates: Literal["general", "all"] = Field("general", description="which prompts' completions are scored")

    @model_validator(mode="after")
    def _possible(self) -> "PreferenceRewards":
        if self.helpfulness is None and self.safety is None:
            raise ValueError("preference names no reward model: give helpfulness, safety or both")
        if self.rates == "general" and not self.general_share:
            raise ValueError("there is nothing to score: raise general_share, or say `rates: all`")
        return self

    def models(self) -> list[tuple[str, str, Judges]]:
        """The name of each model's reward part, where the model is, and what it judges."""
        judges: dict[str, Judges] = {"helpfulness": "answer", "safety": "everything"}
        return [(name, path, judges[name]) for name in judges if (path := getattr(self, name)) is not None]


class ReinforcementSettings(PolicySettings):
    """The settings of a reinforcement stage."""

    kind: Literal["reinforce"] = "reinforce"
    group_size: int = Field(16, ge=2)
    dynamic_sampling: int = Field(
        0, ge=0, description="times that zero-variance groups are replaced by newly sampled ones"
    )
    algorithm: Literal["grpo", "dr_grpo", "dapo", "cispo", "gspo"] = Field(
        "grpo", description="sets whatever of the next six isn't given"
    )
    surrogate: Kind | None = None
    clip_low: float | None = Field(None, ge=0)
    clip_high: float | None = Field(None, ge=0)
    kl: float | None = Field(None, ge=0, description="weight of the divergence from the reference policy")
    aggregation: Aggregation | None = None
    advantage_scale: Scale | None = None
    reference_every: int = Field(400, ge=1, description="steps after which the policy becomes the reference")
    rewards: dict[str, float] = Field({"accuracy": 1.0, "format": 1.0}, description="weights of the reward parts")
    preference: PreferenceRewards | None = None

    @model_validator(mode="after")
    def _rewarding(self) -> "ReinforcementSettings":
        if unknown := self.rewards.keys() - set(RULES):
            raise ValueError(f"rewards has no part {min(unknown)!r}; the parts are accuracy, format and language")
        if not any(self.rewards.values()):
            raise ValueError("the rewards weigh nothing: every reward would be 0, and nothing would be learned")
        if self.preference and self.preference.rates == "all" and max_turns(self.task.make()) > 1:
            raise ValueError("reward models read single answers, not conversations: leave out `rates: all`")
        if self.preference and self.steps - 1 < self.preference.from_share * self.steps:
            raise ValueError(
                f"the reward models would never join: after a share of {self.preference.from_share:g} of the steps "
                f"({self.steps}) none is left; take more steps, or lower preference.from_share"
            )
        return self

    def preset(self) -> Preset:
        """The algorithm's preset with the settings that were given in its place."""
        base = PRESETS[self.algorithm]
        names = {"kind": "surrogate", "clip_low": "clip_low", "clip_high": "clip_high", "kl": "kl"}
        overrides = {name: value for name, setting in names.items() if (value := getattr(self, setting)) is not None}
        objective = replace(base.objective, **overrides)
        return Preset(objective, self.aggregation or base.aggregation, self.advantage_scale or base.advantage_scale)


class Reinforcement(OnPolicyTrainer):
    """A policy whose advantages are rewards, each compared with its group's."""

    settings: ReinforcementSettings

    def __init__(self, settings: ReinforcementSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        super().__init__(settings, settings.preset(), runtime, watcher)
        self.tags = bool(settings.rewards.get("format"))
        if self.preset.objective.kl:
            self.reference = ReferencePolicy(self.model)
        self.weights, self.reward_models = settings.rewards, dict[str, PreferenceReward]()
        if (preference := settings.preference) is not None:
            for name, path, judges in preference.models():
                self.reward_models[name] = PreferenceReward(path, judges, runtime.device)
            self.weights = self.weights | dict.fromkeys(self.reward_models, preference.weight)

    def step(self, step: int) -> Step:
        timer = PhaseTimer()
        groups = self._collect(step, timer)
        rewards = torch.tensor([group.rewards(self.weights) for group in groups])
        judged = torch.tensor([group.judged for group in groups])
        group_advantages = advantages(rewards, self.preset.advantage_scale, judged)
        with timer.phase("updating"):
            update = self._update(step, self._training_samples(groups, group_advantages, judged))
        if self.reference is not None:
            self.reference.refresh(step, self.settings.reference_every)
        metrics = self._metrics(step, groups, update, timer) | {
            "reward": float(rewards[judged].mean()) if judged.any() else 0.0,
            **self._parts(groups),
            "zero_variance_groups": mean([not teaches(group, self.weights) for group in groups]),
            "all_wrong_groups": mean([all(v.outcome == "wrong" for v in group.verdicts) for group in groups]),
            "resampled_groups": len(groups) - self.settings.prompts_per_step,
            "flops": self._flops(groups, update.tokens) + self._reward_model_flops(groups),
        }
        rollouts = []
        for group, rewarded, row in zip(groups, rewards.tolist(), group_advantages.tolist(), strict=True):
            pairs = zip(rewarded, row, strict=True)
            rollouts.append(record(group, [{"reward": reward, "advantage": advantage} for reward, advantage in pairs]))
        return Step(metrics, rollouts)

    def _collect(self, step: int, timer: PhaseTimer) -> list[Group]:
        """Judged groups with the reward models' rewards, where those have joined."""
        settings, preference, task = self.settings, self.settings.preference, self.task
        joined = preference is not None and step >= preference.from_share * settings.steps
        if preference is not None and joined:
            share = preference.general_share
            parts = [(task, 1 - share), (tasks.get("conversation"), share)]
            task = Mixture([(part, weight) for part, weight in parts if weight])

        def rated(group: Group) -> bool:
            general = group.problem.task == "conversation"
            return preference is not None and joined and (general or preference.rates == "all")

        def sample(count: int, turn: int) -> list[Group]:
            groups = self._sample(task, count, step, turn, timer)
            with timer.phase("judging"):
                return [add_model_rewards(each, self.reward_models) if rated(each) else each for each in groups]

        return collect_groups(settings.prompts_per_step, settings.dynamic_sampling, sample, self.weights)

    def _training_samples(
        self, groups: list[Group], group_advantages: Tensor, judged: Tensor
    ) -> list[list[TrainingSample]]:
        """What was judged, of the groups whose rewards differ."""
        result = []
        for group, row, valids in zip(groups, group_advantages, judged, strict=True):
            pairs = zip(group.generations, row, strict=True)
            if row.any():
                result.append([TrainingSample(*pair) for pair, valid in zip(pairs, valids, strict=True) if valid])
        return result

    def _parts(self, groups: list[Group]) -> dict[str, float]:
        """The mean of each reward part over the verdicts that have it; a part that none has is left out."""
        verdicts = [v for group in groups for v in group.verdicts if v.outcome != "unjudged"]
        rewards = {part: [v.rewards[part] for v in verdicts if part in v.rewards] for part in self.weights}
        return {f"reward_{part}": mean(values) for part, values in rewards.items() if values}

    def _reward_model_flops(self, groups: list[Group]) -> float:
        """What the reward models cost, as if they all read everything."""
        lengths: list[int] = []
        for group in groups:
            if self.reward_models.keys() & group.verdicts[0].rewards.keys():
                lengths += [len(generation.prompt) + len(generation.tokens) for generation in group.generations]
        return sum(reading_flops(each.model, lengths) for each in self.reward_models.values())


def verifier_failed(rows: Rows) -> str | None:
    recent = rows[-WINDOW:]
    if not (count := sum(values_of(recent, "unjudged"))):
        return None
    return (
        f"the verifier failed on {count:.0f} completions of the last {len(recent)} steps, which taught nothing; look "
        "for the outcome unjudged in rollouts.jsonl"
    )


def zero_variance(rows: Rows) -> str | None:
    share, wrong = (mean_of(rows[-WINDOW:], key) for key in ("zero_variance_groups", "all_wrong_groups"))
    if share is None or wrong is None or share <= 0.5:
        return None
    text = f"{share:.0%} of groups had equal rewards, most of them all"
    if wrong > share / 2:
        mend = "lower `difficulty`, raise `group_size`, begin from a better model, or say the form in `instruction`"
        return f"{text} wrong: the problems are too hard; {mend}"
    return f"{text} right: the problems are too easy; raise `difficulty`"


def entropy_collapsed(rows: Rows) -> str | None:
    before, now = mean_of(rows[:WINDOW], "entropy"), mean_of(rows[-WINDOW:], "entropy")
    if before is None or now is None or now > 0.2 * before or now > 0.1:
        return None
    return (
        f"entropy fell from {before:.2f} to {now:.2f} nats a token: the policy hardly explores any more; "
        "raise `clip_high`, or lower `learning_rate`"
    )


badly_formed = threshold(
    "badly_formed", "reward_format", below=0.5, after=2 * WINDOW,
    text="only {:.0%} of completions are well-formed: reasoning between tags, then one \\boxed{{}}; say so in "
    "`instruction`, or give format more weight in `rewards`",
)  # fmt: skip
far_from_reference = threshold(
    "far_from_reference", "kl", above=0.5,
    text="the policy is {:.2f} nats a token away from its reference; raise `kl` or lower `learning_rate`",
)  # fmt: skip
clipped = threshold(
    "clipped", "clip_share", above=0.2,
    text="{:.0%} of tokens were clipped: the steps are too large; lower `learning_rate` or `minibatches`",
)  # fmt: skip


def nothing_learned(rows: Rows) -> str | None:
    """Compares the first third with the last, by the spread that single steps have."""
    rewards = values_of(rows, "reward")
    third = len(rewards) // 3
    if third < 15:
        return None
    first, last = rewards[:third], rewards[-third:]
    # Differences of neighbours measure the noise whatever the trend; a mean of n has 1/sqrt(n) of it.
    noise = stdev(after - before for before, after in pairwise(rewards)) / third**0.5
    if fmean(last) - fmean(first) > 2 * noise:
        return None
    return (
        f"the reward has not risen in {len(rewards)} steps ({fmean(first):.2f}, now {fmean(last):.2f}); "
        "raise `learning_rate` or `prompts_per_step`, or begin from a model that solves more"
    )


def _more_metrics(settings: ReinforcementSettings) -> list[str]:
    """The parts of the reward, and what conversations have."""
    models = [name for name, *_ in settings.preference.models()] if settings.preference else []
    return [*(f"reward_{part}" for part in (*settings.rewards, *models)), *shared.talk_metrics(settings)]


STAGE = StageKind(
    ReinforcementSettings, Reinforcement,
    (
        Metric("reward", "reward", "{:.2f}"), shared.ACCURACY, shared.LENGTH, shared.TRUNCATED,
        Metric("zero_variance_groups", "zero variance", "{:.0%}"), *shared.POLICY_METRICS,
        Metric("all_wrong_groups", form="{:.0%}"), Metric("resampled_groups"),
    ),
    (
        ChartSpec("Reward", [Series("reward", "all"), Series("reward_*")],
                  "Mean over completions, and its parts before they are weighted.", first=True),
        *shared.POLICY_CHARTS,
        ChartSpec("Zero-variance groups",
                  [Series("zero_variance_groups", "equal rewards"), Series("all_wrong_groups", "all wrong")],
                  "A group whose rewards are all equal teaches nothing.", percent=True),
        ChartSpec("Distance from the reference", [Series("kl", "KL")],
                  "KL divergence in nats a token (the k3 estimate)."),
        *shared.MACHINERY_CHARTS,
    ),
    (
        not_finite, verifier_failed, zero_variance, truncated, badly_formed, entropy_collapsed,
        far_from_reference, clipped, gradient_spikes, nothing_learned,
    ),
    takes={"model": MODEL, "preference.helpfulness": REWARD_MODEL, "preference.safety": REWARD_MODEL},
    samples=True, measured=lambda settings: [settings.task.make().name], more_metrics=_more_metrics, practises=True,
    group_note="The policy learns by comparing the completions of one problem with each other.",
)  # fmt: skip
