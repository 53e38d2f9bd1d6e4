"""Which language a chain of thought is written in: the measure behind R1's language-consistency reward.

That reward is the share of the target language's words in the chain of thought (DeepSeek-R1, arXiv 2501.12948
v2, section 3.2.1, equation 7); the paper leaves open what a word is. Here Chinese and English are told apart by
script: a Han character is a word (nobody has to cut Chinese into words), and so is a run of other letters. What is
written alike in all languages is no word: numbers, operators, LaTeX commands such as `\\boxed`, single letters
(unknowns), letters joined to digits (`3x`, `5cm`) and names such as `vs` and `sin`.
"""

import re
from functools import cache
from importlib import import_module
from typing import Any
from unicodedata import normalize

from longjing.errors import UserError
from longjing.tasks.base import Completion, Problem

_NOTATION = {"vs", "eq", "mod", "gcd", "lcm", "max", "min", "lim", "log", "ln", "exp", "sin", "cos", "tan"}
_HAN = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_TOKEN = re.compile(
    r"\\[A-Za-z]+|[A-Za-z]*\d[A-Za-z\d]*"  # what is no word
    rf"|(?P<zh>[{_HAN}])|(?P<latin>[{_LATIN}]+(?:['’][{_LATIN}]+)*)|(?P<other>[^\W\d_{_HAN}{_LATIN}]+)"
)
_SENTENCE = re.compile(r"(?<=[.!?。！？\n])")
_PASSAGE = 8  # words; an identifier is a poor judge of fewer


def share(text: str, language: str) -> float:
    """The share, 0 to 1, of the words of `text` that are of `language` (its ISO 639-1 code); 1 if it has none.

    For `zh` and `en` by script, so French counts as English there. For any other language by py3langid,
    passage by passage of at least eight words. Raises UserError if that isn't installed, or for a language
    that it doesn't know.
    """
    if language in ("en", "zh"):
        found = _words(text)
        return found.count(language) / len(found) if found else 1.0
    identifier = _identifier()
    if language not in identifier.nb_classes:
        known = ", ".join(sorted({"en", "zh", *identifier.nb_classes}))
        raise UserError(f"no words can be told to be {language!r}; the languages are: {known}")
    passages = [(passage, len(_words(passage))) for passage in _passages(text)]
    total = sum(count for _, count in passages)
    right = sum(count for passage, count in passages if count and identifier.classify(passage)[0] == language)
    return right / total if total else 1.0


def language_reward(problem: Problem, completion: Completion) -> float:
    """The share of the words of the chain of thought that are of the problem's language.

    Without a chain of thought it is that of the answer, and 0 if there is none either: silence isn't consistent.
    """
    return consistency(completion.all_reasoning, completion.answer, problem.language)


def consistency(reasoning: str, answer: str, language: str) -> float:
    """`share` of the reasoning; of the answer where there is none, and 0 for silence."""
    text = reasoning or answer
    return share(text, language) if text else 0.0


def _words(text: str) -> list[str]:
    """The language of each word by its script: `en`, `zh` or `other`."""
    words = []
    for token in _TOKEN.finditer(normalize("NFKC", text)):
        kind, word = token.lastgroup, token[0]
        if kind == "zh" or (kind == "other" and len(word) > 1):
            words.append(kind)
        elif kind == "latin" and len(word) > 1 and word.lower() not in _NOTATION:
            words.append("en")
    return words


def _passages(text: str) -> list[str]:
    """The text in pieces of whole sentences, each long enough to be judged, unless the text isn't."""
    passages, counts = [""], [0]
    for sentence in _SENTENCE.split(text):
        if counts[-1] >= _PASSAGE:
            passages.append("")
            counts.append(0)
        passages[-1] += sentence
        counts[-1] += len(_words(sentence))
    if len(passages) > 1 and counts[-1] < _PASSAGE:
        rest = passages.pop()
        passages[-1] += rest
    return passages


@cache
def _identifier() -> Any:
    try:
        module = import_module("py3langid.langid")
    except ModuleNotFoundError:
        raise UserError(
            "telling languages other than zh and en apart needs py3langid: pip install 'longjing[languages]'"
        ) from None
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE)
