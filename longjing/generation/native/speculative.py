"""Whether to draft: decided by the clock."""

from dataclasses import dataclass, field
from statistics import median


@dataclass
class AdaptiveDrafting:
    """Tries both ways of decoding for some steps each, and keeps the one with fewer seconds per token.

    A verdict holds until the batch has twice or half the rows it was made with: drafts pay where reading the
    weights is what a step costs, and are a waste where arithmetic is.
    """

    trial: int = 8
    rows: int = 0
    drafting: bool = True
    _costs: dict[bool, list[float]] = field(default_factory=dict)

    def choose(self, rows: int) -> bool:
        """Whether the next step, of so many rows, should draft."""
        if not self.rows / 2 < rows < self.rows * 2:
            self.rows, self._costs = rows, {True: [], False: []}
        for way, costs in self._costs.items():
            if len(costs) < self.trial:
                return way
        return self.drafting

    def note(self, drafted: bool, tokens: int, seconds: float) -> None:
        """What a step so chosen cost."""
        costs = self._costs[drafted]
        if len(costs) < self.trial:
            costs.append(seconds / tokens)
            if all(len(costs) == self.trial for costs in self._costs.values()):
                # The first step of each way starts without drafts, or warms up.
                self.drafting = median(self._costs[True][1:]) < median(self._costs[False][1:])
