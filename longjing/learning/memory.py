"""How an update fits into memory: what it takes, what is chosen to make it take less, and what is said if it can't.

Three things trade time for memory: microbatches of fewer tokens, the logits of fewer tokens at once (`by_chunks`), and
computing the layers again in the backward pass instead of keeping what they computed (activation checkpointing, about a
third more work). The choice follows from the settings and the model alone, never from the machine: another split rounds
otherwise, and a run must end in the same bits wherever it goes on.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from longjing.errors import UserError
from longjing.model.config import ModelConfig
from longjing.model.threads import SMALL  # below which a step is taken together

_MICRO_TOKENS = 2048  # of a larger model: what keeps two cores as busy as more would
_CHUNK_NUMBERS = 2**24  # of logits: 64 MB of float32
_SMALL_VOCABULARY = 2**14
_FEWEST_TOKENS, _FEWEST_CHUNK = 256, 64  # below which a product is too small to be fast
_PROCESS = 800_000_000  # bytes of Python, PyTorch and the tokenizer, and what the allocator has between its blocks
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", re.IGNORECASE)
# How the allocators of PyTorch word it, on CPUs (its own, oneDNN's and C++'s) and on GPUs.
_EXHAUSTED = ("can't allocate memory", "out of memory", "bad_alloc", "bad allocation", "could not create a memory")


def parse_size(text: str) -> int:
    """`20GB` or `512 MiB` in bytes. Raises UserError for anything else."""
    if (match := _SIZE.fullmatch(text.strip())) is None or not float(match[1]):
        raise UserError(f"{text!r} is no size; write it like 20GB or 512MB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " "))


@dataclass(frozen=True)
class Work:
    """What an update works on. `weights`, `others`: bytes that are there all the time, of the model, and of whatever
    else there is (a reference, a teacher, an engine's copy and cache). `numbers`: of the model, `learned` of them.
    `longest`: tokens of a microbatch at least, `most` of all of a step, `ordinary` of a small model's microbatch.
    `half`: products are in bfloat16. `scores`: attention writes its scores out."""

    config: ModelConfig
    weights: int
    numbers: int
    learned: int
    longest: int
    most: int
    ordinary: int
    half: bool
    others: int = 0
    scores: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """What was chosen. `asked`: the settings that it follows from; `bytes`: the peak that is expected."""

    asked: dict[str, Any]
    recomputes: bool
    micro_tokens: int
    chunk_tokens: int | None
    bytes: int

    def __str__(self) -> str:
        chunk = f", logits of {self.chunk_tokens:,} tokens at once" if self.chunk_tokens else ""
        again = ", with activation checkpointing" if self.recomputes else ""
        return (
            f"microbatches of {self.micro_tokens:,} tokens{chunk}{again}: about {self.bytes / 1e9:.1f} GB at the peak"
        )


def parts(work: Work, recomputes: bool, micro_tokens: int, chunk: int | None) -> dict[str, int]:
    """The bytes of an update at its peak, by what takes them. Counted for a dense network with AdamW, and
    compared with measured peaks: `benchmarks/memory.py`, docs/decisions.md."""
    config, width = work.config, 2 if work.half else 4
    tokens = min(max(micro_tokens, work.longest), work.most)
    at_once = min(chunk or tokens, tokens)
    per_layer = tokens * _layer_bytes(work)
    kept = tokens * 4 * config.hidden_size * config.num_hidden_layers + per_layer
    head = config.hidden_size * config.vocab_size * work.learned // work.numbers
    return {
        "the process": _PROCESS,
        "weights": work.weights + (2 * work.learned if work.half else 0),
        "gradients": 4 * work.learned,
        "the optimiser's state": 8 * work.learned,
        "other models and the engine": work.others,
        "activations": kept if recomputes else per_layer * config.num_hidden_layers,
        "logits": at_once * config.vocab_size * (12 + width) + 4 * head,
    }


def _layer_bytes(work: Work) -> int:
    """What a layer keeps of a token for the backward pass: inputs of norms in float32, of products in their format."""
    config, width = work.config, 2 if work.half else 4
    queries = config.num_attention_heads * (config.head_dim or config.v_head_dim)
    inner = config.intermediate_size
    if config.n_routed_experts:
        inner = config.num_experts_per_tok * config.moe_intermediate_size + config.n_shared_experts * (
            config.moe_intermediate_size
        )
    scores = config.num_attention_heads * min(work.longest, 1024) * width if work.scores or work.half else 0
    normed = 4 * 4 * config.hidden_size if work.half else 2 * 4 * config.hidden_size
    return normed + width * (3 * config.hidden_size + 4 * inner + 3 * queries + config.cache_width) + scores


def choose(
    work: Work, memory: str | None, micro_tokens: int | None, chunk_tokens: int | None, recomputes: bool | None
) -> MemoryPlan:
    """The fastest way that fits into `memory`, with what is given otherwise left as it is. Raises UserError if nothing
    fits, with what takes how much, and what to change."""
    asked = {
        "memory": memory, "micro_tokens": micro_tokens, "chunk_tokens": chunk_tokens,
        "activation_checkpointing": recomputes,
    }  # fmt: skip
    micro = micro_tokens or (work.ordinary if work.numbers < SMALL else max(work.longest, _MICRO_TOKENS))
    vocabulary = work.config.vocab_size
    chunk = chunk_tokens or (None if vocabulary <= _SMALL_VOCABULARY else max(1, _CHUNK_NUMBERS // vocabulary))

    def plan(recomputes: bool, micro: int, chunk: int | None) -> MemoryPlan:
        return MemoryPlan(asked, recomputes, micro, chunk, sum(parts(work, recomputes, micro, chunk).values()))

    if memory is None:
        return plan(bool(recomputes), micro, chunk)
    size, last = parse_size(memory), None
    for again in (False, True) if recomputes is None else (recomputes,):
        for fewer in _halved(min(micro, work.most), max(work.longest, _FEWEST_TOKENS), micro_tokens):
            for few in _halved(min(chunk or fewer, fewer), _FEWEST_CHUNK, chunk_tokens):
                last = plan(again, fewer, few if few < fewer else None)
                if last.bytes <= size:
                    return last
    assert last is not None
    needed = parts(work, last.recomputes, last.micro_tokens, last.chunk_tokens)
    listed = ", ".join(f"{name} {amount / 1e9:.2f}" for name, amount in needed.items() if amount)
    raise UserError(
        f"memory {memory} is too little: at the least this stage takes {last.bytes / 1e9:.2f} GB ({listed}), with "
        f"{last}. {_mends(work)}"
    )


def _mends(work: Work | None = None) -> str:
    """What makes an update smaller."""
    full, half = work is None or work.learned == work.numbers, work is not None and work.half
    return (
        "Lower `micro_tokens`, `row_length` or `max_tokens`"
        + (", learn an adapter (`lora`) instead of every weight" if full else ", lower the adapter's rank")
        + ("" if half else ", compute in bfloat16 (`--dtype bfloat16`)")
        + ", or begin from a smaller model"
    )


def _halved(most: int, least: int, given: int | None) -> Iterator[int]:
    """What is given; if nothing is, `most`, its half, and so on, `least` the last."""
    if given is not None:
        yield given
        return
    while most > least:
        yield most
        most //= 2
    yield max(1, min(most, least) if most < least else least)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory into a UserError that says what to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = str(error)
        exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not exhausted and not any(words in told for words in _EXHAUSTED):
            raise
        raise UserError(
            f"memory is exhausted ({told.splitlines()[0] if told else type(error).__name__}). With `memory: 8GB`, say, "
            f"what fits into that is chosen. Or: {_mends()}. The state saved last is whole, and the run goes on from it"
        ) from error
