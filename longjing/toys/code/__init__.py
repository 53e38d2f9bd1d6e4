from longjing.toys.code.corpus import write_solution
from longjing.toys.code.task import Code
from longjing.toys.toy import Toy, register_toy

register_toy(Toy(Code, write_solution))
