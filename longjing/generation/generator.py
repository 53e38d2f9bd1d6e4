"""Who generates: the one protocol behind which trainers and evaluation see the native engine, or another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from longjing.errors import UserError
from longjing.generation.request import Generation, Request

# Called with each request that has ended, by its index: a request that goes on from there, or None.
Follow = Callable[[int, Generation], Request | None]


@dataclass(frozen=True)
class Capabilities:
    """What a generator does beyond completing prompts.

    `routes`: a mixture's experts are recorded (`Generation.routes`), for the trainer to replay. `logits_processors`:
    `Request.logits_processor` is obeyed. `seeds`: a completion depends on its request's seed, and not on those that run
    beside it. `exact_logprobs`: log-probabilities are of the trainer's weights and its arithmetic, but for rounding.
    """

    routes: bool
    logits_processors: bool
    seeds: bool
    exact_logprobs: bool

    def require(self, purpose: str, *names: str) -> None:
        """Raise UserError if one of the capabilities is missing, with the purpose that needs it."""
        missing = [name.replace("_", " ") for name in names if not getattr(self, name)]
        if missing:
            raise UserError(
                f"{purpose} needs a generator with {', '.join(missing)}, which this one doesn't offer; "
                f"use the native engine"
            )


class Generator(Protocol):
    """Whatever completes prompts: the native engine, or an external one behind an adapter.

    `watcher` is called after each step of `generate`: how many completions are done, of how many, with how many tokens.
    """

    watcher: Callable[[int, int, int], None] | None

    @property
    def capabilities(self) -> Capabilities:
        """What a trainer can rely on. To be asked before a run begins (`Capabilities.require`)."""

    def generate(
        self,
        requests: Sequence[Request],
        on_step: Callable[[int, int], None] | None = None,
        follow: Follow | None = None,
    ) -> list[Generation]:
        """One completion per request, in order. `on_step(finished requests, tokens so far)`: progress.

        `follow` may put another request in the place of one that has ended, while the others run; then the last one's
        completion is returned.
        """

    def update_weights(self) -> None:
        """Take over the trainer's present weights. What was computed with the old ones is forgotten."""
