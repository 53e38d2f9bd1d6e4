"""POST /v1/completions: text continued as it stands, in OpenAI's older form."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from longjing.serving.chat import finite, usage
from longjing.serving.schemas import CompletionRequest
from longjing.serving.service import Served
from longjing.serving.worker import Job, ResponseDelta, ResponseStream
from longjing.text import Detokenizer, Tokenizer


class CompletionReply:
    """Writes the replies to one request."""

    def __init__(self, asked: CompletionRequest, served: Served) -> None:
        self._asked, self._served = asked, served
        self._id, self._created = f"cmpl-{secrets.token_hex(12)}", int(time.time())

    def whole(self, mailbox: ResponseStream, pieces: Sequence[ResponseDelta]) -> dict[str, Any]:
        """All of it, when it is there."""
        choices = [
            self._choice(number, piece, Offsets(self._served.tokenizer), self._echoed(job))
            for number, (job, piece) in enumerate(zip(mailbox.jobs, pieces, strict=True))
        ]
        return self._head() | {"choices": choices, "usage": usage(mailbox, self._asked.n)}

    async def events(self, mailbox: ResponseStream) -> AsyncIterator[dict[str, Any] | str]:
        """It in pieces."""
        offsets = [Offsets(self._served.tokenizer) for _ in mailbox.jobs]
        unheard = set(range(len(mailbox.jobs)))
        async for number, piece in mailbox.pieces():
            echo = self._echoed(mailbox.jobs[number]) if number in unheard else None
            unheard.discard(number)
            used = usage(mailbox, self._asked.n) if self._asked.wants_usage_throughout else None
            so_far = {"usage": used} if self._asked.wants_usage else {}
            yield self._head() | {"choices": [self._choice(number, piece, offsets[number], echo)]} | so_far
        if self._asked.wants_usage:
            yield self._head() | {"choices": [], "usage": usage(mailbox, self._asked.n)}
        yield "[DONE]"

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id, "object": "text_completion", "created": self._created, "model": self._served.name
        }  # fmt: skip

    def _echoed(self, job: Job) -> Job | None:
        return job if self._asked.echo else None

    def _choice(
        self, number: int, piece: ResponseDelta, offsets: "Offsets", echoed: Job | None
    ) -> dict[str, Any]:
        """`echoed`: whose prompt comes first."""
        prompt = self._served.tokenizer.decode(echoed.request.prompt) if echoed else ""
        return {
            "index": number, "text": prompt + piece.answer, "finish_reason": piece.finish_reason,
            "logprobs": self._logprobs(piece, offsets, echoed),
        } | ({"notices": piece.notices} if piece.notices else {})  # fmt: skip

    def _logprobs(
        self, piece: ResponseDelta, offsets: "Offsets", echoed: Job | None
    ) -> dict[str, Any] | None:
        if self._asked.logprobs is None:
            return None
        # With the end, whose log-probability is the model's too: who asks for one token expects one.
        rows: list[tuple[int, float | None, Sequence[tuple[int, float]]]] = [
            (token.id, token.logprob, token.top) for token in piece.tokens
        ]
        if echoed:  # the first token of a prompt comes after nothing
            scores: list[tuple[float | None, Sequence[tuple[int, float]]]] = [(None, ()), *echoed.scores]
            prompt = zip(echoed.request.prompt, scores, strict=True)
            rows = [*((token, own, top) for token, (own, top) in prompt), *rows]
        name = partial(_name, self._served.tokenizer)
        return {
            "tokens": [name(token) for token, *_ in rows],
            "token_logprobs": [None if own is None else finite(own) for _, own, _ in rows],
            "top_logprobs": [
                None if own is None else {name(id): finite(value) for id, value in top}
                for _, own, top in rows
            ],
            "text_offset": [offsets.add(token) for token, *_ in rows],
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
