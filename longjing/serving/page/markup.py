"""What a model wrote, as Markdown that shows it and does nothing else; and back."""

import re

from longjing.tasks.answer import BOX

_FENCE = "```"
_TIMES = re.compile(r"(?<=[\w)])\*(?=[\w(])")  # 7*5, which would begin an emphasis


def to_markdown(text: str) -> str:
    """Without HTML and images, for what a model writes is hostile input; with each `\\boxed{...}` as a formula, which a
    page draws. What stands between code fences stays as it is, but for the HTML."""
    parts = text.replace("<", "&lt;").replace("![", "!\\[").split(_FENCE)
    return _FENCE.join(part if number % 2 else _formulas(part) for number, part in enumerate(parts))


def from_markdown(markdown: str) -> str:
    """The text that `to_markdown` was given."""
    text = markdown.replace(f"\\({BOX}", BOX).replace("}\\)", "}").replace("\\*", "*")
    return text.replace("!\\[", "![").replace("&lt;", "<")


def _formulas(text: str) -> str:
    shown, rest = "", text
    while (at := rest.find(BOX)) >= 0:
        end, depth = at + len(BOX), 1
        while end < len(rest) and depth:
            depth += {"{": 1, "}": -1}.get(rest[end], 0)
            end += 1
        box = rest[at:end]  # one that isn't closed yet is left as it is
        shown += _TIMES.sub(r"\\*", rest[:at]) + (box if depth else f"\\({box}\\)")
        rest = rest[end:]
    return shown + _TIMES.sub(r"\\*", rest)
