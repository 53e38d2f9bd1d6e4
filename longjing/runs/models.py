"""Loading what a user names: a model, or an adapter with the model that it belongs to."""

from pathlib import Path
from typing import Literal

import torch

from longjing.errors import UserError
from longjing.model.decoder import Decoder
from longjing.model.store.adapter import base_of, load_adapter
from longjing.model.store.checkpoint import load_model
from longjing.model.store.stored_dtype import suitable_dtype
from longjing.runs.resolve import resolve
from longjing.text.tokenizer import Tokenizer


def load(
    name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | Literal["auto"] | None = None
) -> tuple[Decoder, Tokenizer]:
    """The model that `resolve` finds, in evaluation mode, with its tokenizer. An adapter's base is found in the same
    way, and has the adapter in it then (`layers/lora.py`). `dtype`: float32 if None; "auto" as in `suitable_dtype`.

    Raises UserError for what isn't there or can't be read.
    """
    path = resolve(name_or_path)
    base = base_of(path)
    if base is None:
        dtype = suitable_dtype(path, torch.device(device)) if dtype == "auto" else dtype
        return load_model(path, device, dtype), Tokenizer.from_directory(path)
    model, tokenizer = load(_base(path, base), device, dtype)
    load_adapter(model, path)
    own = (path / "tokenizer_config.json").exists()
    return model, Tokenizer.from_directory(path) if own else tokenizer


def _base(adapter: Path, base: str) -> str | Path:
    """An adapter's base: as it is named, or where a run that was moved has it now."""
    if Path(base).is_absolute() and not Path(base).exists():
        moved = adapter.parents[1].joinpath(*Path(base).parts[-2:]) if len(Path(base).parts) > 2 else adapter
        if not moved.exists():
            raise UserError(f"{adapter} belongs to the model {base}, which isn't there any more")
        return moved
    return base
