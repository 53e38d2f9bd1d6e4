"""Law 2: kill -9 at any moment, run the same command, and the result is that of a run that nobody killed."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from rich.console import Console
from safetensors.torch import load_file

from longjing.errors import UserError
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe

KILLED, REFUSED = -signal.SIGKILL, 2
READ: dict[str, Any] = {
    "kind": "pretrain", "name": "read", "model": tiny.FAMILIES["deepseek_v3"], "vocabulary": 300,
    "tokenizer_documents": 100, "corpus": {"countdown": 1.0}, "tasks": {"countdown": {"numbers": 2}},
    "steps": 8, "rows": 2, "row_length": 160, "warmup_steps": 2, "save_every": 2,
}  # fmt: skip
ZERO: dict[str, Any] = {
    "kind": "reinforce", "name": "zero", "task": {"name": "letters", "unreadable": "xyz"}, "steps": 8,
    "prompts_per_step": 4, "group_size": 4, "minibatches": 2, "dynamic_sampling": 1, "max_tokens": 16,
    "reference_every": 3, "kl": 0.01, "learning_rate": 1e-2, "save_every": 2,
    "evaluation": {"every": 3, "problems": 4, "samples": 2},
}  # fmt: skip


class Worker:
    """Runs recipes, each time in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("resume_worker.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(
        self, recipe: Path, out: Path, strike: tuple[str, int, str] | None = None, seconds: float | None = None
    ) -> int:
        """The exit status of a run that is killed after `seconds`, or strikes itself, or ends."""
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"recipe": str(recipe), "out": str(out), "strike": strike, "seconds": seconds}
        self._process.stdin.write(json.dumps(order) + "\n")
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def recipe_in(directory: Path, *stages: dict[str, Any]) -> Path:
    path = directory / "tiny.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "device": "cpu", "threads": 1, "stages": list(stages)}))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, base: Callable[[str], Path]) -> Path:
    return recipe_in(tmp_path_factory.mktemp("recipe"), READ, ZERO | {"model": str(base("deepseek_v3"))})


