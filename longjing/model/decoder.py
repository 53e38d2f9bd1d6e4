"""The decoder: embeddings, blocks, norm, head, and the modules that predict further tokens."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.config import ModelConfig
from longjing.model.documents import Documents
from longjing.model.layers.attention import Cache, Context, GroupedQueryAttention, LatentAttention, RMSNorm
from longjing.model.layers.moe import FEWEST_ROWS, MLP, Experts, MixtureOfExperts, Router
from longjing.model.layers.rope import inverse_frequencies


class Block(nn.Module):
    """One layer: attention and a feed-forward part, each behind a norm and added to its input."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        attention = LatentAttention if config.is_latent else GroupedQueryAttention
        self.input_layernorm = RMSNorm(hidden, eps=eps)
        self.self_attn = attention(config, layer)
        self.post_attention_layernorm = RMSNorm(hidden, eps=eps)
        self.mlp = (
            MixtureOfExperts(config)
            if config.has_experts(layer)
            else MLP(hidden, config.intermediate_size, config.mlp_bias)
        )

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), context)
        return x + self.mlp(self.post_attention_layernorm(x), context)


class NextToken(nn.Module):
    """A multi-token prediction module (DeepSeek-V3, section 2.2): from the hidden state at position i and
    the token at i + 1 it makes the hidden state that predicts the token at i + 2. Embeddings and head are
    the decoder's own."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(hidden, eps=eps)
        self.hnorm = RMSNorm(hidden, eps=eps)
        self.eh_proj = nn.Linear(2 * hidden, hidden, bias=False)
        self.block = Block(config, layer)
        self.norm = RMSNorm(hidden, eps=eps)

    def forward(self, embedded: Tensor, hidden: Tensor, context: Context) -> Tensor:
        """`embedded` (the next tokens) and `hidden`, both `[batch, length, hidden]` -> the same shape, normed."""
        x = self.eh_proj(torch.cat((self.enorm(embedded), self.hnorm(hidden)), dim=-1))
        return self.norm(self.block(x, context))


class Decoder(nn.Module):
    """A DeepSeek-V3, Qwen2 or Llama decoder: one class, whose blocks differ by its config.

    `model(tokens)` is the whole forward pass. The engine and the trainer call the parts instead:
    `context` once, `hidden` for the blocks, `head` for the logits of the positions they need.
    """

    inverse_frequencies: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.mtp = nn.ModuleList(
            NextToken(config, config.num_hidden_layers + depth)
            for depth in range(config.num_nextn_predict_layers)
        )
        frequencies, self.rope_magnitude = inverse_frequencies(config)
        self.register_buffer("inverse_frequencies", frequencies, persistent=False)

    @torch.no_grad()
    def initialise(self, seed: int) -> "Decoder":
        """Draw all weights from one seed: normal with the config's deviation, and smaller by sqrt(2 layers)
        where a block adds to the residual stream (GPT-2's rule). Norms start at one, biases at zero."""
        generator = torch.Generator().manual_seed(seed)
        std = self.config.initializer_range
        residual = std / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                adds = name.endswith(("o_proj.weight", "down_proj.weight", "down_proj"))
                parameter.normal_(0.0, residual if adds else std, generator=generator)
        return self

    def context(
        self,
        positions: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        reads_cache: bool = False,
        replay: Tensor | None = None,
        exact: bool = False,
        segments: Tensor | None = None,
    ) -> Context:
        """What the blocks need to know of this pass; `positions` `[batch, length]`, the rest as in `Context`.

        `segments` `[batch, length]` packs several documents in a row: tokens see only their own segment.

        `exact` asks for the results of decoding the same tokens one by one, in whatever batch, bit for bit where the
        machine's products allow it (`invariance.batch_invariant`), at the price of writing out the scores and of
        filling few rows up. It is meant for float32 on the CPU; elsewhere it changes nothing.
        """
        weight = self.embed_tokens.weight
        dtype = weight.dtype
        plain = dtype == torch.float32 and weight.device.type == "cpu"
        exact = exact and plain
        in_parts = exact or (reads_cache and (plain or self.config.is_latent))
        if not self.config.is_latent and torch.is_autocast_enabled(positions.device.type):
            in_parts = False
        if in_parts and segments is not None:
            raise ValueError("packed rows are read at once and not exactly: decoding has no segments")
        if mask is None and in_parts:
            length = positions.shape[1]
            mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=positions.device).tril()
        if mask is not None and (reads_cache or in_parts):  # as numbers, once for all layers
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
        documents = None if segments is None else Documents.of(segments)
        rows, length = positions.shape
        filled = max(0, -(-FEWEST_ROWS // rows) - length) if exact and in_parts else 0
        positions = torch.cat((positions, positions[:, -1:].expand(-1, filled)), dim=1)
        angles = positions[..., None, None].float() * self.inverse_frequencies
        cos, sin = angles.cos() * self.rope_magnitude, angles.sin() * self.rope_magnitude
        return Context(
            cos.to(dtype), sin.to(dtype), mask, documents, cache, reads_cache, in_parts, exact, filled, replay
        )

    def hidden(self, tokens: Tensor, context: Context) -> Tensor:
        """The last hidden states, normed: `tokens` `[batch, length]` -> `[batch, length, hidden]`."""
        x = context.fill(self.embed_tokens(tokens))
        for layer in self.layers:
            x = layer(x, context)
        return context.cut(self.norm(x))

    def head(self, hidden: Tensor, context: Context | None = None) -> Tensor:
        """Logits `[..., vocabulary]` of hidden states `[..., hidden]`, the decoder's or an MTP module's. `context`: the
        one that they were made with, if its `batch_invariant` has to hold for the logits too."""
        rows = hidden.shape[:-1].numel()
        if context is None or not context.batch_invariant or rows >= FEWEST_ROWS:
            return self.lm_head(hidden)
        few = F.pad(hidden.reshape(rows, -1), (0, 0, 0, FEWEST_ROWS - rows))
        return self.lm_head(few)[:rows].view(*hidden.shape[:-1], -1)

    def next_hidden(self, depth: int, next_tokens: Tensor, hidden: Tensor, context: Context) -> Tensor:
        """The MTP module at `depth` (0-based): `hidden` of positions i with the tokens that follow each."""
        embedded = context.fill(self.embed_tokens(next_tokens))
        return context.cut(self.mtp[depth](embedded, context.fill(hidden), context))

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        replay: Tensor | None = None,
    ) -> Tensor:
        """Logits `[batch, length, vocabulary]` of `tokens` `[batch, length]`.

        `segments`: see `context`. `positions` default to counting from 0 in each row.
        """
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        return self.head(self.hidden(tokens, self.context(positions, replay=replay, segments=segments)))

    def routers(self) -> Iterator[Router]:
        """The routers of all mixture layers, in order."""
        return (module for module in self.modules() if isinstance(module, Router))

    def rebalance(self, speed: float) -> None:
        """Auxiliary-loss-free balancing (arXiv 2408.15664): after an optimiser step, move every router's bias."""
        for router in self.routers():
            router.rebalance(speed)

    def active_parameters(self) -> int:
        """Parameters that take part in predicting one token: all but the experts not chosen and the MTP modules."""
        total = sum(p.numel() for name, p in self.named_parameters() if not name.startswith("mtp."))
        for module in self.layers.modules():
            if isinstance(module, Experts):
                idle = 1 - self.config.num_experts_per_tok / self.config.n_routed_experts
                total -= round(idle * sum(p.numel() for p in module.parameters()))
        return total
