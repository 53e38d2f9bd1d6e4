"""On-policy distillation: the student samples, and the teacher says of each token how likely it finds it.

The student moves down the reverse KL divergence from the teacher, on texts of its own (GKD, arXiv 2306.13649,
with all data from the student and the reverse KL; "On-Policy Distillation", Thinking Machines Lab, 2025). Of
every sampled token,

    advantage = log teacher(token) - log student(token)

and its mean is minus the divergence, so it is reward and advantage at once: no group to compare with, no
answer to check, a signal at every token. What comes after a token doesn't count for it, as in both sources.
The tasks only lend their problems, and judge what is logged.

That is the estimate from what was sampled, all there is of a teacher behind an interface. The teacher is here,
so its whole distribution can be compared instead (`estimate: exact`, as GKD does): the same gradient on average,
without the noise of which token was drawn.

Distillation as R1 does it is fine-tuning on the teacher's samples: see `finetuning.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning import policy
from longjing.learning import policy_metrics as shared
from longjing.learning.advice import gradient_spikes, not_finite, truncated
from longjing.learning.kl import reverse_kl
from longjing.learning.logprobs import by_chunks, token_logprobs
from longjing.learning.loop import SILENT, Step
from longjing.learning.memory import Work
from longjing.learning.objectives import PolicyLoss
from longjing.learning.policy import OnPolicyTrainer, PhaseTimer, PolicySettings, TrainingSample, scatter
from longjing.learning.presets import Preset
from longjing.learning.rollouts import Padded
from longjing.learning.stage import MODEL, StageKind
from longjing.learning.surrogates import Objective
from longjing.planning import flops
from longjing.runs import Watcher
from longjing.runs.metric import ChartSpec, Metric, Series
from longjing.runs.models import load


class DistillationSettings(PolicySettings):
    """The settings of a distillation stage; `model` is the student."""

    kind: Literal["distill"] = "distill"
    teacher: str = Field(description="the model that scores: a shipped name, a directory, or a run")
    group_size: int = Field(4, ge=1, description="completions of each problem")
    estimate: Literal["sampled", "exact"] = Field(
        "sampled", description="the divergence from the tokens that were sampled, or over all that could be"
    )


class Distillation(OnPolicyTrainer):
    """A student whose advantages are the teacher's log-probabilities, minus its own."""

    settings: DistillationSettings

    def __init__(self, settings: DistillationSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        # With one minibatch the ratio is 1, and this is the plain policy gradient, each token alike.
        super().__init__(settings, Preset(Objective("grpo"), "tokens", "none"), runtime, watcher)
        self.teacher, tokenizer = load(settings.teacher, runtime.device)
        if self.tokenizer.vocabulary != tokenizer.vocabulary:
            raise UserError(
                f"the student {settings.model} and the teacher {settings.teacher} have different tokenizers: the "
                "teacher can't score the student's tokens; train the student with the teacher's tokenizer, or "
                "fine-tune it on the teacher's samples (kinds `sample` and `finetune`), which needs no common one"
            )

    def work(self) -> Work:
        work = super().work()
        teacher = sum(parameter.nbytes + 2 * parameter.numel() * work.half for parameter in self.teacher.parameters())
        return replace(work, others=work.others + teacher)

    def step(self, step: int) -> Step:
        timer = PhaseTimer()
        groups = self._sample(self.task, self.settings.prompts_per_step, step, 0, timer)
        # The teacher fills in the advantages, see `_loss`.
        samples = [[TrainingSample(each, torch.zeros(each.length)) for each in group.generations] for group in groups]
        with timer.phase("updating"):
            update = self._update(step, samples)
        scoring = update.tokens * flops.forward(self.teacher.config, (policy.length_mean(groups) + 1) / 2)
        metrics = self._metrics(step, groups, update, timer) | {
            "kl": -float(torch.cat([each.advantages for group in samples for each in group]).mean()),
            "flops": self._flops(groups, update.tokens) + scoring,
        }
        scores = [[self._score(sample) for sample in group] for group in samples]
        return Step(metrics, list(map(policy.record, groups, scores)))

    def _score(self, sample: TrainingSample) -> dict[str, Any]:
        """What the teacher says of a completion, for the log."""
        teacher_logprobs = torch.tensor(sample.generation.logprobs) + sample.advantages
        return {
            "reward": float(sample.advantages.mean()),
            "teacher_logprobs": policy.aligned(sample.generation, teacher_logprobs.tolist()),
        }

    def _loss(self, samples: Sequence[TrainingSample], padded: Padded, weights: Tensor) -> PolicyLoss:
        """See the module. A teacher that is a mixture takes its own experts."""
        hidden, head = self._read(self.model, padded)
        with torch.no_grad():
            teacher_hidden, teacher_head = self._read(self.teacher, replace(padded, routes=None))
        temperature, vocabulary = self.settings.temperature, self.tokenizer.vocab_size

        def compare(hidden: Tensor, teacher_hidden: Tensor, targets: Tensor) -> Tensor:
            """The student's log-probability, the teacher's, and the divergence if it is to be exact, of each token."""
            logits = head(hidden)
            with torch.no_grad():
                teacher = teacher_head(teacher_hidden)
                theirs = token_logprobs(teacher, targets, temperature)
            if self.settings.estimate == "sampled":
                return torch.stack((token_logprobs(logits, targets, temperature), theirs), dim=1)
            with torch.no_grad():
                own = token_logprobs(logits, targets, temperature)
            # A head may have more rows than the vocabulary, and not all the same.
            divergence = reverse_kl(logits[:, :vocabulary], teacher[:, :vocabulary], temperature)
            return torch.stack((own, theirs, divergence), dim=1)

        compared = by_chunks(compare, self.memory.chunk_tokens, hidden, teacher_hidden, self._targets(padded))
        advantages = compared[:, 1].detach() - padded.old_logprobs[padded.sampled]
        counts = [sample.generation.length for sample in samples]
        for sample, own in zip(samples, advantages.cpu().split(counts), strict=True):
            sample.advantages.copy_(own)
        loss = self._policy_loss(scatter(padded, compared[:, 0]), padded, advantages, weights)
        if self.settings.estimate == "sampled":
            return loss
        total = (scatter(padded, compared[:, 2]) * weights).sum()
        return PolicyLoss(total, replace(loss.statistics, loss=total.detach()))


STAGE = StageKind(
    DistillationSettings, Distillation,
    (Metric("kl", "from the teacher"), shared.ACCURACY, shared.LENGTH, shared.TRUNCATED, *shared.POLICY_METRICS),
    (
        ChartSpec("Distance from the teacher", [Series("kl", "KL")],
                  "KL divergence in nats a token, over what the student writes itself.", first=True),
        *shared.POLICY_CHARTS, *shared.MACHINERY_CHARTS,
    ),
    (not_finite, truncated, gradient_spikes), takes={"model": MODEL, "teacher": MODEL}, samples=True,
    measured=lambda settings: [settings.task.make().name], more_metrics=shared.talk_metrics,
)  # fmt: skip
