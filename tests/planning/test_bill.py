"""Bills add up, survive a restart, and say what they assume."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.planning.bill import Bill, Phase, Prices, duration, quantity, significant

CHARGES = st.lists(
    st.fixed_dictionaries(
        {
            "phase": st.sampled_from(["sampling", "judging", "updating"]),
            "tokens_sampled": st.integers(0, 10**9),
            "tokens_trained": st.integers(0, 10**9),
            "flops": st.integers(0, 10**15),
            "seconds": st.integers(0, 10**6).map(lambda n: n / 16),  # sums of these are exact
        }
    ),
    max_size=20,
)


def add(bill: Bill, phase: str, **spent: float) -> None:
    bill.add(phase, Phase(**spent))


@given(CHARGES, st.integers(0, 20))
def test_a_bill_adds_up_whatever_is_interrupted(charges, cut):
    whole = Bill()
    for charge in charges:
        add(whole, **charge)
    resumed = Bill()
    for charge in charges[:cut]:
        add(resumed, **charge)
    resumed = Bill.from_dict(json.loads(json.dumps(resumed.to_dict())))
    for charge in charges[cut:]:
        add(resumed, **charge)
    assert resumed == whole
    for name in ("tokens_sampled", "tokens_trained", "flops", "seconds"):
        assert getattr(whole.total, name) == sum(charge[name] for charge in charges)


def test_energy_and_money_follow_from_the_stated_assumptions():
    bill = Bill(Prices(watts=100, per_kwh=0.5, per_hour=2))
    bill.add("sampling", Phase(seconds=1800))
    bill.add("updating", Phase(seconds=5400))
    assert bill.kwh == pytest.approx(0.2)
    assert bill.money == pytest.approx(0.2 * 0.5 + 2 * 2)
    written = bill.to_dict()
    assert written["assumptions"] == {"watts": 100, "per_kwh": 0.5, "per_hour": 2, "currency": "$"}
    assert written["total"]["money"] == bill.money
    rows = dict(bill.rows())
    assert rows["energy"] == "0.2 kWh, at an assumed 100 W"
    assert rows["money"] == "$4.10, at $0.50 per kWh and $2.00 per hour"


def test_an_empty_bill_and_a_free_one():
    assert Bill().total == Phase()
    assert dict(Bill().rows())["energy"].startswith("0 kWh")
    assert dict(Bill(Prices(per_kwh=0)).rows())["money"] == "not priced"


def test_from_dict_refuses_what_is_no_bill():
    for foreign in ({}, {"phases": 1, "assumptions": {}}, {"phases": {"a": {"x": 1}}, "assumptions": {}}):
        with pytest.raises(UserError, match="not a bill"):
            Bill.from_dict(foreign)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 FLOP"), (3, "3.0 FLOP"), (950, "950 FLOP"), (999.6, "1.0 kFLOP"), (3.14e12, "3.1 TFLOP"),
        (12_345, "12 kFLOP"), (9.96e6, "10 MFLOP"), (2e30, "2000000 YFLOP"),
    ],
)  # fmt: skip
def test_quantities(value, text):
    assert quantity(value, "FLOP") == text


@given(st.floats(1e-9, 1e27))
def test_a_quantity_is_within_five_percent_of_the_value(value):
    number, unit = quantity(value, "FLOP").split()
    factor = 1000 ** ["", "k", "M", "G", "T", "P", "E", "Z", "Y"].index(unit.removesuffix("FLOP"))
    assert float(number) * factor == pytest.approx(value, rel=0.051)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (185, "3 min 05 s"), (3599.7, "1 h 00 min"),
        (7650, "2 h 07 min"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_small_amounts_keep_two_digits():
    assert [significant(value) for value in (0.00423, 0.02, 0.999, 1.04, 9.96)] == [
        "0.0042", "0.02", "1.0", "1.0", "10",
    ]  # fmt: skip
    bill = Bill()
    bill.add("sampling", Phase(seconds=40))
    assert dict(bill.rows())["money"].startswith("$0.00022")
