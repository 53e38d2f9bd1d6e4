"""The shape of a network, under the names of a Hugging Face `config.json`."""

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from longjing.errors import UserError
from longjing.model.families import family_of

TOPK_METHODS = ("noaux_tc", "greedy", "group_limited_greedy")


@dataclass(frozen=True)
class ModelConfig:
    """One decoder's shape: latent attention if `kv_lora_rank` isn't 0, else grouped-query; a mixture of experts if
    `n_routed_experts` isn't 0, else dense. The family (`model_type`) only says how it is read and written; what it
    hasn't got can be made and trained, but not written (`check_family`)."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 0  # of grouped-query attention; 0 means hidden_size / num_attention_heads
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 4096
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    attention_bias: bool = False  # on q, k, v (Qwen2, Llama) or on the down-projections (DeepSeek-V3)
    output_bias: bool = False  # on o_proj
    qk_norm: bool = False  # grouped-query attention norms each head's query and key (Qwen3)
    mlp_bias: bool = False
    rope: dict[str, Any] = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    # Multi-head latent attention (DeepSeek-V2, section 2.1)
    q_lora_rank: int | None = None
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    rope_interleave: bool = True
    # DeepSeekMoE (DeepSeek-V3, section 2.1.2)
    first_k_dense_replace: int = 0
    n_routed_experts: int = 0
    n_shared_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    scoring_func: str = "sigmoid"
    topk_method: str = "noaux_tc"  # with a bias that balances; `greedy` and `group_limited_greedy` have none
    # Multi-token prediction (DeepSeek-V3, section 2.2)
    num_nextn_predict_layers: int = 0

    def __post_init__(self) -> None:
        if not self.head_dim and not self.is_latent:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if not self.n_routed_experts:
            # transformers and vLLM ask only this number whether a layer is dense.
            layers = self.num_hidden_layers + self.num_nextn_predict_layers
            object.__setattr__(self, "first_k_dense_replace", layers)
        family_of(self.model_type)  # refuses one that isn't known
        problem = self._problem()
        if problem:
            raise UserError(f"config.json: {problem}")

    def _problem(self) -> str | None:
        if self.num_attention_heads % self.num_key_value_heads:
            return (
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.rotary_dim % 2:
            return f"the rotary dimension {self.rotary_dim} must be even"
        if self.scoring_func not in ("sigmoid", "softmax"):
            return f"scoring_func {self.scoring_func!r} is not supported; known: sigmoid, softmax"
        if self.topk_method not in TOPK_METHODS:
            return f"topk_method {self.topk_method!r} is not supported; known: {', '.join(TOPK_METHODS)}"
        if self.n_routed_experts:
            if self.n_routed_experts % self.n_group:
                return f"n_routed_experts {self.n_routed_experts} is not a multiple of n_group {self.n_group}"
            if self.n_routed_experts // self.n_group < 2 and self.topk_method == "noaux_tc":
                return "each expert group needs at least two experts: its score is the sum of the best two"
            if not 1 <= self.topk_group <= self.n_group:
                return f"topk_group {self.topk_group} is not between 1 and n_group {self.n_group}"
            eligible = self.topk_group * (self.n_routed_experts // self.n_group)
            if not 1 <= self.num_experts_per_tok <= eligible:
                return f"num_experts_per_tok {self.num_experts_per_tok} is not between 1 and {eligible}"
        return None

    @property
    def is_latent(self) -> bool:
        """Whether attention keeps latents (DeepSeek-V3) rather than keys and values per head. Independent of
        `has_experts`."""
        return self.kv_lora_rank > 0

    @property
    def rotary_dim(self) -> int:
        """How many dimensions of each head rotate with the position."""
        return self.qk_rope_head_dim if self.is_latent else self.head_dim

    @property
    def cache_width(self) -> int:
        """Numbers that attention must keep of one token in one layer: 576 for DeepSeek-V3."""
        if self.is_latent:
            return self.kv_lora_rank + self.qk_rope_head_dim
        return 2 * self.num_key_value_heads * self.head_dim

    @property
    def softmax_scale(self) -> float:
        """1/sqrt(head dimension), times YaRN's mscale squared where the rope is scaled (0.13523 for V3)."""
        if not self.is_latent:
            return self.head_dim**-0.5
        scale = (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5
        mscale_all_dim, factor = self.rope.get("mscale_all_dim", 0), self.rope.get("factor", 1.0)
        if self.rope["rope_type"] != "default" and mscale_all_dim and factor > 1:
            scale *= (0.1 * mscale_all_dim * math.log(factor) + 1.0) ** 2
        return scale

    def has_experts(self, layer: int) -> bool:
        """Whether this layer's feed-forward part is a mixture of experts; MTP layers count on from the last."""
        return self.n_routed_experts > 0 and layer >= self.first_k_dense_replace

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Read a Hugging Face `config.json`, of transformers 4 (`rope_scaling`) or 5 (`rope_parameters`).

        Raises UserError for an architecture or a setting that this network can't honour, or that its family hasn't got.
        """
        config = cls._read(values)
        config.check_family()
        return config

    @classmethod
    def _read(cls, values: dict[str, Any]) -> "ModelConfig":
        values = {name: value for name, value in values.items() if value is not None}
        values = family_of(values.get("model_type")).read(values)
        needed = (entry.name for entry in fields(cls) if entry.default is entry.default_factory is MISSING)
        missing = [name for name in needed if name not in values]
        if missing:
            raise UserError(f"config.json: {', '.join(missing)} is missing")
        for entry in fields(cls):
            value = values.get(entry.name, entry.default)
            for kind, accepted in ((int, int), (float, (int, float)), (bool, bool)):
                if entry.type is kind and (not isinstance(value, accepted) or (kind is int and value < 0)):
                    raise UserError(f"config.json: {entry.name} = {value!r} is not a valid {kind.__name__}")
        return cls(**{entry.name: values[entry.name] for entry in fields(cls) if entry.name in values})

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that `transformers` and vLLM read."""
        return family_of(self.model_type).write(self)

    def check_family(self) -> None:
        """Raise UserError if the family's `config.json` can't say what this network is: if it reads otherwise."""
        again = vars(self._read(self.to_dict()))
        lost = [f"{name} = {value!r}" for name, value in vars(self).items() if value != again[name]]
        if lost:
            raise UserError(
                f"config.json: a {self.model_type} can't have {', '.join(lost)}; choose another model_type: "
                "deepseek_v3 has latent attention and a mixture of experts, glm4_moe grouped-query attention and a "
                "mixture, llama, qwen2 and qwen3 grouped-query attention and no mixture"
            )
