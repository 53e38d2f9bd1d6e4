"""KL divergences: of the policy from the reference, and of a student from its teacher."""

from torch import Tensor

from longjing.learning.logprobs import tempered


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Unbiased and never negative estimate of KL(pi || reference) from each token that pi sampled, in nats,
    shape of the inputs: q - log q - 1 with q = reference / pi (arXiv 2402.03300, equation 4)."""
    log_q = reference_logprobs - logprobs
    return log_q.expm1() - log_q


def reverse_kl(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(student || teacher) of the next token `[...]`, in nats, of logits `[..., vocabulary]` / `temperature`: the
    mean of log student - log teacher over tokens that the student draws (GKD, arXiv 2306.13649, section 2). Only the
    student's logits have a gradient: on average that of a policy with the advantage log teacher - log student."""
    student = tempered(logits, temperature).log_softmax(dim=-1)
    teacher = tempered(teacher_logits.detach(), temperature).log_softmax(dim=-1)
    return (student.exp() * (student - teacher)).sum(dim=-1)
