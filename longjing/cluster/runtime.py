"""What a process computes with: its seed, its device, its number format, and its rank among others."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Runtime:
    """What is the same for everything that a process does in a run. `rank` of `world` processes.

    With `dtype` bfloat16 a forward pass computes in autocast; weights and optimiser states are float32 either way.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world: int = 1

    def autocast(self) -> torch.autocast:
        """The context in which a forward pass computes."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
