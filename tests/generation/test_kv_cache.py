"""The rectangle keeps what is in it, however it is cut."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from longjing.generation.native.kv_cache import KVCache


@given(st.integers(30, 400), st.lists(st.tuples(st.integers(1, 12), st.integers(1, 40)), max_size=12))
def test_rows_in_use_survive_every_cut(area, shapes):
    cache = KVCache(area, [(3,), (2, 3, 1)], torch.float32, torch.device("cpu"), (1, 2))
    expected, used, longest = torch.zeros(0, 0, 3), 0, 0
    for step, (rows, columns) in enumerate(shapes):
        rows, columns = max(rows, used), max(columns, longest)
        if rows * columns > area:
            continue
        cache.fit(rows, columns, used, longest)
        assert cache.rows >= rows and cache.columns >= columns and cache.rows * cache.columns <= area
        context = cache_contents(cache, rows, columns)
        assert torch.equal(context[:used, :longest], expected)
        assert context.isfinite().all()
        expected, used, longest = torch.full((rows, columns, 3), float(step)), rows, columns
        cache.target_prompts(0)
        cache.update(0, expected)


def cache_contents(cache, rows, columns):
    """Read by writing one more layer's entries nowhere new: the context comes back as it is."""
    return cache._views[0][:rows, :columns]


def test_entries_go_where_they_are_sent():
    cache = KVCache(60, [(2,)], torch.float32, torch.device("cpu"), (1, 2))
    cache.fit(3, 8, 0, 0)
    cache.target_prompts(1)
    cache.update(0, torch.ones(2, 4, 2))
    cache.store_routes([torch.tensor([[[5, 6]] * 4, [[7, 8]] * 4])])
    cache.target_columns(torch.tensor([[0], [4], [2]]), 5)
    context = cache.update(0, torch.full((3, 1, 2), 2.0))
    assert context[..., 0].tolist() == [[2, 0, 0, 0, 0], [1, 1, 1, 1, 2], [1, 1, 2, 1, 0]]
    assert cache.routes(2, 3).tolist() == [[[7, 8]]] * 3
    cache.copy([2], [0], 3)
    assert cache.routes(0, 2).tolist() == [[[7, 8]]] * 2
