"""One way of writing for what is written in many: Unicode, LaTeX's synonyms, a programmer's `sqrt(2)` and `2**10`."""

import json
import re
from pathlib import Path
from unicodedata import normalize

# latex_synonyms: how each is written here, and its names in LaTeX. known_to_algebra: commands; others it may leave out.
TABLES = json.loads(Path(__file__).with_name("notation.json").read_text("utf-8"))
# NFKC would make 52 of 5², 31/2 of 3½ and R of ℝ.
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₓᵢₖ]+")
_LEVEL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₓᵢₖ", "0123456789+-=()ni0123456789+-=()nxik")
_VULGAR = re.compile("[¼½¾⅐-⅞↉]")
_SIGNS = str.maketrans(TABLES["signs"])

_COMMAND = re.compile(
    r"\\\\(?:[ ]?\[[^\][]{0,20}\])?|\\(?:left|right)[ ]?\.|\\(?:[hv]space\*?|(?:text)?color)[ ]?\{[^{}]{0,20}\}"
    r"|\\(?:[A-Za-z]+\*?|.)|~|\s+",
    re.DOTALL,
)
_COMMANDS = {name: written for written, names in TABLES["latex_synonyms"].items() for name in names.split()}
_COMMANDS |= dict.fromkeys(" \n\t", " ")
_STYLE = re.compile(r"\\(text|roman|styled) ?\{([^{}]*)\}")
_SYMBOLS_ONLY = re.compile(r"[\d\s.,/+\-()%$\\^:]*|\([A-Za-z]\)")
_COUNTED = re.compile(r"(-?\d[\d.,]{0,40}) ?([A-Za-z\u4e00-\u9fff][^\d]*)")
_RUN = re.compile(r"\\text\{[^{}]*\}|\\[A-Za-z]+|[A-Za-z]+")
_UNITS_TOO = frozenset(["min", "sec", "max", "lg"])  # or other words, where no argument follows
_FUNCTIONS = frozenset(TABLES["functions"])
_RENAMED = TABLES["renamed"]
_CALL = re.compile(r"(?:(?<![A-Za-z\\])(exp|cbrt|abs)|\\(exp|sqrt)|(\^)) ?\(")
_MOST_CALLS = 100
_BARE_ROOT = re.compile(r"\\sqrt(\[\d\])? ?(\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z]))")
_BARE_POWER = re.compile(r"\^ ?(-?\d+|-[A-Za-z])")
_SHORT_TOP = re.compile(r"\\frac ?(\d|[A-Za-z](?![A-Za-z]))(?= ?[\d{A-Za-z])")
_SHORT_BOTTOM = re.compile(r"\\frac(\{[^{}]*\}) ?(\d|[A-Za-z])")
_SURE_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\{,\}\\!|\\,)(?=\d{3}(?!\d))")
_BOARD = re.compile(r"\\mathbb ?\{? ?([A-Z]) ?\}?")
_MEMBER_OF = re.compile(r"\\in ?\{? ?([NZQRC])(?![A-Za-z])(?: ?\})?")
_CONDITION = re.compile(r" ?\( ?([A-Za-z] ?\\in ?\\mathbb\{[NZ]\}[^()]{0,20})\)$")
_CIRCLE = re.compile(r"\^ ?(?:\\circ|\{ ?\\circ ?\})|\^ ?°|\^ ?\{ ?° ?\}")
_FRAMES = (("$$", "$$"), ("$", "$"), ("**", "**"), ("`", "`"), ('"', '"'))


