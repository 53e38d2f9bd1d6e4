"""What a model wrote, as Markdown and back."""

from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from longjing.serving.page.markdown import escape_markdown, from_markdown, to_markdown

WORDS = [
    "7*5",
    "a*(b",
    "\\boxed{",
    "\\{",
    "}",
    "{",
    "x",
    " ",
    "\n",
    "<b>",
    "&",
    "![i](u)",
    "12",
    "```",
    "~~~",
    "mermaid",
    "**bold**",
    "$",
    "<",
]


@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_there_and_back(text):
    assert from_markdown(to_markdown(text)) == text


@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_no_markup_is_left(text):
    shown = to_markdown(text)
    assert "<" not in shown and "![" not in shown and "```mermaid" not in shown and "~~~mermaid" not in shown


@given(st.text() | st.lists(st.sampled_from(WORDS)).map("".join))
def test_names_are_shown_letter_by_letter(text):
    shown = escape_markdown(text)
    assert unescape(shown) == " ".join(text.split())
    assert not set(shown) & set("<>[]()!*_`~|$\\/:.\"'\n")


def test_boxes_become_formulas_once_they_are_closed():
    assert to_markdown("so \\boxed{3*{4}} it") == "so \\(\\boxed{3*{4}}\\) it"
    assert to_markdown("\\boxed{\\left\\{x\\right.} 3*4") == "\\(\\boxed{\\left\\{x\\right.}\\) 3\\*4"
    assert to_markdown("so \\boxed{3*{4}") == "so \\boxed{3*{4}"
    assert to_markdown("```\n3*4 \\boxed{3*4}\n```") == "```\n3*4 \\boxed{3*4}\n```"
    assert to_markdown("3*4*(5)") == "3\\*4\\*(5)"
