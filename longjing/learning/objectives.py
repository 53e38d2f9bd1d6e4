"""Policy objectives: GRPO as R1-Zero uses it, and its variants, as pure functions of tensors.

With the ratio r = pi(token) / pi_old(token) and the advantage A of the token's completion:

    loss = sum over tokens of  weight * (kl * k3 - gain(r, A))

The gain is what tells the kinds apart (`SURROGATES`). The weights hold the normalisation; they are computed
once for all completions of an optimiser step (`token_weights`), so the losses of its microbatches, in any
split, add up to the loss of the whole: one denominator by construction. Statistics are sums, so they do too.

Dr. GRPO and DAPO differ from GRPO in settings only: `PRESETS` names them.

The two losses of reward models, at the end, are per example: add them up and divide by one number, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from longjing.errors import UserError
from longjing.learning.advantages import Scale

Kind = Literal["grpo", "cispo", "gspo"]
Aggregation = Literal["tokens", "sequences", "constant"]


@dataclass(frozen=True)
class Objective:
    """Which surrogate, the range its ratio may move in (1 - `clip_low` to 1 + `clip_high`), and the weight of
    the divergence from the reference. Ratios are positive, so a `clip_low` of 1 or more leaves the low side
    open. Raises UserError for an unknown kind or a negative number.
    """

    kind: Kind = "grpo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in SURROGATES:
            raise UserError(f"objective {self.kind!r} is unknown; choose one of {', '.join(SURROGATES)}")
        for name in ("clip_low", "clip_high", "kl"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(frozen=True)
class Preset:
    """What a published variant sets: its objective, how tokens are weighted, how advantages are scaled."""

    objective: Objective
    aggregation: Aggregation
    advantage_scale: Scale


@dataclass(frozen=True)
class PolicyBatch:
    """Completions to learn from, one in a row; every field `[batch, length]`, or what broadcasts to it.

    `mask` (bool) marks the tokens that the policy sampled, with their end token; don't infer it from padding.
    Where it is false nothing is read: whatever stands there, not-a-number too, changes neither loss nor
    gradient. Log-probabilities are natural and at the sampling temperature; only those of `logprobs` have a
    gradient.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    weights: Tensor
    reference_logprobs: Tensor | None = None


@dataclass(frozen=True)
class PolicyStatistics:
    """What happened in a microbatch: scalars, detached, on its device; sums, so that microbatches add up.

    `loss`: its share of the step's loss; `tokens`: how many were learned from; `clipped`: those of them whose
    ratio was limited; `kl`: the sum of k3 (0 without a reference); `ratio`: the sum of ratios;
    `logprob_difference`: the greatest |log pi - log pi_old|, the one maximum among the sums.
    """

    loss: Tensor
    tokens: Tensor
    clipped: Tensor
    kl: Tensor
    ratio: Tensor
    logprob_difference: Tensor

    def __add__(self, other: "PolicyStatistics") -> "PolicyStatistics":
        return PolicyStatistics(
            loss=self.loss + other.loss,
            tokens=self.tokens + other.tokens,
            clipped=self.clipped + other.clipped,
            kl=self.kl + other.kl,
            ratio=self.ratio + other.ratio,
            logprob_difference=torch.maximum(self.logprob_difference, other.logprob_difference),
        )

    def means(self) -> dict[str, float]:
        """The loss, and per token the KL, the clip share and the ratio; and the greatest difference."""
        tokens = max(int(self.tokens), 1)
        return {
            "loss": float(self.loss),
            "kl": float(self.kl) / tokens,
            "clip_share": float(self.clipped) / tokens,
            "ratio": float(self.ratio) / tokens,
            "logprob_difference": float(self.logprob_difference),
        }


@dataclass(frozen=True)
class PolicyLoss:
    """`loss`: a scalar to call `backward` on; `statistics`: what to log of it."""

    loss: Tensor
    statistics: PolicyStatistics


@dataclass(frozen=True)
class Surrogate:
    """For each token, `[batch, length]`: the `gain` to be maximised, the `ratio` behind it, and whether that
    was `clipped` (bool)."""

    gain: Tensor
    ratio: Tensor
    clipped: Tensor


