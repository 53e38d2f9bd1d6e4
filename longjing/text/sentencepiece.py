"""Sentencepiece's BPE with byte fallback, as Llama 2, TinyLlama and Mistral have it in their tokenizer.json."""

import json

from tokenizers import Tokenizer

# The decoder, with or without the last part, which takes the text's first space away.
_FALLBACK = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
]  # fmt: skip
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def is_sentencepiece(backend: Tokenizer) -> bool:
    """Whether the tokenizer decodes as sentencepiece's with byte fallback do."""
    decoder = json.loads(backend.decoder.__getstate__()) if backend.decoder is not None else {}
    return decoder.get("decoders") in (_FALLBACK, [*_FALLBACK, _STRIP])
