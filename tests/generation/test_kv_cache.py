"""The rectangle keeps what is in it, however it is cut."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from longjing.generation.native.kv_cache import KVCache

SHAPES = [(3,), (2, 3, 2)]


@given(st.integers(30, 400), st.lists(st.tuples(st.integers(1, 12), st.integers(1, 40)), max_size=12), st.booleans())
def test_rows_in_use_survive_every_cut(area, shapes, joins):
    cache = KVCache(area, SHAPES, torch.float32, torch.device("cpu"), (1, 2))
    expected = [torch.zeros(0, 0, *shape) for shape in SHAPES]
    used, longest = 0, 0
    for step, (rows, columns) in enumerate(shapes):
        rows, columns = max(rows, used), max(columns, longest)
        if rows * columns > area:
            continue
        cache.fit(rows, columns, used, longest)
        assert cache.rows >= rows and cache.columns >= columns and cache.rows * cache.columns <= area
        for layer, before in enumerate(expected):
            context = cache._views[layer][:rows, :columns]
            assert torch.equal(context[:used, :longest], before)
            assert context.isfinite().all()
        used, longest = (used + 1 if joins and used < rows else rows), columns
        cache.target_prompts(0)
        for layer, shape in enumerate(SHAPES):
            random = torch.Generator().manual_seed(step)
            expected[layer] = torch.randn(used, columns, *shape, generator=random)
            cache.update(layer, expected[layer])


@given(st.integers(1, 9), st.integers(1, 200), st.data())
def test_a_little_more_than_what_is_used_is_read_where_products_want_that(rows, columns, data):
    longest = data.draw(st.integers(1, columns))
    for dtype in (torch.float32, torch.bfloat16):
        cache = KVCache(9 * 300, [(2, 3, 1)], dtype, torch.device("cpu"), (0, 0))
        cache.fit(rows, columns, 0, 0)
        read = cache.readable(longest)
        if dtype == torch.float32:
            assert read == longest
        else:
            assert longest <= read <= max(longest + 31, 3 * longest) and (read % 32 == 0 or read == cache.columns)


def test_another_row_beside_those_in_use_moves_nothing_of_theirs():
    cache = KVCache(5000, [(2, 3, 2)], torch.float32, torch.device("cpu"), (0, 0))
    cache.fit(2, 8, 0, 0)
    cache.target_prompts(0)
    entries = torch.randn(2, 8, 2, 3, 2)
    cache.update(0, entries)
    cache.fit(5, 8, 2, 8)  # of as many columns as before
    cache.target_columns(torch.tensor([[8], [8]]), 9)
    assert torch.equal(cache.update(0, torch.zeros(2, 1, 2, 3, 2))[:, :8], entries)


def test_an_empty_cache_is_cut_to_what_is_asked_for():
    cache = KVCache(5000, [(2,)], torch.bfloat16, torch.device("cpu"), (0, 0))
    cache.fit(1, 3000, 0, 0)
    cache.fit(2, 40, 0, 0)
    assert cache.columns < 200
    cache.fit(2, 30, 1, 10)  # with a row in use it stays
    assert cache.columns > 40


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
