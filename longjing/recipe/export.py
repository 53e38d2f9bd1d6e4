"""Models taken out to where people use them: a Hugging Face directory, or a GGUF file with Ollama's Modelfile."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from longjing.errors import UserError
from longjing.files import disk_errors, write_text
from longjing.generation.defaults import SamplingDefaults
from longjing.gguf import SUFFIX
from longjing.learning.stage import MODEL
from longjing.model.decoder import Decoder
from longjing.model.families.gguf import generation_fields
from longjing.model.layers.lora import adapters, has_adapter, merge_lora
from longjing.model.store.adapter import save_adapter
from longjing.model.store.checkpoint import save_model
from longjing.model.store.gguf import WRITABLE, write_model
from longjing.model.store.model_directory import CONFIG
from longjing.model.store.stored_dtype import exact_dtype
from longjing.recipe.card import write_card
from longjing.recipe.stages import makes
from longjing.runs import RunDirectory
from longjing.runs.fetch import public_name
from longjing.runs.models import base_name, load, weights_path
from longjing.runs.resolve import resolve, shipped
from longjing.text.modelfile import modelfile
from longjing.text.tokenizer import Tokenizer
from longjing.validation import did_you_mean_or_known

Form = Literal["hf", "gguf"]
FORMS: dict[str, Form] = {"hf": "hf", "gguf": "gguf"}

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# What Ollama calls the settings of a generation_config.json.
_SAMPLING = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}  # fmt: skip
_CONTEXT = 8192  # tokens that Ollama keeps room for: its own choice is shorter than a chain of thought


def export_model(
    source: str, stage: str | None, target: Path, form: Form | None = None, kind: str | None = None, merge: bool = False
) -> list[str]:
    """Write a model to `target`: of a run the model of a finished `stage` (default: the run's own), with a card, or
    any other that has a name. `form`: by default what `target`'s suffix says; `kind`: the numbers' format, by default
    BF16. Of an adapter only itself is written, in float32, unless it is to be merged into its base; GGUF always is.

    Returns lines for a person: what to know, and how to run it. Raises UserError, and leaves nothing half-written, if
    there is no such model or stage, the model has no such form, or the disk refuses.
    """
    form = form or ("gguf" if target.suffix == SUFFIX else "hf")
    wanted, kind = kind, kind or "BF16"
    if kind not in WRITABLE or (form == "hf" and kind not in _DTYPES):
        choices = ", ".join(WRITABLE if form == "gguf" else _DTYPES)
        raise UserError(f"--type {kind}: the form {form} has {choices}")
    if form == "gguf" and (target.is_dir() or target.suffix != SUFFIX):
        raise UserError(f"{target}: the name of a GGUF file is needed, which ends in {SUFFIX}")
    if form == "hf" and (target.is_file() or target.suffix == SUFFIX):
        raise UserError(f"{target}: a model in the form hf is a directory, and this is the name of a file")
    run, name = _stage_of(source, stage)
    path: str | Path = source if run is None else run.stage(name).model_path
    merge, weights = merge or form == "gguf", weights_path(path)
    # A sum with an adapter's product is rounded once if that is done here, as it would be in float32.
    stays = kind == "BF16" or not merge or weights == resolve(path)
    model, tokenizer = load(path, dtype=exact_dtype(weights) if stays else torch.float32)
    if merge:
        merge_lora(model)
    adapted = has_adapter(model)
    if adapted and wanted not in (None, "F32"):
        raise UserError(f"--type {wanted}: an adapter's numbers are F32; leave it out, or give --merge")
    if form == "gguf":
        return _write_gguf(model, tokenizer, target, kind)
    with _directory(target) as part:
        if adapted:
            base = base_name(path)
            public = public_name(base)
            save_adapter(model, part, base, None if public == base else public)
        else:
            save_model(model, part, _DTYPES[kind])
        tokenizer.save(part)
        if run is not None:
            if (card := target / "README.md").exists():
                shutil.copy(card, part)
            write_card(part / "README.md", run, name, model, str(_DTYPES[kind]).removeprefix("torch."), target)
    if adapted:
        return _adapter_lines(model, base, target)
    return [
        f"longjing:      longjing chat {target}",
        f'transformers:  python -c \'import transformers; print(transformers.pipeline("text-generation", "{target}")'
        '([{"role": "user", "content": "Hello"}]))\'',
        f"vLLM:          vllm serve {target}",
    ]


def _adapter_lines(model: Decoder, base: str, target: Path) -> list[str]:
    """How to run an adapter and its base."""
    notes, public = list[str](), public_name(base)
    rank = next(adapter.a.shape[-2] for *_, adapter in adapters(model))
    if public != base:
        notes.append(f"note: it was trained beside {base}, whose numbers are rounded; others take {public}")
    elif base in shipped():
        public = str(resolve(base))
    elif base.endswith(SUFFIX):
        notes.append(f"note: others can't put an adapter on {base}; BASE is what `longjing export {base} BASE` writes")
        public = "BASE"
    return [
        *notes,
        f"longjing:  longjing chat {target}",
        "peft:      python -c 'import peft, transformers; print(peft.PeftModel.from_pretrained(transformers."
        f'AutoModelForCausalLM.from_pretrained("{public}"), "{target}"))\'',
        f"vLLM:      vllm serve {public} --enable-lora --max-lora-rank {rank} --lora-modules {target.name}={target}",
    ]


def _stage_of(source: str, stage: str | None) -> tuple[RunDirectory | None, str]:
    """The run that `source` is, and the stage whose model is meant; None if it is no run."""
    if not (Path(source) / "recipe.yaml").exists():
        if stage is not None:
            raise UserError(f"--stage {stage}: {source} is no run")
        return None, ""
    run = RunDirectory(Path(source))
    recipe = run.recipe()
    makers = [each["name"] for each in recipe["stages"] if makes(each["kind"]) == MODEL]
    if not makers:
        raise UserError(f"{run.path}: none of its stages makes a model")
    name = stage or recipe.get("final") or makers[-1]
    if name not in makers:
        raise UserError(f"{run.path} has no stage {name!r} that makes a model{did_you_mean_or_known(name, makers)}")
    if run.stage(name).result is None:
        raise UserError(f"the stage {name} of {run.path} hasn't finished; run its recipe to the end first")
    return run, name


@contextmanager
def _directory(target: Path) -> Iterator[Path]:
    """A directory to write a model into: its files go to `target` when the block ends well, and vanish when it doesn't.

    `config.json` goes last, and weights that are there already are removed.
    """
    part = target.with_name(target.name + ".part")
    with disk_errors(target):
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            yield part
            target.mkdir(exist_ok=True)
            names = {file.name for file in part.iterdir()}
            for old in target.glob("*.safetensors*"):
                if old.name not in names:
                    old.unlink()
            for file in sorted(part.iterdir(), key=lambda file: file.name == CONFIG):
                file.replace(target / file.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _write_gguf(model: Decoder, tokenizer: Tokenizer, target: Path, kind: str) -> list[str]:
    config = model.config
    fields, note = tokenizer.gguf_fields(config.vocab_size)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    makers = vars(SamplingDefaults.of(model.generation_config))
    write_model(model, target, kind, {"general.name": target.stem, **generation_fields(makers), **fields})
    eos = config.eos_token_id if isinstance(config.eos_token_id, tuple) else (config.eos_token_id,)
    ends = dict.fromkeys(tokenizer.decode([end]) for end in (*sorted(tokenizer.end_ids), *eos) if end is not None)
    chosen = {"temperature": 0.6, "num_ctx": min(config.max_position_embeddings, _CONTEXT)}
    chosen |= {theirs: makers[ours] for ours, theirs in _SAMPLING.items() if makers[ours] is not None}
    recipe = target.with_suffix(".Modelfile")
    write_text(recipe, modelfile(target.name, tokenizer, ends, chosen))
    return [
        *([f"note: {note}"] if note else []),
        f"longjing:   longjing chat {target}",
        f"llama.cpp:  llama-cli -m {target}, or llama-server -m {target}",
        f"Ollama:     ollama create {target.stem.lower()} -f {recipe} && ollama run {target.stem.lower()}",
    ]
