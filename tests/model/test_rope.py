"""Rotary frequencies at the released sizes, where small networks can't tell rounding up from rounding down."""

import pytest
import torch
from model_cases import V3
from transformers import DeepseekV3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from longjing.model.config import ModelConfig
from longjing.model.layers.rope import inverse_frequencies

# By hand, of 32 pairs that turn at 10000^(-pair/32): a pair turns 32 times over 4,096 positions at pair 10.47 and once
# at 22.51. So the ramp begins at 10 (rounded down) and ends at 23 (rounded up): pair p is interpolated by (p-10)/13.
BY_HAND = {
    0: 1.0,  # as it was
    9: 0.0749894209,
    10: 0.0562341325,
    11: 0.0390069266,  # 10000^(-11/32) (1 - 1/13 (1 - 1/40)): the ramp's first pair
    16: 0.0055,  # 0.01 (1 - 6/13 (1 - 1/40))
    22: 1.77827941e-4,  # 10000^(-22/32) (1 - 12/13 (1 - 1/40)): its last
    23: 3.33380358e-5,  # a fortieth from here on
    31: 3.33380358e-6,
}


@pytest.mark.parametrize("pair", BY_HAND)
def test_yarns_ramp_at_deepseek_v3s_own_size(pair):
    frequencies, magnitude = inverse_frequencies(ModelConfig.from_dict(V3))
    assert frequencies.shape == (32,) and magnitude == 1.0
    assert frequencies[pair].item() == pytest.approx(BY_HAND[pair], rel=1e-6)


def test_yarns_ramp_is_that_of_transformers():
    theirs, magnitude = ROPE_INIT_FUNCTIONS["yarn"](DeepseekV3Config(**V3), "cpu")
    ours, our_magnitude = inverse_frequencies(ModelConfig.from_dict(V3))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    assert magnitude == our_magnitude
