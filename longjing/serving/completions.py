"""POST /v1/completions: text continued as it stands, in OpenAI's older form."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from longjing.serving.chat_completions import CompletionWriter, finite
from longjing.serving.response_stream import Job, ResponseDelta, ResponseStream
from longjing.serving.schemas import CompletionRequest
from longjing.text import Detokenizer, Tokenizer


class CompletionReply(CompletionWriter):
    """Writes the replies to one request."""

    _request: CompletionRequest
    _prefix, _whole, _piece = "cmpl", "text_completion", "text_completion"

    def complete(self, stream: ResponseStream, deltas: Sequence[ResponseDelta]) -> dict[str, Any]:
        """The whole reply, of the whole completions."""
        choices = [
            self._choice(number, delta, TextOffsets(self._model.tokenizer), job if self._request.echo else None)
            for number, (job, delta) in enumerate(zip(stream.jobs, deltas, strict=True))
        ]
        return self._complete(stream, choices)

    async def events(self, stream: ResponseStream) -> AsyncIterator[dict[str, Any] | str]:
        """The reply in chunks as they come."""
        offsets = [TextOffsets(self._model.tokenizer) for _ in stream.jobs]
        unechoed = set(range(len(stream.jobs))) if self._request.echo else set()
        async for number, delta in stream.deltas():
            echo = stream.jobs[number] if number in unechoed else None
            unechoed.discard(number)
            yield self._chunk(self._choice(number, delta, offsets[number], echo), stream)
        for piece in self._ending(stream):
            yield piece

    def _choice(self, number: int, delta: ResponseDelta, offsets: "TextOffsets", echoed: Job | None) -> dict[str, Any]:
        """`echoed`: whose prompt comes first."""
        tokenizer = self._model.tokenizer
        prompt = tokenizer.decode(_written(tokenizer, echoed.request.prompt)) if echoed else ""
        return {
            "index": number, "text": prompt + delta.answer, "finish_reason": delta.finish_reason,
            "logprobs": self._logprobs(delta, offsets, echoed),
        } | ({"notices": delta.notices} if delta.notices else {})  # fmt: skip

    def _logprobs(self, delta: ResponseDelta, offsets: "TextOffsets", echoed: Job | None) -> dict[str, Any] | None:
        if self._request.logprobs is None:
            return None
        # Each token with its log-probability and the likeliest in its place; of the end, too, whose log-probability is
        # the model's as well: who asks for one token expects one.
        rows: list[tuple[int, float | None, Sequence[tuple[int, float]]]] = []
        if echoed:
            rows.append((echoed.request.prompt[0], None, ()))  # which comes after nothing
            for token, (logprob, top) in zip(echoed.request.prompt[1:], echoed.scores, strict=True):
                rows.append((token, logprob, top))
        rows += [(token.id, token.logprob, token.top) for token in delta.tokens]
        name = partial(_token_name, self._model.tokenizer)
        return {
            "tokens": [name(id) for id, _, _ in rows],
            "token_logprobs": [None if logprob is None else finite(logprob) for _, logprob, _ in rows],
            "top_logprobs": [
                None if logprob is None else {name(id): finite(value) for id, value in top} for _, logprob, top in rows
            ],
            "text_offset": [offsets.add(id) for id, _, _ in rows],
        }


class TextOffsets:
    """Where the tokens of a text begin in it, in characters: several where one character is written with several."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._detokenizer, self._length = Detokenizer(tokenizer), 0
        self._tokenizer, self._begun = tokenizer, False

    def add(self, token: int) -> int:
        """The offset at which the next token begins."""
        begins = self._length
        if self._begun or _written(self._tokenizer, [token]):
            self._length += len(self._detokenizer.add(token))
        self._begun = True
        return begins


def _written(tokenizer: Tokenizer, prompt: Sequence[int]) -> Sequence[int]:
    """The prompt without the begin token that the tokenizer added."""
    return prompt[1:] if tokenizer.adds_bos and prompt[:1] == [tokenizer.bos_id] else prompt


def _token_name(tokenizer: Tokenizer, token: int) -> str:
    """Its text, or what OpenAI writes for a piece of a character."""
    written = tokenizer.token_bytes(token)
    try:
        return written.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)
