"""The one place where generators are made."""

from typing import Any

from longjing.generation.native.engine import Engine
from longjing.model.decoder import Decoder
from longjing.text.tokenizer import Tokenizer


def make_generator(model: Decoder, tokenizer: Tokenizer | None, *, training: bool = False, **settings: Any) -> Engine:
    """A generator for the model: the native engine, the only one so far. Other `settings` as in `Engine`.

    `training`: a trainer reads what is sampled. Experts are recorded for it, and a token's bits don't depend on the
    batch. Whoever needs no streams and no steps should know the result as a `Generator` only.
    """
    if training:
        settings["batch_invariant"] = True
    return Engine(model, tokenizer, record_routes=training, **settings)
