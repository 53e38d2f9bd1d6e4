"""Whether two mathematical answers say the same, as `worker.py` finds it out in a process that can be killed.

`notation` writes a text as plain LaTeX, `structure` takes lists, sets, intervals, matrices and equations apart,
`quantities` and `units` read numbers with their units, `comparison` decides, and `algebra` asks `math-verify` about
expressions. Nothing here imports anything of the package, so that the worker starts quickly.
"""
