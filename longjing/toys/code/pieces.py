"""The pieces that tiny programs are made of (`pieces.yaml`): what each does, in words and in Python."""

from typing import Literal

from longjing.files import read_yaml
from longjing.toys.prose import Prose

Kind = Literal["numbers", "number", "text", "words", "truth"]


class Input(Prose):
    """What a program may be given: the name of its parameter, and in words."""

    variable: str
    en: str
    zh: str


class Piece(Prose):
    """One step from a value of kind `takes` to one of kind `gives`; `pieces.yaml` says what its `code` may hold."""

    takes: Kind
    gives: Kind
    code: str
    en: list[str]
    zh: list[str]
    loose: bool = False
    first: bool = False
    branch: bool = False


class _File(Prose):
    inputs: dict[Kind, Input]
    pieces: dict[str, Piece]


_FILE = read_yaml(__file__, "pieces.yaml", _File)
INPUTS, PIECES = _FILE.inputs, _FILE.pieces
