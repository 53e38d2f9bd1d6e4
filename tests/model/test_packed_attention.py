"""Segments of packed rows are found wherever they lie, and put back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_cases import deepseek, network

from longjing.model.layers.packed_attention import PackedSegments

layouts = st.integers(1, 80).flatmap(
    lambda length: st.lists(st.lists(st.integers(0, 3), min_size=length, max_size=length), min_size=1, max_size=4)
)


@given(layouts)
def test_what_is_gathered_is_scattered_back_to_where_it_was(rows: list[list[int]]) -> None:
    segments = torch.tensor(rows)
    x = torch.arange(segments.numel() * 2).view(*segments.shape, 2)
    packed = PackedSegments.of(segments)
    parts = packed.gather(x)
    assert torch.equal(packed.scatter(parts, segments.shape), x)
    numbers = packed.gather(segments)
    for part, number in zip(parts, numbers, strict=True):
        assert (number == number[:, :1]).all(), "a segment holds tokens of another"
        assert (part[:, 1:, 0] - part[:, :-1, 0]).unique().tolist() in ([], [0], [2], [0, 2])
    runs = sum(1 + sum(a != b for a, b in zip(row, row[1:], strict=False)) for row in rows)
    assert sum(map(len, parts)) == runs


def test_exact_decoding_of_packed_rows_is_refused() -> None:
    model = network(deepseek())
    positions = torch.arange(4)[None]
    with pytest.raises(ValueError, match="packed"):
        model.context(positions, batch_invariant=True, segments=torch.zeros_like(positions))
