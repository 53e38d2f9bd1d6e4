"""What runs beside and inside the sandbox: a small program of its own, of the standard library only.

The rest of the package talks to it over a socket (`frames.py`) and is never in its memory. Started with this folder's
parent as the only foreign entry of `sys.path`, it is the package `inside`.
"""
