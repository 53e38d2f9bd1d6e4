"""Modules and names of the version before: whoever imports one is told where it is now. For this version only."""

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any


class _Moved(MetaPathFinder):
    """Asked last of all: for what nobody has found."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Raises ImportError for what has moved; `from longjing.tasks import Settings` asks for a module, too."""
        if fullname.startswith("longjing.") and (new := _new_name(fullname)):
            raise ImportError(f"{fullname} has moved: import what you need from {new}", name=fullname)


def _new_name(name: str) -> str | None:
    """Where it is now; None if it was never anywhere else."""
    from longjing.validation import read_yaml  # here, since that takes a while

    for old, new in read_yaml(__file__, "moved.yaml", dict[str, str]).items():
        if f"{name}.".startswith(f"{old}."):
            return new
    toy = name.removeprefix("longjing.tasks.")
    return f"longjing.toys.{toy}.task" if Path(__file__).with_name("toys").joinpath(toy, "task.py").exists() else None


sys.meta_path.append(_Moved())
