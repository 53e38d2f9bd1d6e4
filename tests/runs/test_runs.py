"""A kill, a full disk or a second process must never cost more than the step at hand."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longjing import files
from longjing.errors import UserError
from longjing.runs import JsonLines, RunDirectory, StageDirectory, atomic_checkpoint, directory, read_jsonl
from longjing.runs.jsonl import Row

RECIPE = {"name": "r", "seed": 0, "stages": [{"kind": "pretrain", "name": "read", "steps": 3}]}


class Killed(BaseException):
    """What SIGKILL looks like from inside, if it could be seen."""


@pytest.fixture
def stage(tmp_path: Path) -> StageDirectory:
    stage = RunDirectory(tmp_path).stage("read")
    assert stage.load_state() is None
    return stage


def state(step: int) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    random = torch.Generator().manual_seed(step)
    tensors = {
        "weight": torch.randn(7, 5, generator=random).T,  # not contiguous
        "count": torch.tensor(step),
        "half": torch.randn(3, generator=random).bfloat16(),
        "random": random.get_state(),
        "empty": torch.empty(0, 4),
    }
    return tensors, {"loss": step / 3, "worst": -math.inf, "cursor": [2**63 + step, "第一"], "step": step}


def same(left: object, right: object) -> bool:
    (tensors, facts), (others, other_facts) = left, right
    return (
        facts == other_facts
        and tensors.keys() == others.keys()
        and all(
            tensors[name].dtype == others[name].dtype and torch.equal(tensors[name], others[name]) for name in tensors
        )
    )


def test_state_comes_back_exactly(stage: StageDirectory) -> None:
    for step in range(4):
        stage.save_state(step, *state(step))
        assert same(stage.load_state(), state(step))
    assert len(list((stage.path / "state").iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncate", "empty", "zeros"])
def test_a_damaged_newest_state_falls_back_to_the_one_before(stage: StageDirectory, damage: str) -> None:
    for step in (1, 2):
        stage.metrics.append({"step": step})
        stage.save_state(step, *state(step))
    newest = stage.path / "state" / "step-00000002.safetensors"
    content = newest.read_bytes()
    newest.write_bytes({"truncate": content[:-1], "empty": b"", "zeros": bytes(len(content))}[damage])
    assert same(stage.load_state(), state(1))
    assert [row["step"] for row in stage.metrics.rows()] == [1]
    stage.save_state(2, *state(2))
    assert same(stage.load_state(), state(2))


def test_states_that_are_all_damaged_are_an_error_not_a_fresh_start(stage: StageDirectory) -> None:
    stage.save_state(1, *state(1))
    (stage.path / "state" / "step-00000001.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="step-00000001"):
        stage.load_state()


def test_a_kill_between_any_two_operations_leaves_a_whole_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replays a save, killed before its first file operation, before its second, and so on to the last."""
    left = 0

    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*arguments, **options)

        return call

    operations = [(atomic_checkpoint, "save_file"), *((os, name) for name in ("fsync", "replace", "unlink", "mkdir"))]
    for where, name in operations:
        monkeypatch.setattr(where, name, counted(getattr(where, name)))
    seen = set()
    for allowed in range(50):
        left = 1_000
        stage = RunDirectory(tmp_path).stage(f"stage-{allowed}")
        stage.load_state()
        for step in (1, 2):
            stage.metrics.append({"step": step})
            stage.save_state(step, *state(step))
        stage.metrics.append({"step": 3})
        left = allowed
        try:
            stage.save_state(3, *state(3))
        except Killed:
            left = 1_000
            loaded = stage.load_state()
            step = loaded[1]["step"]
            seen.add(step)
            assert step in (2, 3) and same(loaded, state(step))
            assert [row["step"] for row in stage.metrics.rows()] == list(range(1, step + 1))
            stage.save_state(4, *state(4))
            assert same(stage.load_state(), state(4)) and len(list((stage.path / "state").iterdir())) == 2
        else:
            break
    assert seen == {2, 3} and allowed > 5


