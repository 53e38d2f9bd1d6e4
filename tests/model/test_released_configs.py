"""The configs of released models, as they were released: they are read as what they are, or refused by what isn't
supported."""

from typing import Any

import pytest
import torch
from model_cases import V3

from longjing.errors import UserError
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder

YARN_V2 = {
    "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 4096, "type": "yarn",
}  # fmt: skip
V2 = {
    "model_type": "deepseek_v2", "hidden_act": "silu", "first_k_dense_replace": 1, "moe_layer_freq": 1,
    "vocab_size": 102400, "norm_topk_prob": False, "scoring_func": "softmax", "seq_aux": True, "rms_norm_eps": 1e-06,
    "rope_theta": 10000, "rope_scaling": YARN_V2, "max_position_embeddings": 163840, "tie_word_embeddings": False,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "ep_size": 1,
    "aux_loss_alpha": 0.001, "attention_bias": False, "attention_dropout": 0.0, "pretraining_tp": 1,
}  # fmt: skip
LLAMA = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "pretraining_tp": 1}
RELEASED: dict[str, tuple[dict[str, Any], float, dict[str, Any]]] = {
    "DeepSeek-V2-Lite": (
        V2
        | {
            "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_group": 1,
            "n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 16, "num_experts_per_tok": 6,
            "num_hidden_layers": 27, "num_key_value_heads": 16, "q_lora_rank": None, "routed_scaling_factor": 1.0,
            "topk_group": 1, "topk_method": "greedy",
        },
        15.7,
        {"scoring_func": "softmax", "topk_method": "greedy", "q_lora_rank": None},
    ),
    "DeepSeek-V2": (
        V2
        | {
            "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536, "n_group": 8,
            "n_routed_experts": 160, "n_shared_experts": 2, "num_attention_heads": 128, "num_experts_per_tok": 6,
            "num_hidden_layers": 60, "num_key_value_heads": 128, "q_lora_rank": 1536, "routed_scaling_factor": 16.0,
            "topk_group": 3, "topk_method": "group_limited_greedy",
        },
        235.7,
        {"topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0},
    ),
    "DeepSeek-V3.1": (V3 | {"eos_token_id": 1, "bos_token_id": 0, "topk_method": "noaux_tc"}, 682.5, {}),
    "Qwen3-30B-A3B": (
        {
            "model_type": "qwen3_moe", "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
            "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
            "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": True, "num_attention_heads": 32,
            "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
            "output_router_logits": False, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000.0,
            "router_aux_loss_coef": 0.001, "sliding_window": None, "tie_word_embeddings": False,
            "use_sliding_window": False, "vocab_size": 151936,
        },
        30.5,
        {"qk_norm": True, "norm_topk_prob": True, "max_position_embeddings": 40960},
    ),
    "Qwen3-0.6B": (
        {
            "model_type": "qwen3", "attention_bias": False, "attention_dropout": 0.0, "eos_token_id": 151645,
            "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
            "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16,
            "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
            "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True, "use_sliding_window": False,
            "vocab_size": 151936,
        },
        0.596,
        {"head_dim": 128, "tie_word_embeddings": True},
    ),
    "Mistral-7B-v0.1": (
        {
            "model_type": "mistral", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
            "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
            "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
        },
        7.24,
        {"max_position_embeddings": 4096},  # to where the window sees everything
    ),
    "Mistral-7B-Instruct-v0.3": (
        {
            "model_type": "mistral", "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
            "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False, "vocab_size": 32768,
        },
        7.25,
        {"max_position_embeddings": 32768},
    ),
    "TinyLlama-1.1B-Chat-v1.0": (
        LLAMA
        | {
            "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 2048, "intermediate_size": 5632,
            "max_position_embeddings": 2048, "num_attention_heads": 32, "num_hidden_layers": 22,
            "num_key_value_heads": 4, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "vocab_size": 32000,
        },
        1.10,
        {"eos_token_id": 2},
    ),
    "Llama-3.2-1B-Instruct": (
        LLAMA
        | {
            "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_size": 2048,
            "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False,
            "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3",
            },
            "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256,
        },
        1.236,
        {"eos_token_id": (128001, 128008, 128009), "tie_word_embeddings": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_config_describes_the_model_it_belongs_to(name: str) -> None:
    values, billions, facts = RELEASED[name]
    config = ModelConfig.from_dict(values)
    assert {fact: getattr(config, fact) for fact in facts} == facts
    if name != "DeepSeek-V3.1":  # 60 thousand matrices
        with torch.device("meta"):
            model = Decoder(config)
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e9
        assert size == pytest.approx(billions, rel=0.01)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("Qwen3-30B-A3B", {"decoder_sparse_step": 2}, "only mixtures in every layer"),
        ("Qwen3-0.6B", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ("Mistral-7B-v0.1", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("DeepSeek-V2-Lite", {"norm_topk_prob": True}, "norm_topk_prob = True"),
        ("DeepSeek-V2-Lite", {"topk_method": "random"}, "topk_method 'random'"),
        ("DeepSeek-V3.1", {"model_type": "deepseek_v32"}, "model_type 'deepseek_v32' is not supported; known"),
        ("TinyLlama-1.1B-Chat-v1.0", {"model_type": "gemma3_text"}, "model_type 'gemma3_text' is not supported"),
    ],
)
def test_what_is_not_supported_is_named(name: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ModelConfig.from_dict(RELEASED[name][0] | change)
