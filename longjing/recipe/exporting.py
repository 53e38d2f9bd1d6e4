"""A run's model, taken out of the run: a Hugging Face directory with its card."""

from pathlib import Path

import torch

from longjing.errors import UserError
from longjing.learning.stage import MODEL
from longjing.model.device import choose_dtype
from longjing.model.store.checkpoint import load_model, save_model
from longjing.recipe.card import write_card
from longjing.recipe.stages import makes
from longjing.runs import RunDirectory
from longjing.text.tokenizer import Tokenizer
from longjing.validation import did_you_mean_or_known


def export_model(run: RunDirectory, stage: str | None, directory: Path, dtype: str) -> None:
    """Write the model of a finished stage (default: the run's own) into `directory`, its numbers as `dtype`.

    Raises UserError if there is no such stage, it makes no model, it hasn't finished, or `directory` can't be written.
    """
    recipe = run.recipe()
    makers = [each["name"] for each in recipe["stages"] if makes(each["kind"]) == MODEL]
    if not makers:
        raise UserError(f"{run.path}: none of its stages makes a model")
    name = stage or recipe.get("final") or makers[-1]
    if name not in makers:
        raise UserError(
            f"{run.path} has no stage {name!r} that makes a model{did_you_mean_or_known(name, makers)}"
        )
    source = run.stage(name)
    if source.result is None:
        raise UserError(f"the stage {name} of {run.path} hasn't finished; run its recipe to the end first")
    model = load_model(source.model_path)
    save_model(model, directory, choose_dtype(dtype, torch.device("cpu")))
    Tokenizer.from_directory(source.model_path).save(directory)
    write_card(directory / "README.md", run, name, model, dtype)
