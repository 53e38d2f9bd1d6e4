"""Small networks of every kind, drawn at random, and their twins in `transformers`."""

from pathlib import Path
from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from torch import Tensor

from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.families import family_of
from longjing.model.store.checkpoint import save_model

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

V3 = {
    "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256, "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "qk_nope_head_dim": 128, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8,
    "first_k_dense_replace": 3, "norm_topk_prob": True, "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "max_position_embeddings": 163840, "rope_theta": 10000,
    "num_nextn_predict_layers": 1, "ep_size": 1, "hidden_act": "silu", "moe_layer_freq": 1,
    "rope_scaling": {
        "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
        "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    },
}  # fmt: skip
"""The released config of DeepSeek-V3, its FP8 entry aside."""

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 100.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 500.0,
}  # fmt: skip
LLAMA31 = LLAMA3 | {"original_max_position_embeddings": 8192, "rope_theta": 500000.0}
PLAIN = {"rope_type": "default", "rope_theta": 1000.0}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0}


def deepseek(**settings: Any) -> dict[str, Any]:
    """A tiny DeepSeek-V3 with an MTP module."""
    return {
        "model_type": "deepseek_v3", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": None,
        "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6,
        "first_k_dense_replace": 1, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 3,
        "moe_intermediate_size": 12, "n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 1,
        "rope_parameters": PLAIN,
    } | settings  # fmt: skip


def dense(family: str, **settings: Any) -> dict[str, Any]:
    """A tiny Qwen2 or Llama."""
    return {
        "model_type": family, "vocab_size": 61, "hidden_size": 32, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": PLAIN,
    } | settings  # fmt: skip


def mixture(**settings: Any) -> dict[str, Any]:
    """A tiny mixture of experts with grouped-query attention."""
    return {
        "model_type": "glm4_moe", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "first_k_dense_replace": 1, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 3,
        "moe_intermediate_size": 12, "num_nextn_predict_layers": 1, "partial_rotary_factor": 1.0,
        "rope_parameters": PLAIN | {"partial_rotary_factor": 1.0},
    } | settings  # fmt: skip


def qwen3_moe(**settings: Any) -> dict[str, Any]:
    """A tiny Qwen3-MoE."""
    return dense("qwen3_moe", head_dim=8, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=12) | settings


