"""Where the answer is, and what the format reward pays for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.problems import boxed, format_reward
from longjing.tasks import Completion

balanced = st.recursive(
    st.text(alphabet="ab1+ ", max_size=4),
    lambda sub: st.lists(st.one_of(sub, sub.map(lambda s: "{" + s + "}")), max_size=3).map("".join),
    max_leaves=6,
)
around = st.text(alphabet="ab {}\n\\", max_size=10)


@given(balanced, around, around)
def test_the_one_box_is_found_with_its_braces(content: str, before: str, after: str) -> None:
    assert boxed(f"{before}\\boxed{{{content}}}{after}") == content.strip()


@given(balanced, balanced, around)
def test_two_boxes_are_none(first: str, second: str, between: str) -> None:
    assert boxed(f"\\boxed{{{first}}}{between}\\boxed{{{second}}}") is None
    assert boxed(f"\\boxed{{{first}\\boxed{{{second}}}}}") is None


@pytest.mark.parametrize("text", ["", "45", "\\boxed", "\\boxed{", "\\boxed{1", "\\boxed{{1}", "boxed{1}", "\\boxed 1"])
def test_no_box(text: str) -> None:
    assert boxed(text) is None


def test_an_escaped_brace_neither_opens_nor_closes() -> None:
    system = "\\left\\{\\begin{array}{l}x=1\\\\y=2\\end{array}\\right."
    for content in (system, "\\{1,2\\}", "\\}", "a\\\\"):
        assert boxed(f"so \\boxed{{{content}}}.") == content
    assert boxed("\\boxed{45\\}") is None


FORMS = [
    # text, prefilled, truncated, reward
    ("so\n</think>\n\n\\boxed{45}", True, False, 1.0),
    ("so\n</think>\n\nThe answer is \\boxed{45}.", True, False, 1.0),
    ("<think>so</think>\\boxed{45}", False, False, 1.0),
    ("so\n</think>\n\n\\boxed{45}", True, True, 0.0),  # cut off
    ("", True, False, 0.0),  # prefilled, and nothing else: not a constant
    ("so \\boxed{45}", True, False, 0.0),  # never closed
    ("so", True, False, 0.0),
    ("</think>\n\n\\boxed{45}", True, False, 0.0),  # no reasoning
    (" \n</think>\n\n\\boxed{45}", True, False, 0.0),
    ("\\boxed{45}", False, False, 0.0),
    ("so</think>\\boxed{45}", False, False, 0.0),  # never opened
    ("<think>so</think>\\boxed{45}", True, False, 0.0),  # opened twice
    ("so</think>a</think>\\boxed{45}", True, False, 0.0),  # closed twice
    ("so</think><think>\\boxed{45}", True, False, 0.0),  # opened again
    ("so</think>45", True, False, 0.0),  # no box
    ("so</think>\\boxed{}", True, False, 0.0),
    ("so</think>\\boxed{ }", True, False, 0.0),
    ("so</think>\\boxed{45}\\boxed{45}", True, False, 0.0),
    ("so</think>\\boxed{45", True, False, 0.0),
    ("is it \\boxed{45}?</think>\\boxed{45}", True, False, 0.0),  # a box in the reasoning
]


@pytest.mark.parametrize(("text", "prefilled", "truncated", "reward"), FORMS)
def test_format_reward(text: str, prefilled: bool, truncated: bool, reward: float) -> None:
    assert format_reward(Completion.parse(text, prefilled, truncated)) == reward
