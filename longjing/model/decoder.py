"""The decoder: embeddings, blocks, norm, head, and the modules that predict further tokens."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from longjing.model.batch_invariance import missing_rows, pad_rows, unpad
from longjing.model.config import ModelConfig
from longjing.model.layers.block import Block
from longjing.model.layers.context import Cache, Context
from longjing.model.layers.linear import Linear
from longjing.model.layers.moe import Experts
from longjing.model.layers.mtp import MultiTokenPrediction
from longjing.model.layers.norm import RMSNorm, compute_dtype
from longjing.model.layers.packed_attention import PackedSegments
from longjing.model.layers.rope import cos_and_sin, inverse_frequencies
from longjing.model.layers.router import Router


class Decoder(nn.Module):
    """A DeepSeek-V3, Qwen2 or Llama decoder: one class, whose blocks differ by its config.

    `model(tokens)` is the whole forward pass. The engine and the trainer call the parts instead:
    `context` once, `hidden` for the blocks, `head` for the logits of the positions they need.

    `generation_config`: what came beside it in generation_config.json, or in a GGUF file's fields: how to sample and
    where to end.
    """

    inverse_frequencies: Tensor
    head_name = "lm_head"  # what files call it
    recomputes = False  # whether training keeps the layers' inputs only, and computes the rest again (`Context.run`)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.generation_config: dict[str, Any] = {}
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.mtp = nn.ModuleList(
            MultiTokenPrediction(config, config.num_hidden_layers + depth)
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
        batch_invariant: bool = False,
        segments: Tensor | None = None,
    ) -> Context:
        """What the blocks need to know of this pass; `positions` `[batch, length]`, the rest as in `Context`.

        `segments` `[batch, length]` packs several texts in a row: tokens see only their own segment.

        `batch_invariant` asks for the results of decoding the same tokens one by one, in whatever batch, bit for bit
        where the machine's products allow it (`batch_invariance_probe.is_batch_invariant`), at the price of writing
        out the scores and of padding few rows. It is meant for float32 on the CPU; elsewhere it changes nothing.
        """
        dtype, device = self.embed_tokens.weight.dtype, positions.device
        rows, length = positions.shape
        can_be_invariant = dtype == torch.float32 and self.embed_tokens.weight.device.type == "cpu"
        batch_invariant = batch_invariant and can_be_invariant
        # Decoding absorbs latent attention everywhere; grouped-query attention goes by fused kernels on a GPU.
        eager = batch_invariant or (reads_cache and (can_be_invariant or self.config.is_latent))
        if not self.config.is_latent and torch.is_autocast_enabled(device.type):
            eager = False
        if eager and segments is not None:
            raise ValueError("packed rows are read at once and not exactly: decoding has no segments")
        if mask is None and eager:
            mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()
        if mask is not None and (reads_cache or eager):  # as numbers, once for all layers
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
        # Every row gets as many tokens more as make enough of them in all.
        padding = -(-missing_rows(rows * length) // rows) if batch_invariant and eager else 0
        angles = pad_rows(positions, padding, dim=1)[..., None, None].float() * self.inverse_frequencies
        cos, sin = cos_and_sin(angles)
        return Context(
            cos=cos * self.rope_magnitude,
            sin=sin * self.rope_magnitude,
            mask=mask,
            packed=None if segments is None else PackedSegments.of(segments),
            cache=cache,
            reads_cache=reads_cache,
            eager_attention=eager,
            batch_invariant=batch_invariant,
            padding=padding,
            replay=replay,
            recomputes=self.recomputes and torch.is_grad_enabled(),
        )

    def embed(self, tokens: Tensor) -> Tensor:
        """The residual stream's beginning, `[batch, length, hidden]`: float32, whatever the weights are."""
        embedded: Tensor = self.embed_tokens(tokens)
        return embedded.to(compute_dtype(embedded)).float()

    def hidden(self, tokens: Tensor, context: Context) -> Tensor:
        """The last hidden states, normed: `tokens` `[batch, length]` -> `[batch, length, hidden]`."""
        x = context.pad_rows(self.embed(tokens))
        for layer in self.layers:
            x = context.run(layer, x)
        return context.unpad(self.norm(x))

    def head(self, hidden: Tensor, context: Context | None = None) -> Tensor:
        """Logits `[..., vocabulary]` of hidden states `[..., hidden]`, the decoder's or an MTP module's. `context`: the
        one that they were made with, if its `batch_invariant` has to hold for the logits too."""
        rows = hidden.shape[:-1].numel()
        padding = missing_rows(rows) if context is not None and context.batch_invariant else 0
        if not padding:
            return self.lm_head(hidden)
        padded = pad_rows(hidden.reshape(rows, -1), padding)
        return unpad(self.lm_head(padded), padding).view(*hidden.shape[:-1], -1)

    @property
    def head_is_frozen(self) -> bool:
        """Whether the head learns nothing, as beside an adapter."""
        return not any(parameter.requires_grad for parameter in self.lm_head.parameters())

    def next_hidden(self, depth: int, next_tokens: Tensor, hidden: Tensor, context: Context) -> Tensor:
        """The MTP module at `depth` (0-based): `hidden` of positions i with the tokens that follow each."""
        embedded = context.pad_rows(self.embed(next_tokens))
        return context.unpad(context.run(self.mtp[depth], embedded, context.pad_rows(hidden)))

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
