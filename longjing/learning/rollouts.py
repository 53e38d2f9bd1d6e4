"""Groups of completions: sampled by the engine, judged by the task, kept as they were."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from longjing.evaluation.instructions import asked, instruction
from longjing.generation.generator import Generator
from longjing.generation.multi_turn import MultiTurnRollout, generate_multi_turn
from longjing.generation.random import sample_seed
from longjing.generation.request import Generation, Sampling
from longjing.model.config import ModelConfig
from longjing.planning import flops
from longjing.problems import Completion, ModelTurn, Problem, Task, Verdict, max_turns, reply_to, verdict_of
from longjing.problems.language import language_reward
from longjing.runs.jsonl import Row
from longjing.text.template import Message
from longjing.text.tokenizer import Tokenizer

# DeepSeek-R1's own list (Nature 645, supplementary information on the growth of reflection), and its Chinese.
REFLECTION = (
    "wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check",
    "等等", "错", "然而", "但是", "重试", "验证", "检查",
)  # fmt: skip

# Scores completions of one chat, each from 0 to 1: `learning.reward_models.PreferenceReward`.
RewardFunction = Callable[[list[dict[str, str]], list[Completion]], list[float]]


@dataclass(frozen=True)
class Group:
    """The completions of one problem, each with what the engine noted and how the task judged it."""

    problem: Problem
    generations: list[Generation]
    completions: list[Completion]
    verdicts: list[Verdict]

    def rewards(self, weights: Mapping[str, float]) -> list[float]:
        """Each completion's reward: its parts, weighted and added. A part that a verdict lacks adds nothing."""
        return [
            sum(weight * verdict.rewards.get(part, 0.0) for part, weight in weights.items())
            for verdict in self.verdicts
        ]

    @property
    def texts(self) -> list[list[str]]:
        """All that was sampled for each completion, turn by turn."""
        return [
            [*(exchange.text for exchange in completion.earlier), generation.text]
            for generation, completion in zip(self.generations, self.completions, strict=True)
        ]

    def to_row(self, details: Sequence[Mapping[str, Any]]) -> Row:
        """The group as a line of rollouts.jsonl; `details`: what there is to add to each of its completions."""
        problem = self.problem
        completions = [
            {
                "text": generation.text, "prefilled": completion.prefilled,
                **_earlier_turns(completion, generation), "rewards": verdict.rewards, **detail,
                "outcome": verdict.outcome, "finish_reason": generation.finish_reason,
            }
            for generation, completion, verdict, detail in zip(
                self.generations, self.completions, self.verdicts, details, strict=True
            )
        ]  # fmt: skip
        return {
            "problem": problem.id, "prompt": problem.prompt, "language": problem.language,
            "answer": problem.answer, "completions": completions,
        }  # fmt: skip

    @property
    def judged(self) -> list[bool]:
        return [verdict.outcome != "unjudged" for verdict in self.verdicts]


def _earlier_turns(completion: Completion, generation: Generation) -> dict[str, Any]:
    """For the log: the turns before the last with what was said to them, and where among the tokens that was."""
    if not completion.earlier:
        return {}
    turns = [
        {"text": each.text, "prefilled": each.completion.prefilled, "reply": dict(each.reply)}
        for each in completion.earlier
    ]
    return {"earlier": turns, "given": [list(span) for span in generation.unsampled]}


def sampling_flops(config: ModelConfig, groups: Sequence[Group]) -> float:
    """What it took a model of this config to sample the groups."""
    return sum(
        flops.generation(config, len(group.generations[0].prompt), [len(each.tokens) for each in group.generations])
        for group in groups
    )


def draw_problems(task: Task, count: int, seed: int, step: int, turn: int) -> list[Problem]:
    """`count` training problems, from the run's seed, the step and its turn of drawing alone."""
    return list(islice(task.problems("train", sample_seed(seed, step, "problems", turn)), count))


