"""Whether llama.cpp computes what we do from the GGUF files that are written here: logits of small random networks of
every architecture, in float32 and without flash attention (which costs 6e-2).

    python benchmarks/export_gguf.py [--json FILE]

llama.cpp is taken from the package `xllamacpp` (`llama_cpp.py`).
"""

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from llama_cpp import LlamaCpp

from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.store.gguf import write_model

TOKENS = 40
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0}
MSCALE = YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_theta": 500000.0,
}  # fmt: skip
DENSE = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
LATENT = DENSE | {
    "num_key_value_heads": 4, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
MIXTURE = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}  # fmt: skip
V3 = LATENT | MIXTURE | {"model_type": "deepseek_v3", "routed_scaling_factor": 2.5}
CASES: dict[str, dict[str, Any]] = {
    "llama": DENSE | {"model_type": "llama"},
    "llama, tied, own head size, llama3 rope": DENSE
    | {"model_type": "llama", "tie_word_embeddings": True, "head_dim": 24, "rope_parameters": LLAMA3},
    "llama, linear rope": DENSE
    | {"model_type": "llama", "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    "qwen2": DENSE | {"model_type": "qwen2"},
    "qwen2, yarn": DENSE | {"model_type": "qwen2", "rope_parameters": YARN},
    "qwen3": DENSE | {"model_type": "qwen3", "head_dim": 32},
    "qwen3_moe": DENSE
    | {"model_type": "qwen3_moe", "head_dim": 32, "num_experts": 8, "num_experts_per_tok": 2}
    | {"moe_intermediate_size": 32, "norm_topk_prob": True},
    "deepseek_v2, low-rank queries": LATENT
    | MIXTURE
    | {"model_type": "deepseek_v2", "topk_method": "greedy", "q_lora_rank": 24, "scoring_func": "softmax"},
    "deepseek_v3": V3 | {"n_group": 1, "topk_group": 1},
    "deepseek_v3, groups, yarn": V3 | {"n_group": 4, "topk_group": 2, "q_lora_rank": 24, "rope_parameters": MSCALE},
    "deepseek_v3, prediction module": V3 | {"n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 1},
}


def network(settings: dict[str, Any]) -> Decoder:
    """A network whose every tensor matters."""
    generator = torch.Generator().manual_seed(0)
    model = Decoder(ModelConfig.from_dict(settings))
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.data = 0.3 * noise + (0 if name.endswith("bias") else 1)
        else:
            parameter.data = noise * parameter.shape[-1] ** -0.5
    for router in model.routers():
        if router.e_score_correction_bias is not None:
            router.e_score_correction_bias.copy_(
                0.2 * torch.randn(router.e_score_correction_bias.shape, generator=generator)
            )
    return model.eval()


@torch.no_grad()
def compare(peer: LlamaCpp, settings: dict[str, Any], kind: str) -> dict[str, Any]:
    """How far its logits are from ours, over random tokens."""
    model = network(settings)
    tokens = torch.randint(96, (TOKENS,), generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.gguf"
        write_model(model, file, kind, {"tokenizer.ggml.model": "no_vocab"})
        theirs = peer.logits(file, tokens.tolist(), 96)
    ours = model(tokens[None])[0]
    divergence = (ours.softmax(-1) * (ours.log_softmax(-1) - theirs.log_softmax(-1))).sum(-1)
    return {
        "largest_logit": round(ours.abs().max().item(), 2), "max_difference": (ours - theirs).abs().max().item(),
        "max_kl": divergence.max().item(), "same_choice": (ours.argmax(-1) == theirs.argmax(-1)).float().mean().item(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the results go, too")
    options = parser.parse_args()
    peer = LlamaCpp()
    results: dict[str, Any] = {}
    for name, settings in CASES.items():
        try:
            results[name] = compare(peer, settings, "F32")
        except RuntimeError as error:
            results[name] = {"error": str(error)}
        print(name, results[name], flush=True)
    about = {"xllamacpp": version("xllamacpp"), "torch": torch.__version__, "tokens": TOKENS, "format": "F32"}
    if options.json:
        options.json.write_text(json.dumps({**about, "cases": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
