"""What an engine has done so far, in numbers."""

from dataclasses import dataclass


@dataclass
class EngineStatistics:
    """Totals since the engine was made; seconds are wall time inside `step`."""

    steps: int = 0
    seconds: float = 0.0
    tokens_sampled: int = 0
    tokens_prefilled: int = 0
    preemptions: int = 0
    peak_rows: int = 0
    peak_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    tokens_reused: int = 0

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that were what the model then sampled."""
        return self.accepted / max(1, self.drafted)
