"""The claims and their recipes: all can be run and read, verdicts follow the intervals, the document is up to date."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from claims import CLAIMS, RECIPES, Claim, recipe_of  # noqa: E402
from reproduce import _kept, judge, rows  # noqa: E402

from longjing.recipe.loading import load  # noqa: E402

values = st.floats(-10, 10).map(lambda value: round(value, 3))


def claim(expected: str) -> Claim:
    return Claim("r1-zero", "", "", ("", ""), "", expected, lambda run: (0.0, 0.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted({claim.recipe for claim in CLAIMS} | {p.stem for p in RECIPES.glob("*.yaml")}))
def test_every_recipe_can_be_run(name: str) -> None:
    assert load(recipe_of(name)).stages


def test_claims_are_told_apart() -> None:
    claims = [(claim.recipe, claim.says) for claim in CLAIMS]
    assert len(set(claims)) == len(claims)


@given(st.lists(st.tuples(values, values), min_size=2, max_size=10))
def test_a_verdict_is_that_of_the_interval(pairs: list[tuple[float, float]]) -> None:
    higher, lower = (judge(claim(way), pairs) for way in ("higher", "lower"))
    assert higher.low <= higher.difference <= higher.high
    if higher.low > 0:
        assert (higher.verdict, lower.verdict) == ("holds", "doesn't hold")
    elif higher.high < 0:
        assert (higher.verdict, lower.verdict) == ("doesn't hold", "holds")
    else:
        assert higher.verdict == lower.verdict == "can't be told"


def test_the_interval_is_students() -> None:
    outcome = judge(claim("higher"), [(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)])
    assert (outcome.low, outcome.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)


def test_earlier_seeds_are_kept_with_where_they_are_from(tmp_path: Path) -> None:
    results = [{"seed": 0}, {"seed": 1, "commit": "earlier", "machine": "old"}, {"seed": 2}]
    document = {"commit": "last", "machine": {"name": "new"}, "results": results}
    (tmp_path / "r.json").write_text(json.dumps(document), encoding="utf-8")
    assert _kept(tmp_path / "r.json", [2, 3]) == [
        {"seed": 0, "commit": "last", "machine": "new"},
        {"seed": 1, "commit": "earlier", "machine": "old"},
    ]


def test_the_document_has_the_table_of_the_results() -> None:
    text = (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    for row in rows():
        assert row in text, "python benchmarks/reproduce.py --table"