def policy_loss(batch: PolicyBatch, objective: Objective) -> PolicyLoss:
    """The loss of one microbatch, to be added to those of the step's other microbatches.

    Raises ValueError if the objective weighs a divergence and the batch has no reference.
    """
    if objective.kl and batch.reference_logprobs is None:
        raise ValueError("an objective with kl > 0 needs reference_logprobs")
    batch = cleared(batch)
    surrogate = SURROGATES[objective.kind](batch, objective)
    per_token = -surrogate.gain
    divergence = torch.zeros_like(per_token)
    if batch.reference_logprobs is not None:
        divergence = k3(batch.logprobs, batch.reference_logprobs)
    if objective.kl:
        per_token = per_token + objective.kl * divergence
    loss = (batch.weights * per_token).sum()
    statistics = PolicyStatistics(
        loss=loss.detach(),
        tokens=batch.mask.sum(),
        clipped=surrogate.clipped.sum(),
        kl=divergence.detach().sum(),
        ratio=surrogate.ratio.detach().masked_fill(~batch.mask, 0).sum(),
        logprob_difference=(batch.logprobs - batch.old_logprobs).detach().abs().max(),
    )
    return PolicyLoss(loss, statistics)


def cleared(batch: PolicyBatch) -> PolicyBatch:
    """The same batch, every field `[batch, length]`, with zeros outside the mask, where ratios are thus 1."""

    def clear(values: Tensor) -> Tensor:
        return values.expand_as(batch.mask).masked_fill(~batch.mask, 0)

    reference = batch.reference_logprobs
    return PolicyBatch(
        logprobs=clear(batch.logprobs),
        old_logprobs=clear(batch.old_logprobs),
        advantages=clear(batch.advantages),
        mask=batch.mask,
        weights=clear(batch.weights),
        reference_logprobs=None if reference is None else clear(reference),
    )


def grpo(batch: PolicyBatch, objective: Objective) -> Surrogate:
    """min(r A, clip(r) A), token by token (DeepSeekMath, arXiv 2402.03300, equation 3; DeepSeek-R1, arXiv
    2501.12948, equation 1). A token whose ratio left the range on the side that A pushes to has no gradient.
    """
    ratio = (batch.logprobs - batch.old_logprobs).exp()
    return clipped_surrogate(ratio, batch.advantages, objective)


def gspo(batch: PolicyBatch, objective: Objective) -> Surrogate:
    """GRPO's surrogate, but all tokens of a completion share one ratio, the geometric mean of theirs:
    s = (pi(y) / pi_old(y))^(1 / length) (GSPO, arXiv 2507.18071, equations 5 to 7).

    A row must hold one whole completion. With the weights of `sequences` this is GSPO as published.
    """
    log_ratio = (batch.logprobs - batch.old_logprobs).sum(dim=1, keepdim=True)
    ratio = (log_ratio / batch.mask.sum(dim=1, keepdim=True).clamp(min=1)).exp()
    return clipped_surrogate(ratio.expand_as(batch.mask), batch.advantages, objective)


def cispo(batch: PolicyBatch, objective: Objective) -> Surrogate:
    """clip(r) A log pi, with no gradient through clip(r): a token's weight is limited, but no token loses its
    gradient (CISPO; MiniMax-M1, arXiv 2506.13585, equations 4 and 5). Its value is not 0 on policy."""
    ratio = (batch.logprobs - batch.old_logprobs).detach().exp()
    bounded = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    return Surrogate(bounded * batch.advantages * batch.logprobs, ratio, bounded != ratio)


def clipped_surrogate(ratio: Tensor, advantages: Tensor, objective: Objective) -> Surrogate:
    """min(r A, clip(r) A) of ratios and advantages `[batch, length]` (PPO, arXiv 1707.06347, equation 7)."""
    free = ratio * advantages
    bounded = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high) * advantages
    return Surrogate(torch.minimum(free, bounded), ratio, bounded < free)


SURROGATES: dict[Kind, Callable[[PolicyBatch, Objective], Surrogate]] = {
    "grpo": grpo,
    "cispo": cispo,
    "gspo": gspo,
}


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Unbiased and never negative estimate of KL(pi || reference) from each token that pi sampled, in nats,
    shape of the inputs: q - log q - 1 with q = reference / pi (arXiv 2402.03300, equation 4)."""
    log_q = reference_logprobs - logprobs
    return log_q.expm1() - log_q


def reverse_kl(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(student || teacher) of the next token `[...]`, in nats, of logits `[..., vocabulary]` / `temperature`:
    the mean of log student - log teacher over tokens that the student draws (GKD, arXiv 2306.13649, section 2).
    Only the student's logits have a gradient: on average that of a policy with the advantage
    log teacher - log student."""
    student = tempered(logits, temperature).log_softmax(dim=-1)
    teacher = tempered(teacher_logits.detach(), temperature).log_softmax(dim=-1)
    return (student.exp() * (student - teacher)).sum(dim=-1)


