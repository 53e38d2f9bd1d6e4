"""GLM-4.5: grouped-query attention with DeepSeek's mixture of experts.

Only models that rotate whole heads and don't normalise queries and keys are read, which none of the released ones
is: they rotate a half. It is the name under which `transformers` reads what is trained here with this shape.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from longjing.errors import UserError
from longjing.model.families.deepseek_v3 import DeepSeekMixture
from longjing.model.families.family import LATENT_ATTENTION

if TYPE_CHECKING:
    from longjing.model.config import ModelConfig


class Glm4Moe(DeepSeekMixture):
    """The mixture with grouped-query attention."""

    model_type, architecture = "glm4_moe", "Glm4MoeForCausalLM"
    omits = LATENT_ATTENTION | {"mlp_bias", "scoring_func", "topk_method"}
    constants = {"use_qk_norm": False, "partial_rotary_factor": 1.0}
    skipped_layers = {46, 92}

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a config (see `Family.read`): what these models do unless their settings say otherwise isn't
        supported."""
        if values.get("use_qk_norm", False):
            raise UserError("config.json: use_qk_norm is not supported: queries and keys that are normalised")
        rope = values.get("rope_parameters") or {}
        half = rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 0.5))
        return super().read({**values, "partial_rotary_factor": half})

    def write(self, config: "ModelConfig") -> dict[str, Any]:
        """The `config.json` (see `Family.write`). Whoever reads this would rotate half of each head if nothing were
        said."""
        values = super().write(config)
        values["rope_parameters"]["partial_rotary_factor"] = 1.0
        return values
