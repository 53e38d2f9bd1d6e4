"""What a model wrote, as Markdown that shows it and does nothing else; and back."""

import re

from longjing.problems.answer import BOX

_FENCE = "```"
# A diagram would be drawn by a library that loads what it names; with the space it is code like any other.
_DIAGRAM, _DRAWN = re.compile(r"([`~]{3})( *mermaid)", re.I), re.compile(r"([`~]{3}) ( *mermaid)", re.I)
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_TIMES = re.compile(r"(?<=[\w)])\*(?=[\w(])")  # 7*5, which would begin an emphasis


def to_markdown(text: str) -> str:
    """Without HTML, images and diagrams, for it is hostile input; each `\\boxed{...}` outside of code as a formula."""
    text = _DIAGRAM.sub(r"\1 \2", text.replace("<", "&lt;").replace("![", "!\\["))
    return _FENCE.join(part if number % 2 else _formulas(part) for number, part in enumerate(text.split(_FENCE)))


def from_markdown(markdown: str) -> str:
    """The text that `to_markdown` was given."""
    text = markdown.replace(f"\\({BOX}", BOX).replace("}\\)", "}").replace("\\*", "*")
    return _DRAWN.sub(r"\1\2", text.replace("!\\[", "![").replace("&lt;", "<"))


def escape_markdown(text: str) -> str:
    """A name or a sentence of somebody else's as Markdown that shows it letter by letter, in one line."""
    return _PUNCTUATION.sub(lambda sign: f"&#{ord(sign[0])};", " ".join(text.split()))


def _formulas(text: str) -> str:
    shown, rest = "", text
    while (at := rest.find(BOX)) >= 0:
        end, depth = at + len(BOX), 1
        while end < len(rest) and depth:
            depth += {"{": 1, "}": -1}.get(rest[end], 0)
            end += 2 if rest[end] == "\\" else 1  # an escaped brace is a sign
        box = rest[at:end]  # one that isn't closed yet is left as it is
        shown += _TIMES.sub(r"\\*", rest[:at]) + (box if depth else f"\\({box}\\)")
        rest = rest[end:]
    return shown + _TIMES.sub(r"\\*", rest)
