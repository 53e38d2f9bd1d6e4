from longjing.toys.equations.corpus import write_solution
from longjing.toys.equations.task import WORDING, Equations, short_fields
from longjing.toys.toy import Toy, register_toy

register_toy(Toy(Equations, write_solution, everyday=True, informal=True, forms=WORDING, short_fields=short_fields))
