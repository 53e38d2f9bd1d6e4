"""Models on disk: Hugging Face directories of `config.json` and safetensors, read and written.

`Family.tensors` maps each name on disk to a view of the network's own memory: reading fills the views and writing
copies them out, so there is one mapping for both directions.
"""

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from longjing.errors import UserError
from longjing.gguf import SUFFIX
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.families import family_of
from longjing.model.layers.linear import Storage
from longjing.model.layers.rope import inverse_frequencies
from longjing.model.reward_model import RewardModel
from longjing.model.store.gguf import open_gguf
from longjing.model.store.model_directory import CONFIG, GENERATION_CONFIG, read_json, write_json
from longjing.model.store.quantised import dense
from longjing.model.store.safetensors import open_tensors, write_tensors
from longjing.model.store.tensors import FLOATS, StoredTensor

_ROUTER_BIAS = "e_score_correction_bias"

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Decoder)


def load_model(directory: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Decoder:
    """The model that a directory holds, in evaluation mode. (For a run's or a shipped model's: `runs.resolve`.)

    The weights are `dtype` in memory whatever the files hold; the default is float32, the numerics path on
    which everything is measured. FP8 blocks are dequantised; router biases stay float32. Names and shapes are
    checked before memory is taken and tensors are read one by one, so the peak is the model and its largest
    tensor. MTP modules that the config promises and the files lack are left out, with a warning in the log.
    Raises UserError, naming the file and the key, for what can't be read exactly.
    """
    return _load(Decoder, Path(directory), device, dtype)


def load_reward_model(
    directory: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> RewardModel:
    """Read the directory of a reward model: ours, or any ...ForSequenceClassification of a supported family with
    one label. Otherwise like `load_model`."""
    return _load(RewardModel, Path(directory), device, dtype)


def _load(kind: type[M], directory: Path, device: str | torch.device, dtype: torch.dtype | None) -> M:
    with ExitStack() as stack:
        config, generation, stored = _open(directory, stack)
        if "score.weight" in stored and not issubclass(kind, RewardModel):
            raise UserError(
                f"{directory} holds a reward model, which scores texts and writes none; give a model that talks"
            )
        config = _without_absent_mtp(config, stored)
        family = family_of(config.model_type)
        with torch.device("meta"):  # nothing takes memory before names and shapes are known to fit
            model = kind(config)
        _check(directory, model.config, family.tensors(model), stored)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype or torch.float32)
        model.to_empty(device=device)
        if model.config.tie_word_embeddings:
            model.lm_head.weight = model.embed_tokens.weight
        model.inverse_frequencies.copy_(inverse_frequencies(config)[0])
        for router in model.routers():
            router.load.zero_()
        if torch.device(device).type != "meta":  # where there is nothing to hold numbers
            for name, view in family.tensors(model).items():
                view.copy_(stored[name].read())
    model.generation_config = generation
    return model.eval()


def _as_tuple(ends: Any) -> tuple[Any, ...]:
    return () if ends is None else tuple(ends) if isinstance(ends, list | tuple) else (ends,)


def end_tokens(model: Decoder) -> tuple[int, ...]:
    """The tokens that end a text, by the model's config and its generation config, which often knows more of them."""
    listed = (model.config.eos_token_id, model.generation_config.get("eos_token_id"))
    return tuple(dict.fromkeys(end for ends in listed for end in _as_tuple(ends)))


def save_model(
    model: Decoder, path: str | Path, dtype: torch.dtype | None = None, max_shard_bytes: int = 50 * 10**9
) -> None:
    """Write `config.json` and the weights into the directory `path`, as `dtype` (default: as they are).

    Each file appears whole or not at all, `config.json` last; weights of an earlier save are removed. A
    `generation_config.json` that the model came with is written too, with all the tokens that end a text. More
    than `max_shard_bytes` are cut into files that an index lists. Router biases stay float32.
    Raises UserError if the directory can't be written, or the network not under the name of its family.
    """
    directory, config = Path(path), model.config
    config.check_family()
    if any(isinstance(module, Storage) for module in model.modules()):
        raise UserError("a network with an adapter or quantised weights can't be written as a whole; merge it first")
    family = family_of(config.model_type)
    views = family.tensors(model)
    dtypes = {name: view.dtype if name.endswith(_ROUTER_BIAS) else dtype or view.dtype for name, view in views.items()}
    apart: list[str] = []
    if config.num_hidden_layers not in family.skipped_layers:
        apart = [name for name in views if _layer(name) >= config.num_hidden_layers]
    values = config.to_dict()
    values["torch_dtype"] = str(dtype or model.embed_tokens.weight.dtype).removeprefix("torch.")
    if isinstance(model, RewardModel):
        values["architectures"] = [family.architecture.replace("ForCausalLM", "ForSequenceClassification")]
        values["num_labels"] = 1
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_tensors(directory, views, dtypes, apart, max_shard_bytes)
        generation = {**model.generation_config}
        if generation.get("eos_token_id") is not None:  # transformers' `generate` asks nothing else
            generation["eos_token_id"] = [*end_tokens(model)]
        if generation:
            write_json(directory / GENERATION_CONFIG, generation)
        else:
            (directory / GENERATION_CONFIG).unlink(missing_ok=True)
        write_json(directory / CONFIG, values)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory}: the model can't be written: {error}") from error


