"""Models on disk: Hugging Face directories of `config.json` and safetensors, read and written.

The names are those of `transformers` and vLLM, so that neither needs remote code. `_on_disk` maps each name
to a view of the network's own memory; reading fills the views and writing copies them out.

The MTP modules lie apart in `mtp.safetensors`, not in the index. DeepSeek-V3 stores them as decoder layers
after the last, and `transformers` reports such tensors as unexpected unless they are of layer 61, the one
that it knows to skip; so only a model of 61 layers keeps them among the others. vLLM reads every safetensors
file of a directory that has no index, and SGLang looks for this name. The copies of embedding and head that
DeepSeek stores with each module are not written, because all three share the decoder's anyway; where they
are found, they must be equal.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longjing.errors import UserError
from longjing.files import replacing, sync
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.families import family_of
from longjing.model.layers.rope import inverse_frequencies
from longjing.model.reward import RewardModel
from longjing.model.store.fp8 import block_size, dequantise, scale_shape

SHIPPED = Path(__file__).parents[2] / "models"

_CONFIG, _WEIGHTS, _MTP = "config.json", "model.safetensors", "mtp.safetensors"
_INDEX = _WEIGHTS + ".index.json"
_REWARD_MODEL = "reward-model"  # the kind of a recipe's stage
_SCALE, _BIAS = "_scale_inv", "e_score_correction_bias"
_SHARDS = "model-*-of-*.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Decoder)


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(config.parent.name for config in SHIPPED.glob(f"*/{_CONFIG}"))


def resolve(name_or_path: str | Path, reward: bool = False) -> Path:
    """The model directory that a user means: a path, a run or one of its stages, or a shipped model's name (`r1`,
    or in full `longjing-r1`).

    Of a run it is the model of the recipe's `final` stage, before that is done (or where none is named) of the last
    stage that has one; where a `reward` model is wanted, that of the only stage that makes one. Raises UserError if
    it is none of these.
    """
    path = Path(name_or_path)
    if path.is_file():
        raise UserError(f"{path} is a file; give the directory that it lies in")
    if path.is_dir():
        candidates = (path, path / "model")
        found = next((directory for directory in candidates if (directory / _CONFIG).exists()), None)
        if found is not None:
            return found
        if (path / "recipe.yaml").exists():
            return _of_run(path, reward)
    if (name := str(name_or_path).removeprefix("longjing-")) in shipped():
        return SHIPPED / name  # even where some folder without a model is called so, too
    if path.is_dir():
        return path
    names = ", ".join(shipped()) or "none"
    raise UserError(f"no model {str(name_or_path)!r}: no such directory, nor a shipped model ({names})")


def _of_run(run: Path, reward: bool) -> Path:
    """See `resolve`."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    raters = [stage["name"] for stage in recipe["stages"] if stage["kind"] == _REWARD_MODEL]
    if reward:
        makers, wanted = raters, "reward model"
        if len(raters) > 1:
            choices = " or ".join(str(run / name) for name in raters)
            raise UserError(f"{run}: this run makes several reward models; say {choices}")
    else:
        silent = (_REWARD_MODEL, "sample")
        makers = [stage["name"] for stage in reversed(recipe["stages"]) if stage["kind"] not in silent]
        makers.sort(key=lambda name: name != recipe.get("final"))
        wanted = "model that talks"
    if not makers:
        others = ", ".join(f"{name} is a reward model: {run / name}" for name in raters)
        raise UserError(f"{run}: this run makes no {wanted}" + (f" ({others})" if others else ""))
    models = (run / name / "model" for name in makers)
    found = next((model for model in models if (model / _CONFIG).exists()), None)
    if found is None:
        raise UserError(f"{run}: no stage of this run that makes a {wanted} has finished yet")
    return found


