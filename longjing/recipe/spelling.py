"""Suggesting the name that was meant."""

from collections.abc import Sequence
from difflib import get_close_matches


def nearest_or_known(word: str, known: Sequence[str]) -> str:
    return nearest(word, known) or f"; known are: {', '.join(known)}"


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean X?`, or nothing if no name is near."""
    found = get_close_matches(word, known, n=1)
    return f"; did you mean `{found[0]}`?" if found else ""