@pytest.fixture(scope="module")
def whole(worker: Worker, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What a run holds that nobody killed, and the seconds it took."""
    out = tmp_path_factory.mktemp("whole") / "run"
    began = time.perf_counter()
    assert worker.run(recipe, out) == 0
    return content(out), time.perf_counter() - began


def content(run: Path) -> dict[str, Any]:
    """Every file of a run but what a clock has written: models and rollouts as bytes, states as tensors.

    Of the states the newest counts: a kill before the last of them is cleared away leaves one more behind.
    """
    files: dict[str, Any] = {}
    newest = {path.parent: path for path in sorted(run.glob("*/state/*"))}
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        if newest.get(file.parent, file) != file:
            continue
        name = str(file.relative_to(run))
        if name.endswith(("metrics.jsonl", "evaluations.jsonl", "result.json")):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            timings = ("time", "seconds", "tokens_per_second")
            files[name] = [{k: v for k, v in row.items() if not k.startswith(timings)} for row in rows]
        elif "/state/" in name:
            tensors = load_file(file).items()
            files[name] = {key: (tensor.dtype, tensor.numpy().tobytes()) for key, tensor in tensors}
        elif name in ("report.html", "bill.json", ".lock"):
            files[name] = True
        else:
            files[name] = file.read_bytes()
    return files


def assert_same(run: Path, whole: dict[str, Any]) -> None:
    files = content(run)
    assert files.keys() == whole.keys()
    for name, wanted in whole.items():
        assert files[name] == wanted, name


def test_an_uninterrupted_run_is_worth_comparing(whole: tuple[dict[str, Any], float]) -> None:
    """It learned at every step, replaced its reference, refilled, measured, and left the unjudged out."""
    files, _ = whole
    rows = files["zero/metrics.jsonl"]
    assert [row["step"] for row in rows] == list(range(8)) and all(row["grad_norm"] > 0 for row in rows)
    assert any(row["resampled_groups"] for row in rows) and any(row["unjudged"] for row in rows)
    assert any(row["kl"] > 1e-6 for row in rows) and all(row["logprob_difference"] < 1e-5 for row in rows)
    assert [row["step"] for row in files["zero/evaluations.jsonl"]] == [-1, 2, 5, 7]
    assert {"read/model/model.safetensors", "zero/model/mtp.safetensors", "report.html"} <= files.keys()
    assert len({row["loss"] for row in files["read/metrics.jsonl"]}) == 8


def test_killed_at_random_moments(
    worker: Worker, recipe: Path, whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    """At least a dozen kills, wherever they fall: while sampling, updating, measuring, saving."""
    wanted, seconds = whole
    chance = random.Random(0)
    kills = 0
    for number in range(60):
        out = tmp_path / str(number)
        before = kills
        while (status := worker.run(recipe, out, seconds=chance.uniform(0.03, seconds / 3))) == KILLED:
            kills += 1
            assert kills - before < 100, "a run gets nowhere"
        assert status == 0
        assert_same(out, wanted)
        if kills >= 12:
            return
    raise AssertionError(f"only {kills} kills in sixty runs")


REPLACE, UNLINK, RENAME, FSYNC, RMTREE = "os:replace", "os:unlink", "os:rename", "os:fsync", "shutil:rmtree"
SAVE, MODEL = "longjing.runs.atomic_checkpoint:save_file", "longjing.model.store.safetensors:save_file"
APPEND, FINISH = "longjing.runs.jsonl:JsonLines.append", "longjing.runs.directory:StageDirectory.finish"
UPDATE, DECODE = ("longjing.learning.optimizers:Optimizers.step", "longjing.generation.native.engine:Engine.step")
REFERENCE = "longjing.learning.reference_policy:copy_weights"

STRIKES = [
    # Reading
    (REPLACE, 1, "before"),  # recipe.yaml
    (UPDATE, 2, "before"),
    (APPEND, 2, "cut"),
    (SAVE, 1, "cut"),
    (REPLACE, 1, "before"),
    (REPLACE, 1, "after"),
    (UPDATE, 2, "after"),
    (FSYNC, 2, "before"),
    (UNLINK, 1, "before"),
    (SAVE, 1, "full"),
    (MODEL, 1, "cut"),
    (MODEL, 2, "before"),  # between the model and its prediction modules
    (RENAME, 1, "before"),
    (FINISH, 1, "before"),
    (RMTREE, 2, "after"),  # the model of that attempt is gone, the next one not yet in its place
    (REPLACE, 4, "before"),  # result.json, behind the model's three files
    # Reinforcement
    (DECODE, 3, "before"),  # measuring, before
    (APPEND, 1, "cut"),
    (DECODE, 30, "after"),
    (UPDATE, 1, "after"),  # between two minibatches
    (APPEND, 3, "cut"),  # rollouts
    (SAVE, 1, "cut"),
    (REPLACE, 1, "before"),
    (REPLACE, 1, "after"),
    (REFERENCE, 1, "after"),
    (DECODE, 60, "before"),
    (UNLINK, 1, "before"),
    (SAVE, 1, "full"),
    (UPDATE, 4, "before"),
    (SAVE, 1, "before"),  # after the last measurement
    (MODEL, 1, "cut"),
    (RENAME, 1, "after"),
    (RMTREE, 2, "before"),
    ("longjing.recipe.running:account", 1, "before"),
    (REPLACE, 2, "before"),  # report.html, behind bill.json
]


def test_killed_at_chosen_moments(
    worker: Worker, recipe: Path, whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    """One run, struck again and again: in the middle of every kind of work, and of every file it writes."""
    out = tmp_path / "run"
    for strike in STRIKES:
        status = worker.run(recipe, out, strike)
        assert status == (REFUSED if strike[2] == "full" else KILLED), strike
    assert worker.run(recipe, out) == 0
    assert_same(out, whole[0])


def test_the_command_itself(worker: Worker, tmp_path: Path) -> None:
    """`longjing run`, killed twice and begun thrice, each time in a new process from the start."""
    recipe = recipe_in(tmp_path, READ | {"steps": 12, "rows": 4})
    out, log = tmp_path / "killed", tmp_path / "killed" / "read" / "metrics.jsonl"
    program = "from longjing.cli import main; main()"

    def command() -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", program, "run", str(recipe), "--out", str(out)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    for steps in (3, 7):
        process = command()
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < steps):
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert process.returncode == KILLED
    process = command()
    output, _ = process.communicate()
    assert process.returncode == 0 and "Done" in output, output
    assert worker.run(recipe, tmp_path / "whole") == 0
    assert_same(out, content(tmp_path / "whole"))


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    worker: Worker, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert worker.run(recipe, tmp_path / "file" / "run") == REFUSED
    assert worker.run(recipe, Path("/proc/run")) == REFUSED
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "thesis.tex").touch()
    assert worker.run(recipe, occupied) == REFUSED
    assert [path.name for path in occupied.iterdir() if path.name != ".lock"] == ["thesis.tex"]


def test_a_full_disk_is_refused_before_the_work(
    recipe: Path, letters: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is full already, or too small for what a stage will write."""
    usage = shutil.disk_usage(tmp_path)
    for free, begun in ((10 * 2**20, False), (64 * 2**20 + 10_000, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        with pytest.raises(UserError, match="MB are needed"):
            run_recipe(load(recipe), tmp_path / str(free), Console(file=io.StringIO()))
        assert (tmp_path / str(free) / "read").exists() == begun
        assert not list((tmp_path / str(free)).glob("*/*.jsonl"))
