"""DeepSeek: latent attention, a mixture of experts, and since V3 multi-token prediction."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from longjing.errors import UserError
from longjing.model.families.family import EMBEDDING, HEAD, MULTI_TOKEN_PREDICTION, Family

if TYPE_CHECKING:
    from torch import Tensor

    from longjing.model.config import ModelConfig


class DeepSeekMixture(Family):
    """How the tensors of mixtures and of prediction modules are called in files, by DeepSeek and others."""

    def views(self, name: str, tensor: "Tensor", config: "ModelConfig") -> Iterator[tuple[str, "Tensor"]]:
        """The names on disk (see `Family.views`): MTP modules are layers after the last one, and each expert's matrices
        lie alone."""
        if name.startswith("mtp."):
            _, depth, part = name.split(".", 2)
            part = f"shared_head.{part}" if part.startswith("norm.") else part.removeprefix("block.")
            name = f"layers.{config.num_hidden_layers + int(depth)}.{part}"
        prefix, _, part = name.rpartition(".")
        if part == "gate_up_proj":
            for expert, gate_up in enumerate(tensor):
                gate, up = gate_up.chunk(2)
                yield f"model.{prefix}.{expert}.gate_proj.weight", gate
                yield f"model.{prefix}.{expert}.up_proj.weight", up
        elif part == "down_proj":
            for expert, down in enumerate(tensor):
                yield f"model.{prefix}.{expert}.down_proj.weight", down
        else:
            yield from super().views(name, tensor, config)

    def copies(self, config: "ModelConfig") -> dict[str, str]:
        """The names of copies (see `Family.copies`): MTP modules are shipped with copies of embedding and head."""
        copies = super().copies(config)
        for depth in range(config.num_nextn_predict_layers):
            layer = f"model.layers.{config.num_hidden_layers + depth}"
            copies[f"{layer}.embed_tokens.weight"] = EMBEDDING
            copies[f"{layer}.shared_head.head.weight"] = copies.get(HEAD, HEAD)
        return copies


class DeepSeekV3(DeepSeekMixture):
    """DeepSeek-V3, V3.1, R1, and the small ones that are made here."""

    model_type, architecture = "deepseek_v3", "DeepseekV3ForCausalLM"
    omits = {"head_dim", "mlp_bias"}
    constants = {"moe_layer_freq": 1}
    biases_output = True
    skipped_layers = {61}

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a config (see `Family.read`): there is no attention but the latent one."""
        read = super().read(values)
        read.pop("head_dim", None)
        if not read.get("kv_lora_rank"):
            raise UserError(f"config.json: kv_lora_rank is missing, and {self.model_type} has latent attention")
        return read


class DeepSeekV2(DeepSeekV3):
    """DeepSeek-V2 and V2-Lite: experts are chosen by their softmax, without a bias."""

    model_type, architecture = "deepseek_v2", "DeepseekV2ForCausalLM"
    omits = {"head_dim", "mlp_bias", "rope_interleave"} | MULTI_TOKEN_PREDICTION
    skipped_layers = set()

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a config (see `Family.read`)."""
        if values.get("norm_topk_prob"):  # which DeepSeek's code and `transformers` understand differently
            raise UserError("config.json: norm_topk_prob = True is not supported in a deepseek_v2, only False")
        method = values.get("topk_method", "greedy")
        groups = {"n_group": 1, "topk_group": 1} if method == "greedy" else {}
        softmax = {"scoring_func": "softmax", "topk_method": method, "norm_topk_prob": False}
        return super().read({**values, **groups, **softmax})
