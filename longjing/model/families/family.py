"""What the families have in common: the Hugging Face form of a `config.json`, and of the tensors' names."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from longjing.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from longjing.model.config import ModelConfig
    from longjing.model.decoder import Decoder

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

LATENT_ATTENTION = {
    "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "rope_interleave",
}  # fmt: skip
MIXTURE = {
    "first_k_dense_replace", "n_routed_experts", "n_shared_experts", "num_experts_per_tok",
    "moe_intermediate_size", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor",
    "scoring_func", "topk_method",
}  # fmt: skip
MULTI_TOKEN_PREDICTION = {"num_nextn_predict_layers"}

# Settings that change the computation and have one supported value.
_ONLY = {"hidden_act": "silu", "attention_dropout": 0.0, "moe_layer_freq": 1, "partial_rotary_factor": 1.0}


class Family:
    """One kind of network as `transformers` and vLLM know it, so that neither needs remote code.

    `omits`: the fields of `ModelConfig` that its `config.json` doesn't have. `implies`: fields that always have this
    value, which no setting says. `constants`: settings beside the fields. `biases_output`: its `attention_bias` is for
    the output too. `skipped_layers`: layers after a decoder's last that `transformers` knows to skip when it reads
    files.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    omits: ClassVar[set[str]] = LATENT_ATTENTION | MIXTURE | MULTI_TOKEN_PREDICTION
    implies: ClassVar[dict[str, Any]] = {}
    constants: ClassVar[dict[str, Any]] = {}
    biases_output: ClassVar[bool] = False
    skipped_layers: ClassVar[set[int]] = set()

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a `ModelConfig` (among other things) from a `config.json`'s `values`, of which none is null.

        Raises UserError for a setting that the network can't honour.
        """
        for name, only in _ONLY.items():
            if values.get(name, only) != only:
                raise UserError(f"config.json: {name} = {values[name]!r} is not supported, only {only!r}")
        read = {
            "num_key_value_heads": values.get("num_attention_heads"),
            "output_bias": self.biases_output and values.get("attention_bias", False),
            **values,
            **self.implies,
            "rope": _read_rope(values),
        }
        if window := _window(values):  # up to there, attention sees everything
            read["max_position_embeddings"] = min(values.get("max_position_embeddings", window), window)
        if isinstance(read.get("eos_token_id"), list):
            read["eos_token_id"] = tuple(read["eos_token_id"])
        return read

    def write(self, config: "ModelConfig") -> dict[str, Any]:
        """The `config.json` of a network."""
        values: dict[str, Any] = {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "use_cache": True,
        }
        for entry in fields(config):
            if entry.name not in {"rope", "output_bias", "qk_norm", *self.omits, *self.implies}:
                value = getattr(config, entry.name)
                values[entry.name] = list(value) if isinstance(value, tuple) else value
        values |= self.constants
        values["rope_parameters"] = dict(config.rope)
        values["rope_theta"] = config.rope["rope_theta"]
        if config.rope["rope_type"] != "default":  # the older spelling, which vLLM and transformers 4 read
            scaling = {name: value for name, value in config.rope.items() if name != "rope_theta"}
            values["rope_scaling"] = scaling | {"type": config.rope["rope_type"]}
        return values

    def tensors(self, model: "Decoder") -> dict[str, "Tensor"]:
        """Every tensor of the model under its name on disk, as a view of the model's memory."""
        views: dict[str, Tensor] = {}
        for name, tensor in model.state_dict().items():
            if name != HEAD:
                views.update(self.views(name, tensor, model.config))
            elif not model.config.tie_word_embeddings:
                views[f"{model.head_name}.weight"] = tensor
        return views

    def views(self, name: str, tensor: "Tensor", config: "ModelConfig") -> Iterator[tuple[str, "Tensor"]]:
        """The names on disk of one of the network's tensors, which may be several there, and its parts."""
        yield f"model.{name}", tensor

    def copies(self, config: "ModelConfig") -> dict[str, str]:
        """Names of tensors that files may have though they hold another one's numbers, and the names of those."""
        return {HEAD: EMBEDDING} if config.tie_word_embeddings else {}


def _window(values: Mapping[str, Any]) -> int | None:
    """How many tokens a layer looks back at, if that is limited: Qwen has a switch for it, Mistral has not."""
    window = values.get("sliding_window") if values.get("use_sliding_window", True) else None
    return window if isinstance(window, int) and window > 0 else None


def _read_rope(values: Mapping[str, Any]) -> dict[str, Any]:
    """Both spellings of the rotary settings, as one dict with at least `rope_type` and `rope_theta`."""
    rope = dict(values.get("rope_parameters") or values.get("rope_scaling") or {})
    rope["rope_type"] = rope.get("rope_type") or rope.pop("type", None) or "default"
    rope.pop("type", None)
    rope.setdefault("rope_theta", values.get("rope_theta", 10000.0))
    if rope.pop("partial_rotary_factor", 1.0) != 1.0:
        raise UserError("config.json: rotating a part of each head (partial_rotary_factor) is not supported")
    if rope["rope_type"] in ("yarn", "llama3"):
        rope.setdefault("original_max_position_embeddings", values.get("max_position_embeddings", 4096))
    elif rope["rope_type"] not in ("default", "linear"):
        raise UserError(
            f"config.json: rope_type {rope['rope_type']!r} is not supported; known: default, linear, yarn, llama3"
        )
    return rope
