"""The operations that tiny programs are made of (`operations.yaml`): what each does, in words and in Python."""

from typing import Literal

from longjing.toys.prose import Bilingual, Prose
from longjing.validation import read_yaml

Kind = Literal["numbers", "number", "text", "words", "truth"]


class Input(Bilingual[str]):
    """What a program may be given: in words, and the name of its parameter."""

    variable: str


class Operation(Bilingual[list[str]]):
    """One step from a value of kind `takes` to one of kind `gives`; `operations.yaml` says what its `code` may hold."""

    takes: Kind
    gives: Kind
    code: str
    loose: bool = False
    small: bool = False
    first: bool = False
    branch: bool = False


class _File(Prose):
    words: list[str]
    letters: list[str]
    inputs: dict[Kind, Input]
    operations: dict[str, Operation]


_FILE = read_yaml(__file__, "operations.yaml", _File)
INPUTS, OPERATIONS = _FILE.inputs, _FILE.operations
WORDS, LETTERS = _FILE.words, _FILE.letters
