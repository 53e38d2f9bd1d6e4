"""Plain conversation, in English and Chinese, with an empty reasoning.

What a small model says when nothing is asked that it could work out, and how it declines what it can't do.
"""

from random import Random

from longjing.toys.conversation.task import TALK, exchange
from longjing.toys.document import Document


def write_conversation(random: Random) -> Document:
    """One exchange, without reasoning; its style is `conversation`. Every saying goes with every answer."""
    (subject,) = random.choices(list(TALK.values()), [subject.share for subject in TALK.values()])
    prompt, answer = exchange(random.choice(subject.sayings), subject.answers, random)
    return Document(prompt, "", answer, "conversation", thinking=random.random() < 0.5)
