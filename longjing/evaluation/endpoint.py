"""A model behind an OpenAI-compatible API: asked many questions at once, patiently, and each only once.

Every reply is written down as it comes (`AnswerLog`), so that an interrupted evaluation goes on where it was and
nothing is paid for twice. A question is asked again where that can help: after time-outs, broken connections
and the statuses in `_PASSING`, with pauses that double (or as long as the server asks for). What can't pass by
itself ends the work: replies under way are still written down, then a UserError says what to do.
"""

import http.client
import json
import logging
import random
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from email.message import Message
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from longjing.errors import UserError
from longjing.evaluation.answer_log import AnswerLog, Ask, Reply, is_known
from longjing.evaluation.chat_completions import PassingTroubleError, excerpt, read, seconds_until
from longjing.evaluation.model_client import Answer, Answers, Progress, Question
from longjing.generation.request import Sampling
from longjing.problems import Completion, ModelTurn
from longjing.text.template import Message as Chat

_log = logging.getLogger(__name__)

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST = 1_000_000  # seconds; sockets count some 2,000,000
# Fields of which the result speaks, and what to do instead. Of `_SAMPLING` one may be left out, since some services
# know no such field.
_SAMPLING = {
    "temperature": "use --temperature", "top_p": "use --top-p", "max_tokens": "use --max-tokens", "seed": "use --seed",
}  # fmt: skip
_OTHERS = {
    "model": "name it as MODEL", "messages": "use --task", "n": "use --samples", "stream": "answers are read whole",
}  # fmt: skip


