"""Rewards from reward models: what one thinks of a completion, as a number between 0 and 1."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from longjing.batching import by_length
from longjing.data.preference_data import Judges, encode
from longjing.errors import UserError
from longjing.learning.reward_modeling import CARD
from longjing.problems import Completion
from longjing.problems.preference import Text
from longjing.runs.models import load_reward_model
from longjing.runs.resolve import resolve
from longjing.text.template import Message


def _judges(card: Path) -> Judges:
    try:
        judges: Judges = json.loads(card.read_text("utf-8"))["judges"]
        if judges not in get_args(Judges):
            raise ValueError(judges)
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f'{card} doesn\'t say what the reward model judges; it is like {{"judges": "answer"}}, or "everything"'
        ) from None
    return judges


class PreferenceReward:
    """What a reward model thinks of completions, as a reward between 0 and 1: the sigmoid of its score.

    It reads texts with its own tokenizer, so the policy's may be another.
    """

    def __init__(
        self,
        path: str | Path,
        judges: Judges | None = None,
        device: str | torch.device = "cpu",
        micro_tokens: int = 8192,
    ) -> None:
        """`judges` is needed of a model that doesn't say what it learned to judge. Raises UserError if nobody
        says, or if this contradicts what it learned."""
        directory = resolve(path, reward=True)
        card = directory / CARD
        learned = _judges(card) if card.exists() else judges
        if learned is None:
            raise UserError(f"{directory} has no {CARD}: say what this reward model judges, `answer` or `everything`")
        if judges not in (None, learned):
            raise UserError(f"the reward model {directory} learned to judge {learned!r}, not {judges!r}")
        self.judges = learned
        self.model, self.tokenizer = load_reward_model(directory, device)
        self._micro_tokens = micro_tokens

    @torch.no_grad()
    def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        """The reward of each completion of one prompt."""
        texts = [
            encode(self.tokenizer, prompt, Text(completion.reasoning, completion.answer), self.judges)
            for completion in completions
        ]
        rewards = [0.0] * len(texts)
        for batch in by_length([len(text) for text in texts], self._micro_tokens):
            scores = self.model.score([texts[index] for index in batch])
            for index, reward in zip(batch, scores.sigmoid().tolist(), strict=True):
                rewards[index] = reward
        return rewards