def load_model(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Decoder:
    """Read a model directory (a run or a shipped name too, see `resolve`), in evaluation mode.

    The weights are `dtype` in memory whatever the files hold; the default is float32, the numerics path on
    which everything is measured. FP8 blocks are dequantised; router biases stay float32. Names and shapes are
    checked before memory is taken and tensors are read one by one, so the peak is the model and its largest
    tensor. MTP modules that the config promises and the files lack are left out, with a warning in the log.
    Raises UserError, naming the file and the key, for what can't be read exactly.
    """
    return _load(Decoder, path, device, dtype)


def load_reward_model(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> RewardModel:
    """Read the directory of a reward model: ours, or any ...ForSequenceClassification of a supported family with
    one label. Otherwise like `load_model`."""
    return _load(RewardModel, path, device, dtype)


def _load(kind: type[M], path: str | Path, device: str | torch.device, dtype: torch.dtype | None) -> M:
    directory = resolve(path, reward=issubclass(kind, RewardModel))
    config, block = _read_config(directory / _CONFIG)
    with ExitStack() as stack:
        stored = _open(directory, stack)
        if "score.weight" in stored and not issubclass(kind, RewardModel):
            raise UserError(
                f"{directory} holds a reward model, which scores texts and writes none; give a model that talks"
            )
        config = _without_absent_mtp(config, stored)
        with torch.device("meta"):
            model = kind(config)
        _check(directory, model.config, family_of(model.config.model_type).tensors(model), stored, block)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype or torch.float32)
        model.to_empty(device=device)
        if model.config.tie_word_embeddings:
            model.lm_head.weight = model.embed_tokens.weight
        model.inverse_frequencies.copy_(inverse_frequencies(config)[0])
        for router in model.routers():
            router.load.zero_()
        if torch.device(device).type != "meta":  # where there is nothing to hold numbers
            for name, view in family_of(model.config.model_type).tensors(model).items():
                view.copy_(stored[name].read(stored.get(name + _SCALE), block))
    return model.eval()


def save_model(
    model: Decoder, path: str | Path, dtype: torch.dtype | None = None, max_shard_bytes: int = 50 * 10**9
) -> None:
    """Write `config.json` and the weights into the directory `path`, as `dtype` (default: as they are).

    Each file appears whole or not at all, `config.json` last; weights of an earlier save are removed. More
    than `max_shard_bytes` are cut into files that an index lists. Router biases stay float32.
    Raises UserError if the directory can't be written.
    """
    model.config.check_family()
    directory, depth = Path(path), model.config.num_hidden_layers
    family = family_of(model.config.model_type)
    views = family.tensors(model)
    dtypes = {
        name: view.dtype if name.endswith(_BIAS) else dtype or view.dtype for name, view in views.items()
    }
    sizes = {name: view.numel() * dtypes[name].itemsize for name, view in views.items()}
    apart = [name for name in views if _layer(name) >= depth] if depth not in family.skipped_layers else []
    shards = _split({name: size for name, size in sizes.items() if name not in apart}, max_shard_bytes)
    files = shards | ({_MTP: apart} if apart else {})
    indexed = len(shards) > 1
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, names in files.items():
            with _replacing(directory / file) as partial:
                tensors = {name: views[name].to(dtypes[name]).contiguous() for name in names}
                save_file(tensors, partial, {"format": "pt"})
        if indexed:
            weight_map = {name: file for file, names in shards.items() for name in names}
            total = sum(sizes[name] for name in weight_map)
            _write_json(directory / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        kept = {*files, *([_INDEX] if indexed else [])}
        for old in (directory / _WEIGHTS, directory / _INDEX, directory / _MTP, *directory.glob(_SHARDS)):
            if old.name not in kept:
                old.unlink(missing_ok=True)
        kind = str(dtype or model.embed_tokens.weight.dtype).removeprefix("torch.")
        values = model.config.to_dict() | {"torch_dtype": kind}
        if isinstance(model, RewardModel):
            values["architectures"] = [
                family.architecture.replace("ForCausalLM", "ForSequenceClassification")
            ]
            values["num_labels"] = 1
        _write_json(directory / _CONFIG, values)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory}: the model can't be written: {error}") from error


def _layer(name: str) -> int:
    """The layer that a name on disk belongs to, -1 for what belongs to none."""
    return int(name.split(".")[2]) if name.startswith("model.layers.") else -1


@dataclass(frozen=True)
class _Stored:
    """One tensor in an open file."""

    name: str
    file: Path
    handle: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.handle.get_slice(self.name).get_shape())

    @property
    def dtype(self) -> str:
        return str(self.handle.get_slice(self.name).get_dtype())

    def read(self, scale: "_Stored | None" = None, block: tuple[int, int] | None = None) -> Tensor:
        """The tensor, times its scales where it has some."""
        tensor: Tensor = self.handle.get_tensor(self.name)
        return tensor if scale is None or block is None else dequantise(tensor, scale.read(), block)


