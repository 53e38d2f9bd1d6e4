from longjing.toys.toy import Toy, register_toy
from longjing.toys.word_problems.corpus import PHRASES, write_solution
from longjing.toys.word_problems.task import WordProblems

register_toy(Toy(WordProblems, write_solution, everyday=True, informal=True, forms=PHRASES))