# One process imports torch and then forks a saver again and again; each says which steps it has saved.
SAVERS = """
import os, signal, sys
import torch
from longjing.runs import RunDirectory

torch.set_num_threads(1)

def save(told):
    stage = RunDirectory(sys.argv[1]).stage("read")
    saved = stage.load_state()
    step = saved[1]["step"] if saved else 0
    while True:
        step += 1
        stage.metrics.append({"step": step})
        stage.save_state(step, {"weight": torch.full((200_000,), float(step))}, {})
        os.write(told, b"%9d" % step)

for _ in range(10):
    read, write = os.pipe()
    process = os.fork()
    if not process:
        save(write)
    os.close(write)
    told = os.read(read, 9 * 3)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    while more := os.read(read, 9):
        told = more
    known = int(told[-9:])
    stage = RunDirectory(sys.argv[1]).stage("read")
    tensors, facts = stage.load_state()
    assert facts["step"] in (known, known + 1) and (tensors["weight"] == facts["step"]).all()
    assert [row["step"] for row in stage.metrics.rows()] == list(range(1, facts["step"] + 1))
print("survived", known)
"""


def test_sigkill_at_random_moments_loses_no_acknowledged_step(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", SAVERS, tmp_path], capture_output=True, text=True)
    assert process.stdout.startswith("survived"), process.stderr
    assert int(process.stdout.split()[1]) >= 10


FILLER = """
import resource, sys, torch
from longjing.errors import UserError
from longjing.runs import RunDirectory
stage = RunDirectory(sys.argv[1]).stage("read")
stage.load_state()
stage.save_state(1, {"weight": torch.ones(100)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    stage.save_state(2, {"weight": torch.ones(100_000)}, {})
except UserError as error:
    print(error)
"""


def test_a_disk_that_refuses_stops_the_run_with_the_last_state_whole(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", FILLER, tmp_path], capture_output=True, text=True, check=True)
    assert "step-00000002.safetensors" in process.stdout and "resumes" in process.stdout
    tensors, facts = RunDirectory(tmp_path).stage("read").load_state()
    assert facts["step"] == 1 and torch.equal(tensors["weight"], torch.ones(100))
    assert [path.name for path in (tmp_path / "read" / "state").iterdir()] == ["step-00000001.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_while_logging_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left"):
        JsonLines(tmp_path / "log").append({"step": 1})


def test_a_disk_without_room_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = directory.shutil.disk_usage(tmp_path)._replace(free=100 * 2**20)
    monkeypatch.setattr(directory.shutil, "disk_usage", lambda path: usage)
    RunDirectory(tmp_path).reserve(10 * 2**20)
    with pytest.raises(UserError, match="105 MB"):
        RunDirectory(tmp_path).reserve(90 * 2**20)


# Logs

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [finite(item) for item in value]
    return {key: finite(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_json_is_standard_and_comes_back(value: object) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = files.to_json(value)
    assert "\n" not in text and json.loads(text, parse_constant=refuse) == finite(value)


@given(
    steps=st.lists(st.integers(0, 9)).map(sorted),
    keep=st.integers(-1, 10),
    partial=st.sampled_from([b"", b"{", b'{"step": 3, "te', b"\0\0\0", b'{"step": 99}\n', b"\0\0\n\0"]),
    padding=st.sampled_from([0, 100, 70_000]),
)
def test_rewind_drops_later_steps_and_partial_lines(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], keep: int, partial: bytes, padding: int
) -> None:
    log = JsonLines(tmp_path_factory.mktemp("log") / "log.jsonl")
    rows = [{"step": step, "index": index, "text": "龙" * padding} for index, step in enumerate(steps)]
    for row in rows:
        log.append(row)
    with log.path.open("ab") as file:
        file.write(partial)
    log.rewind(keep)
    kept = [row for row in rows if row["step"] <= keep]
    assert log.rows() == kept
    log.append({"step": 10})
    assert log.rows() == [*kept, {"step": 10}]


def test_a_log_being_written_is_read_without_its_last_part(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_jsonl(path) == []
    path.write_bytes('{"step": 1, "text": "龙井"}\n{"step": 2, "text": "龙'.encode()[:-1])
    assert read_jsonl(path) == [{"step": 1, "text": "龙井"}]


def test_a_watcher_hears_every_row(tmp_path: Path) -> None:
    class Watcher:
        def __init__(self) -> None:
            self.heard: list[object] = []
            self.metrics = self.evaluation = self.status = self.heard.append

        def sampled(self, *messages: int) -> None:
            self.heard.append(messages)

        def updated(self, *messages: int) -> None:
            self.heard.append(messages)

    watcher = Watcher()
    stage = RunDirectory(tmp_path).stage("read", watcher)
    stage.load_state()
    stage.watcher.status("reading")
    stage.watcher.sampled(1, 2, 30)
    stage.watcher.updated(2, 2)
    stage.metrics.append({"step": 1})
    stage.evaluations.append({"step": 2})
    assert watcher.heard == ["reading", (1, 2, 30), (2, 2), {"step": 1}, {"step": 2}]


# The run


def test_a_run_keeps_its_recipe_and_refuses_another(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "deep" / "run")
    with run.writing(RECIPE):
        begin(run.stage("read"))
    with run.writing(RECIPE):
        assert run.recipe() == RECIPE
    other = {**RECIPE, "seed": 1, "stages": [{**RECIPE["stages"][0], "steps": 9}]}
    with pytest.raises(UserError) as caught, run.writing(other):
        pass
    assert "seed: 0 -> 1" in str(caught.value) and "stages.read.steps: 3 -> 9" in str(caught.value)
    assert "--out" in str(caught.value) and run.recipe() == RECIPE


def begin(stage: StageDirectory) -> None:
    stage.load_state()
    stage.save_state(0, {}, {})


STAGE = st.fixed_dictionaries({"name": st.sampled_from("abcd"), "steps": st.integers(1, 2)})
STAGES = st.lists(STAGE, min_size=1, max_size=4, unique_by=lambda stage: stage["name"])


@given(STAGES, st.integers(0, 4), STAGES)
def test_what_has_begun_is_bound_and_what_follows_may_be_anything(
    tmp_path_factory: pytest.TempPathFactory, old: list[Row], begun: int, new: list[Row]
) -> None:
    run, begun = RunDirectory(tmp_path_factory.mktemp("run")), min(begun, len(old))
    with run.writing(RECIPE | {"stages": old}):
        for stage in run.stages():
            stage.load_state()  # logs alone bind nothing
        for stage in run.stages()[:begun]:
            begin(stage)
    if new[:begun] == old[:begun]:
        with run.writing(RECIPE | {"stages": new}):
            assert run.recipe()["stages"] == new
    else:
        with pytest.raises(UserError, match="stages"), run.writing(RECIPE | {"stages": new}):
            pass
        assert run.recipe()["stages"] == old


def test_what_differs_in_a_list_is_found_though_names_come_twice() -> None:
    parts = [{"name": "countdown", "difficulty": 2}, {"name": "countdown", "difficulty": 3}]
    assert directory.differences({"task": parts}, {"task": parts}) == []
    assert len(directory.differences({"task": parts}, {"task": [parts[1], parts[1]]})) == 1
    stages = [{"name": "a"}, {"name": "b"}]
    assert directory.differences(stages, stages[::-1], "stages") == ['stages: ["a", "b"] -> ["b", "a"]']


def test_a_digest_that_nobody_noted_then_is_no_difference() -> None:
    old, new = ({"task": {"name": "a.jsonl"} | pin} for pin in ({}, {"sha256": "0"}))
    assert directory.differences(old, new) == []
    assert directory.differences(new, old) == ['task.sha256: "0" -> (not set)']
    assert directory.differences(new, {"task": {"name": "a.jsonl", "sha256": "1"}}) != []
    twice = [{"parts": [one["task"], one["task"]]} for one in (old, new)]
    assert directory.differences(*twice) == []


def test_what_is_only_asked_of_the_work_may_change(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.writing(RECIPE):
        begin(run.stage("read"))
    gated = {**RECIPE["stages"][0], "gate": {"metric": "loss", "at_most": 2}}
    for other in ({**RECIPE, "stages": [gated]}, {**RECIPE, "description": "d", "prices": {"watts": 1}}):
        with run.writing(other):
            assert run.recipe() == other
    longer = {**RECIPE, "stages": [gated | {"steps": 4}]}
    with pytest.raises(UserError, match=r"stages.read.steps: 3 -> 4"), run.writing(longer):
        pass


def test_a_measurement_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.writing(RECIPE):
        run.checkpoints.append({"step": 7, "checkpoint": "a"})
        run.checkpoints.append({"step": -1, "checkpoint": "b"})
    with run.checkpoints.path.open("a") as file:
        file.write('{"step": 8, "chec')
    with run.writing(RECIPE):
        run.checkpoints.append({"step": 9, "checkpoint": "c"})
    assert [row["checkpoint"] for row in run.checkpoints.rows()] == ["a", "b", "c"]


def test_data_are_cut_back_like_the_logs(stage: StageDirectory) -> None:
    for step in range(4):
        stage.data.append({"step": step, "messages": []})
        if step < 2:
            stage.save_state(step, *state(step))
    stage.load_state()
    assert [row["step"] for row in stage.data.rows()] == [0, 1]


def test_a_directory_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty"), RunDirectory(tmp_path).writing(RECIPE):
        pass


def test_only_one_process_works_on_a_run(tmp_path: Path) -> None:
    with RunDirectory(tmp_path).writing(RECIPE):
        with pytest.raises(UserError, match="another process"), RunDirectory(tmp_path).writing(RECIPE):
            pass
        assert RunDirectory(tmp_path).recipe() == RECIPE  # readers need no lock
    with RunDirectory(tmp_path).writing(RECIPE):
        pass


@pytest.mark.parametrize("path", ["file", "/proc/nowhere"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"), RunDirectory(tmp_path / path).writing(RECIPE):
        pass


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run"):
        RunDirectory(tmp_path).recipe()


def test_a_model_appears_whole_or_not_at_all(stage: StageDirectory) -> None:
    with stage.model_directory() as path:
        (path / "config.json").write_text("1")
    with pytest.raises(Killed), stage.model_directory() as path:
        (path / "config.json").write_text("2")
        raise Killed
    assert (stage.model_path / "config.json").read_text() == "1"
    with stage.model_directory() as path:
        assert not any(path.iterdir())
        (path / "config.json").write_text("3")
    assert (stage.model_path / "config.json").read_text() == "3"


def test_a_finished_stage_says_so(stage: StageDirectory) -> None:
    assert stage.result is None
    stage.finish({"accuracy": 0.5})
    assert stage.result == {"accuracy": 0.5}


def test_a_run_can_go_on_with_a_file_that_was_mended(tmp_path: Path) -> None:
    """Not by itself: what was judged so far was judged by another file."""

    def recipe(digest: str) -> dict[str, Any]:
        task = {"name": "my_task.py", "sha256": digest}
        return {"name": "r", "stages": [{"kind": "reinforce", "name": "zero", "task": task}]}

    run = RunDirectory(tmp_path / "run")
    with run.writing(recipe("a1")):
        assert (begun := run.stage("zero")).load_state() is None
        begun.save_state(0, *state(0))
    noted = tmp_path / "run" / "recipe.yaml"
    with pytest.raises(UserError, match="write its sha256 into .*recipe.yaml"), run.writing(recipe("b2")):
        pass
    noted.write_text(noted.read_text().replace("a1", "b2"))
    with run.writing(recipe("b2")):
        assert same(run.stage("zero").load_state(), state(0))
