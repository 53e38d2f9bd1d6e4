"""Which language a chain of thought is written in: the measure behind R1's language-consistency reward.

That reward is the share of the target language's words in the chain of thought (DeepSeek-R1, arXiv 2501.12948
v2, section 3.2.1, equation 7); the paper leaves open what a word is. Here Chinese and English are told apart by
script: a Han character is a word (nobody has to cut Chinese into words), and so is a run of other letters. What is
written alike in all languages is no word: numbers, operators, LaTeX commands such as `\\boxed`, single letters
(unknowns), letters joined to digits (`3x`, `5cm`) and names such as `vs` and `sin`.

Other languages: a word in a script that the language isn't written in counts against it, and an identifier decides
between the languages of one script, a few words at a time, so that mixing within a sentence shows in the share.
"""

import re
from copy import copy
from functools import cache
from importlib import import_module
from typing import Any
from unicodedata import category, name, normalize

from longjing.errors import UserError
from longjing.problems.problem import Completion, Problem
from longjing.validation import read_yaml

_TABLES = read_yaml(__file__, "language.yaml", dict[str, Any])
_NOTATION, _UNSPACED, _RIVALS = (_TABLES[name].split() for name in ("notation", "unspaced", "rivals"))
_SCRIPTS = {code: frozenset(scripts.split()) for scripts, codes in _TABLES["scripts"].items() for code in codes.split()}
_LATIN_ONLY = frozenset({"LATIN"})
_HAN = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_TOKEN = re.compile(
    r"\\[A-Za-z]+|[A-Za-z]*\d[A-Za-z\d]*"  # what is no word
    rf"|(?P<zh>[{_HAN}])|(?P<latin>[{_LATIN}]+(?:['’][{_LATIN}]+)*)|(?P<other>[^\W\d_{_HAN}{_LATIN}]+)"
)
_CLAUSE = re.compile(r'[.,;:!?()\[\]\n"«»„“”—–。、،؛؟।]+')
# Words that are judged together, and the log odds at which the identifier is sure. Of 114 pieces of four words in 14
# languages in Latin script none was taken for another, of three words 5%, of two 15%, by log odds of 7 at the most.
# Of English ones 3% stay in doubt with four words, 54% with two. Han characters say less than words do.
_WINDOW, _SURE = 4, 10.0
_HAN_WINDOW, _HAN_SURE = 8, 15.0
_PIECE = 1000  # characters that are brought into the compatible form at once
_LONGEST_WORD = 100  # characters of a word that the identifier looks at


def share(text: str, language: str) -> float:
    """The share, 0 to 1, of the words of `text` that are of `language` (its ISO 639-1 code); 1 if it has none.

    For `zh` and `en` by script, so French counts as English there. For any other language by script and py3langid.
    Raises UserError if that isn't installed, or for a language that it doesn't know.
    """
    if language in ("en", "zh"):
        languages = _words(text)
        return languages.count(language) / len(languages) if languages else 1.0
    identifier = _identifier()
    if language not in identifier.nb_classes:
        codes = ", ".join(sorted({"en", "zh", *identifier.nb_classes}))
        raise UserError(f"no words can be told to be {language!r}; the languages are: {codes}")
    return _identified(text, language)


def language_reward(problem: Problem, completion: Completion) -> float:
    """The share of the words of the chain of thought that are of the problem's language.

    Without a chain of thought it is that of the answer, and 0 if there is none either: silence isn't consistent.
    """
    return consistency(completion.all_reasoning, completion.answer, problem.language)


def consistency(reasoning: str, answer: str, language: str) -> float:
    """`share` of the reasoning; of the answer where there is none, and 0 for silence."""
    text = reasoning or answer
    return share(text, language) if text else 0.0


def _plain(text: str) -> str:
    """In the compatible form (NFKC), word by word and long words in pieces: the time that it takes grows with the
    square of a run of combining marks, which may be a whole text."""
    return " ".join(
        "".join(normalize("NFKC", word[at : at + _PIECE]) for at in range(0, len(word), _PIECE))
        for word in text.split(" ")
    )


