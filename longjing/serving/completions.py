"""POST /v1/completions: text continued as it stands, in OpenAI's older form."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from longjing.serving.chat import finite, usage
from longjing.serving.schemas import CompletionRequest
from longjing.serving.service import Served
from longjing.serving.worker import Job, Mailbox, Piece
from longjing.text import Detokenizer, Tokenizer


class CompletionReply:
    """Writes the replies to one request."""

    def __init__(self, asked: CompletionRequest, served: Served) -> None:
        self._asked, self._served = asked, served
        self._id, self._created = f"cmpl-{secrets.token_hex(12)}", int(time.time())

    def whole(self, mailbox: Mailbox, pieces: Sequence[Piece]) -> dict[str, Any]:
        """All of it, when it is there."""
        choices = [
            self._choice(number, piece, self._echo(job), self._offsets())
            for number, (job, piece) in enumerate(zip(mailbox.jobs, pieces, strict=True))
        ]
        return self._head() | {"choices": choices, "usage": usage(mailbox, self._asked.n)}

    async def events(self, mailbox: Mailbox) -> AsyncIterator[dict[str, Any] | str]:
        """It in pieces."""
        so_far = {"usage": None} if self._asked.wants_usage else {}
        offsets = [self._offsets() for _ in mailbox.jobs]
        if self._asked.echo:
            for number, job in enumerate(mailbox.jobs):
                choice = self._choice(number, Piece(), self._echo(job), offsets[number])
                yield self._head() | {"choices": [choice]} | so_far
        async for number, piece in mailbox.pieces():
            yield self._head() | {"choices": [self._choice(number, piece, "", offsets[number])]} | so_far
        if self._asked.wants_usage:
            yield self._head() | {"choices": [], "usage": usage(mailbox, self._asked.n)}
        yield "[DONE]"

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id, "object": "text_completion", "created": self._created, "model": self._served.name
        }  # fmt: skip

    def _echo(self, job: Job) -> str:
        return self._served.tokenizer.decode(job.request.prompt) if self._asked.echo else ""

    def _offsets(self) -> "Offsets":
        return Offsets(self._served.tokenizer)

    def _choice(self, number: int, piece: Piece, echo: str, offsets: "Offsets") -> dict[str, Any]:
        return {
            "index": number, "text": echo + piece.answer, "finish_reason": piece.finish_reason,
            "logprobs": self._logprobs(piece, offsets),
        } | ({"notices": piece.notices} if piece.notices else {})  # fmt: skip

    def _logprobs(self, piece: Piece, offsets: "Offsets") -> dict[str, Any] | None:
        if self._asked.logprobs is None:
            return None
        name = partial(_name, self._served.tokenizer)
        shown = [token for token in piece.tokens if token.id not in self._served.engine.end_tokens]
        return {
            "tokens": [name(token.id) for token in shown],
            "token_logprobs": [finite(token.logprob) for token in shown],
            "top_logprobs": [{name(id): finite(value) for id, value in token.top} for token in shown],
            "text_offset": [offsets.add(token.id) for token in shown],
        }


class Offsets:
    """Where the tokens of a text begin in it, in characters: several where one character is written with several."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._detokenizer, self._length = Detokenizer(tokenizer), 0

    def add(self, token: int) -> int:
        """Where the next token begins."""
        begins = self._length
        self._length += len(self._detokenizer.add(token))
        return begins


def _name(tokenizer: Tokenizer, token: int) -> str:
    """Its text, or what OpenAI writes for a piece of a character."""
    written = tokenizer.token_bytes(token)
    try:
        return written.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)