def _open(directory: Path, stack: ExitStack) -> dict[str, _Stored]:
    """Every tensor in the directory's weight files, by name. The files stay open until `stack` closes."""
    promised: dict[str, str] = {}
    files = [_WEIGHTS]
    if (directory / _INDEX).exists() and not (directory / _WEIGHTS).exists():
        promised = _read_json(directory / _INDEX).get("weight_map", {})
        if not isinstance(promised, dict) or any(Path(str(file)).name != file for file in promised.values()):
            raise UserError(
                f"{directory / _INDEX}: weight_map must give each tensor a file of this directory"
            )
        files = sorted(set(promised.values()))
    if (directory / _MTP).exists() and _MTP not in files:
        files.append(_MTP)
    stored: dict[str, _Stored] = {}
    for file in (directory / name for name in files):
        if not file.exists():
            raise _missing(file)
        try:
            handle = stack.enter_context(safe_open(file, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file}: not a whole safetensors file ({error}); copy or download it again"
            ) from None
        stored |= {name: _Stored(name, file, handle) for name in handle.keys()}  # noqa: SIM118
    for name, shard in promised.items():
        if name not in stored:
            raise UserError(f"{directory / shard}: {name} is not in it, though {_INDEX} says so")
    return stored


def _missing(file: Path) -> UserError:
    """The error for a file that isn't there, and why it may not be."""
    pickles = sorted(other.name for other in file.parent.iterdir() if other.suffix in (".bin", ".pt", ".pth"))
    if pickles and file.name in (_CONFIG, _WEIGHTS):
        return UserError(
            f"{file.parent} has its weights in a pickle ({pickles[0]}), which can run code when it is read; "
            "only safetensors are read here. If you trust it, convert it with transformers' save_pretrained"
        )
    return UserError(f"{file} is missing; a model is a directory with {_CONFIG} and safetensors files")


def _read_json(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise _missing(file)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected an object, found {type(values).__name__}")
    return values


def _read_config(file: Path) -> tuple[ModelConfig, tuple[int, int] | None]:
    """The network's shape, and the blocks in which its weights are quantised."""
    values = _read_json(file)
    try:
        return ModelConfig.from_dict(values), block_size(values.get("quantization_config"))
    except UserError as error:
        raise UserError(f"{file.parent}/{error}") from None
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise UserError(f"{file} doesn't describe a network: {error!r}") from error


def _without_absent_mtp(config: ModelConfig, stored: dict[str, _Stored]) -> ModelConfig:
    """The config as the files bear it out: `transformers` saves MTP modules' number and not their weights."""
    deepest = max((_layer(name) for name in stored), default=-1)
    if config.num_nextn_predict_layers and deepest < config.num_hidden_layers:
        _log.warning(
            "num_nextn_predict_layers is %d, but the files have no MTP weights: loaded without",
            config.num_nextn_predict_layers,
        )
        return replace(config, num_nextn_predict_layers=0)
    return config


def _check(
    directory: Path,
    config: ModelConfig,
    views: dict[str, Tensor],
    stored: dict[str, _Stored],
    block: tuple[int, int] | None,
) -> None:
    """Refuse files that don't hold exactly the tensors of `views`."""
    known = set(views)
    for name, view in views.items():
        if name not in stored:
            raise UserError(f"{directory}: {name} is missing from the weights")
        tensor, scale = stored[name], stored.get(name + _SCALE)
        if tensor.shape != view.shape:
            raise UserError(
                f"{tensor.file}: {name} has shape {list(tensor.shape)}, {_CONFIG} means {list(view.shape)}"
            )
        if tensor.dtype == "F8_E4M3" and scale is not None and block is not None:
            known.add(scale.name)
            if scale.dtype not in _FLOATS or scale.shape != scale_shape(tensor.shape, block):
                found = f"{scale.dtype} {list(scale.shape)}"
                raise UserError(f"{scale.file}: {scale.name} is {found}, not one float for each block")
        elif tensor.dtype not in _FLOATS:
            raise UserError(f"{tensor.file}: {name} is stored as {tensor.dtype}, which is not supported")
    copies = family_of(config.model_type).copies(config)
    for name, tensor in stored.items():
        if name in copies:
            if not torch.equal(tensor.read(), stored[copies[name]].read()):
                raise UserError(
                    f"{tensor.file}: {name} differs from {copies[name]}, with which it should be one"
                )
        elif name not in known and not name.endswith("rotary_emb.inv_freq"):
            raise UserError(f"{tensor.file}: {name} has no place in this {config.model_type} model")


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
        return {_WEIGHTS: shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards, 1)}


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """`files.replacing` for a model's files, whose names survive a power cut, too."""
    with replacing(file) as part:
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors lets nobody but the owner read what it writes
    sync(file.parent)


def _write_json(file: Path, values: dict[str, Any]) -> None:
    with _replacing(file) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
