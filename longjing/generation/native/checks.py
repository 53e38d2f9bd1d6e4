"""What an engine refuses, and how it says so."""

from typing import Literal

from longjing.errors import UserError
from longjing.generation.request import Request
from longjing.model.config import ModelConfig
from longjing.text.tokenizer import Tokenizer


def end_tokens_of(config: ModelConfig) -> frozenset[int]:
    """The tokens with which the model ends a text."""
    end = config.eos_token_id
    if end is None:
        return frozenset()
    return frozenset((end,) if isinstance(end, int) else end)


def check_settings(
    config: ModelConfig,
    max_batch: int,
    speculate: bool | Literal["auto"],
    record_routes: bool,
    prefix_bytes: int,
) -> None:
    """Raise UserError for an engine that can't be."""
    if max_batch < 1:
        raise UserError(f"the engine needs at least one row, not max_batch = {max_batch}")
    if speculate is True and not config.num_nextn_predict_layers:
        raise UserError('speculate = True needs a model with a multi-token prediction layer; try "auto"')
    if record_routes and prefix_bytes:
        raise UserError("record_routes needs every token to be read: leave out prefix_bytes")


def check_request(request: Request, vocabulary: int, capacity: int, tokenizer: Tokenizer | None) -> None:
    """Raise UserError for a request that could never run. `capacity`: tokens that the cache holds."""
    sampling = request.sampling
    if not request.prompt:
        raise UserError("the prompt is empty: the model needs at least one token to go on from")
    if not 0 <= min(request.prompt) <= max(request.prompt) < vocabulary:
        raise UserError(f"the prompt has a token outside the model's vocabulary of {vocabulary}")
    for token in sampling.logit_bias:
        if not 0 <= token < vocabulary:
            raise UserError(f"logit_bias names the token {token}, outside the vocabulary of {vocabulary}")
    if sampling.stop and tokenizer is None:
        raise UserError("stop strings need a tokenizer; make the engine with one, or use end_tokens")
    need = len(request.prompt) + sampling.max_tokens
    if need > capacity:
        raise UserError(
            f"a prompt of {len(request.prompt)} tokens with max_tokens = {sampling.max_tokens} needs a "
            f"cache for {need}, and it holds {capacity}; raise cache_bytes or lower max_tokens"
        )
