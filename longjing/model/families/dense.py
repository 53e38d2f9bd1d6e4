"""Llama and Qwen2: grouped-query attention, dense."""

from collections.abc import Mapping
from typing import Any

from longjing.model.families.family import Family


class Llama(Family):
    """Llama 2 and 3, with the scaling of rotary positions that 3.1 has."""

    model_type, architecture = "llama", "LlamaForCausalLM"
    biases_output = True


class Qwen2(Family):
    """Qwen2 and Qwen2.5, the family of most of R1's distilled models: biases on q, k and v."""

    model_type, architecture = "qwen2", "Qwen2ForCausalLM"

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.read`: the biases are always there, and no setting says so."""
        return super().read({**values, "attention_bias": True})
