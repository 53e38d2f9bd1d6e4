"""The tokens that end a text, and a turn of a chat."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from longjing.errors import UserError
from longjing.text.template import PLACEHOLDER, Message

if TYPE_CHECKING:
    from longjing.text.tokenizer import Tokenizer


def turn_end(tokenizer: "Tokenizer", messages: Sequence[Message]) -> int | None:
    """The special token that the template writes behind an answer to the messages, if it writes one there.

    Raises UserError for messages that the template refuses.
    """
    answered = [*messages, {"role": "assistant", "content": PLACEHOLDER}]
    _, mark, tail = tokenizer.render(answered, add_generation_prompt=False).rpartition(PLACEHOLDER)
    first = tokenizer.encode(tail.lstrip())[:1] if mark else []
    return first[0] if first and not tokenizer.decode(first, skip_special_tokens=True) else None


def end_ids(tokenizer: "Tokenizer") -> frozenset[int]:
    """The tokens that end a text: the end token, and the one that the template writes behind an answer."""
    with suppress(UserError):  # there is no template, or it refuses this conversation
        if (end := turn_end(tokenizer, [{"role": "user", "content": "?"}])) is not None:
            return frozenset({tokenizer.eos_id, end})
    return frozenset({tokenizer.eos_id})
