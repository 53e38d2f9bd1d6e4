"""The share of a language's words: what counts as a word, and what doesn't."""

import sys
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.problems import language
from longjing.problems.language import share

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
@pytest.mark.parametrize("target", ["en", "zh", "fr", "ru", "ja"])
def test_hostile_texts_cost_little(unit: str, target: str) -> None:
    size = 200_000
    if target not in ("en", "zh"):
        pytest.importorskip("py3langid")
        share("mot", target)  # reads the identifier's model
        size = 50_000
    start = process_time()
    share(unit * (size // len(unit)), target)
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


ENGLISH_TEXT = "First we add three and four, so we get seven. Then, that is, we multiply it by two, and we are done."
RIGHT, MIXED, WRONG = (0.99, 1.0), (0.25, 0.75), (0.0, 0.1)


@pytest.mark.parametrize(
    ("language", "text", "bounds"),
    [
        ("fr", "Donc x = 7.", RIGHT),
        ("fr", "Oui, \\boxed{7}", RIGHT),
        ("fr", "D'abord on additionne trois et quatre. On a donc 3 + 4 = 7, soit sept.", RIGHT),
        ("fr", "We add three and four which gives seven, donc la réponse est sept.", MIXED),
        ("fr", "We add three and four donc la réponse est sept", MIXED),  # no punctuation to go by
        ("fr", "因为三加四等于七，donc la somme de ces deux nombres est égale à sept.", MIXED),
        ("fr", "Zuerst addiere ich die beiden Zahlen. Donc la réponse est bien sept.", MIXED),
        ("de", "Also x = 7.", RIGHT),
        ("de", "Moment, das stimmt so nicht.", RIGHT),
        ("de", "So we have to subtract five here, also ist das Ergebnis zwei.", MIXED),
        ("es", "Entonces x = 7.", RIGHT),
        ("es", "Sí, la respuesta es 7.", RIGHT),
        ("es", "Let me check the result again: la respuesta es siete.", MIXED),
        ("pt", "A resposta é 7.", RIGHT),
        ("pt", "Logo, x = 7, porque 3 + 4 = 7.", RIGHT),
        ("pt", "Wait, that can not be right. Então a resposta não é sete.", MIXED),
        ("it", "Quindi x = 7.", RIGHT),
        ("it", "Let me check the sum again, quindi la risposta è sette.", MIXED),
        ("ru", "Итак, x = 7.", RIGHT),
        ("ru", "Ответ: 7", RIGHT),
        ("ru", "We add three and four, значит, ответ равен семи.", MIXED),
        ("ru", "Спочатку додамо три і чотири, вийде сім. Відповідь дорівнює семи.", WRONG),  # Ukrainian
        ("ar", "الجواب هو 7.", RIGHT),
        ("ar", "We add three and four, إذن الجواب هو سبعة.", MIXED),
        ("ja", "答えは7です。", RIGHT),
        ("ja", "以上より、合計金額三十円。", RIGHT),  # some clauses are Han characters only
        ("ja", "We add three and four, 答えは七です。", MIXED),
        ("ja", "首先把三和四相加，得到七。次に結果を二倍します。", MIXED),
        ("ja", "首先把三和四相加，得到七。然后把结果乘以二。", WRONG),
        ("ko", "답은 7입니다.", RIGHT),
        ("ko", "We add three and four, 그래서 정답은 칠 입니다.", MIXED),
        ("hi", "इसलिए उत्तर 7 है।", RIGHT),
        ("th", "ดังนั้นคำตอบคือ 7", RIGHT),
        ("th", "we add three and four ดังนั้นคำตอบคือเจ็ด", MIXED),
        *[(language, ENGLISH_TEXT, WRONG) for language in ("fr", "de", "es", "pt", "it", "ru", "ar", "ja", "ko")],
    ],
)  # fmt: skip
def test_short_and_mixed_texts(language: str, text: str, bounds: tuple[float, float]) -> None:
    """A short answer in the right language isn't punished, and mixing shows within a sentence."""
    pytest.importorskip("py3langid")
    least, most = bounds
    assert least <= share(text, language) <= most


def test_the_share_falls_as_more_of_another_language_is_mixed_in() -> None:
    pytest.importorskip("py3langid")
    shares = [share(FRENCH * (6 - english) + ENGLISH_TEXT * english, "fr") for english in range(7)]
    assert shares == sorted(shares, reverse=True) and len(set(shares)) == 7
    assert shares[0] == 1 and shares[-1] < 0.1


@given(st.text(), st.sampled_from(["fr", "sr", "ru", "ja", "ko", "th", "hi"]))
def test_shares_of_other_languages_are_shares(text: str, target: str) -> None:
    pytest.importorskip("py3langid")
    assert 0 <= share(text, target) <= 1


def test_without_the_identifier_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language._identifier.cache_clear()
    with pytest.raises(UserError, match="longjing\\[languages\\]"):
        share(GERMAN, "de")
    assert share(GERMAN, "en") == 1  # by script
    language._identifier.cache_clear()
