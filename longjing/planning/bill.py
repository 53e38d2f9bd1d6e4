"""What a run cost: tokens, FLOPs and seconds as measured; energy and money as they follow from stated assumptions."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from longjing.errors import UserError


@dataclass(frozen=True)
class Prices:
    """The assumptions behind energy and money.

    `watts`: what the machine draws while it works; 65 is a laptop or a few cores of a server. `per_kwh`: the price of
    electricity, for a machine of one's own. `per_hour`: the price of a rented one; set `per_kwh` to 0 then.
    """

    watts: float = 65.0
    per_kwh: float = 0.30
    per_hour: float = 0.0
    currency: str = "$"

    def kwh(self, seconds: float) -> float:
        """Energy, from the assumed watts."""
        return seconds / 3600 * self.watts / 1000

    def money(self, seconds: float) -> float:
        """What it costs in `currency`, for the machine's hours and its energy."""
        return seconds / 3600 * self.per_hour + self.kwh(seconds) * self.per_kwh

    def amount(self, money: float) -> str:
        """A sum in words."""
        return self.currency + (f"{money:.2f}" if money >= 0.01 or money == 0 else significant(money))


@dataclass
class Phase:
    """What one phase (sampling, judging, updating, ...) used so far."""

    tokens_sampled: int = 0
    tokens_trained: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Phase") -> "Phase":
        return Phase(*(getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)))


@dataclass
class Bill:
    """Adds up phase by phase. Whoever keeps it across a restart stores `to_dict` and reads it with `from_dict`."""

    prices: Prices = field(default_factory=Prices)
    phases: dict[str, Phase] = field(default_factory=dict)

    def add(self, phase: str, spent: Phase) -> None:
        """Charge `phase` with more work."""
        self.phases[phase] = self.phases.get(phase, Phase()) + spent

    @property
    def total(self) -> Phase:
        return sum(self.phases.values(), Phase())

    @property
    def kwh(self) -> float:
        """Energy, from the assumed watts."""
        return self.prices.kwh(self.total.seconds)

    @property
    def money(self) -> float:
        """What it cost in `prices.currency`, for the machine's hours and its energy."""
        return self.prices.money(self.total.seconds)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the phases, their total, and energy and money with what they assume."""
        return {
            "phases": {name: asdict(phase) for name, phase in self.phases.items()},
            "total": asdict(self.total) | {"kwh": self.kwh, "money": self.money},
            "assumptions": asdict(self.prices),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote; totals are added up afresh. Raises UserError if it isn't that."""
        try:
            phases = {name: Phase(**phase) for name, phase in values["phases"].items()}
            return cls(Prices(**values["assumptions"]), phases)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"not a bill, as a run's bill.json has it: {error!r}") from error

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line, for a table: the phases, then the total and what it assumes."""
        prices, total = self.prices, self.total
        rates = [f"{prices.amount(prices.per_kwh)} per kWh"] if prices.per_kwh else []
        rates += [f"{prices.amount(prices.per_hour)} per hour"] if prices.per_hour else []
        money = f"{prices.amount(self.money)}, at {' and '.join(rates)}" if rates else "not priced"
        return [
            *((name, _line(phase)) for name, phase in self.phases.items()),
            ("total", _line(total)),
            ("energy", f"{significant(self.kwh)} kWh, at an assumed {prices.watts:g} W"),
            ("money", money),
        ]


def quantity(value: float, unit: str) -> str:
    """`value` with the prefix that suits it: `3.1 TFLOP`, `950 tokens`, `1.2 Mtokens`."""
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"]
    power = 0
    while abs(value) >= 999.5 and power < len(prefixes) - 1:
        value, power = value / 1000, power + 1
    return f"{significant(value)} {prefixes[power]}{unit}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def significant(value: float) -> str:
    """`value` with two significant digits, or all of its whole ones: `0.0042`, `3.1`, `950`."""
    if abs(value) >= 9.95 or value == 0:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) < 0.995 else f"{value:.1f}"


def _line(phase: Phase) -> str:
    parts = [
        quantity(phase.tokens_sampled, "tokens sampled") if phase.tokens_sampled else "",
        quantity(phase.tokens_trained, "tokens trained") if phase.tokens_trained else "",
        quantity(phase.flops, "FLOP") if phase.flops else "",
        duration(phase.seconds),
    ]
    return ", ".join(filter(None, parts))
