"""Plain conversation, in English and Chinese, with an empty reasoning.

What a small model says when nothing is asked that it could work out, and how it declines what it can't do.
"""

from random import Random

from longjing.learning.corpus.document import Document
from longjing.tasks.conversation import TALK, reply

_SUBJECTS = list(TALK)


def write(rng: Random) -> Document:
    """One exchange, without reasoning; its style is `conversation`. Every saying goes with every answer."""
    prompts, answers = TALK[rng.choice(_SUBJECTS)]
    prompt, answer = rng.choice(prompts), rng.choice(answers)
    return Document(prompt, "", reply(answer, prompt, rng), "conversation", thinking=rng.random() < 0.5)
