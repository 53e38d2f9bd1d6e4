"""What settings, metrics and gates were called in the version before: old spellings are read, with a hint.

One table for everything that people write or that lies in run directories. A name goes from it one version after it
came.
"""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

# Of a stage's settings, by kind: in recipes, and with --set.
SETTINGS: dict[str, dict[str, str]] = {"reinforce": {"refills": "dynamic_sampling"}, "sample": {"as_typed": "informal"}}
# Of metrics.jsonl, and so of gates.
METRICS: dict[str, str] = {
    "groups_without_signal": "zero_variance_groups",
    "groups_all_wrong": "all_wrong_groups",
    "refills": "resampled_groups",
    "learned": "loss_mask_share",
}


def setting(kind: str, name: str) -> str:
    """What a setting of this kind of stage is called today; who still calls it as before is told once."""
    today = SETTINGS.get(kind, {}).get(name, name)
    if today != name:
        _hint(f"the setting `{name}`", today)
    return today


def settings(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's settings under today's names; an old one that stands beside its new one stays, and so is refused."""
    return {name if (today := setting(kind, name)) in data else today: value for name, value in data.items()}


def spelled(stage: Mapping[str, Any], name: str) -> str:
    """What a stage's plain data call the setting that has this name today."""
    old = {today: old for old, today in SETTINGS.get(str(stage.get("kind")), {}).items() if old in stage}
    return name if name in stage else old.get(name, name)


def gate_metric(name: str) -> str:
    """What the metric that a gate asks for is called today."""
    if name in METRICS:
        _hint(f"the metric `{name}`", METRICS[name])
    return METRICS.get(name, name)


def metrics(row: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics.jsonl under today's names: a run of before may go on, so a log may have both."""
    if METRICS.keys().isdisjoint(row):
        return row
    return {METRICS.get(name, name): value for name, value in row.items()}


@cache
def _hint(what: str, today: str) -> None:
    print(f"note: {what} is called `{today}` now; the old name is read in this version only", file=sys.stderr)
