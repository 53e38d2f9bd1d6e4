"""Preferences: which of two answers to a prompt is better, or whether one is good."""

import json
from dataclasses import dataclass, field
from hashlib import blake2b

from longjing.text.template import Message


@dataclass(frozen=True)
class Text:
    """What an assistant wrote to a prompt."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class Preference:
    """An example for a reward model: a pair, the better text first, or one text with its label.

    `label`: whether the text is good; None for a pair. `kind` tells examples apart where their maker knows; `origin`
    is the place in a file.
    """

    prompt: list[Message]
    texts: tuple[Text, ...]
    label: bool | None = None
    kind: str = field(default="", compare=False)
    origin: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """The hash of the prompt: what examples of one prompt have in common."""
        return blake2b(json.dumps(self.prompt, ensure_ascii=False).encode(), digest_size=8).hexdigest()
