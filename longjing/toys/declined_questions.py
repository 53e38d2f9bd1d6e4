"""Questions that look like its own and aren't: percentages, powers, roots, decimals, fractions, other mathematics.

A small model calculates whatever has numbers in it. So it reads what it can't do beside what it can, and says so
instead of answering 1,200 to 15% of 80.
"""

from random import Random

from longjing.toys.prose import Bilingual, Prose
from longjing.toys.toy import Document, register_documents
from longjing.validation import read_yaml


class _File(Prose):
    questions: Bilingual[list[list[str]]]
    answers: Bilingual[list[str]]


_FILE = read_yaml(__file__, "declined_questions.yaml", _File)


def write_declined(random: Random) -> Document:
    """One question with an empty reasoning, declined; its style is `limits`."""
    language = "zh" if random.random() < 0.3 else "en"
    question = random.choice(random.choice(_FILE.questions[language])).format(**_numbers(random))
    answer = random.choice(_FILE.answers[language])
    return Document(question, "", answer, "limits", thinking=random.random() < 0.5)


def _numbers(random: Random) -> dict[str, str]:
    def pair() -> list[int]:
        return sorted(random.sample(range(2, 10 ** random.choice([1, 2, 3]) + 10), 2))

    def decimal() -> str:
        return f"{random.randrange(10 ** random.choice([1, 2]))}.{random.randint(1, 99)}"

    numbers = [*pair(), *pair(), decimal(), decimal()]
    return dict(zip("abcdef", map(str, numbers), strict=True))


register_documents("limits", write_declined)
