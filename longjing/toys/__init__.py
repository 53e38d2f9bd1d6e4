"""Toy tasks, one folder each: problems without end that a model of two million parameters learns to solve.

A folder has the task (`task.py`: draw, word and check a problem) and, where the shipped models read of it, the corpus
(`corpus.py`: worked solutions by imperfect solvers). Nothing else in the package needs to know of them: they register
themselves (`problems/registry.py`).
"""

from longjing.problems.registry import register
from longjing.toys.arithmetic.task import Arithmetic
from longjing.toys.calculator.task import Calculator
from longjing.toys.code.task import Code
from longjing.toys.conversation.task import ConversationTask
from longjing.toys.countdown.task import Countdown
from longjing.toys.equations.task import Equations
from longjing.toys.stream_of_search.task import StreamOfSearch
from longjing.toys.word_problems.task import WordProblems

# What the shipped models have learned, and what is asked where nothing else is said.
EVERYDAY = tuple(task.name for task in (Countdown, Arithmetic, Equations, WordProblems))

register(Countdown, Arithmetic, Equations, WordProblems, StreamOfSearch, Calculator, Code, ConversationTask)
