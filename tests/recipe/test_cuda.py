"""The whole recipe on a GPU: every stage, in both number formats. Skipped where there is none."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe
from longjing.runs import RunDirectory


# Float32 differs by how sums are cut; bfloat16 by its eight bits, which now and then move an unlikely token far.
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("dtype", "largest"), [("float32", 1e-3), ("bfloat16", 2.0)])
def test_every_stage_runs_and_the_engine_samples_the_policy(dtype: str, largest: float, tmp_path: Path) -> None:
    recipe = load("r1", ["device=cuda", f"dtype={dtype}", "threads=1"], quick=True)
    run_recipe(recipe, tmp_path / "run", Console(file=io.StringIO()))
    run = RunDirectory(tmp_path / "run")
    for name in ("r1-zero", "rl-1", "rl-2", "distilled-on-policy"):
        rows = run.stage(name).metrics.rows()
        assert max(row.get("logprob_difference", 0.0) for row in rows) < largest
        assert any(row["grad_norm"] > 0 for row in rows)
