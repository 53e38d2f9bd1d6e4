"""The thread that drives the engine: whatever is asked and cancelled, in whatever order, all comes to an end."""

import asyncio

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.chat.reasoning_controller import ReasoningController
from longjing.generation.native import Chunk, Engine, Event, Request, Sampling
from longjing.serving.error_responses import QueueFull, ServiceClosed
from longjing.serving.response_stream import Job, ResponseStream
from longjing.serving.worker import EngineWorker

MODEL = tiny.network("deepseek_v3")
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["ask", "cancel", "wait"]), st.integers(0, 5), st.integers(1, 30)), max_size=20
)


@settings(max_examples=30, deadline=None)
@given(ACTIONS)
def test_all_come_to_an_end(actions):
    ended = []
    engine = Engine(MODEL, tiny.tokenizer(), max_batch=3, end_tokens=())
    worker = EngineWorker(engine, queue=4, on_end=ended.append)

    async def main() -> int:
        submitted, busy = [], 0
        for action, which, length in actions:
            if action == "ask":
                jobs = [Job(Request([5, 6 + which], Sampling(max_tokens=length, seed=which)), None)]
                try:
                    submitted.append((jobs, worker.submit(jobs), length))
                except QueueFull as problem:
                    busy += 1
                    assert problem.retry_after >= 1
            elif action == "cancel" and submitted:
                worker.cancel(submitted[which % len(submitted)][0])
            else:
                await asyncio.sleep(0.002)
        for jobs, stream, length in submitted:
            if jobs[0].ended is None or jobs[0].count == length:
                reading = asyncio.ensure_future(stream.collect())
                done, _ = await asyncio.wait({reading}, timeout=0.5)
                if done:
                    assert len(reading.result()[0].tokens) == length
                else:  # it was cancelled, and then nothing comes
                    reading.cancel()
        return len(submitted)

    count = asyncio.run(main())
    worker.close(grace=5)
    assert worker.load == 0 and engine.memory_in_use == 0 and len(ended) == count
    assert len(set(map(id, ended))) == count

    async def too_late() -> None:
        worker.submit([Job(Request([5], Sampling()), None)])

    with pytest.raises(ServiceClosed):
        asyncio.run(too_late())


def test_a_stop_string_that_the_last_token_completes():
    tokenizer = tiny.tokenizer()
    prompt = tokenizer.encode_chat([{"role": "user", "content": "?"}], thinking=False)
    for text, stop, left in (("a<", "<", "a"), ("abc", "bc", "a"), ("a</th", "</th", "a")):
        tokens = tokenizer.encode(text)
        controller = ReasoningController(tokenizer, prompt, len(tokens), [tokenizer.eos_id], stops=(stop,))
        piece = Job(Request(prompt), controller).take(Event(0, Chunk("", tokens, "length", [0.0] * len(tokens))))
        assert (piece.answer, piece.finish_reason, piece.notices) == (left, "stop", ())


def test_who_waits_is_sent_away_and_what_runs_goes_on():
    engine = Engine(MODEL, tiny.tokenizer(), max_batch=2, end_tokens=())
    worker = EngineWorker(engine, queue=8)

    async def main() -> list[str]:
        def ask(count: int) -> ResponseStream:
            return worker.submit(
                [Job(Request([5, 6], Sampling(max_tokens=200, seed=seed)), None) for seed in range(count)]
            )

        first = ask(3)  # a part of it runs, so that all of it will
        while first.jobs[0].first is None:
            await asyncio.sleep(0.001)
        streams = [first, ask(1), ask(2)]
        worker.stop_accepting()
        worker.dismiss_waiting()
        ends = await asyncio.gather(
            *(asyncio.wait_for(stream.collect(), 20) for stream in streams), return_exceptions=True
        )
        return [type(end).__name__ for end in ends]

    assert asyncio.run(main()) == ["list", "ServiceClosed", "ServiceClosed"] and worker.load == 0
    worker.close()


def test_who_has_not_begun_is_told_as_well(caplog):
    engine = Engine(MODEL, tiny.tokenizer(), max_batch=1, end_tokens=())
    worker = EngineWorker(engine, queue=4)

    def broken():
        raise RuntimeError("out of luck")

    async def main() -> list[str]:
        jobs = [[Job(Request([5, 6], Sampling(max_tokens=400)), None)] for _ in range(3)]
        streams = [worker.submit(one) for one in jobs]
        engine.step = broken
        ends = await asyncio.gather(
            *(asyncio.wait_for(stream.collect(), 20) for stream in streams), return_exceptions=True
        )
        return [type(end).__name__ for end in ends]

    assert asyncio.run(main()) == ["RuntimeError"] * 3 and worker.load == 0


def test_a_request_that_the_engine_refuses_breaks_nothing_for_others():
    ended = []
    worker = EngineWorker(Engine(MODEL, tiny.tokenizer(), max_batch=2, end_tokens=()), queue=4, on_end=ended.append)

    async def main() -> list[str]:
        impossible = Request([MODEL.config.vocab_size], Sampling(max_tokens=2))
        streams = [
            worker.submit([Job(request, None)]) for request in (impossible, Request([5], Sampling(max_tokens=2)))
        ]
        ends = await asyncio.gather(
            *(asyncio.wait_for(stream.collect(), 20) for stream in streams), return_exceptions=True
        )
        return [type(end).__name__ for end in ends]

    assert asyncio.run(main()) == ["UserError", "list"]
    assert worker.failure is None and worker.load == 0 and len(ended) == 2
    worker.close()
