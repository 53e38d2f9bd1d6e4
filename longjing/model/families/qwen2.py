"""Qwen2 and Qwen2.5: grouped-query attention with biases on q, k and v, dense."""

from collections.abc import Mapping
from typing import Any

from longjing.model.families.family import Family


class Qwen2(Family):
    """The family of most of R1's distilled models."""

    model_type, architecture = "qwen2", "Qwen2ForCausalLM"

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.read`: the biases are always there, and no setting says so."""
        return super().read({**values, "attention_bias": True})
