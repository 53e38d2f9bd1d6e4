"""A text goes in circles exactly when its end is one block over and over."""

from hypothesis import given
from hypothesis import strategies as st

from longjing.chat.reasoning_controller import LONGEST, RepetitionDetector


def goes_in_circles(tokens: list[int]) -> bool:
    """By the definition: some block fills the end four times over, and 64 tokens at least."""
    for period in range(1, LONGEST + 1):
        length = max(4 * period, 64)
        end = tokens[-length:]
        if len(end) == length and all(end[n] == end[n - period] for n in range(period, length)):
            return True
    return False


@given(
    st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(1, 70), st.lists(st.integers(0, 3), max_size=3),
)  # fmt: skip
def test_as_the_definition_says(before, block, times, after):
    tokens = before + (block * times)[:400] + after
    circles = RepetitionDetector()
    for index, token in enumerate(tokens):
        circles.add(token)
        if index % 7 == 0 or index > len(tokens) - 10:
            assert circles.repeats == goes_in_circles(tokens[: index + 1])


def test_the_longest_block():
    for period, repeats in ((LONGEST, True), (LONGEST + 1, False)):
        circles = RepetitionDetector()
        for index in range(5 * period):
            circles.add(index % period)
        assert circles.repeats == repeats
