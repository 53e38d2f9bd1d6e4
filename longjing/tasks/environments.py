"""Single-turn environments of the `verifiers` package (Prime Intellect), in its present form and its former one.

`verifiers:NAME` is the environment of the installed module NAME; other settings are its own arguments. Environment and
scorer run in a process apart, with a limit on time and memory: none of their code runs in the trainer's. Their rewards
may be anything: `correct_from` says what counts as right, and less is paid only if asked (`partial`).
"""

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from math import isfinite
from typing import Any

from pydantic import ConfigDict, Field

from longjing.errors import UserError
from longjing.problems import Completion, Problem
from longjing.tasks.listed_task import ListedSettings, ListedTask
from longjing.verifiers.base import LONGEST, Judgement, Verifier, VerifierSettings
from longjing.verifiers.pool import Pool, VerifierError, shared
from longjing.verifiers.scorers import text_digest

ENVIRONMENT_PREFIX = "verifiers:"
_OPENING = 600.0  # seconds that an environment may take to come up with its problems
_MEGABYTES = 16_384


class EnvironmentSettings(ListedSettings):
    """Our own settings of an environment; all others are the environment's arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    correct_from: float = Field(1.0, gt=0, description="the reward from which an answer counts as right")
    partial: bool = Field(False, description="pay rewards below that, as shares of it")
    reasoning: bool = Field(True, description="whether the environment sees the reasoning, too")
    seconds: float = Field(30.0, gt=0, description="that a verdict may take; then the answer is wrong")


class Environment(ListedTask):
    """A `Task` of an environment's problems, judged by its rewards."""

    settings_type = EnvironmentSettings
    options: EnvironmentSettings

    def __init__(self, name: str, settings: EnvironmentSettings) -> None:
        if find_spec("verifiers") is None:
            raise UserError(f"{name} needs the package verifiers, and the environment's own: pip install verifiers")
        if settings.verifier is not None:
            raise UserError(f"{name} brings its own verifier: leave `verifier` out")
        self.name = name
        arguments = json.dumps(settings.model_extra, sort_keys=True)
        self._environment = (name.removeprefix(ENVIRONMENT_PREFIX), arguments)
        self.verifier = _Reward(settings, self._environment)
        super().__init__(settings)

    def rows(self) -> Iterable[Mapping[str, Any]]:
        try:
            listed = Pool("environment_rewards", 1, _OPENING, _MEGABYTES).ask("list", *self._environment)
        except VerifierError as error:
            raise UserError(f"{self.name} can't be opened: {error}") from None
        return [row | {"row": number, "question": text_digest(row["prompt"])} for number, row in enumerate(listed)]


class _Reward(Verifier[Any]):
    """What the environment's rewards come to."""

    name = "environment"
    settings_type = VerifierSettings
    needs_answer = False

    def __init__(self, settings: EnvironmentSettings, environment: tuple[str, str]) -> None:
        super().__init__(settings)
        self._environment = environment

    def judge(self, problem: Problem, completion: Completion) -> Judgement:
        options = self.options
        if completion.truncated or not completion.answer.strip():
            return Judgement("wrong", 0.0, "truncated" if completion.truncated else "no answer")
        if len(completion.answer) > LONGEST:
            return Judgement("wrong", 0.0, f"the answer has over {LONGEST} characters")
        reasoning = completion.reasoning if options.reasoning else ""
        pool = shared("environment_rewards", options.seconds, _MEGABYTES)
        request = ("score", *self._environment, problem.data["row"], problem.data["question"])
        try:
            reward = pool.ask(*request, reasoning, completion.answer)
        except VerifierError as error:
            # Not `baseline` before: an environment may well raise at a right answer that lacks its form.
            return Judgement("wrong" if self._judges(pool, request, problem) else "unjudged", 0.0, str(error))
        if not isfinite(reward):
            return Judgement("unjudged", 0.0, f"the environment's reward is {reward}")
        if reward >= options.correct_from:
            return Judgement("correct", 1.0, "correct")
        share = max(0.0, reward / options.correct_from) if options.partial else 0.0
        return Judgement("wrong", share, f"the environment's reward is {reward:g}")

    @staticmethod
    def _judges(pool: Pool, request: tuple[Any, ...], problem: Problem) -> bool:
        """Whether another answer to the problem gets a reward, so that this one is to blame."""
        try:
            pool.ask(*request, "", problem.answer or "?")
        except VerifierError:
            return False
        return True
