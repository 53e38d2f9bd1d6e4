"""What was called otherwise in the version before is read under today's name, and whoever writes it is told once."""

import json
from pathlib import Path

import pytest

from longjing.errors import UserError
from longjing.learning.kinds import KINDS
from longjing.recipe.loading import load
from longjing.runs import RunDirectory, migration
from longjing.runs.following import Rows

RECIPE = """\
name: old
stages:
  - {kind: reinforce, name: zero, task: countdown, steps: 1, max_tokens: 9, refills: 2,
     gate: {metric: groups_without_signal, at_most: 0.5}}
  - {kind: sample, name: draw, task: [countdown], problems: 3, max_tokens: 9, as_typed: 0.5}
quick: {zero: {refills: 1}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    migration._hint.cache_clear()
    (tmp_path / "old.yaml").write_text(RECIPE)
    return tmp_path / "old.yaml"


def test_todays_names_are_names_of_today() -> None:
    for kind, table in migration.SETTINGS.items():
        fields = KINDS[kind].settings.model_fields
        assert set(table.values()) <= fields.keys() and not table.keys() & fields.keys()
    logged = {metric.name for kind in KINDS.values() for metric in kind.metrics}
    assert set(migration.METRICS.values()) <= logged and not migration.METRICS.keys() & logged


def test_an_old_recipe_says_what_it_says_and_gets_a_hint(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zero, draw = load(recipe).to_dict()["stages"]
    assert zero["dynamic_sampling"] == 2 and zero["gate"]["metric"] == "zero_variance_groups"
    assert draw["informal"] == 0.5 and "refills" not in zero and "as_typed" not in draw
    hints = capsys.readouterr().err.splitlines()
    assert len(hints) == 3 and "the setting `refills` is called `dynamic_sampling` now" in hints[0]
    load(recipe)
    assert not capsys.readouterr().err, "once is enough"


@pytest.mark.parametrize("change", ["refills=3", "zero.refills=3", "dynamic_sampling=3"])
def test_an_old_change_changes_what_it_did(recipe: Path, change: str) -> None:
    assert load(recipe, [change]).to_dict()["stages"][0]["dynamic_sampling"] == 3
    assert load(recipe, quick=True).to_dict()["stages"][0]["dynamic_sampling"] == 1


BAD = """\
name: old
stages:
  - kind: reinforce
    name: zero
    task: countdown
    steps: 1
    max_tokens: 9
    {settings}
  - {{kind: sample, name: draw, task: [countdown], problems: 3, max_tokens: 9,
     as_typed: {typed}}}
quick: {{zero: {quick}}}
"""


@pytest.mark.parametrize(
    ("settings", "typed", "quick", "expected"),
    [
        ("refills: -1", 0, "{}", "line 8: `refills` is -1"),
        ("kl: 0.1", 5, "{}", "line 10: `as_typed` is 5"),
        (
            "dynamic_sampling: 2\n    refills: 1",
            0,
            "{}",
            "line 9: `refills` is called `dynamic_sampling` now, and that",
        ),
        (
            "refills: 1\n    dynamic_sampling: 2",
            0,
            "{}",
            "line 8: `refills` is called `dynamic_sampling` now, and that",
        ),
        ("kl: 0.1", 0, "{refills: 1, dynamic_sampling: 2}", "line 11: `dynamic_sampling` is given twice, by an old"),
        ("kl: 0.1", 0, "{refills: -1}", "line 11: `dynamic_sampling` is -1"),
    ],
)
def test_what_is_wrong_with_an_old_name_is_said_of_it(
    tmp_path: Path, settings: str, typed: float, quick: str, expected: str
) -> None:
    (tmp_path / "bad.yaml").write_text(BAD.format(settings=settings, typed=typed, quick=quick))
    with pytest.raises(UserError) as raised:
        load(tmp_path / "bad.yaml", quick=quick != "{}")
    assert expected in str(raised.value)


def test_old_logs_are_read_under_todays_names(tmp_path: Path) -> None:
    stage = RunDirectory(tmp_path).stage("zero")
    stage.path.mkdir()
    rows = [{"step": 0, "groups_without_signal": 0.5, "loss": 1.0}, {"step": 1, "zero_variance_groups": 0.25}]
    stage.metrics.path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    followed = Rows(stage.metrics.path)
    followed.refresh()
    assert stage.metrics.rows() == followed.rows
    assert [row["zero_variance_groups"] for row in followed.rows] == [0.5, 0.25]
