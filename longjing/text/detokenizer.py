"""Token ids to text as they come."""

from longjing.text.tokenizer import Tokenizer


class Detokenizer:
    """Ids to text as they come; unfinished characters wait. All pieces together are `decode` of all ids, or, if they
    go on with a text (`continues`), `decode_continuation`."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = False, continues: bool = False) -> None:
        self._tokenizer, self._skip_special_tokens = tokenizer, skip_special_tokens
        self._ids = [*tokenizer.anchor] if continues else []  # since the text last ended in a whole character
        self._sent = len(self._text()) if self._ids else 0  # how much of their text was handed out

    def add(self, token_id: int) -> str:
        """The text that is certain now: nothing, where the token may be a part of a character."""
        self._ids.append(token_id)
        if self._skip_special_tokens and self._tokenizer.falls_back_to_bytes and self._tokenizer.is_special(token_id):
            self._ids.pop()
            return ""
        text = self._text()
        if self._tokenizer.falls_back_to_bytes:
            # A run of bytes is text, or each of them is a U+FFFD: nobody knows before it ends.
            certain = "" if self._tokenizer.is_byte(token_id) else text
        else:
            certain = text.removesuffix("\ufffd")  # an unfinished character shows as exactly one of these
        piece = text[self._sent : len(certain)]
        self._sent = max(self._sent, len(certain))
        if certain == text:
            # Sentencepiece's first space vanishes, so that one token must stand before what follows.
            self._ids = [token_id] if self._tokenizer.falls_back_to_bytes else []
            self._sent = len(self._text())
        return piece

    def flush(self) -> str:
        """What is left when no more ids come."""
        rest = self._text()[self._sent :]
        self._ids, self._sent = [], 0
        return rest

    def _text(self) -> str:
        return self._tokenizer.decode(self._ids, self._skip_special_tokens)
