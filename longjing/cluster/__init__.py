"""Where a process computes, and beside how many others."""
