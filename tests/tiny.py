"""A network, a tokenizer and a task so small that a loop runs in no time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from longjing.generation.multi_turn import MultiTurnRollout
from longjing.generation.request import Generation, Sampling
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.store.checkpoint import save_model
from longjing.problems import Completion, Problem, Split, Verdict
from longjing.text.reasoning import ReasoningStream
from longjing.text.tokenizer import Tokenizer

SHARED = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "initializer_range": 0.15, "max_position_embeddings": 512,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "deepseek_v3": SHARED | {
        "model_type": "deepseek_v3", "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
        "v_head_dim": 8, "first_k_dense_replace": 1, "n_routed_experts": 8, "n_shared_experts": 1,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_nextn_predict_layers": 1,
    },
    "llama": SHARED | {"model_type": "llama", "num_key_value_heads": 1},
}  # fmt: skip


@cache
def tokenizer() -> Tokenizer:
    """Bytes, R1's special tokens, and a few merges."""
    return Tokenizer.train(["Write what you like about 12 numbers. Wait, check: 请检查。"] * 3, 290)


def network(family: str, seed: int = 0, **settings: Any) -> Decoder:
    """A random network for `tokenizer`, in evaluation mode."""
    ids = tokenizer()
    values = {"vocab_size": ids.vocab_size, "bos_token_id": ids.bos_id, "eos_token_id": ids.eos_id}
    return Decoder(ModelConfig.from_dict(FAMILIES[family] | values | settings)).initialise(seed).eval()


def dialogue(generation: Generation, ids: Tokenizer | None = None) -> MultiTurnRollout:
    """A conversation of one turn."""
    ids = ids or tokenizer()
    opened = ReasoningStream.after(ids.render([{"role": "user", "content": "?"}])).in_reasoning
    rollout = MultiTurnRollout(ids, generation.prompt, opened, Sampling())
    rollout.add(generation)
    return rollout


def save_base(directory: Path, family: str) -> None:
    """A base that ends a completion after some thirty tokens: many tokens end it, the tokenizer's too."""
    save_model(network(family, eos_token_id=[tokenizer().eos_id, *range(20, 30)]), directory)
    tokenizer().save(directory)


@dataclass(frozen=True)
class Letters:
    """Reward for what a random network can write: `accuracy` for any of the `wanted` characters, `format` for
    an even number of characters. Completions with one of the `unreadable` characters are unjudged.
    """

    settings_type = dict
    settings: dict[str, Any]
    name = "letters"

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        random = Random(f"{split} {seed}")
        for number in count():
            word = random.randrange(self.settings.get("problems", 10**6))
            id = f"{split} {number if split != 'train' else word}"
            yield Problem(self.name, id, f"Write {word}.", "7", {}, "en")

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        text = completion.reasoning + completion.answer
        accuracy = float(any(letter in text for letter in self.settings.get("wanted", "0123456789")))
        rewards = {"accuracy": accuracy, "format": 1.0 - len(text) % 2}
        if any(letter in text for letter in self.settings.get("unreadable", "")):
            return Verdict("unjudged", {"accuracy": 0.0, "format": 0.0}, "unreadable")
        return Verdict("correct" if accuracy else "wrong", rewards, "")

    def solve(self, problem: Problem) -> str:
        return "7"


@dataclass(frozen=True)
class Talks(Letters):
    """Answers every completion, with what was written in it. `turns`: how many the model gets."""

    name = "talks"

    @property
    def max_turns(self) -> int:
        turns: int = self.settings.get("turns", 4)
        return turns

    def reply(self, problem: Problem, completion: Completion) -> str | None:
        text = completion.reasoning + completion.answer
        return None if text.endswith("e") else f"{len(completion.earlier)}: {text[:9]}等"
