"""The scorers of other libraries, as `worker.py` runs them: in a process that can be killed, apart from the trainer.

Each module's `scorer()` gives the function that answers questions. Like the worker nothing here imports anything of the
package: it is loaded by its place, as the package `scorers`.
"""

from hashlib import sha256


def text_digest(text: str) -> str:
    """Tells one text from another, whatever characters are in it."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
