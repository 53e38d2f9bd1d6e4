"""Llama: grouped-query attention, dense."""

from collections.abc import Mapping
from typing import Any

from longjing.model.families.family import Family


class Llama(Family):
    """Llama 2 and 3, with the scaling of rotary positions that 3.1 has."""

    model_type, architecture = "llama", "LlamaForCausalLM"

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.read`: one setting is for the biases on q, k, v and on the output."""
        return super().read({"output_bias": values.get("attention_bias", False), **values})
