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
def choices(tmp_path):
    service = small()
    for name in "abc":
        tiny.save_base(tmp_path / name, "llama")
        stage_of(tmp_path / "runs" / name).finish({})
        (tmp_path / "runs" / name / "model").symlink_to(tmp_path / name)
    yield ModelPool(service, tmp_path / "runs")
    service.close()


def runs(choices):
    return [name for name in choices.names() if name.startswith("/")]


def loaded(choices) -> int:
    return len(choices._service._private)


async def ask(choices, name, session="s", place="A"):
    async with choices.use(name, Seat(session, place)) as served:
        return weakref.ref(served)


def left(choices, session):
    choices.release_session(SimpleNamespace(session_hash=session))


def test_what_is_served_is_not_loaded_again(choices):
    assert asyncio.run(ask(choices, "tiny"))() is choices._service.models["tiny"] and loaded(choices) == 0
    with pytest.raises(UserError, match="no model of this page"):
        asyncio.run(ask(choices, "/etc"))


def test_a_seat_holds_one_model(choices):
    a, b, c = runs(choices)
    served = asyncio.run(ask(choices, a))
    assert loaded(choices) == 1 and a not in choices._service.models  # nor is it anybody else's
    assert asyncio.run(ask(choices, a))() is served()
    asyncio.run(ask(choices, b))
    gc.collect()
    assert loaded(choices) == 1 and served() is None
    asyncio.run(ask(choices, "tiny"))
    assert loaded(choices) == 0


def test_a_session_that_ends_frees_its_models(choices):
    a, b, _ = runs(choices)
    asyncio.run(ask(choices, a, "one", "A"))
    asyncio.run(ask(choices, b, "one", "B"))
    asyncio.run(ask(choices, b, "two", "chat"))
    left(choices, "one")
    assert loaded(choices) == 1
    left(choices, "two")
    assert loaded(choices) == 0


def test_a_third_model_takes_the_place_of_one_that_is_idle(choices):
    a, b, c = runs(choices)

    async def work():
        first = await ask(choices, a, "one")
        async with choices.use(b, Seat("two", "A")):
            await ask(choices, c, "three")
            gc.collect()
            assert loaded(choices) == 2 and first() is None
            async with choices.use(c, Seat("three", "A")):
                with pytest.raises(UserError, match="two other models"):
                    await ask(choices, a, "four")
                left(choices, "two")
                assert loaded(choices) == 2  # it is still answering
        assert loaded(choices) == 1

    asyncio.run(work())


def test_who_leaves_while_it_is_loaded_leaves_nothing(choices):
    a, *_ = runs(choices)

    async def work():
        task = asyncio.create_task(ask(choices, a))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            await asyncio.sleep(0.05)
            if loaded(choices) and not choices._loaded[a].answers:
                break
        left(choices, "s")
        assert loaded(choices) == 0

    asyncio.run(work())
