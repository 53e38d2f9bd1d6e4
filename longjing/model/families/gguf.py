"""The families as llama.cpp knows them: what a GGUF file's fields mean in a `config.json`, and what tensors are called.

A name in a file is one of our names, by substitution; the order of rows differs in one case. The `llama` architecture
stores the rows of q and k so that the two halves that rotate together are neighbours. DeepSeek's mixtures keep all
experts of a matrix in one tensor, and `kv_b_proj` either whole or as its two halves, the keys' transposed.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from longjing.errors import UserError

if TYPE_CHECKING:
    from longjing.model.config import ModelConfig

# The architecture in GGUF of each model_type, and back.
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2",
}  # fmt: skip
_LAYER = [
    ("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_a", "self_attn.q_a_proj"), ("attn_q_a_norm", "self_attn.q_a_layernorm"),
    ("attn_q_b", "self_attn.q_b_proj"),
    ("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"), ("attn_kv_a_norm", "self_attn.kv_a_layernorm"),
    ("attn_kv_b", "self_attn.kv_b_proj"),
    ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_shexp", "mlp.shared_experts.gate_proj"), ("ffn_up_shexp", "mlp.shared_experts.up_proj"),
    ("ffn_down_shexp", "mlp.shared_experts.down_proj"),
    ("nextn.eh_proj", "eh_proj"), ("nextn.enorm", "enorm"), ("nextn.hnorm", "hnorm"),
    ("nextn.shared_head_norm", "shared_head.norm"), ("nextn.embed_tokens", "embed_tokens"),
    ("nextn.shared_head_head", "shared_head.head"),
]  # fmt: skip
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}  # fmt: skip
_OUR_LAYER, _THEIR_LAYER = dict(_LAYER), {ours: theirs for theirs, ours in _LAYER}
_ROUTER_BIAS = ("exp_probs_b.bias", "mlp.gate.e_score_correction_bias")
# What a file's `general.sampling` calls the settings of a generation_config.json.
_SAMPLING = {
    "temperature": "temp", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p", "repetition_penalty": "penalty_repeat",
}  # fmt: skip
EXPERTS = re.compile(r"blk\.(\d+)\.ffn_(gate|up|down)_exps\.weight")


def our_name(theirs: str) -> str | None:
    """The name, as in safetensors, of a tensor that stands for itself in a GGUF file; None if it has no place."""
    if theirs in _WHOLE:
        return _WHOLE[theirs]
    match = re.fullmatch(r"blk\.(\d+)\.(.+?)\.(weight|bias)", theirs)
    if match is None:
        return None
    layer, part, kind = match.groups()
    if f"{part}.{kind}" == _ROUTER_BIAS[0]:
        return f"model.layers.{layer}.{_ROUTER_BIAS[1]}"
    return f"model.layers.{layer}.{_OUR_LAYER[part]}.{kind}" if part in _OUR_LAYER else None


def their_name(ours: str) -> str:
    """The inverse of `our_name`. Raises KeyError for a tensor that stands for itself in no GGUF file."""
    for theirs, name in _WHOLE.items():
        if name == ours:
            return theirs
    _, _, layer, part = ours.split(".", 3)
    if part == _ROUTER_BIAS[1]:
        return f"blk.{layer}.{_ROUTER_BIAS[0]}"
    part, _, kind = part.rpartition(".")
    return f"blk.{layer}.{_THEIR_LAYER[part]}.{kind}"


def rotates_in_pairs(architecture: str, ours: str) -> bool:
    """Whether the rows of this tensor, of queries or keys, are stored with the halves that rotate together as
    neighbours."""
    return architecture == "llama" and re.search(r"\.self_attn\.[qk]_proj\.", ours) is not None


def config_values(fields: Mapping[str, Any], sizes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What the `config.json` of the network in a GGUF file would hold, from its `fields` and its tensors' `sizes`.

    Raises UserError for an architecture or a setting that isn't read.
    """
    architecture = str(fields.get("general.architecture"))
    if architecture not in ARCHITECTURES.values():
        architectures = ", ".join(dict.fromkeys(ARCHITECTURES.values()))
        raise UserError(f"the architecture {architecture!r} is not supported; known: {architectures}")

    def get(name: str, default: Any = None) -> Any:
        return fields.get(f"{architecture}.{name}", default)

    layers = get("block_count")
    if not isinstance(layers, int):
        raise UserError(f"{architecture}.block_count is missing")
    heads = _one_value(get("attention.head_count"), "attention.head_count")
    values: dict[str, Any] = {
        "model_type": next(ours for ours, theirs in ARCHITECTURES.items() if theirs == architecture),
        "vocab_size": sizes.get("token_embd.weight", (0, 0))[0],
        "hidden_size": get("embedding_length"),
        "intermediate_size": _one_value(get("feed_forward_length"), "feed_forward_length"),
        "num_hidden_layers": layers - get("nextn_predict_layers", 0),
        "num_attention_heads": heads,
        "num_key_value_heads": _one_value(get("attention.head_count_kv", heads), "attention.head_count_kv"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": get("context_length"),
        "tie_word_embeddings": "output.weight" not in sizes,
        "sliding_window": get("attention.sliding_window"),
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _ends(fields),
        "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
        "rope_parameters": _rope(get),
    }
    if "blk.0.attn_q.bias" in sizes or "blk.0.attn_kv_a_mqa.bias" in sizes:
        values["attention_bias"] = True
    if architecture == "deepseek2":
        values |= _latent_attention(get, sizes)
    else:
        values["head_dim"] = get("attention.key_length")
        rotary = get("rope.dimension_count")
        if rotary is not None and rotary != (values["head_dim"] or get("embedding_length") // heads):
            raise UserError(
                f"{architecture}.rope.dimension_count = {rotary}: rotating a part of a head isn't supported"
            )
    if get("expert_count"):
        values |= _mixture(get, architecture)
    return {name: value for name, value in values.items() if value is not None}


def generation_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the `generation_config.json` of a model in a GGUF file would hold: how its makers sample it."""
    found = {ours: fields.get(f"general.sampling.{theirs}") for ours, theirs in _SAMPLING.items()}
    # Of a float32 its digits: 0.7 and not 0.699999988.
    return {
        name: float(f"{value:.7g}") if isinstance(value, float) else value
        for name, value in found.items()
        if value is not None
    }


def generation_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `generation_values`."""
    return {
        f"general.sampling.{theirs}": values[ours] if ours == "top_k" else float(values[ours])
        for ours, theirs in _SAMPLING.items()
        if values.get(ours) is not None
    }


def _ends(fields: Mapping[str, Any]) -> int | list[int] | None:
    """The tokens that end a text: of the text itself, of a turn, and of a message to a tool."""
    ids = (fields.get(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot", "eom"))
    ends = list(dict.fromkeys(end for end in ids if end is not None))
    return ends[0] if len(ends) == 1 else ends or None


def _one_value(value: Any, name: str) -> Any:
    """A number that may be given for each layer, if it is the same for all."""
    if isinstance(value, list):
        if len(set(value)) != 1:
            raise UserError(f"{name} differs from layer to layer, which is not supported")
        return value[0]
    return value


def _rope(get: Any) -> dict[str, Any]:
    kind = get("rope.scaling.type", "none")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": get("rope.freq_base", 10000.0)}
    if kind in ("linear", "yarn"):
        rope |= {"rope_type": kind, "factor": get("rope.scaling.factor", 1.0)}
    elif kind != "none":
        raise UserError(f"rope.scaling.type {kind!r} is not supported; known: none, linear, yarn")
    if kind == "yarn":
        rope["original_max_position_embeddings"] = get("rope.scaling.original_context_length")
        rope |= {name: get(f"rope.scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
        logarithm = get("rope.scaling.yarn_log_multiplier")
        if logarithm:  # llama.cpp stores it times 0.1
            rope["mscale"] = rope["mscale_all_dim"] = round(logarithm / 0.1, 6)
    return {name: value for name, value in rope.items() if value is not None}


def _latent_attention(get: Any, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    rotary = get("rope.dimension_count")
    # Files before April 2025 have the true sizes under the plain names, and kv_b whole.
    key = get("attention.key_length_mla") or get("attention.key_length")
    return {
        "num_key_value_heads": get("attention.head_count"),
        "q_lora_rank": get("attention.q_lora_rank") or None,
        "kv_lora_rank": get("attention.kv_lora_rank"),
        "qk_rope_head_dim": rotary,
        "qk_nope_head_dim": key - rotary,
        "v_head_dim": get("attention.value_length_mla") or get("attention.value_length"),
        "first_k_dense_replace": get("leading_dense_block_count", 0),
        "num_nextn_predict_layers": get("nextn_predict_layers", 0),
    }


def _mixture(get: Any, architecture: str) -> dict[str, Any]:
    values = {
        "n_routed_experts": get("expert_count"),
        "num_experts": get("expert_count"),
        "num_experts_per_tok": get("expert_used_count"),
        "moe_intermediate_size": get("expert_feed_forward_length"),
        "norm_topk_prob": get("expert_weights_norm", architecture == "qwen3moe"),
    }
    if architecture != "deepseek2":
        return values
    groups, kept = get("expert_group_count") or 1, get("expert_group_used_count") or 1
    values |= {
        "n_shared_experts": get("expert_shared_count", 0),
        "routed_scaling_factor": get("expert_weights_scale") or 1.0,
        "n_group": groups,
        "topk_group": kept,
    }
    if get("expert_gating_func", 1) == 1:  # softmax, as before V3
        method = "greedy" if groups == 1 else "group_limited_greedy"
        return values | {"model_type": "deepseek_v2", "topk_method": method}
    return values | {"model_type": "deepseek_v3", "scoring_func": "sigmoid"}


def llama3_rope(rope: Mapping[str, Any], factors: list[float]) -> dict[str, Any]:
    """The rotary settings of a Llama 3.1 or later, of which llama.cpp only stores what each frequency is divided by.

    Raises UserError if these aren't the factors of Llama 3.1 to 3.3.
    """
    settings = {
        "rope_type": "llama3", "rope_theta": rope["rope_theta"], "factor": round(max(factors), 4),
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    expected = llama3_factors(settings, len(factors))
    if not all(math.isclose(*pair, rel_tol=1e-3) for pair in zip(factors, expected, strict=True)):
        raise UserError("rope_freqs.weight has other factors than Llama 3.1's, which is not supported")
    return settings


def fields(config: "ModelConfig") -> dict[str, Any]:
    """The inverse of `config_values`: what a GGUF file says of the network.

    Raises UserError for a network that llama.cpp has no form for.
    """
    architecture = ARCHITECTURES.get(config.model_type)
    if architecture is None:
        architectures = ", ".join(ARCHITECTURES)
        raise UserError(f"GGUF has no form for a {config.model_type} here; known: {architectures}")
    if unsaid := _unsaid(config):
        raise UserError(f"llama.cpp has no form for a {config.model_type} with {unsaid}")
    values: dict[str, Any] = {
        "block_count": config.num_hidden_layers + config.num_nextn_predict_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": 1 if config.is_latent else config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "vocab_size": config.vocab_size,
        "rope.freq_base": float(config.rope["rope_theta"]),
        "rope.dimension_count": config.rotary_dim,
    }
    values |= _rope_fields(config.rope)
    if config.is_latent:
        key = config.qk_nope_head_dim + config.qk_rope_head_dim
        values |= {
            # Zero stands for queries that aren't compressed; without the field, llama.cpp doesn't load the file.
            "attention.q_lora_rank": config.q_lora_rank or 0,
            "attention.kv_lora_rank": config.kv_lora_rank,
            "attention.key_length": config.kv_lora_rank + config.qk_rope_head_dim,
            "attention.value_length": config.kv_lora_rank,
            "attention.key_length_mla": key,
            "attention.value_length_mla": config.v_head_dim,
            "leading_dense_block_count": min(config.first_k_dense_replace, config.num_hidden_layers),
        }
    else:
        values |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if config.num_nextn_predict_layers:
        values["nextn_predict_layers"] = config.num_nextn_predict_layers
    if config.n_routed_experts:
        values |= {
            "expert_count": config.n_routed_experts,
            "expert_used_count": config.num_experts_per_tok,
            "expert_feed_forward_length": config.moe_intermediate_size,
        }
        if config.is_latent:
            values |= {
                "expert_shared_count": config.n_shared_experts,
                "expert_weights_scale": float(config.routed_scaling_factor),
                "expert_weights_norm": config.norm_topk_prob,
                "expert_gating_func": 1 if config.scoring_func == "softmax" else 2,
                "expert_group_count": config.n_group,
                "expert_group_used_count": config.topk_group,
            }
    named = {f"{architecture}.{name}": value for name, value in values.items()}
    return {"general.architecture": architecture, **named}


def _unsaid(config: "ModelConfig") -> str | None:
    """What a GGUF file can't say of this network."""
    rope = config.rope
    if config.mlp_bias:
        return "mlp_bias"
    if "attention_factor" in rope or not rope.get("truncate", True):
        return "an attention_factor of its own, or truncate = False, in its rope_parameters"
    if not config.is_latent:
        return "norm_topk_prob = False" if config.n_routed_experts and not config.norm_topk_prob else None
    if config.attention_bias:
        return "attention_bias"
    if not config.rope_interleave:
        return "rope_interleave = False"
    if rope["rope_type"] == "yarn" and (not rope.get("mscale") or rope["mscale"] != rope.get("mscale_all_dim")):
        return "a mscale that isn't its mscale_all_dim"
    return None


def _rope_fields(rope: Mapping[str, Any]) -> dict[str, Any]:
    kind = rope["rope_type"]
    if kind not in ("linear", "yarn"):
        return {}  # llama3's factors are a tensor
    values: dict[str, Any] = {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        values["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        betas = {name: rope[name] for name in ("beta_fast", "beta_slow") if rope.get(name)}
        values |= {f"rope.scaling.yarn_{name}": float(beta) for name, beta in betas.items()}
        if multiplier := rope.get("mscale_all_dim"):
            values["rope.scaling.yarn_log_multiplier"] = 0.1 * multiplier
    return values


def llama3_factors(rope: Mapping[str, Any], pairs: int) -> list[float]:
    """What each of the `pairs`' frequencies is divided by: the inverse of `llama3_rope`."""
    factors = []
    length, slow, fast = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    for pair in range(pairs):
        turns = length * rope["rope_theta"] ** (-pair / pairs) / (2 * math.pi)
        keep = min(1.0, max(0.0, (turns - slow) / (fast - slow)))
        factors.append(1 / (keep + (1 - keep) / rope["factor"]))
    return factors
