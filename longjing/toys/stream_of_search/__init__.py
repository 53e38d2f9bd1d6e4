"""Stream of Search: Countdown as that paper plays it, and a search from both ends."""

from longjing.toys.stream_of_search.corpus import write_solution
from longjing.toys.stream_of_search.task import StreamOfSearch
from longjing.toys.toy import Toy, register_toy

register_toy(Toy(StreamOfSearch, write_solution))
