"""The published algorithms by name: GRPO, Dr. GRPO, DAPO, CISPO and GSPO are settings of one loss (`objectives.py`)."""

from dataclasses import dataclass

from longjing.learning.advantages import Scale
from longjing.learning.objectives import Aggregation
from longjing.learning.surrogates import Objective


@dataclass(frozen=True)
class Preset:
    """What a published variant sets: its objective, how tokens are weighted, how advantages are scaled."""

    objective: Objective
    aggregation: Aggregation
    advantage_scale: Scale


PRESETS: dict[str, Preset] = {
    # As published; R1-Zero's kl. The paper gives a clip for R1's first RL stage only (10); 0.2 is PPO's.
    "grpo": Preset(Objective("grpo", 0.2, 0.2, kl=0.001), "sequences", "group_std"),
    # arXiv 2503.20783: neither of GRPO's two biased divisions, and no KL.
    "dr_grpo": Preset(Objective("grpo", 0.2, 0.2), "constant", "none"),
    # arXiv 2503.14476: clip-higher, all tokens weigh the same, no KL; drop the groups without `has_reward_variance`.
    "dapo": Preset(Objective("grpo", 0.2, 0.28), "tokens", "group_std"),
    # arXiv 2506.13585: the low side open. It doesn't state its high side; 4 is ScaleRL's (arXiv 2510.13786).
    "cispo": Preset(Objective("cispo", 1.0, 4.0), "tokens", "group_std"),
    # arXiv 2507.18071, section 5.1: the ratio of a whole completion moves far less than those of its tokens.
    "gspo": Preset(Objective("gspo", 3e-4, 4e-4), "sequences", "group_std"),
}