def _layer(name: str) -> int:
    """The layer that a name on disk belongs to, -1 for what belongs to none."""
    return int(name.split(".")[2]) if name.startswith("model.layers.") else -1


def _open(path: Path, stack: ExitStack) -> tuple[ModelConfig, dict[str, Any], dict[str, StoredTensor]]:
    """The network's shape, its generation config and its tensors, from a directory or a GGUF file."""
    if path.suffix == SUFFIX:
        values, generation, stored = open_gguf(path)
        return _config(values, path, f"{path}: "), generation, stored
    values = read_json(path / CONFIG)
    config = _config(values, path / CONFIG, f"{path}/")
    stored, file = open_tensors(path, stack), path / GENERATION_CONFIG
    generation = read_json(file) if file.exists() else {}
    if any(not isinstance(end, int) for end in _as_tuple(generation.get("eos_token_id"))):
        raise UserError(f"{file}: eos_token_id names no tokens: {generation['eos_token_id']!r}")
    try:
        return config, generation, dense(stored, values.get("quantization_config"))
    except UserError as error:
        raise UserError(f"{path}/{error}" if str(error).startswith(CONFIG) else str(error)) from None


def _config(values: dict[str, Any], file: Path, prefix: str) -> ModelConfig:
    try:
        return ModelConfig.from_dict(values)
    except UserError as error:
        raise UserError(f"{prefix}{error}") from None
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise UserError(f"{file} doesn't describe a network: {error!r}") from error


def _without_absent_mtp(config: ModelConfig, stored: dict[str, StoredTensor]) -> ModelConfig:
    """The config as the files bear it out: `transformers` saves MTP modules' number and not their weights."""
    deepest = max((_layer(name) for name in stored), default=-1)
    if config.num_nextn_predict_layers and deepest < config.num_hidden_layers:
        _log.warning(
            "num_nextn_predict_layers is %d, but the files have no MTP weights: loaded without",
            config.num_nextn_predict_layers,
        )
        return replace(config, num_nextn_predict_layers=0)
    return config


def _check(directory: Path, config: ModelConfig, views: dict[str, Tensor], stored: dict[str, StoredTensor]) -> None:
    """Refuse files that don't hold exactly the tensors of `views`."""
    for name, view in views.items():
        tensor = stored.get(name)
        if tensor is None:
            raise UserError(f"{directory}: {name} is missing from the weights")
        if tensor.shape != view.shape:
            raise UserError(f"{tensor.file}: {name} has shape {list(tensor.shape)}, {CONFIG} means {list(view.shape)}")
        if tensor.dtype not in FLOATS:
            raise UserError(f"{tensor.file}: {name} is stored as {tensor.dtype}, which is not supported")
    copies = family_of(config.model_type).copies(config)
    for name, tensor in stored.items():
        if name in copies:
            if not torch.equal(tensor.read(), stored[copies[name]].read()):
                raise UserError(f"{tensor.file}: {name} differs from {copies[name]}, with which it should be one")
        elif name not in views and not name.endswith("rotary_emb.inv_freq"):
            raise UserError(f"{tensor.file}: {name} has no place in this {config.model_type} model")
