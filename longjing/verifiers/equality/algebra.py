"""Expressions, by `math-verify` and SymPy. Nothing here bounds time: the worker does."""

from functools import lru_cache
from importlib import import_module
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify
from math_verify.parser import NormalizationConfig

_sympy = import_module("sympy")
# As it is written: the library would leave out `t`, `h` and `way` as units, and look for a number elsewhere.
_AS_WRITTEN = LatexExtractionConfig(
    try_extract_without_anchor=False,
    boxed_match_priority=0,
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
    ),
)


@lru_cache(maxsize=512)
def _read(text: str) -> Any:
    # In LaTeX a bare `%` begins a comment, which would hide what follows it.
    text = text.replace("°", "^{\\circ}").replace("%", "\\%")
    return [_complex(each) for each in parse(f"\\boxed{{{text}}}", [_AS_WRITTEN], parsing_timeout=None)]


def _complex(read: Any) -> Any:
    """With `i` as the imaginary unit: the library takes it for an unknown, so that (1+i)^2 wouldn't be 2i."""
    units = [each for each in getattr(read, "free_symbols", ()) if each.name == "i"]
    return read.subs(dict.fromkeys(units, _sympy.I)) if units and isinstance(read, _sympy.Expr) else read


def equal(gold: str, answer: str) -> bool:
    """Whether two expressions or equations say the same. Raises whatever the libraries raise."""
    golds, answers = _read(gold), _read(answer)
    if not golds:
        raise ValueError(f"the gold answer can't be read: {gold[:100]!r}")
    options = {"timeout_seconds": None, "raise_on_error": True, "allow_set_relation_comp": True}
    if not verify(golds, answers, **options):
        return False
    percent = "%" in gold + answer  # 50% is 0.5, and it is 50, too
    return percent or not answers or _close(golds[0], answers[0])


def _close(gold: Any, answer: Any) -> bool:
    """Whether two numbers that count as equal are: `verify` rounds to six decimals, so 1/2004! is 1/2006!."""
    if not (isinstance(gold, _sympy.Expr) and isinstance(answer, _sympy.Expr)):
        return True
    if gold == answer or gold.free_symbols or answer.free_symbols:
        return True
    # Fifty digits: enough to tell apart what `verify` rounded, and bounded, where exact arithmetic isn't.
    one, other = gold.evalf(50), answer.evalf(50)
    if not (one.is_number and other.is_number and one.is_finite and other.is_finite):
        return True
    rounded = gold.has(_sympy.Float) or answer.has(_sympy.Float)
    return bool(abs(one - other) <= abs(one) * (1e-6 if rounded else 1e-30))
