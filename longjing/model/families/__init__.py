"""The kinds of networks that are read and written, a class each.

A family says how its `config.json` stands to a `ModelConfig`, and what its tensors are called on disk. The network
itself knows no families: its attention is latent or grouped-query, its feed-forward parts are dense or mixtures of
experts, and the two don't depend on each other.
"""

from longjing.errors import UserError
from longjing.model.families.deepseek_v3 import DeepSeekV2, DeepSeekV3
from longjing.model.families.dense import Llama, Mistral, Qwen2, Qwen3
from longjing.model.families.family import Family
from longjing.model.families.glm4_moe import Glm4Moe
from longjing.model.families.qwen3_moe import Qwen3MoE

_ALL = (DeepSeekV3(), DeepSeekV2(), Qwen2(), Qwen3(), Qwen3MoE(), Llama(), Mistral(), Glm4Moe())
FAMILIES = {family.model_type: family for family in _ALL}


def family_of(model_type: object) -> Family:
    """The family that a `config.json` names. Raises UserError if it isn't one of ours."""
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        families = ", ".join(FAMILIES)
        raise UserError(f"config.json: model_type {model_type!r} is not supported; known: {families}")
    return family