def plain(text: str) -> str:
    """The text in one notation: single spaces, ASCII where there is such, LaTeX's commands by one name each, units and
    words in `\\text{...}` if they were, `°` and `%` for degrees and shares; without what frames it or ends it."""
    text = _RAISED.sub(lambda match: f"^{{{match[0].translate(_LEVEL)}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{match[0].translate(_LEVEL)}}}", text)
    text = _VULGAR.sub(_vulgar, text).translate(_SIGNS)
    text = normalize("NFKC", text).translate(_SIGNS)
    text = _COMMAND.sub(_command, _SURE_THOUSANDS.sub("", text))
    for _ in range(3):  # styles within styles
        text = _STYLE.sub(_styled, text)
    text = text.replace("\\styled", "").replace("\\roman", "\\text")
    text = unframed(_CIRCLE.sub("°", _BOARD.sub(r"\\mathbb{\1}", text)))
    text = text.replace("**", "^").replace("<=", "\\le ").replace(">=", "\\ge ").replace("!=", "\\ne ")
    text = text.replace("=>", "\\implies ").replace("->", "\\to ").replace(":=", "=").replace("==", "=")
    text = _calls(_RUN.sub(_named, text))
    text = _BARE_ROOT.sub(r"\\sqrt\1{\2}", text)
    text = _BARE_POWER.sub(r"^{\1}", text)
    text = _SHORT_BOTTOM.sub(r"\\frac\1{\2}", _SHORT_TOP.sub(r"\\frac{\1}", text))
    text = unframed(" ".join(_MEMBER_OF.sub(r"\\in \\mathbb{\1}", text).split()))
    text = _CONDITION.sub(r", \1", text)
    return TABLES["synonyms"].get(unwrapped(text).casefold(), text)


def unframed(text: str) -> str:
    """Without the dollars, stars, quotes and braces around it, and the marks that end it."""
    before = None
    while before != text:
        before = text
        text = text.strip()
        for start, end in _FRAMES:
            if len(text) > len(start + end) and text.startswith(start) and text.endswith(end):
                inner = text[len(start) : -len(end)]
                if start not in inner:
                    text = inner.strip()
        if not text.endswith(("...", "\\")):
            text = text.rstrip(".,;:?。 ")
    return text


def unwrapped(text: str) -> str:
    """What a single `\\text{...}` holds; else the text itself."""
    if text.startswith("\\text{") and text.endswith("}") and "{" not in text[6:]:
        return text[6:-1].strip().strip(".")
    return text


def _vulgar(match: re.Match[str]) -> str:
    top, bottom = normalize("NFKC", match[0]).split("\u2044")
    return f"\\frac{{{top}}}{{{bottom}}}"


def _command(match: re.Match[str]) -> str:
    written = match[0]
    if not written.startswith("\\"):
        return " "
    if written.startswith("\\\\"):
        return "\\\\ "  # the end of a row, whatever space follows it
    if written.startswith(
        ("\\hspace", "\\vspace", "\\color{", "\\textcolor{", "\\left.", "\\right.", "\\left .", "\\right .")
    ):
        return ""
    return _COMMANDS.get(written[1:], written)


def _styled(match: re.Match[str]) -> str:
    style, inner = match[1], match[2]
    core = inner.strip()
    if style == "styled" or _SYMBOLS_ONLY.fullmatch(core):
        return inner
    if style == "roman":
        if core in ("e", "i", "d"):
            return core
        if core in _FUNCTIONS or core in ("exp", "sqrt"):
            return f"\\{core} "
    if counted := _COUNTED.fullmatch(core):
        return f"{counted[1]} \\text{{{counted[2]}}}"
    return f"\\text{{{' '.join(core.split())}}}" if core.isascii() else f"\\text{{{core}}}"


def _named(match: re.Match[str]) -> str:
    """A function's or a letter's name, which needs no backslash where people write."""
    if match[0] in _UNITS_TOO and not match.string.startswith(("(", " (", "{"), match.end()):
        return match[0]
    name = _RENAMED.get(match[0], match[0])
    return f"\\{name} " if name in _FUNCTIONS or name in _RENAMED.values() else match[0]


def _calls(text: str) -> str:
    """`sqrt(2)`, `exp(x)` and `x^(n+1)` with braces, as many as anybody writes."""
    position = 0
    for _ in range(_MOST_CALLS):
        match = _CALL.search(text, position)
        if match is None:
            break
        end = closing(text, match.end() - 1)
        position = match.start()
        if end is None:
            position = match.end()
            continue
        name = match[1] or match[2] or match[3]
        text = text[: match.start()] + TABLES["calls"][name] % text[match.end() : end] + text[end + 1 :]
    return text


def closing(text: str, opening: int) -> int | None:
    """The index at which the parenthesis at `opening` closes."""
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    return None
