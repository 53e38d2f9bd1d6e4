"""Arithmetic: what is the value of an expression? And exercises in it, which answer nobody's question."""

from longjing.toys.arithmetic.corpus import write_solution
from longjing.toys.arithmetic.exercises import write_drill, write_practice
from longjing.toys.arithmetic.task import WORDING, Arithmetic
from longjing.toys.toy import Toy, register_documents, register_toy

register_toy(Toy(Arithmetic, write_solution, everyday=True, informal=True, spoken=True, forms=WORDING))
register_documents("drill", write_drill, answers_question=False)
register_documents("practice", write_practice, answers_question=False)
