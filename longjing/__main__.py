"""`python -m longjing` is `longjing`."""

from longjing.cli import main

main()
