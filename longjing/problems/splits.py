"""Which split a problem belongs to: the hash of its canonical key says so.

Splits are disjoint by construction, whatever the seed, the settings, the language or the wording. The canonical key is
the same for problems that differ only in form (the order of the numbers, the names in a story).
"""

from hashlib import blake2b
from typing import Literal

Split = Literal["train", "validation", "test"]


def split_of(key: str) -> Split:
    """The split of the problem with this canonical key: 5% test, 5% validation, the rest train."""
    # `hash` would give other splits in every process.
    bucket = int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % 100
    return "test" if bucket < 5 else "validation" if bucket < 10 else "train"