def token_weights(mask: Tensor, aggregation: Aggregation, max_tokens: int | None = None) -> Tensor:
    """The weight of each token's loss, float32 `[completions, length]`, 0 outside `mask` (bool, same shape).

    `mask` must hold every completion of the optimiser step, of all microbatches and ranks. A row without a
    token isn't counted: leave out zero-variance groups and samples not judged, or clear their rows, first.

    `tokens`: 1 / all tokens, so that every token weighs the same (DAPO, arXiv 2503.14476, section 3.3).
    `sequences`: 1 / (completions * own length), the mean of each completion's mean (GRPO as published); a
    token of a long wrong answer then costs less than one of a short wrong answer.
    `constant`: 1 / (completions * `max_tokens`), with `max_tokens` the longest completion allowed (Dr. GRPO,
    arXiv 2503.20783, section 3.2). Raises UserError if that isn't given.
    """
    lengths = mask.sum(dim=1, keepdim=True)
    completions = (lengths > 0).sum()
    if aggregation == "tokens":
        denominator = lengths.sum()
    elif aggregation == "sequences":
        denominator = completions * lengths
    elif aggregation == "constant":
        if not max_tokens:
            raise UserError("aggregation 'constant' needs max_tokens: give the longest completion allowed")
        denominator = completions * max_tokens
    else:
        raise UserError(f"aggregation {aggregation!r} is unknown; choose tokens, sequences or constant")
    return mask.float() / denominator.clamp(min=1)


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of `targets` `[...]` under `logits` `[..., vocabulary]` / `temperature`, float32.

    `temperature` is that of the sampling: the policy is the distribution that the tokens were drawn from. The
    log-softmax is in float32 whatever the logits are. It keeps one float32 copy of them for the gradient; the
    gathered logit minus the logsumexp would keep none, but takes nearly twice as long (measured on the CPU).
    """
    return tempered(logits, temperature).log_softmax(dim=-1).gather(-1, targets[..., None]).squeeze(-1)


@torch.no_grad()
def token_entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of each distribution of `logits` `[..., vocabulary]` / `temperature`: float32 `[...]`.
    A statistic: it has no gradient."""
    entropy: Tensor = torch.special.entr(tempered(logits, temperature).softmax(dim=-1))
    return entropy.sum(dim=-1)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits in float32, divided by the temperature; no copy is made where nothing changes."""
    if not temperature > 0:
        raise UserError(f"temperature is {temperature}; learning needs a distribution, so it must be above 0")
    return logits.float() if temperature == 1 else logits.float() / temperature


PRESETS: dict[str, Preset] = {
    # As published; R1-Zero's kl. The paper gives a clip for R1's first RL stage only (10); 0.2 is PPO's.
    "grpo": Preset(Objective("grpo", 0.2, 0.2, kl=0.001), "sequences", "group_std"),
    # arXiv 2503.20783: neither of GRPO's two biased divisions, and no KL.
    "dr_grpo": Preset(Objective("grpo", 0.2, 0.2), "constant", "none"),
    # arXiv 2503.14476: clip-higher, all tokens weigh the same, no KL; drop the groups without `has_reward_variance`.
    "dapo": Preset(Objective("grpo", 0.2, 0.28), "tokens", "group_std"),
    # arXiv 2506.13585: the low side open. It doesn't state its high side; 4 is ScaleRL's (arXiv 2510.13786).
    "cispo": Preset(Objective("cispo", 1.0, 4.0), "tokens", "group_std"),
    # arXiv 2507.18071, section 5.1: the ratio of a whole completion moves far less than those of its tokens.
    "gspo": Preset(Objective("gspo", 3e-4, 4e-4), "sequences", "group_std"),
}


def pairwise_loss(chosen: Tensor, rejected: Tensor, centre: float = 0.0) -> Tensor:
    """-log sigmoid(c - r) + centre * (c + r)^2 for the scores of each pair, `[pairs]`.

    The first term: the chosen answer wins with the probability that its lead gives it (Bradley and Terry 1952;
    InstructGPT, arXiv 2203.02155, equation 1), as R1's reward for helpfulness. It says nothing about where
    scores lie; the second term keeps them around 0 (arXiv 2312.09244), where a sigmoid tells them apart.
    """
    return -F.logsigmoid(chosen - rejected) + centre * (chosen + rejected).square()


def pointwise_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """-[y log sigmoid(s) + (1 - y) log(1 - sigmoid(s))] for each score s with its label y (0 or 1), `[texts]`:
    binary cross-entropy, as R1's reward for safety, with sigmoid(s) the probability of y = 1."""
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="none")
