"""The kinds of stages, by the names that recipes call them."""

from longjing.learning import (
    demonstration,
    distillation,
    finetuning,
    pretraining,
    reinforcement,
    rejection_sampling,
    reward_modeling,
)
from longjing.learning.stage import StageKind

_MODULES = (
    pretraining, demonstration, rejection_sampling, finetuning, reward_modeling, reinforcement, distillation,
)  # fmt: skip
KINDS: dict[str, StageKind] = {module.STAGE.name: module.STAGE for module in _MODULES}
