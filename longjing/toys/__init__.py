"""Toy tasks, one folder each: problems without end that a model of two million parameters learns to solve.

A folder has the task (`task.py`: draw, word and check a problem), its prose as YAML and, where the shipped models read
of it, the corpus (`corpus.py`: worked solutions by imperfect solvers). Its `__init__.py` declares what it has (`Toy`),
so nothing else in the package needs to know of it. Importing this package imports them all.
"""

from longjing.toys import countdown, arithmetic, equations, word_problems  # noqa: F401, I001 (in this order)
from longjing.toys import stream_of_search, calculator, code, conversation  # noqa: F401
from longjing.toys import declined_questions, worked_examples  # noqa: F401
from longjing.toys.toy import TOYS

EVERYDAY = tuple(name for name, toy in TOYS.items() if toy.everyday)
