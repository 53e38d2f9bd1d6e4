"""A model as the judge, behind any OpenAI-compatible endpoint: for what no rule can say.

A policy that learns from a judge learns to please it; rules, where they are to be had, are better. The judge's verdicts
are kept on disk by what was asked, so that a resumed run hears the same; whatever fails is `unjudged`, never wrong.

What a policy wrote must not speak to the judge, or through it: the template's own tags and `VERDICT:` are taken apart
in an answer, and of the judge's reply only the last line counts, if it ended by itself.
"""

import json
import os
import re
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from longjing.errors import UserError
from longjing.openai_client import ChatCompletion, Endpoint, EndpointError, complete, with_retries
from longjing.problems import Completion, Problem
from longjing.verifiers.base import LONGEST, Judgement, Verifier, VerifierSettings

TEMPLATE = Path(__file__).with_name("judge.txt").read_text("utf-8").rstrip()
_VERDICT = re.compile(r"[\s*_`]*VERDICT[*_`]*:[\s*_`]*(correct|wrong)[\s*_`.]*", re.IGNORECASE | re.ASCII)
_VERDICT_WORD = re.compile(r"(verdict)(?=[\s*_`]*[:：])", re.IGNORECASE | re.ASCII)
_GAPS = re.compile(r"\{(problem|gold|answer|reasoning)\}")
_TAG = re.compile(r"[<\[]/?([A-Za-z][\w-]*+)[^<>\[\]]*+[>\]]")  # of a template: `<answer>`, `[/ANSWER]`
_PAUSE, _LONGEST_PAUSE = 2.0, 30.0  # seconds between two attempts
_FINISHED = ("stop", "eos", "eos_token", "end_turn")  # how a reply ends by itself; the first is OpenAI's


class JudgeSettings(VerifierSettings):
    """The key is read from the environment: settings are written down."""

    base_url: str = Field(pattern=r"^https?://\S+$", description="of the endpoint; it usually ends in /v1")
    model: str
    template: str = Field(TEMPLATE, description="with the gaps {problem}, {gold}, {answer} and {reasoning}")
    max_tokens: int = Field(1024, ge=1)
    seconds: float = Field(120.0, gt=0, description="that a verdict may take, with all its attempts")
    attempts: int = Field(3, ge=1)
    concurrency: int = Field(8, ge=1, description="requests at once")
    key: str = Field("OPENAI_API_KEY", description="the environment variable that holds the key")
    cache: str = Field("judgements.jsonl", description="the file where verdicts are kept")

    @field_validator("template")
    @classmethod
    def _shows_the_answer(cls, template: str) -> str:
        if "{answer}" not in template:
            raise ValueError("shows the judge no {answer}")
        return template


class Judge(Verifier[JudgeSettings]):
    """What a model says of the final answer."""

    name = "judge"
    settings_type = JudgeSettings
    needs_answer = False

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__(settings)
        self.concurrency = settings.concurrency
        self._cache = _Cache(Path(settings.cache))
        # Nobody opens or closes the frame from inside, in whatever case or spacing.
        names = "|".join(sorted(map(re.escape, set(_TAG.findall(settings.template))))) or "(?!)"
        self._frame = re.compile(rf"[<\[](?=[\s/\u200b-\u200d\u2060\ufeff]*(?:{names})(?![\w-]))", re.IGNORECASE)

    def judge(self, problem: Problem, completion: Completion) -> Judgement:
        if completion.truncated or not completion.answer.strip():
            return Judgement("wrong", 0.0, "truncated" if completion.truncated else "no answer")
        if len(completion.answer) > LONGEST:
            return Judgement("wrong", 0.0, f"the answer has over {LONGEST} characters")
        settings = self.options
        gaps = {
            "problem": problem.prompt, "gold": problem.answer or "(not known)",
            "answer": self._quoted(completion.answer), "reasoning": self._quoted(completion.reasoning),
        }  # fmt: skip
        prompt = _GAPS.sub(lambda gap: gaps[gap[1]], settings.template)  # once: no gap in an answer is filled
        request = {
            "model": settings.model, "messages": [{"role": "user", "content": prompt}],
            "temperature": 0, "max_tokens": settings.max_tokens,
        }  # fmt: skip
        key = sha256(json.dumps([settings.base_url, request]).encode()).hexdigest()
        verdict = self._cache.get(key)
        if verdict is None:
            try:
                reply = self._reply(request)
            except EndpointError as error:
                return Judgement("unjudged", 0.0, f"the judge at {settings.base_url} failed: {error}")
            verdict = _verdict(reply)
            if verdict is None:
                return Judgement("unjudged", 0.0, f"the judge gave no verdict: {reply[-200:]!r}")
            self._cache.put(key, verdict)
        return Judgement.of(verdict == "correct", "so says the judge")

    def _quoted(self, text: str) -> str:
        """What a policy wrote, so that it stays in its place."""
        text = text.encode("utf-8", "replace").decode()  # half of a surrogate pair can't be sent
        return _VERDICT_WORD.sub(r"[\1]", self._frame.sub(lambda opening: f"&#{ord(opening[0])};", text))

    def _reply(self, request: dict[str, Any]) -> str:
        """What the judge writes. Raises EndpointError, too where it was cut off: who knows how it would have ended."""
        settings = self.options
        endpoint = Endpoint(settings.base_url, settings.model, os.environ.get(settings.key, ""))
        deadline = time.monotonic() + settings.seconds

        def attempt() -> ChatCompletion:
            return complete(endpoint, request, settings.seconds, deadline)

        completion = with_retries(attempt, settings.attempts, _PAUSE, _LONGEST_PAUSE, deadline=deadline)
        if completion.finish_reason.lower() not in _FINISHED:
            raise EndpointError(f"the reply was cut off (finish_reason {completion.finish_reason!r})")
        return completion.answer


def _verdict(reply: str) -> str | None:
    """What the last line says, by itself and behind all reasoning."""
    answer = reply.rpartition("</think>")[2]
    match = _VERDICT.fullmatch(answer.rstrip().rpartition("\n")[2])
    return match[1].lower() if match and "<think>" not in answer else None


class _Cache:
    """Verdicts by what was asked, a line each; any number of threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._verdicts: dict[str, str] = {}
        try:
            lines = path.read_text("utf-8").splitlines() if path.exists() else []
        except OSError as error:
            raise UserError(f"cannot read the judge's cache {path}: {error.strerror}") from None
        for line in lines:
            try:
                row = json.loads(line)
                self._verdicts[row["asked"]] = row["verdict"]
            except (ValueError, LookupError, TypeError):
                continue  # a line that a kill cut off: that verdict is asked for again

    def get(self, key: str) -> str | None:
        with self._lock:
            return self._verdicts.get(key)

    def put(self, key: str, verdict: str) -> None:
        """Raises UserError if the disk refuses: later, all would be asked again."""
        with self._lock:
            self._verdicts[key] = verdict
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"asked": key, "verdict": verdict}) + "\n")
            except OSError as error:
                raise UserError(f"cannot write the judge's cache {self._path}: {error.strerror}") from None
