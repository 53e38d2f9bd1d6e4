"""Exact training state: tensors and facts in one safetensors file, so that one rename makes both appear.

    state/step-00000012.safetensors      the newest; the facts are JSON in the file's metadata
    state/step-00000011.safetensors      the one before, in case the newest is damaged later

`save` removes all but the one before, writes a part file, syncs it and renames it: a kill between any two system calls
leaves the newest, whole, and no more than two are ever on the disk. The syncs make that true of power cuts too; on an
SSD they add some 2 ms to the 17 ms that writing 25 MB takes, so they are not optional.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longjing.errors import UserError
from longjing.files import disk_errors, replacing, sync


def save(directory: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Save the state after `step`. Facts come back exactly if JSON can hold them (floats of any value too). Raises
    UserError if the disk refuses; the states saved before are then still whole."""
    path = directory / f"step-{step:08d}.safetensors"
    metadata = {"facts": json.dumps({**facts, "step": step})}
    with disk_errors(path):
        directory.mkdir(exist_ok=True)
        kept = [other for other in _saved(directory) if other.name < path.name][:1]
        for other in directory.iterdir():
            if other not in kept:  # older states, damaged later ones, and what a kill left unfinished
                other.unlink()
        with replacing(path) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata)
        sync(directory)  # the new name is on the disk before the older state goes


def load(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest whole state, its step among the facts; None if nothing was saved yet. Raises UserError if there are
    states but none can be read."""
    saved = _saved(directory)
    problems = []
    for path in saved:
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                return tensors, json.loads(file.metadata()["facts"])
        except SafetensorError as error:
            problems.append(f"{path.name}: {error}")
    if problems:
        raise UserError(
            f"cannot read any saved state in {directory} ({'; '.join(problems)}); "
            "delete that directory to begin the stage again"
        )
    return None


def _saved(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*.safetensors"), reverse=True)