def sample_groups(
    generator: Generator, tokenizer: Tokenizer, problems: Sequence[tuple[Task, Problem]], group_size: int,
    sampling: Mapping[str, Any], seed: int, step: int, turn: int, told: str | None = None, tags: bool = False,
) -> list[list[MultiTurnRollout]]:  # fmt: skip
    """`group_size` completions of each problem; with a task that replies, whole conversations. `told` and `tags`: what
    is said behind the prompts, as `evaluation.instructions` has it.

    Seeds come from (seed, step, problem, sample), and from the turn and the place in which the problem was
    drawn: one that comes twice in a step gets other samples, or its group would count double.
    """
    openings = []
    for index, (task, problem) in enumerate(problems):
        seeds = [sample_seed(seed, step, f"{problem.id} {turn} {index}", sample) for sample in range(group_size)]
        message = asked(problem, instruction(tokenizer, task, problem, told, tags))
        openings.append(([{"role": "user", "content": message}], [Sampling(**sampling, seed=each) for each in seeds]))

    def answer(index: int, turns: Sequence[ModelTurn]) -> Message | None:
        return reply_to(*problems[index], Completion.of(turns))

    replying = any(max_turns(task) > 1 for task, _ in problems)
    return generate_multi_turn(generator, tokenizer, openings, answer if replying else None)


def judge_group(task: Task, problem: Problem, dialogues: Sequence[MultiTurnRollout]) -> Group:
    """The task's verdict on each completion, with the reward part `language` (see `language_reward`)."""
    generations = [dialogue.generation for dialogue in dialogues]
    completions = [Completion.of(dialogue.turns) for dialogue in dialogues]
    verdicts = []
    for completion in completions:
        verdict = verdict_of(task, problem, completion)
        language = language_reward(problem, completion)
        verdicts.append(replace(verdict, rewards=verdict.rewards | {"language": language}))
    return Group(problem, generations, completions, verdicts)


def add_model_rewards(group: Group, reward_models: Mapping[str, RewardFunction]) -> Group:
    """The group with the reward_models' scores among its reward parts; 0 for what has no answer or was cut off."""
    verdicts = group.verdicts
    whole = [bool(each.answer) and not each.truncated for each in group.completions]
    for name, reward_model in reward_models.items():
        scores = reward_model(_chat(group.problem), group.completions)
        verdicts = [
            replace(verdict, rewards=verdict.rewards | {name: score * finished})
            for verdict, score, finished in zip(verdicts, scores, whole, strict=True)
        ]
    return replace(group, verdicts=verdicts)


def _chat(problem: Problem) -> list[dict[str, str]]:
    return [{"role": "user", "content": problem.prompt}]


def reflections(text: str) -> int:
    """How many reflection words the text holds; Chinese ones are counted wherever they stand."""
    lowered = text.lower()
    words = "".join(letter if letter.isalpha() and letter.isascii() else " " for letter in lowered).split()
    return sum(words.count(word) if word.isascii() else lowered.count(word) for word in REFLECTION)


@dataclass(frozen=True)
class Padded:
    """Completions behind their prompts, right-padded: what the trainer reads.

    `tokens` `[batch, length]`; `sampled` bool `[batch, length - 1]`, True at each position whose next token
    the policy sampled (its end token too; not what a task said in between); `old_logprobs` like `sampled`, the
    engine's; `routes` `[batch, length, mixture layers, experts per token]` or None.
    """

    tokens: Tensor
    sampled: Tensor
    old_logprobs: Tensor
    routes: Tensor | None


def pad(generations: Sequence[Generation], pad_token: int, device: torch.device) -> Padded:
    """The generations as one batch. What was sampled the generations know; it is never inferred from the padding."""
    length = max(len(g.prompt) + len(g.tokens) for g in generations)
    tokens = torch.full((len(generations), length), pad_token)
    sampled = torch.zeros(len(generations), length - 1, dtype=torch.bool)
    old = torch.zeros(len(generations), length - 1)
    routes = None
    if (first := generations[0].routes) is not None:
        routes = torch.zeros(len(generations), length, *first.shape[1:], dtype=torch.long, device=device)
    for row, generation in enumerate(generations):
        # The position before a token predicts it: what is said of a token stands one to the left of it.
        start, end = len(generation.prompt), len(generation.prompt) + len(generation.tokens)
        tokens[row, :end] = torch.tensor([*generation.prompt, *generation.tokens])
        mask = torch.tensor(generation.sampled)
        sampled[row, start - 1 : end - 1] = mask
        old[row, start - 1 : end - 1].masked_scatter_(mask, torch.tensor(generation.logprobs))
        if routes is not None and generation.routes is not None:
            routes[row, : end - 1] = generation.routes
    return Padded(tokens.to(device), sampled.to(device), old.to(device), routes)
