"""Models that are loaded for the page: never more than two, and none for longer than somebody looks."""

import asyncio
import gc
import weakref
from types import SimpleNamespace

import pytest
import tiny
from conftest import small
from test_runs_page import stage_of

pytest.importorskip("gradio")
from longjing.errors import UserError
from longjing.serving.page.model_pool import ModelPool, Seat


@pytest.fixture
def pool(tmp_path):
    service = small()
    for name in "abc":
        tiny.save_base(tmp_path / name, "llama")
        stage_of(tmp_path / "runs" / name).finish({})
        (tmp_path / "runs" / name / "model").symlink_to(tmp_path / name)
    yield ModelPool(service, tmp_path / "runs")
    service.close()


def runs(pool):
    return [name for name in pool.names() if name.startswith("/")]


def loaded(pool) -> int:
    return len(pool._service._private)


async def ask(pool, name, session="s", side="A"):
    async with pool.use(name, Seat(session, side)) as served:
        return weakref.ref(served)


def left(pool, session):
    pool.release_session(SimpleNamespace(session_hash=session))


def test_what_is_served_is_not_loaded_again(pool):
    assert asyncio.run(ask(pool, "tiny"))() is pool._service.models["tiny"] and loaded(pool) == 0
    with pytest.raises(UserError, match="no model of this page"):
        asyncio.run(ask(pool, "/etc"))


def test_a_seat_holds_one_model(pool):
    a, b, c = runs(pool)
    served = asyncio.run(ask(pool, a))
    assert loaded(pool) == 1 and a not in pool._service.models  # nor is it anybody else's
    assert asyncio.run(ask(pool, a))() is served()
    asyncio.run(ask(pool, b))
    gc.collect()
    assert loaded(pool) == 1 and served() is None
    asyncio.run(ask(pool, "tiny"))
    assert loaded(pool) == 0


def test_a_session_that_ends_frees_its_models(pool):
    a, b, _ = runs(pool)
    asyncio.run(ask(pool, a, "one", "A"))
    asyncio.run(ask(pool, b, "one", "B"))
    asyncio.run(ask(pool, b, "two", "chat"))
    left(pool, "one")
    assert loaded(pool) == 1
    left(pool, "two")
    assert loaded(pool) == 0


def test_a_third_model_takes_the_place_of_one_that_is_idle(pool):
    a, b, c = runs(pool)

    async def work():
        first = await ask(pool, a, "one")
        async with pool.use(b, Seat("two", "A")):
            await ask(pool, c, "three")
            gc.collect()
            assert loaded(pool) == 2 and first() is None
            async with pool.use(c, Seat("three", "A")):
                with pytest.raises(UserError, match="two other models"):
                    await ask(pool, a, "four")
                left(pool, "two")
                assert loaded(pool) == 2  # it is still answering
        assert loaded(pool) == 1

    asyncio.run(work())


def test_who_leaves_while_it_is_loaded_leaves_nothing(pool):
    a, *_ = runs(pool)

    async def work():
        task = asyncio.create_task(ask(pool, a))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            await asyncio.sleep(0.05)
            if loaded(pool) and not pool._loaded[a].answers:
                break
        left(pool, "s")
        assert loaded(pool) == 0

    asyncio.run(work())
