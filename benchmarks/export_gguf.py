"""Whether llama.cpp computes what we do from the GGUF files that are written here: logits of small random networks of
every architecture, in float32 and without flash attention (which costs 6e-2).

    python benchmarks/export_gguf.py [--json FILE]

llama.cpp is taken from the package `xllamacpp` (`pip install xllamacpp==2026.10.11549`), whose library exports its C
functions; the parameters' layout is that version's.
"""

import argparse
import ctypes
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import xllamacpp

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


class Opaque(ctypes.Structure):
    """A struct that is passed by value: longer than any of llama.cpp's, which read their own length of it."""

    _fields_ = [("data", ctypes.c_uint8 * 512)]

    def set(self, offset: int, value: int) -> None:
        """Write an int32."""
        self.data[offset : offset + 4] = list(value.to_bytes(4, "little", signed=True))


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]  # fmt: skip


class LlamaCpp:
    """llama.cpp's C functions."""

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("*.so"))))
        pointer = ctypes.c_void_p
        for name, arguments, result in (
            ("llama_model_default_params", [], Opaque), ("llama_context_default_params", [], Opaque),
            ("llama_model_load_from_file", [ctypes.c_char_p, Opaque], pointer),
            ("llama_init_from_model", [pointer, Opaque], pointer), ("llama_free", [pointer], None),
            ("llama_model_free", [pointer], None), ("llama_batch_init", [ctypes.c_int32] * 3, Batch),
            ("llama_decode", [pointer, Batch], ctypes.c_int32), ("llama_log_set", [pointer, pointer], None),
            ("llama_get_logits", [pointer], ctypes.POINTER(ctypes.c_float)),
        ):  # fmt: skip
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
        self._quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)(lambda *_: None)
        library.llama_log_set(ctypes.cast(self._quiet, pointer), None)

    def logits(self, file: Path, tokens: list[int], vocabulary: int) -> torch.Tensor:
        """`[tokens, vocabulary]`. Raises RuntimeError for a file that it doesn't load."""
        library = self._library
        model = library.llama_model_load_from_file(str(file).encode(), library.llama_model_default_params())
        if not model:
            raise RuntimeError(f"llama.cpp doesn't load {file}")
        settings = library.llama_context_default_params()
        # n_ctx, threads of both kinds, flash attention, and the numbers' format of keys and values
        for offset, value in ((0, 256), (28, 1), (32, 1), (52, 0), (104, 0), (108, 0)):
            settings.set(offset, value)
        context = library.llama_init_from_model(model, settings)
        batch = library.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index], batch.n_seq_id[index] = token, index, 1
            batch.seq_id[index][0], batch.logits[index] = 0, 1
        if library.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        numbers = library.llama_get_logits(context)[: len(tokens) * vocabulary]
        library.llama_free(context)
        library.llama_model_free(model)
        return torch.tensor(numbers).view(len(tokens), vocabulary)


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
