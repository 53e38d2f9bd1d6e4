"""Weights in safetensors files: `model.safetensors`, or shards with an index, and `mtp.safetensors` beside them.

The MTP modules lie apart in `mtp.safetensors`, not in the index. DeepSeek-V3 stores them as decoder layers
after the last, and `transformers` reports such tensors as unexpected unless they are of a layer that it knows to
skip; so only a model of just so many layers keeps them among the others. vLLM reads every safetensors
file of a directory that has no index, and SGLang looks for this name.
"""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longjing.errors import UserError
from longjing.model.store.model_directory import WEIGHTS, missing_file, read_json, replacing_durably, write_json
from longjing.model.store.tensors import StoredTensor

MTP, INDEX = "mtp.safetensors", WEIGHTS + ".index.json"
_SHARDS = "model-*-of-*.safetensors"


def open_tensors(directory: Path, stack: ExitStack) -> dict[str, StoredTensor]:
    """Every tensor in the directory's weight files, by name. The files stay open until `stack` closes.

    Raises UserError for a file that is missing, cut off or a pickle, and for an index that the files don't bear out.
    """
    shard_of: dict[str, str] = {}
    files = [WEIGHTS]
    if (directory / INDEX).exists() and not (directory / WEIGHTS).exists():
        shard_of = read_json(directory / INDEX).get("weight_map", {})
        if not isinstance(shard_of, dict) or any(Path(str(file)).name != file for file in shard_of.values()):
            raise UserError(f"{directory / INDEX}: weight_map must give each tensor a file of this directory")
        files = sorted(set(shard_of.values()))
    if (directory / MTP).exists() and MTP not in files:
        files.append(MTP)
    stored: dict[str, StoredTensor] = {}
    for file in (directory / name for name in files):
        if not file.exists():
            raise missing_file(file)
        try:
            handle = stack.enter_context(safe_open(file, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a whole safetensors file ({error}); copy or download it again") from None
        for name in handle.keys():  # noqa: SIM118
            part = handle.get_slice(name)
            read = partial(handle.get_tensor, name)
            stored[name] = StoredTensor(name, file, tuple(part.get_shape()), str(part.get_dtype()), read)
    for name, shard in shard_of.items():
        if name not in stored:
            raise UserError(f"{directory / shard}: {name} is not in it, though {INDEX} says so")
    return stored


def write_tensors(
    directory: Path,
    views: Mapping[str, Tensor],
    dtypes: Mapping[str, torch.dtype],
    apart: Collection[str],
    max_shard_bytes: int,
) -> None:
    """Write the weights as `dtypes`, each file whole or not at all, and remove those of an earlier save.

    Those named in `apart` lie apart; more than `max_shard_bytes` of the others are cut into files that an index lists.
    """
    sizes = {name: view.numel() * dtypes[name].itemsize for name, view in views.items() if name not in apart}
    shards = _split(sizes, max_shard_bytes)
    files = shards | ({MTP: list(apart)} if apart else {})
    for file, names in files.items():  # one after the other, so that one shard's copy is in memory at a time
        with replacing_durably(directory / file) as part:
            tensors = {name: views[name].to(dtypes[name]).contiguous() for name in names}
            save_file(tensors, part, {"format": "pt"})
    kept = set(files)
    if len(shards) > 1:
        weight_map = {name: file for file, names in shards.items() for name in names}
        metadata = {"total_size": sum(sizes.values())}
        write_json(directory / INDEX, {"metadata": metadata, "weight_map": weight_map})
        kept.add(INDEX)
    for old in (directory / WEIGHTS, directory / INDEX, directory / MTP, *directory.glob(_SHARDS)):
        if old.name not in kept:
            old.unlink(missing_ok=True)


def _split(sizes: dict[str, int], most: int) -> dict[str, list[str]]:
    """File names, and the tensors that go into each: at most `most` bytes, or one tensor."""
    shards: list[list[str]] = [[]]
    room = most
    for name, size in sizes.items():
        if size > room and shards[-1]:
            shards.append([])
            room = most
        shards[-1].append(name)
        room -= size
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards, 1)}
