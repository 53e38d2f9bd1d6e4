"""What a task is made of: problems, completions and verdicts, and the classes to write a task with.

`Task` is the contract of every task, `GeneratedTask` the shortest way to one whose problems are drawn at random. (For
problems that are listed, `tasks.ListedTask` is the shortest.)
"""

from longjing.problems.answer import boxed, format_reward
from longjing.problems.generated_task import GeneratedTask, ProblemData, TaskSettings
from longjing.problems.problem import Completion, Exchange, Language, ModelTurn, Outcome, Problem, Verdict
from longjing.problems.splits import Split, split_of
from longjing.problems.task import (
    MAX_TURNS,
    MultiTurnTask,
    NoProblems,
    Task,
    VotingTask,
    max_turns,
    reply_to,
    verdict_of,
    vote_of,
    wants_box,
)

__all__ = [
    "MAX_TURNS", "Completion", "Exchange", "GeneratedTask", "Language", "ModelTurn", "MultiTurnTask", "NoProblems",
    "Outcome", "Problem", "ProblemData", "Split", "Task", "TaskSettings", "Verdict", "VotingTask", "boxed",
    "format_reward", "max_turns", "reply_to", "split_of", "verdict_of", "vote_of", "wants_box",
]  # fmt: skip
