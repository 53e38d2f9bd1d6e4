"""Text: the tokenizer, the chat template, and the machine that tells reasoning from answer."""

from longjing.text.detokenizer import Detokenizer
from longjing.text.reasoning import Delta, Parsed, ReasoningStream, parse
from longjing.text.tokenizer import Tokenizer

__all__ = ["Delta", "Detokenizer", "Parsed", "ReasoningStream", "Tokenizer", "parse"]
