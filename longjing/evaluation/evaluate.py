"""Measures a model on a task: the same problems for everyone, several samples of each, reproducibly."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any

from longjing.errors import UserError
from longjing.evaluation.instructions import asked, instruction
from longjing.evaluation.model_client import Answer, CountFlops, LocalClient, ModelClient, Progress, Question
from longjing.evaluation.result import Evaluation, Price, Record
from longjing.generation.generator import Generator
from longjing.generation.random import sample_seed
from longjing.generation.request import Sampling
from longjing.problems import Problem, Split, Task, VotingTask, boxed, max_turns, reply_to, verdict_of, vote_of
from longjing.problems.expression import ExpressionError, parse_number, plain
from longjing.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class EvalConfig:
    """How many problems, how many samples of each, and how they are drawn. There is never a system prompt.

    `instruction` and `tags`: what is said behind each problem's prompt, as `instructions.instruction` has it.

    Raises UserError for settings that make no sense.
    """

    problems: int = 200
    samples: int = 4
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    instruction: str | None = None
    tags: bool = False

    def __post_init__(self) -> None:
        if self.problems < 1 or self.samples < 1:
            raise UserError(f"problems ({self.problems}) and samples ({self.samples}) must be at least 1")
        if self.temperature == 0 and self.samples > 1:
            raise UserError(
                f"at temperature 0 all {self.samples} samples would be the same: ask for 1, or for a temperature"
            )
        self.sampling("", 0)

    def changed(self, **changes: Any) -> "EvalConfig":
        """This config with those of the changes that aren't None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def sampling(self, problem: str, sample: int) -> Sampling:
        """Each sample depends only on (seed, problem, sample)."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=sample_seed(self.seed, 0, f"evaluation {problem}", sample),
        )


def evaluate(
    generator: Generator,
    tokenizer: Tokenizer,
    task: Task,
    *,
    split: Split = "test",
    flops: CountFlops | None = None,
    on_progress: Progress | None = None,
    **config: Any,
) -> Evaluation:
    """`measure` for a generator and its tokenizer; `flops` as in `LocalClient`, `config` as in `EvalConfig`."""
    client = LocalClient(generator, tokenizer, flops)
    return measure(client, task, EvalConfig(**config), split=split, on_progress=on_progress)


def measure(
    client: ModelClient,
    task: Task,
    config: EvalConfig,
    *,
    split: Split = "test",
    model: str = "",
    price: Price | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Ask for `samples` answers to each of the first `problems` problems of a split, and judge them.

    The problems don't depend on the seed, so that all models and seeds answer the same; a split that has fewer
    gives what it has. `model`, `price` and `provenance` as in `Evaluation`. `on_progress(finished samples, tokens so
    far)` is called as the client goes. Raises UserError where the split is empty or the client gives up.
    """
    started = perf_counter()
    problems = problems_of(task, config, split)
    questions = [question_of(client, task, problem, config) for problem in problems]
    answers = client.answer(questions, on_progress)
    sampling = asdict(config) | dict(answers.sampling)
    for name in ("problems", "samples", "instruction", "tags"):
        del sampling[name]
    if added := " | ".join(dict.fromkeys(filter(None, (question.instruction for question in questions)))):
        sampling["instruction"] = added
    return Evaluation(
        task=task.name,
        settings=task.settings,
        split=split,
        sampling=sampling,
        records=[_record(task, *pair) for pair in zip(problems, answers.groups, strict=True)],
        seconds=perf_counter() - started + answers.seconds_before,
        flops=answers.flops,
        prompt_tokens=answers.prompt_tokens,
        model=model,
        price=price,
        provenance=dict(provenance or {}),
    )


def problems_of(task: Task, config: EvalConfig, split: Split = "test") -> list[Problem]:
    """The problems that are measured. Raises UserError if there are none."""
    problems = list(islice(task.problems(split, 0), config.problems))
    if not problems:
        raise UserError(f"task {task.name} has no {split} problems with the settings {task.settings}")
    return problems


def question_of(client: ModelClient, task: Task, problem: Problem, config: EvalConfig) -> Question:
    """How the problem is put to the client's model: the prompt, with an instruction behind it where the model needs
    one, as the user's message, once for each sample. Of a model behind an endpoint nobody knows what it needs."""
    added = config.instruction or ""
    if isinstance(client, LocalClient):
        added = instruction(client.tokenizer, task, problem, config.instruction, config.tags)
    return Question(
        [{"role": "user", "content": asked(problem, added)}],
        [config.sampling(problem.id, sample) for sample in range(config.samples)],
        partial(reply_to, task, problem) if max_turns(task) > 1 else None,
        added,
    )


def normalise(answer: str) -> str:
    """The form in which final answers vote: numbers by their value (`0.5` is `1/2`), other text without white
    space, variants of signs, or case."""
    with suppress(ExpressionError):
        return str(parse_number(answer))
    with suppress(ExpressionError):  # too long to be an answer: it votes as it stands
        return "".join(plain(answer).split()).casefold()
    return answer


def _record(task: Task, problem: Problem, group: Sequence[Answer]) -> Record:
    completions = [answer.completion for answer in group]
    verdicts = [verdict_of(task, problem, completion) for completion in completions]
    votes: list[str | None] = []
    for completion, verdict in zip(completions, verdicts, strict=True):
        if completion.truncated:  # it has no final answer: nobody knows what it would have said next
            votes.append(None)
        elif isinstance(task, VotingTask):
            votes.append(vote_of(task, problem, completion, verdict))
        else:
            box = boxed(completion.answer)
            votes.append(normalise(box) if box else None)
    return Record(
        id=problem.id,
        prompt=problem.prompt,
        gold=problem.answer,
        language=problem.language,
        outcomes=[verdict.outcome for verdict in verdicts],
        answers=votes,
        lengths=[answer.length for answer in group],
        reasoning_lengths=[answer.reasoning_length for answer in group],
        truncated=[completion.truncated for completion in completions],
        well_formed=[completion.well_formed for completion in completions],
        text=group[0].text,
        prefilled=completions[0].prefilled,
        earlier=[
            {"text": each.text, "prefilled": each.completion.prefilled, "reply": dict(each.reply)}
            for each in completions[0].earlier
        ],
    )
