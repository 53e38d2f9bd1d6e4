"""The kinds of stages, by the names that recipes call them."""

from longjing.learning import distillation, finetuning, pretraining, reinforcement, rejection_sampling, reward_modeling
from longjing.learning.stage import StageKind

_MODULES = (pretraining, rejection_sampling, finetuning, reward_modeling, reinforcement, distillation)
KINDS: dict[str, StageKind] = {module.STAGE.name: module.STAGE for module in _MODULES}
