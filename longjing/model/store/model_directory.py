"""A model's directory: reading its JSON files, saying what is missing, and writing a file that survives a power cut."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longjing.errors import UserError
from longjing.files import replacing, sync

CONFIG, GENERATION_CONFIG, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"


def missing_file(file: Path) -> UserError:
    """The error for a file that isn't there, and why it may not be."""
    if not file.parent.is_dir():
        return UserError(f"{file.parent} is no directory; a model is one with {CONFIG} and safetensors files")
    pickles = sorted(other.name for other in file.parent.iterdir() if other.suffix in (".bin", ".pt", ".pth"))
    if pickles and file.name in (CONFIG, WEIGHTS):
        return UserError(
            f"{file.parent} has its weights in a pickle ({pickles[0]}), which can run code when it is read; "
            "only safetensors are read here. If you trust it, convert it with transformers' save_pretrained"
        )
    return UserError(f"{file} is missing; a model is a directory with {CONFIG} and safetensors files")


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises UserError, naming the file, if there is none."""
    if not file.exists():
        raise missing_file(file)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected an object, found {type(values).__name__}")
    return values


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write an object into the file, whole or not at all."""
    with replacing_durably(file) as part:
        part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def replacing_durably(file: Path) -> Iterator[Path]:
    """`files.replacing` for a model's files, whose names survive a power cut, too."""
    with replacing(file) as part:
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors lets nobody but the owner read what it writes
    sync(file.parent)
