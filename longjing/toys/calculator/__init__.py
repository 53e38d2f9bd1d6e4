from longjing.toys.calculator.task import Calculator
from longjing.toys.toy import Toy, register_toy

register_toy(Toy(Calculator))  # no corpus: nothing shipped has read of it
