from longjing.toys.countdown.corpus import write_solution
from longjing.toys.countdown.task import WORDING, Countdown
from longjing.toys.toy import Toy, register_toy

register_toy(Toy(Countdown, write_solution, everyday=True, informal=True, forms=WORDING))
