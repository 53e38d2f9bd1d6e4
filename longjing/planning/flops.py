"""What a network of this architecture costs, counted from its config: parameters, FLOPs, bytes.

A FLOP is one multiplication or one addition, so a product with an m x n matrix is 2mn. Counted are the products with
weights (of the experts taken, not of all; the output head included, the embedding a mere lookup) and the products in
attention. Left out are norms, rotations, softmax, activations, the choice of experts and the optimiser's own step: none
of them is a matrix product but Muon's, and together they are a percent or so of a network that is worth training.
"""

from collections.abc import Sequence

from longjing.model.config import ModelConfig


def parameters(config: ModelConfig) -> int:
    """All parameters, the multi-token prediction modules included."""
    modules = sum(_mtp(config, depth) for depth in range(config.num_nextn_predict_layers))
    return _tables(config) + _stack(config, active=False) + modules


def active_parameters(config: ModelConfig) -> int:
    """Parameters that take part in predicting one token: 37 billion of DeepSeek-V3's 671."""
    return _tables(config) + _stack(config, active=True)


def forward(config: ModelConfig, context: float, *, absorbed: bool = False, head: bool = True) -> float:
    """FLOPs of one token's forward pass that looks at `context` tokens, itself included (their mean, for many).

    Latent attention has two ways to compute the same: expanded (training and prompts), where each token's keys and
    values are made from its latent, and `absorbed` (decoding), where the heads attend to the latents themselves.
    """
    layers = range(config.num_hidden_layers)
    blocks = sum(_block(config, layer, context, absorbed) for layer in layers)
    return blocks + head * 2 * config.hidden_size * config.vocab_size


def training(config: ModelConfig, length: float, *, mtp: bool = False, frozen: bool = False) -> float:
    """FLOPs per token of training on sequences of `length` tokens: forward once and backward twice as much.

    `mtp`: the multi-token prediction modules are trained too, each of which runs the output head once more. `frozen`:
    only an adapter learns, so that no products for the weights' gradients are needed; its own are left out.
    """
    context = (length + 1) / 2
    total = forward(config, context)
    if mtp:
        for depth in range(config.num_nextn_predict_layers):
            total += _block(config, config.num_hidden_layers + depth, context, absorbed=False)
            total += 2 * config.hidden_size * (2 * config.hidden_size + config.vocab_size)
    return (2 if frozen else 3) * total


def generation(config: ModelConfig, prompt: int, lengths: Sequence[int]) -> int:
    """FLOPs of sampling completions of `lengths` tokens from one prompt, which is read once for all of them.

    Reading the prompt gives each completion its first token, and its last is never read. It is what the tokens that
    were kept take, whatever was drafted to get at them (speculative decoding): the drafts that were thrown away, and
    the modules that made them, cost more.
    """
    total = prompt * forward(config, (prompt + 1) / 2, head=False) + 2 * config.hidden_size * config.vocab_size
    for length in lengths:
        steps = max(length - 1, 0)
        total += steps * forward(config, prompt + (steps + 1) / 2, absorbed=True)
    return round(total)


def cache_bytes(config: ModelConfig, width: int = 2) -> int:
    """Bytes that the cache keeps of one token, at `width` bytes a number: 70,272 for DeepSeek-V3."""
    return config.num_hidden_layers * config.cache_width * width


def _tables(config: ModelConfig) -> int:
    """Embedding and output head, which may be one."""
    return config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)


def _stack(config: ModelConfig, active: bool) -> int:
    """Parameters of all blocks and the last norm."""
    layers = range(config.num_hidden_layers)
    return config.hidden_size + sum(_block_parameters(config, layer, active) for layer in layers)


def _mtp(config: ModelConfig, depth: int) -> int:
    """Parameters of a prediction module beside the shared tables: a block, `eh_proj`, three norms."""
    block = _block_parameters(config, config.num_hidden_layers + depth, active=False)
    return block + config.hidden_size * (2 * config.hidden_size + 3)


def _block_parameters(config: ModelConfig, layer: int, active: bool) -> int:
    """Matrices, and what FLOPs leave out: norms and biases."""
    hidden, bias = config.hidden_size, config.attention_bias
    total = _attention_matrices(config) + _feed_forward_matrices(config, layer, active) + 2 * hidden
    total += config.output_bias * hidden
    if config.is_latent:
        query = config.q_lora_rank or 0
        total += query + config.kv_lora_rank + bias * (query + config.cache_width)
    else:
        total += bias * (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
    if config.mlp_bias and not config.has_experts(layer):
        total += 2 * config.intermediate_size + hidden
    return total


def _block(config: ModelConfig, layer: int, context: float, absorbed: bool) -> float:
    """FLOPs of one token in one block."""
    weights = _attention_matrices(config) + _feed_forward_matrices(config, layer, active=True)
    heads = config.num_attention_heads
    if not config.is_latent:
        pair = 2 * config.head_dim
    elif absorbed:  # kv_b_proj multiplies the query and the result instead of the latent: as many products
        pair = 2 * config.kv_lora_rank + config.qk_rope_head_dim
    else:
        pair = config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    return 2 * (weights + heads * pair * context)


def _attention_matrices(config: ModelConfig) -> int:
    hidden, heads = config.hidden_size, config.num_attention_heads
    if not config.is_latent:
        return hidden * config.head_dim * 2 * (heads + config.num_key_value_heads)
    query = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    rank = config.q_lora_rank
    return (
        (hidden * query if rank is None else rank * (hidden + query))
        + hidden * config.cache_width
        + config.kv_lora_rank * heads * (config.qk_nope_head_dim + config.v_head_dim)
        + heads * config.v_head_dim * hidden
    )


def _feed_forward_matrices(config: ModelConfig, layer: int, active: bool) -> int:
    if not config.has_experts(layer):
        return 3 * config.hidden_size * config.intermediate_size
    routed = config.num_experts_per_tok if active else config.n_routed_experts
    router = config.hidden_size * config.n_routed_experts
    return router + (routed + config.n_shared_experts) * 3 * config.hidden_size * config.moe_intermediate_size
