"""A gate lets through what has reached its bounds, whatever they are, and says why not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from run_cases import evaluation_row, reinforcement_row

from longjing.errors import UserError
from longjing.learning.kinds import KINDS
from longjing.recipe.gates import Gate, GateClosed, Reading, examine, pass_gate, read
from longjing.runs import RunDirectory, StageDirectory

SHARES = st.floats(0, 1)
BOUNDS = st.none() | SHARES


def gate(metric: str = "accuracy", **settings: Any) -> Gate:
    return Gate.model_validate({"metric": metric, "at_least": 0.0} | settings)


@pytest.fixture
def stage(tmp_path: Path) -> StageDirectory:
    (tmp_path / "zero").mkdir()
    return RunDirectory(tmp_path).stage("zero")


@given(SHARES, BOUNDS, BOUNDS, BOUNDS, st.none() | st.floats(-1, 1))
def test_a_gate_opens_where_every_bound_holds(
    value: float, before: float | None, at_least: float | None, at_most: float | None, rise: float | None
) -> None:
    bounds = {"at_least": at_least, "at_most": at_most, "rise_at_least": rise}
    if set(bounds.values()) == {None}:
        with pytest.raises(ValidationError, match="lets all pass"):
            gate(**bounds)
        return
    held = [at_least is None or value >= at_least, at_most is None or value <= at_most,
            rise is None or (before is not None and value - before >= rise)]  # fmt: skip
    assert examine(gate(**bounds), Reading(value, before)).passed == all(held)
    assert not examine(gate(**bounds), Reading(None, before)).passed


def test_it_says_what_it_saw_and_what_it_asks() -> None:
    wanted = gate("pass_at_1", task="countdown", at_least=0.5, rise_at_least=0.1)
    assert examine(wanted, Reading(0.41, 0.27, 0.38, 0.44)).text == (
        "pass_at_1 on countdown is 41.0% (95%: 38.0% to 44.0%), from 27.0%; "
        "it must be at least 50.0% and up by at least 10.0%"
    )
    assert "nobody knows what" in examine(wanted, Reading(0.41)).text
    assert "nothing was solved" in examine(wanted, Reading(None)).text
    assert "down by at most 3.0%" in examine(gate(rise_at_least=-0.03), Reading(0.4), KINDS["reinforce"].metrics).text
    assert examine(gate("kept", at_least=800), Reading(1234)).text == "kept is 1234; it must be at least 800"


def test_a_figure_of_the_result_goes_before_the_steps(stage: StageDirectory) -> None:
    for step in range(30):
        stage.metrics.append(reinforcement_row(step, kl=float(step)))
    assert read(gate("kl"), stage, None) == Reading(24.5, 4.5)
    stage.finish({"accuracy": 0.75, "low": 0.7, "high": 0.8, "kl": 3.0})
    assert read(gate("kl"), stage, None) == Reading(3.0)
    rise = gate("kl", rise_at_least=20.0)  # which the result alone can't tell
    assert read(rise, stage, None) == Reading(24.5, 4.5)
    assert read(gate("accuracy"), stage, None) == Reading(0.75, None, 0.7, 0.8)


def test_a_rise_of_what_has_no_beginning_is_refused(stage: StageDirectory) -> None:
    stage.metrics.append(reinforcement_row(0))
    stage.finish({"kept_in_all": 12.0})
    with pytest.raises(UserError, match="kept_in_all"):
        read(gate("kept_in_all", rise_at_least=1.0), stage, None)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_short_stage_has_a_first_and_a_last_part(stage: StageDirectory, steps: int) -> None:
    for step in range(steps):
        stage.metrics.append(reinforcement_row(step, kl=float(step)))
    reading = read(gate("kl"), stage, None)
    assert reading.value is not None and reading.before is not None
    assert reading.value - reading.before == (steps // 2)


def test_a_task_is_looked_up_in_the_table_before_the_stage(stage: StageDirectory) -> None:
    stage.evaluations.append(evaluation_row(-1, "test", 0.2))
    stage.evaluations.append(evaluation_row(4, "validation", 0.9))
    stage.evaluations.append(evaluation_row(9, "test", 0.5))
    on_task = gate("pass_at_1", task="countdown")
    assert read(on_task, stage, "base") == Reading(0.5, 0.2, 0.4, 0.6)
    for index, (name, accuracy) in enumerate((("base", 0.3), ("zero", 0.7), ("later", 0.8))):
        row = {**evaluation_row(index, "test", accuracy), "checkpoint": name, "label": "countdown"}
        stage.run.checkpoints.append(row)
    reading = read(on_task, stage, "base")
    assert (reading.value, reading.before) == (0.7, 0.3) and reading.low == pytest.approx(0.6)
    assert read(on_task, stage, {"model_type": "llama"}).before is None


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (gate("klo"), "asks for `klo`, which it doesn't have; measured were .*kl, learning_rate, "),
        (gate("kl", task="countdown"), "asks for `kl` on countdown, .* high, .* pass_at_1"),
        (gate("examples", task="countdown"), "asks for `examples` on countdown"),
        (gate("pass_at_1", task="chess"), "asks for `pass_at_1` on chess, .*; nothing of the kind was measured"),
    ],
)
def test_a_metric_that_is_not_there_is_refused_with_those_that_are(
    stage: StageDirectory, wanted: Gate, expected: str
) -> None:
    stage.metrics.append(reinforcement_row(0))
    stage.evaluations.append(evaluation_row(0, "test", 0.5))
    with pytest.raises(UserError, match=f"the gate of zero {expected}"):
        read(wanted, stage, None)


def test_an_outcome_is_written_down_and_a_closed_gate_raises(stage: StageDirectory) -> None:
    stage.finish({"kept": 7})
    settings = {"kind": "sample", "name": "zero", "model": "base"}
    assert pass_gate(stage.run, settings, gate("kept", at_least=5)) == "kept is 7; it must be at least 5"
    with pytest.raises(GateClosed, match="zero did not pass its gate: kept is 7; it must be at least 8"):
        pass_gate(stage.run, settings, gate("kept", at_least=8))
    written = json.loads((stage.path / "gate.json").read_text())
    assert written["passed"] is False and written["reading"]["value"] == 7
    assert written["gate"] == {"metric": "kept", "at_least": 8.0}


def test_of_several_gates_all_must_hold_and_those_that_do_not_are_named(stage: StageDirectory) -> None:
    stage.finish({"kept": 7, "sampled": 9})
    settings = {"kind": "sample", "name": "zero", "model": "base"}
    kept, few = gate("kept", at_least=5), gate("sampled", at_most=8)
    assert pass_gate(stage.run, settings, [kept, kept]).count("kept is 7; it must be at least 5") == 2
    for gates in ([kept, few], [few, kept]):
        with pytest.raises(GateClosed, match="zero did not pass its gate: sampled is 9; .* at most 8") as closed:
            pass_gate(stage.run, settings, gates)
        assert "kept" not in str(closed.value)
        written = json.loads((stage.path / "gate.json").read_text())
        assert written["passed"] is False and written["text"].startswith("sampled is 9")
        assert [(each["gate"]["metric"], each["passed"]) for each in written["gates"]] == [
            (each.metric, each is kept) for each in gates
        ]
