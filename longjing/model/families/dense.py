"""Dense decoders with grouped-query attention: Llama, Mistral, Qwen2, Qwen3."""

from longjing.model.families.family import Family


class Llama(Family):
    """Llama 2 and 3, with the scaling of rotary positions that 3.1 has; TinyLlama and SmolLM2."""

    model_type, architecture = "llama", "LlamaForCausalLM"
    biases_output = True


class Mistral(Family):
    """Mistral: a Llama without biases. Contexts end at its sliding window, if it has one."""

    model_type, architecture = "mistral", "MistralForCausalLM"
    omits = Family.omits | {"attention_bias", "mlp_bias"}


class Qwen2(Family):
    """Qwen2 and Qwen2.5, the family of most of R1's distilled models: biases on q, k and v."""

    model_type, architecture = "qwen2", "Qwen2ForCausalLM"
    implies = {"attention_bias": True}


class Qwen3(Family):
    """Qwen3, to which R1-0528's distilled model belongs: queries and keys are normed."""

    model_type, architecture = "qwen3", "Qwen3ForCausalLM"
    implies = {"qk_norm": True}
    biases_output = True
