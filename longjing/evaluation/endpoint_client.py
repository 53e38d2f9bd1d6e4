"""A model behind an OpenAI-compatible API: asked many questions at once, patiently, and each only once.

Every reply is written down as it comes (`AnswerLog`), so that an interrupted evaluation goes on where it was and
nothing is paid for twice. A question is asked again where that can help (`openai_client.with_retries`). What can't pass
by itself ends the work: replies under way are still written down, then a UserError says what to do.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from longjing.errors import UserError
from longjing.evaluation.answer_log import CUT_OFF, ENDED, AnswerLog, Ask, LoggedReply
from longjing.evaluation.model_client import Answer, Answers, Progress, Question
from longjing.generation.request import Sampling
from longjing.openai_client import Endpoint, EndpointError, complete, with_retries
from longjing.problems import Completion, ModelTurn
from longjing.text.template import Message

_log = logging.getLogger(__name__)

_LONGEST = 1_000_000  # seconds; sockets count some 2,000,000
# Fields of which the result speaks, and what to do instead. Of `_SAMPLING` one may be left out, since some services
# know no such field.
_SAMPLING = {
    "temperature": "use --temperature", "top_p": "use --top-p", "max_tokens": "use --max-tokens", "seed": "use --seed",
}  # fmt: skip
_OTHERS = {
    "model": "name it as MODEL", "messages": "use --task", "n": "use --samples", "stream": "answers are read whole",
}  # fmt: skip


class EndpointClient:
    """A `ModelClient` that asks `model` at `base_url` (which usually ends in `/v1`).

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
        self.base_url, self.answers = base_url.rstrip("/"), answers
        self.concurrency, self.timeout, self.retries, self.pause = concurrency, timeout, retries, pause
        self._endpoint, self._fields = Endpoint(self.base_url, model, key or ""), dict(fields or {})
        self._warned_of = set[str]()
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
            raise UserError("the address has credentials in it (before the @): put the key in OPENAI_API_KEY instead")
        if not _is_address(self.base_url):
            raise UserError(f"{base_url!r} is no address; write it like http://localhost:8000/v1")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UserError(
                "the key in OPENAI_API_KEY has a line break or another character that no key has; set it again"
            )
        if concurrency < 1 or retries < 0:
            raise UserError("concurrency must be at least 1, and retries at least 0")
        if not 0 < timeout <= _LONGEST:
            raise UserError(f"the time-out is {timeout} seconds; it must be above 0, and at most {_LONGEST:,}")

    def answer(self, questions: Sequence[Question], on_progress: Progress | None = None) -> Answers:
        """The endpoint's answers (see `ModelClient`). Asks only what the file of answers doesn't hold yet.
        Conversations go turn by turn: when all have had one, those that were answered go on."""
        groups = [[_Dialogue(question, each) for each in question.samplings] for question in questions]
        open_dialogues = [dialogue for group in groups for dialogue in group]
        total, tokens, before = len(open_dialogues), 0, 0.0
        with AnswerLog.opened(self.answers, self.base_url) as log:
            last = perf_counter()
            while open_dialogues:
                asks = [self._ask(dialogue.messages, dialogue.sampling) for dialogue in open_dialogues]
                logged = [ask.key for ask in asks if ask.key in log.replies]
                missing = [ask for ask in asks if ask.key not in log.replies]
                tokens += sum(log.replies[key].tokens for key in logged)
                before += sum(log.seconds[key] for key in logged)
                finished = total - len(missing)
                for done, (ask, reply) in enumerate(self._replies(missing), finished + 1):
                    now = perf_counter()
                    log.add(ask, reply, now - last)
                    last = now
                    tokens += reply.tokens
                    if on_progress is not None:
                        on_progress(done, tokens)
                self._warn_of_unknown({log.replies[ask.key].finish_reason for ask in asks})
                pairs = zip(open_dialogues, asks, strict=True)
                open_dialogues = [dialogue for dialogue, ask in pairs if dialogue.goes_on(log.replies[ask.key])]
        return Answers(
            [[dialogue.answer() for dialogue in group] for group in groups],
            sum(reply.prompt_tokens for group in groups for each in group for reply in each.replies),
            seconds_before=before,
            sampling=self._changed_sampling(),
        )

    def _changed_sampling(self) -> dict[str, Any]:
        """What `fields` have left to the server, or in `max_completion_tokens` put in another word."""
        left: dict[str, Any] = {name: None for name in _SAMPLING if name in self._fields}
        if "max_tokens" in left:
            left["max_tokens"] = self._fields.get("max_completion_tokens")
        return left

    def _warn_of_unknown(self, finish_reasons: set[str]) -> None:
        """Say once of each finish reason that isn't known how its replies are counted."""
        for reason in sorted(finish_reasons - self._warned_of):
            if reason.lower() not in CUT_OFF | ENDED:
                _log.warning(
                    "%s ends replies with the finish reason %r, which isn't known here; they count as ended, not as cut"
                    " off: look in %s whether that is so",
                    self.base_url, reason, self.answers,
                )  # fmt: skip
        self._warned_of |= finish_reasons

    def _ask(self, messages: Sequence[Message], sampling: Sampling) -> Ask:
        if sampling.top_k or sampling.min_p:
            raise UserError("an OpenAI-compatible endpoint knows no top_k and no min_p: leave them off")
        fields = {
            "model": self._endpoint.model,
            "messages": [dict(message) for message in messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed % 2**31,  # not every server reads a longer one
            "stop": list(sampling.stop) or None,
            **self._fields,
        }
        return Ask(sampling.seed, {name: value for name, value in fields.items() if value is not None})

    def _replies(self, asks: Sequence[Ask]) -> Iterator[tuple[Ask, LoggedReply]]:
        """Replies as they come. After a failure those under way still come, then it is raised. The threads are
        daemons, so that Ctrl-C doesn't wait for them."""
        waiting: SimpleQueue[Ask] = SimpleQueue()
        finished: SimpleQueue[tuple[Ask, LoggedReply] | BaseException | None] = SimpleQueue()
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

    def _reply(self, ask: Ask, stop: threading.Event) -> LoggedReply:
        """One reply, after as many attempts as are allowed."""

        def attempt() -> LoggedReply:
            return LoggedReply.of(complete(self._endpoint, ask.request, self.timeout))

        try:
            return with_retries(attempt, self.retries + 1, self.pause, self.timeout, stop=stop)
        except EndpointError as error:
            if error.transient:
                raise UserError(
                    f"{self.base_url} gave no answer in {error.attempts} attempts: {error}. "
                    f"What was answered is kept in {self.answers}: the same command goes on"
                ) from error
            raise UserError(f"{self.base_url} refuses with {error} ({self._mend(error)})") from error

    def _mend(self, error: EndpointError) -> str:
        """What to do about an HTTP status that doesn't pass by itself."""
        status = error.status or 0
        if 300 <= status < 400:
            return f"it redirects to {error.location}: give that address"
        return {
            401: "the key in OPENAI_API_KEY is missing or wrong",
            403: "the key in OPENAI_API_KEY may not do this",
            404: f"is the address right (it usually ends in /v1), and is there a model {self._endpoint.model!r}?",
        }.get(status, "see what it says; --request changes or leaves out a field")


class _Dialogue:
    """A question and one of its samplings, with the turns so far. The model is sent its own answers without the
    reasoning, as such APIs want it."""

    def __init__(self, question: Question, sampling: Sampling) -> None:
        self.messages, self.sampling = list(question.messages), sampling
        self.replies: list[LoggedReply] = []
        self._turns: list[ModelTurn] = []
        self._reply = question.reply

    def goes_on(self, reply: LoggedReply) -> bool:
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


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        valid = address.scheme in ("http", "https") and address.hostname and address.port != 0
        valid = valid and not address.query and not address.fragment
    except ValueError:  # brackets that don't close, a port that is no number
        return False
    return bool(valid) and url.isascii() and url.isprintable() and " " not in url