class Endpoint:
    """A respondent that asks `model` at `base_url` (which usually ends in `/v1`).

    `answers`: the file in which replies are kept. `key`: sent as the bearer token. `concurrency`: requests
    under way at once. `timeout`: seconds of silence after which a request counts as lost. `retries`: further
    attempts at a question, the first after about `pause` seconds. `fields`: more fields of each request, such
    as `reasoning_effort`; None leaves one out, and the result says so. Raises UserError for what is no address, no
    key, and fields that would have the result say what wasn't done.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        answers: Path,
        *,
        key: str | None = None,
        concurrency: int = 8,
        timeout: float = 1800.0,
        retries: int = 6,
        pause: float = 1.0,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        self.base_url, self.model, self.answers = base_url.rstrip("/"), model, answers
        self.concurrency, self.timeout, self.retries, self.pause = concurrency, timeout, retries, pause
        self._key, self._fields = key, dict(fields or {})
        self._told = set[str]()
        for name, value in self._fields.items():
            if name in _OTHERS or (name in _SAMPLING and value is not None):
                leave = f", or leave it out: {name}=null" if name in _SAMPLING else ""
                raise UserError(
                    f"--request {name} would make the result say what wasn't asked: "
                    f"{(_OTHERS | _SAMPLING)[name]}{leave}"
                )
        if self._fields.get("max_completion_tokens") is not None and "max_tokens" not in self._fields:
            raise UserError(
                "--request max_completion_tokens beside max_tokens would make the result say what wasn't asked: where "
                "the server wants it instead, leave the other out with --request max_tokens=null"
            )
        if "@" in self.base_url.partition("//")[2].partition("/")[0]:
            raise UserError(
                "the address has credentials in it (before the @): put the key in OPENAI_API_KEY instead"
            )
        if not _is_address(self.base_url):
            raise UserError(f"{base_url!r} is no address; write it like http://localhost:8000/v1")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UserError(
                "the key in OPENAI_API_KEY has a line break or another character that no key has; set it again"
            )
        if concurrency < 1 or retries < 0:
            raise UserError("concurrency must be at least 1, and retries at least 0")
        if not 0 < timeout <= _LONGEST:
            raise UserError(
                f"the time-out is {timeout} seconds; it must be above 0, and at most {_LONGEST:,}"
            )
        self._opener = urllib.request.build_opener(_AsItIs)

    def answer(self, questions: Sequence[Question], on_progress: Progress | None = None) -> Answers:
        """See `ModelClient`. Asks only what the file of answers doesn't hold yet.

        Conversations go turn by turn: when all have had one, those that were answered go on.
        """
        groups = [[_Conversation(question, each) for each in question.samplings] for question in questions]
        speaking = [conversation for group in groups for conversation in group]
        total, tokens, before = len(speaking), 0, 0.0
        with AnswerLog.opened(self.answers, self.base_url) as log:
            last = perf_counter()
            while speaking:
                asks = [self._ask(conversation.messages, conversation.sampling) for conversation in speaking]
                known = [ask.key for ask in asks if ask.key in log.replies]
                missing = [ask for ask in asks if ask.key not in log.replies]
                tokens += sum(log.replies[key].tokens for key in known)
                before += sum(log.seconds[key] for key in known)
                finished = total - len(missing)
                for done, (ask, reply) in enumerate(self._replies(missing), finished + 1):
                    now = perf_counter()
                    log.add(ask, reply, now - last)
                    last = now
                    tokens += reply.tokens
                    if on_progress is not None:
                        on_progress(done, tokens)
                pairs = zip(speaking, asks, strict=True)
                self._tell_of({log.replies[ask.key].finish_reason for ask in asks})
                speaking = [each for each, ask in pairs if each.goes_on(log.replies[ask.key])]
        return Answers(
            [[conversation.answer() for conversation in group] for group in groups],
            sum(reply.prompt_tokens for group in groups for each in group for reply in each.replies),
            seconds_before=before,
            sampling=self._otherwise(),
        )

    def _otherwise(self) -> dict[str, Any]:
        """What `fields` have left to the server, or in `max_completion_tokens` put in another word."""
        left: dict[str, Any] = {name: None for name in _SAMPLING if name in self._fields}
        if "max_tokens" in left:
            left["max_tokens"] = self._fields.get("max_completion_tokens")
        return left

    def _tell_of(self, finish_reasons: set[str]) -> None:
        """Say once of each finish reason that isn't known how its replies are counted."""
        for reason in sorted(finish_reasons - self._told):
            if not is_known(reason):
                _log.warning(
                    "%s ends replies with the finish reason %r, which isn't known here; they count as ended, not as cut"
                    " off: look in %s whether that is so",
                    self.base_url, reason, self.answers,
                )  # fmt: skip
        self._told |= finish_reasons

    def _ask(self, messages: Sequence[Chat], sampling: Sampling) -> Ask:
        if sampling.top_k or sampling.min_p:
            raise UserError("an OpenAI-compatible endpoint knows no top_k and no min_p: leave them off")
        fields = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed % 2**31,  # not every server reads a longer one
            "stop": list(sampling.stop) or None,
            **self._fields,
        }
        return Ask(sampling.seed, {name: value for name, value in fields.items() if value is not None})

    def _replies(self, asks: Sequence[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """Replies as they come. After a failure those under way still come, then it is raised. The threads are
        daemons, so that Ctrl-C doesn't wait for them."""
        waiting: SimpleQueue[Ask] = SimpleQueue()
        finished: SimpleQueue[tuple[Ask, Reply] | BaseException | None] = SimpleQueue()
        stop = threading.Event()
        for ask in asks:
            waiting.put(ask)

        def work() -> None:
            try:
                while not stop.is_set():
                    ask = waiting.get_nowait()
                    finished.put((ask, self._reply(ask, stop)))
            except Empty:
                pass
            except BaseException as error:  # whatever it is, it is raised in the caller's thread
                finished.put(error)
            finally:
                finished.put(None)

        working = min(self.concurrency, len(asks))
        for _ in range(working):
            threading.Thread(target=work, daemon=True).start()
        failure: BaseException | None = None
        try:
            while working:
                result = finished.get()
                if result is None:
                    working -= 1
                elif isinstance(result, BaseException):
                    failure = failure or result
                    stop.set()
                else:
                    yield result
        finally:
            stop.set()
        if failure is not None:
            raise failure

    def _reply(self, ask: Ask, stop: threading.Event) -> Reply:
        """One reply, after as many attempts as are allowed."""
        for attempt in count(1):
            try:
                return read(self._post(ask.request))
            except PassingTroubleError as trouble:
                if attempt > self.retries or stop.is_set():
                    raise UserError(
                        f"{self.base_url} gave no answer in {attempt} attempts: {trouble}. "
                        f"What was answered is kept in {self.answers}: the same command goes on"
                    ) from trouble
                pause = self.pause * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
                stop.wait(max(min(pause, self.timeout), trouble.seconds))
        raise AssertionError("unreachable")

    def _post(self, fields: Mapping[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "longjing"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self.base_url}/chat/completions"
        request = urllib.request.Request(url, json.dumps(fields).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                status, said, answer = response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            raise PassingTroubleError(str(getattr(error, "reason", error)) or repr(error)) from error
        if status != 200:
            raise self._refusal(status, said, excerpt(answer))
        return answer

    def _refusal(self, status: int, headers: Message, said: str) -> Exception:
        """What an HTTP status other than success means."""
        if status in _PASSING:
            wait = seconds_until(headers.get("Retry-After", ""))
            return PassingTroubleError(f"status {status}: {said}", wait)
        mend = {
            401: "the key in OPENAI_API_KEY is missing or wrong",
            403: "the key in OPENAI_API_KEY may not do this",
            404: f"is the address right (it usually ends in /v1), and is there a model {self.model!r}?",
        }.get(status, "see what it says; --request changes or leaves out a field")
        if 300 <= status < 400:
            mend = f"it redirects to {headers.get('Location')}: give that address"
        return UserError(f"{self.base_url} refuses with status {status}: {said} ({mend})")


class _Conversation:
    """A question and one of its samplings, with what was said so far. The model is sent its own answers without the
    reasoning, as such APIs want it."""

    def __init__(self, question: Question, sampling: Sampling) -> None:
        self.messages, self.sampling = list(question.messages), sampling
        self.replies: list[Reply] = []
        self._turns: list[ModelTurn] = []
        self._reply = question.reply

    def goes_on(self, reply: Reply) -> bool:
        """Take in the model's reply; True if something was said to it, and the model is to be asked again."""
        self.replies.append(reply)
        self._turns.append(reply.turn)
        completion = Completion.of(self._turns)
        message = self._reply(completion) if self._reply else None
        if message is None:
            return False
        if (left := self.sampling.max_tokens - reply.tokens) < 1:
            self._turns[-1] = replace(reply.turn, truncated=True)
            return False
        self._turns[-1] = replace(reply.turn, reply=message)
        self.messages += [{"role": "assistant", "content": completion.answer}, message]
        self.sampling = replace(self.sampling, max_tokens=left)
        return True

    def answer(self) -> Answer:
        return Answer(
            self.replies[-1].text,
            Completion.of(self._turns),
            sum(reply.tokens for reply in self.replies),
            sum(reply.reasoning_tokens for reply in self.replies),
        )


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Any status is a response. No redirect is followed: that would hand the key to whoever it leads to."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        whole = address.scheme in ("http", "https") and address.hostname and address.port != 0
        whole = whole and not address.query and not address.fragment
    except ValueError:  # brackets that don't close, a port that is no number
        return False
    return bool(whole) and url.isascii() and url.isprintable() and " " not in url
