"""Tiny models, a tokenizer of letters, and requests of all kinds."""

from dataclasses import replace

import torch

from longjing.generation.request import Generation, Request, Sampling
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder

LATENT = ModelConfig(
    "deepseek_v3", 64, 32, 64, 3, 4, 4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
    first_k_dense_replace=1, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
    moe_intermediate_size=16, num_nextn_predict_layers=1, eos_token_id=1, initializer_range=0.2,
)  # fmt: skip
QWEN = ModelConfig(
    "qwen2", 64, 32, 64, 2, 4, 2, attention_bias=True, eos_token_id=(1, 2), initializer_range=0.2,
    tie_word_embeddings=True,
)  # fmt: skip
LLAMA = replace(QWEN, model_type="llama", attention_bias=False, num_key_value_heads=4, tie_word_embeddings=False)
CONFIGS = {"latent": LATENT, "qwen": QWEN, "llama": LLAMA}
MODELS = {name: Decoder(config).initialise(0).eval() for name, config in CONFIGS.items()}


class Letters:
    """Decodes each id to one letter, as far as the engine needs a tokenizer."""

    falls_back_to_bytes, anchor, end_ids = False, (), frozenset[int]()

    def decode_continuation(self, ids: list[int]) -> str:
        return self.decode(ids)

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(chr(ord("a") + token % 26) for token in ids)


def crowd(count: int, **sampling: object) -> list[Request]:
    """Groups of four with a common prompt, of uneven lengths."""
    return [
        Request(
            [3 + (7 * (i // 4) + j) % 60 for j in range(1 + (i // 4) * 3 % 11)],
            Sampling(**{"seed": i, "max_tokens": 5 + i * 5 % 27} | sampling),
        )
        for i in range(count)
    ]


@torch.no_grad()
def trainer_logprobs(model: Decoder, generation: Generation, temperature: float = 1.0) -> torch.Tensor:
    """Of the sampled tokens, by one full forward pass that replays the routes."""
    tokens = torch.tensor([generation.prompt + generation.tokens])
    replay = None if generation.routes is None else generation.routes.long()[None]
    logits = model(tokens[:, :-1], replay=replay)[0, len(generation.prompt) - 1 :]
    return (logits / temperature).log_softmax(-1).gather(1, tokens[0, len(generation.prompt) :, None])[:, 0]