@st.composite
def deepseeks(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 2, 4]))
    kept = draw(st.integers(1, groups))
    layers = draw(st.integers(1, 3))
    rope = draw(
        st.sampled_from(
            [
                PLAIN,
                YARN,
                YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
                YARN | {"mscale": 0.7, "mscale_all_dim": 1.3, "beta_fast": 8, "beta_slow": 2},
            ]
        )
    )
    return deepseek(
        num_hidden_layers=layers,
        first_k_dense_replace=draw(st.integers(0, layers)),
        q_lora_rank=draw(st.sampled_from([None, 10])),
        v_head_dim=draw(st.sampled_from([6, 12, 14])),
        n_group=groups,
        topk_group=kept,
        n_shared_experts=draw(st.integers(1, 2)),
        num_experts_per_tok=draw(st.integers(1, kept * 8 // groups)),
        norm_topk_prob=draw(st.booleans()),
        routed_scaling_factor=draw(st.sampled_from([1.0, 2.5])),
        rope_interleave=draw(st.booleans()),
        attention_bias=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
        num_nextn_predict_layers=draw(st.integers(0, 2)),
        rope_parameters=rope,
    )


@st.composite
def denses(draw: st.DrawFn, family: str | None = None) -> dict[str, Any]:
    heads = draw(st.sampled_from([1, 2, 4]))
    tied, rope = draw(st.booleans()), draw(st.sampled_from([PLAIN, LINEAR, YARN, LLAMA3, LLAMA31]))
    shared = {"num_key_value_heads": heads, "tie_word_embeddings": tied, "rope_parameters": rope}
    family = family or draw(st.sampled_from(["qwen2", "qwen3", "llama", "mistral"]))
    if family != "qwen2":
        shared["head_dim"] = draw(st.sampled_from([8, 10]))
    if family in ("qwen3", "llama"):
        shared["attention_bias"] = draw(st.booleans())
    if family == "llama":
        shared["mlp_bias"] = draw(st.booleans())
    if family == "mistral":
        shared["sliding_window"] = draw(st.sampled_from([None, 64]))
    return dense(family, **shared)


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 2, 4]))
    kept = draw(st.integers(1, groups))
    return mixture(
        num_key_value_heads=draw(st.sampled_from([1, 2, 4])),
        first_k_dense_replace=draw(st.integers(0, 2)),
        n_group=groups,
        topk_group=kept,
        num_experts_per_tok=draw(st.integers(1, kept * 8 // groups)),
        attention_bias=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
        num_nextn_predict_layers=draw(st.integers(0, 2)),
    )


@st.composite
def qwen3_moes(draw: st.DrawFn) -> dict[str, Any]:
    """Experts are chosen by a softmax, without a bias or groups."""
    return qwen3_moe(
        tie_word_embeddings=draw(st.booleans()), norm_topk_prob=draw(st.booleans()),
        attention_bias=draw(st.booleans()), num_experts_per_tok=draw(st.integers(1, 8)),
        num_key_value_heads=draw(st.sampled_from([1, 2, 4])),
    )  # fmt: skip


@st.composite
def deepseek_v2s(draw: st.DrawFn) -> dict[str, Any]:
    """Experts are chosen by a softmax, without a bias."""
    groups = draw(st.sampled_from([2, 4, 8]))
    kept = draw(st.integers(1, groups))
    method = draw(st.sampled_from(["greedy", "group_limited_greedy"]))
    settings = deepseek(
        model_type="deepseek_v2", topk_method=method, n_group=groups, topk_group=kept, scoring_func="softmax",
        norm_topk_prob=False, num_experts_per_tok=draw(st.integers(1, kept * 8 // groups)),
        tie_word_embeddings=draw(st.booleans()), attention_bias=draw(st.booleans()),
        q_lora_rank=draw(st.sampled_from([None, 10])), routed_scaling_factor=draw(st.sampled_from([1.0, 16.0])),
        rope_parameters=draw(st.sampled_from([PLAIN, YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}])),
    )  # fmt: skip
    del settings["num_nextn_predict_layers"]
    return settings


def network(settings: dict[str, Any], seed: int = 0, bias: float | None = None) -> Decoder:
    """A network whose every tensor matters: logits of the size of one, router biases around `bias`."""
    generator = torch.Generator().manual_seed(seed)
    model = Decoder(ModelConfig.from_dict(settings))

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = 0.3 * noise(parameter)
        elif parameter.dim() == 1:
            parameter.data = 1.0 + 0.3 * noise(parameter)
        else:
            parameter.data = noise(parameter) * parameter.shape[-1] ** -0.5
    for index, router in enumerate(model.routers()):
        if router.e_score_correction_bias is None:
            continue
        centre = bias if bias is not None else (-1.5, 0.2)[index % 2]
        router.e_score_correction_bias.copy_(centre + 0.2 * noise(router.e_score_correction_bias))
    return model.eval()


def batch(model: Decoder, rows: int = 2, length: int = 24, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.vocab_size, (rows, length), generator=generator)


def twin(model: Decoder, directory: Path) -> Any:
    """The same network in `transformers`, through files that it reads without a word of complaint."""
    save_model(model, directory)
    architecture = getattr(transformers, family_of(model.config.model_type).architecture)
    other, report = architecture.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    return other.eval()


def fresh_twin(settings: dict[str, Any]) -> Any:
    """A network that `transformers` made, with random weights and router biases of both signs."""
    config = transformers.AutoConfig.for_model(**settings)
    other = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, buffer in other.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn_like(buffer) - 0.5)
    return other.eval()


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()
