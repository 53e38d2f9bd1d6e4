"""Loading what a user names: a model, or an adapter with the model that it belongs to."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

from longjing.errors import UserError
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import without_adapters
from longjing.model.reward_model import RewardModel
from longjing.model.store.adapter import CONFIG, base_of, load_adapter
from longjing.model.store.checkpoint import load_model
from longjing.model.store.checkpoint import load_reward_model as load_whole_reward_model
from longjing.model.store.stored_dtype import suitable_dtype
from longjing.runs.fetch import SMOLLM2, find_smollm2
from longjing.runs.resolve import SHIPPED, holds_model, lasting_name, resolve, shipped
from longjing.text.tokenizer import Tokenizer

_NONE: Mapping[Path, Decoder] = MappingProxyType({})


def load(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Literal["auto"] | None = None,
    loaded: Mapping[Path, Decoder] = _NONE,
) -> tuple[Decoder, Tokenizer]:
    """The model that `resolve` finds, in evaluation mode, with its tokenizer. An adapter's base is found in the same
    way, and has the adapter in it then (`layers/lora.py`). `dtype`: float32 if None; "auto" as in `suitable_dtype`.

    `loaded`: networks in memory, on the same device and in the same format, by their `weights_path`. A model with one
    of these shares its tensors. Raises UserError for what isn't there or can't be read.
    """
    path = resolve(name_or_path)
    base = base_of(path)
    if base is None:
        dtype = suitable_dtype(path, torch.device(device)) if dtype == "auto" else dtype
        if path in loaded:
            model = without_adapters(loaded[path])
            model.config = load_model(path, "meta").config  # an adapter may have other ends
        else:
            model = load_model(path, device, dtype)
        tokenizer, vocabulary = Tokenizer.from_directory(path), model.config.vocab_size
        if tokenizer.vocab_size > vocabulary:
            raise UserError(
                f"{path}: its tokenizer has {tokenizer.vocab_size:,} tokens, the network only {vocabulary:,}"
            )
        return model, tokenizer
    model, tokenizer = load(_base(path, base), device, dtype, loaded)
    load_adapter(model, path)
    return model, _tokenizer(path) or tokenizer


def load_reward_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> tuple[RewardModel, Tokenizer]:
    """The reward model that `resolve` finds: a whole one, or an adapter and a head with the body that they belong to.
    Raises UserError."""
    path = resolve(name_or_path, reward=True)
    base = base_of(path)
    if base is None:
        return load_whole_reward_model(path, device), Tokenizer.from_directory(path)
    body, tokenizer = load(_base(path, base), device)
    model = RewardModel.from_decoder(body, body.config.pad_token_id).eval()
    load_adapter(model, path)
    return model, _tokenizer(path) or tokenizer


def at_hand() -> list[str]:
    """The names of the shipped models that can be loaded without a network: an adapter's base has to be here."""
    return [name for name in shipped() if base_of(SHIPPED / name) != SMOLLM2 or find_smollm2() is not None]


def weights_path(name_or_path: str | Path) -> Path:
    """Where the weights lie that a model has; of an adapter, its base's. Raises UserError."""
    path = resolve(name_or_path)
    base = base_of(path)
    return path if base is None else weights_path(_base(path, base))


def base_name(name_or_path: str | Path) -> str:
    """What an adapter of this model says that it belongs to: the model's name, if it has one that holds elsewhere, else
    its path. Of an adapter, what that says. Raises UserError."""
    path = resolve(name_or_path)
    base = base_of(path)
    return lasting_name(name_or_path) if base is None else str(_base(path, base))


def _tokenizer(path: Path) -> Tokenizer | None:
    """An adapter's own tokenizer, if it has one."""
    return Tokenizer.from_directory(path) if (path / "tokenizer_config.json").exists() else None


def _base(adapter: Path, base: str) -> str | Path:
    """An adapter's base: as it is named, or where a run that was moved has it now."""
    if Path(base).is_absolute() and not Path(base).exists():
        moved = adapter.absolute().parent.parent.joinpath(*Path(base).parts[-2:])
        if moved == adapter.absolute() or not holds_model(moved):
            raise UserError(
                f"{adapter} belongs to the model {base}, which isn't there any more; put it back, or write where it is "
                f"now into {adapter / CONFIG} (base_model_name_or_path)"
            )
        return moved
    return base
