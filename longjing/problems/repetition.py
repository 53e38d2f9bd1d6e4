"""How much of a text repeats itself: a model that runs in circles, from a reward's or a filter's point of view."""

import re

# A word, a number, a sign; Chinese writes no spaces, so each of its characters.
_UNIT = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+|\d+|[^\w\s]|_")


def repetition(text: str, size: int = 12) -> float:
    """The share of the windows of `size` words, numbers and signs that occurred in the text before, in [0, 1).

    The measure seq-rep-n of Welleck et al. (arXiv 1908.04319, section 3.2). A text said k times over has about
    1 - 1/k. The size is that of a line of reasoning or two, so that lines of one pattern don't count as one.
    """
    units = _UNIT.findall(text)
    windows = [tuple(units[start : start + size]) for start in range(len(units) - size + 1)]
    return 1 - len(set(windows)) / len(windows) if windows else 0.0
