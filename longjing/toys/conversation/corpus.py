"""Plain conversation, in English and Chinese, with an empty reasoning.

What a small model says when nothing is asked that it could work out, and how it declines what it can't do.
"""

from random import Random

from longjing.toys.conversation.task import TALK, exchange
from longjing.toys.corpus.document import Document

# What it can't do is more than all the rest that people say, so it is met as often as all the rest.
_SHARES = {subject: 6.0 if subject in ("refusal", "拒绝") else 1.0 for subject in TALK}


def write(rng: Random) -> Document:
    """One exchange, without reasoning; its style is `conversation`. Every saying goes with every answer."""
    sayings, answers = TALK[rng.choices(list(_SHARES), list(_SHARES.values()))[0]]
    prompt, answer = exchange(rng.choice(sayings), answers, rng)
    return Document(prompt, "", answer, "conversation", thinking=rng.random() < 0.5)
