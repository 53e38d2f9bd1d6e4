"""Qwen3-MoE: Qwen3 with a mixture of experts in every layer, none of them shared."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from longjing.errors import UserError
from longjing.model.families.deepseek_v3 import DeepSeekMixture
from longjing.model.families.family import LATENT_ATTENTION, MIXTURE, MULTI_TOKEN_PREDICTION

if TYPE_CHECKING:
    from longjing.model.config import ModelConfig

_MIXTURE = {"num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"}


class Qwen3MoE(DeepSeekMixture):
    """A mixture whose router takes the likeliest experts by their softmax."""

    model_type, architecture = "qwen3_moe", "Qwen3MoeForCausalLM"
    omits = LATENT_ATTENTION | MULTI_TOKEN_PREDICTION | {"mlp_bias"} | (MIXTURE - _MIXTURE)
    implies = {"qk_norm": True, "scoring_func": "softmax", "topk_method": "greedy"}
    constants = {"decoder_sparse_step": 1, "mlp_only_layers": []}
    biases_output = True

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a config (see `Family.read`): every layer must be a mixture."""
        if values.get("decoder_sparse_step", 1) != 1 or values.get("mlp_only_layers"):
            raise UserError("config.json: only mixtures in every layer are supported (decoder_sparse_step 1)")
        experts = values.get("num_experts", values.get("num_local_experts", 0))
        return super().read({"norm_topk_prob": False, **values, "n_routed_experts": experts})

    def write(self, config: "ModelConfig") -> dict[str, Any]:
        """The `config.json` (see `Family.write`)."""
        return super().write(config) | {"num_experts": config.n_routed_experts}
