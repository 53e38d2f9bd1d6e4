"""The stories of the word problems, in English and in Chinese; `stories.yaml` tells them, and explains how."""

from longjing.toys.prose import Bilingual, Prose
from longjing.validation import read_yaml


class PartTemplate(Bilingual[str]):
    """One opening, event or ending: its arithmetic and its text."""

    kind: str


class Noun(Prose):
    """A thing, in singular and plural, and in Chinese with its measure word."""

    one: str
    many: str
    zh: str
    measure: str


class Story(Prose):
    """What a story may be about, and the parts that it may be told of."""

    nouns: list[Noun]
    openings: list[PartTemplate]
    events: list[PartTemplate]
    endings: list[PartTemplate]


class Person(Prose):
    """Somebody, with the pronouns."""

    name: str
    he: str
    his: str


class _File(Prose):
    people: Bilingual[list[Person]]
    connectives: Bilingual[list[str]]
    stories: dict[str, Story]


_FILE = read_yaml(__file__, "stories.yaml", _File)
STORIES, CONNECTIVES, PEOPLE = _FILE.stories, _FILE.connectives, _FILE.people
