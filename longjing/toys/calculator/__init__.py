"""Calculator: sums too hard for the head, and a tool that works them out. No corpus: nothing shipped has read of it."""

from longjing.toys.calculator.task import Calculator
from longjing.toys.toy import Toy, register_toy

register_toy(Toy(Calculator))