def _words(text: str) -> list[str]:
    """The language of each word by its script: `en`, `zh` or `other`."""
    words = []
    for token in _TOKEN.finditer(_plain(text)):
        kind, word = token.lastgroup, token[0]
        if kind == "zh" or (kind == "other" and len(word) > 1):
            words.append(kind)
        elif kind == "latin" and len(word) > 1 and word.lower() not in _NOTATION:
            words.append("en")
    return words


def _identified(text: str, language: str) -> float:
    """`share` for a language other than `zh` and `en`.

    The pieces that the identifier can't be sure of (`Donc x = 7.`) are put together and judged as one piece, in favour
    of `language` unless another is sure: so a short answer isn't punished, and English in small pieces isn't spared.
    """
    scripts = _SCRIPTS.get(language, _LATIN_ONLY)
    judge = _judge(language)
    space, size, sure = ("", _HAN_WINDOW, _HAN_SURE) if "CJK" in scripts else (" ", _WINDOW, _SURE)

    def lead(words: list[str]) -> float:
        """The log odds of `language` against the likeliest other."""
        scores = dict(judge.rank(space.join(word[:_LONGEST_WORD] for word in words)))
        return float(scores.pop(language) - max(scores.values()))

    right = wrong = 0
    doubtful = list[str]()
    for clause in _CLAUSE.split(_plain(text)):
        words, foreign = _words_in(clause, scripts)
        wrong += foreign
        windows = max(1, len(words) // size)
        for index in range(windows):
            window = words[len(words) * index // windows : len(words) * (index + 1) // windows]
            if not window:
                continue
            odds = lead(window) if judge else sure
            if odds < -sure:
                wrong += len(window)
            elif odds < sure:
                doubtful += window
            else:
                right += len(window)
    if doubtful and lead(doubtful) < -sure:
        wrong += len(doubtful)
    else:
        right += len(doubtful)
    return right / (right + wrong) if right + wrong else 1.0


def _words_in(clause: str, scripts: frozenset[str]) -> tuple[list[str], int]:
    """The words that are in one of the scripts, and the number of the others. Where no spaces are written, five
    characters are a word. A single letter is one in its own language (`и`, `は`), but in Latin and Greek an unknown."""
    words, foreign = list[str](), 0
    for token in _marked_token().finditer(clause):
        kind, word = token.lastgroup, token[0]
        if kind is None or word.lower() in _NOTATION:
            continue
        script = "CJK" if kind == "zh" else _script(word[0])
        ours = script in scripts
        if len(word) == 1 and kind != "zh" and not (ours and script not in ("LATIN", "GREEK")):
            continue
        cut = [word[at : at + 5] for at in range(0, len(word), 5)] if script in _UNSPACED else [word]
        if ours:
            words += cut
        else:
            foreign += len(cut)
    return words, foreign


@cache
def _script(letter: str) -> str:
    return name(letter, "?").split()[0]  # `CYRILLIC SMALL LETTER A`


@cache
def _marked_token() -> re.Pattern[str]:
    """`_TOKEN` with the marks that Devanagari, Thai and others write among their letters, and apostrophes in all."""
    marks = "\u200c\u200d" + "".join(chr(code) for code in range(0x300, 0x10000) if category(chr(code))[0] == "M")
    latin, other = rf"[{_LATIN}{marks}]+", rf"[^\W\d_{_HAN}{_LATIN}](?:[^\W\d_{_HAN}{_LATIN}]|[{marks}])*"
    return re.compile(
        r"\\[A-Za-z]+|[A-Za-z]*\d[A-Za-z\d]*"
        rf"|(?P<zh>[{_HAN}])|(?P<latin>(?=[{_LATIN}]){latin}(?:['’]{latin})*)|(?P<other>{other}(?:['’]{other})*)"
    )


@cache
def _judge(language: str) -> Any:
    """The identifier for `language` and what it could be taken for; None if it has its script to itself."""
    scripts = _SCRIPTS.get(language, _LATIN_ONLY)
    rivals = [each for each in _RIVALS if each != language and scripts & _SCRIPTS.get(each, _LATIN_ONLY)]
    if not rivals:
        return None
    judge = copy(_identifier())
    judge.set_languages([language, *rivals])
    return judge


@cache
def _identifier() -> Any:
    try:
        module = import_module("py3langid.langid")
    except ModuleNotFoundError:
        raise UserError(
            "telling languages other than zh and en apart needs py3langid: pip install 'longjing[languages]'"
        ) from None
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE)
