"""The share of a language's words: what counts as a word, and what doesn't."""

import sys
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.tasks import language
from longjing.tasks.language import share

ENGLISH = st.sampled_from(["Wait", "search", "Maybe", "Let's", "naïve", "that's", "ＯＫ"])
CHINESE = st.sampled_from(["等", "找", "试", "可", "𠮷", "々"])
NEITHER = st.sampled_from(["слово", "かな", "한국어", "λόγος"])
NO_WORDS = st.sampled_from(
    ["31-6=25", "vs", "25", "\\boxed{7}", "\\frac{1}{2}", "x", "3x", "x2", "5cm", "２５", "²", "√", "！", "。", "≈",
     "Max", "π", "\n", "_", "½"]
)  # fmt: skip


@given(st.lists(ENGLISH | CHINESE | NEITHER | NO_WORDS))
def test_the_share_is_that_of_the_words(parts: list[str]) -> None:
    """Whatever stands between them: numbers, operators, commands, unknowns and notation don't count."""
    text = " ".join(parts)
    chinese = sum(part in {"等", "找", "试", "可", "𠮷", "々"} for part in parts)
    foreign = sum(part in {"слово", "かな", "한국어", "λόγος"} for part in parts)
    english = sum(part in {"Wait", "search", "Maybe", "Let's", "naïve", "that's", "ＯＫ"} for part in parts)
    words = chinese + foreign + english
    assert share(text, "zh") == (pytest.approx(chinese / words) if words else 1.0)
    assert share(text, "en") == (pytest.approx(english / words) if words else 1.0)


@given(st.text())
def test_shares_are_shares(text: str) -> None:
    chinese, english = share(text, "zh"), share(text, "en")
    assert 0 <= chinese <= 1 and 0 <= english <= 1
    assert chinese + english <= 1 + 1e-9 or chinese == english == 1  # there are no words


@given(st.text(), st.text(), st.sampled_from(["en", "zh"]))
def test_a_text_of_two_parts_lies_between_them(one: str, other: str, target: str) -> None:
    together = share(f"{one}\n{other}", target)
    shares = sorted(share(part, target) for part in (one, other) if language._words(part))
    assert not shares or shares[0] - 1e-9 <= together <= shares[-1] + 1e-9


@pytest.mark.parametrize(
    ("text", "target", "wanted"),
    [
        ("", "zh", 1.0),
        ("31-6=25 vs 25", "zh", 1.0),
        ("等等，用 31 和 6。31-6=25 vs 25 对了！", "zh", 1.0),
        ("等等，用 31 和 6。31-6=25 vs 25 yes!", "zh", 4 / 5),
        ("Wait, 31 and 6. 31-6=25 vs 25 yes!", "en", 1.0),
        ("Wait, 31 和 6", "en", 1 / 2),
        ("等wait等wait", "zh", 1 / 2),  # no spaces between
        ("解方程 3x+5=2x, x=-5", "zh", 1.0),
        ("\\text{所以} \\boxed{x=3}", "zh", 1.0),
        ("I can’t", "en", 1.0),
    ],
)
def test_examples(text: str, target: str, wanted: float) -> None:
    assert share(text, target) == pytest.approx(wanted)


@pytest.mark.parametrize("unit", ["a", "3", "a3", "\\a", "等", "a'", "é", "слово", "\u0301"])
@pytest.mark.parametrize("target", ["en", "zh"])
def test_hostile_texts_cost_little(unit: str, target: str) -> None:
    start = process_time()
    share(unit * (200_000 // len(unit)), target)
    assert process_time() - start < 1.5


GERMAN = "Zuerst addiere ich die beiden Zahlen, und dann ziehe ich die dritte davon ab. Das ist die Lösung. "
FRENCH = "D'abord j'additionne les deux nombres, puis je soustrais le troisième. Voilà donc la réponse. "


def test_other_languages_are_identified() -> None:
    pytest.importorskip("py3langid")
    assert share(GERMAN * 3, "de") == 1 and share(FRENCH * 3, "de") == 0
    mixed = share(GERMAN * 3 + FRENCH * 3, "de")
    assert 0.3 < mixed < 0.7 and mixed + share(GERMAN * 3 + FRENCH * 3, "fr") == pytest.approx(1, abs=0.2)
    assert share("1+2=3", "de") == 1
    assert share("Das ist die Lösung: 3+4=7.", "de") == 1
    with pytest.raises(UserError, match="'xx'.*de.*zh"):
        share(GERMAN, "xx")


def test_without_the_identifier_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language._identifier.cache_clear()
    with pytest.raises(UserError, match="longjing\\[languages\\]"):
        share(GERMAN, "de")
    assert share(GERMAN, "en") == 1  # by script
    language._identifier.cache_clear()
