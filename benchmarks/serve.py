"""Serving under load: `longjing serve` with 1 to 256 clients at once, against other servers of the same weights.

    python benchmarks/serve.py --chaos --cold --out benchmarks/results/serve.json
    python benchmarks/serve.py --model r1-distill --peer-python PEERS/bin/python --out ...

Each client asks problems of the tasks, one after the other, and reads the answers as they come. All servers sample at
temperature 0.6 and top-p 0.95 in float32 with as many threads; they take turns level by level, and whoever isn't asked
is stopped meanwhile. `engine` is our engine without HTTP, text and guides, kept as full: `share_of_engine` is how much
of its speed the server reaches. Servers are asked until they no longer grow; a level is measured after a fifth of its
seconds, and no client asks after the last.

With `--chaos` clients leave in mid-stream, read slowly and ask for too much, and then the server is told to stop under
load. With `--cold` the time is measured from the command to the first whole answer, the page included.

Peers live in an environment of their own (`pip install 'transformers[serving]' accelerate gguf
'llama-cpp-python[server]'`), whose python is `--peer-python`: `transformers serve`, with continuous batching if it can
serve the model so, and llama-cpp-python's server on a GGUF of the weights. `skipped` says why one isn't there.
"""

import asyncio
import multiprocessing
import random
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from common import device_and_dtype, fastest, measure_machine, parser, report
from serve_sides import Answer, Server, engine, llama_cpp, longjing, problems, transformers

from longjing.model.store.checkpoint import load_model
from longjing.planning import flops
from longjing.runs.resolve import resolve

WARM = 0.2  # share of a level's seconds: all clients start at once
DRAIN = 60.0  # seconds that answers may take beyond a level's
Result = dict[str, Any]


async def crowd(server: Server, clients: int, seconds: float, options: Namespace) -> list[Answer]:
    """All answers to as many clients, who ask for so many seconds."""
    requests, numbers, answers = problems(options.seed), count(), list[Answer]()
    end = perf_counter() + seconds

    async def client() -> None:
        while (left := end - perf_counter()) > 0:
            body = server.body(next(requests), options.max_tokens)
            if server.name == "longjing":
                body["seed"] = next(numbers)
            answers.append(await server.ask(body, left + DRAIN))
            if not answers[-1].status:  # nobody listens
                await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return answers


def summary(answers: Sequence[Answer], began: float, seconds: float) -> Result:
    """Of a level that began then. An answer's tokens count as far as they fell, evenly, into what is measured."""
    start, end = began + WARM * seconds, began + seconds
    whole = [answer for answer in answers if answer.reason]
    tokens = 0.0
    for answer in whole:
        inside = max(0.0, min(answer.last, end) - max(answer.first, start))
        tokens += answer.tokens * inside / max(answer.last - answer.first, 1e-9)
    counted = [answer for answer in whole if start <= answer.sent]
    result = {
        "asked": len(answers),
        "without_an_end": len(answers) - len(whole),
        "tokens_per_second": tokens / (end - start),
        "answers_per_second": sum(start <= answer.last <= end for answer in whole) / (end - start),
        "tokens_per_answer": sum(answer.tokens for answer in whole) / max(1, len(whole)),
        "tokens_per_chunk": sum(answer.tokens for answer in whole) / max(1, sum(a.chunks for a in whole)),
    }
    if len(counted) > 1:
        result["first_token_seconds"] = spread([answer.first - answer.sent for answer in counted])
        pace = [(a.last - a.first) / (a.tokens - 1) for a in counted if a.tokens > 1]
        result["seconds_per_token"] = spread(pace)
    return result


def spread(values: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


def warm_up(server: Server, options: Namespace) -> None:
    """Until a crowd no longer makes it grow: `transformers` fills its cache's gigabytes as it goes, two minutes at
    most."""
    began = perf_counter()
    while (before := server.resident()) and perf_counter() - began < 120:
        asyncio.run(crowd(server, max(options.clients), 5, options))
        if server.resident() < 1.02 * before:
            break


async def load(server: Server, clients: int, seconds: float, options: Namespace) -> Result:
    """One level."""
    resident: list[int] = []

    async def watch() -> None:
        while True:
            resident.append(server.resident())
            await asyncio.sleep(seconds / 8)

    watching, began = asyncio.create_task(watch()), perf_counter()
    answers = await crowd(server, clients, seconds, options)
    watching.cancel()
    result = summary(answers, began, seconds) | {"resident_mb": [round(size / 1e6) for size in resident[:9]]}
    return result | (await rest(server) if server.name == "longjing" else {})


async def rest(server: Server) -> Result:
    """What the server holds when nobody asks any more, and the seconds until it is nothing, ten at most."""
    began = perf_counter()
    while held := server.metric("cache_tokens") + server.metric("requests_open"):
        if perf_counter() - began > 10:
            break
        await asyncio.sleep(0.02)
    return {"held_afterwards": held, "seconds_until_nothing_is_held": perf_counter() - began}


async def chaos(server: Server, options: Namespace) -> Result:
    """Well-behaved clients among those who aren't; then SIGTERM."""
    end, chance = perf_counter() + options.seconds, random.Random(options.seed)
    requests, before = problems(options.seed), server.resident()
    left, refusals, read = 0, list[int](), list[int]()

    async def leaving() -> None:
        nonlocal left
        while perf_counter() < end:
            reader, writer = await server.open(server.body(next(requests), options.max_tokens))
            await reader.read(chance.randrange(1, 4096))
            await asyncio.sleep(chance.random())
            writer.transport.abort()
            left += 1

    async def slow() -> None:
        """Megabytes, of which it takes a few kilobytes a second."""
        body = server.body(next(requests), options.max_tokens)
        reader, writer = await server.open(body | {"n": 8, "logprobs": True, "top_logprobs": 20}, buffer=4096)
        taken = 0
        while perf_counter() < end:
            taken += len(await reader.read(1024))
            await asyncio.sleep(0.3)
        read.append(taken)
        writer.transport.abort()

    async def greedy() -> None:
        """More than the context holds."""
        while perf_counter() < end:
            refusals.append((await server.ask(server.body("1 + " * 4000 + "1", options.max_tokens))).status)
            await asyncio.sleep(0.1)

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        others = group.create_task(crowd(server, 16, options.seconds, options))
        for troublemaker in [leaving] * 32 + [slow] * 8 + [greedy] * 4:
            group.create_task(troublemaker())
    result = {
        "well_behaved": summary(others.result(), began, options.seconds),
        "left_in_mid_stream": left,
        "slow_readers": len(read), "bytes_read_by_each": median(read),
        "too_long": {str(status): refusals.count(status) for status in sorted(set(refusals))},
        **await rest(server),
        "resident_mb": [round(before / 1e6), round(server.resident() / 1e6)],
    }  # fmt: skip
    return result | {"told_to_stop": await stop(server, options)}


async def stop(server: Server, options: Namespace) -> Result:
    """SIGTERM while 64 clients are answered, who go on asking."""
    crowded = asyncio.create_task(crowd(server, 64, 6.0, options))
    await asyncio.sleep(3.0)
    server.process.terminate()
    signalled = perf_counter()
    code = await asyncio.to_thread(server.process.wait, 60)
    seconds, answers = perf_counter() - signalled, await crowded
    running = [answer for answer in answers if answer.sent <= signalled <= (answer.last or signalled)]
    later = [answer for answer in answers if answer.sent > signalled]
    return {
        "answers_that_ran": len(running),
        "of_those_finished": sum(answer.reason is not None for answer in running),
        "asked_later": len(later),
        "of_those_cut": sum(answer.status == 200 and answer.reason is None for answer in later),
        "seconds_to_exit": seconds,
        "exit_code": code,
    }


def cold(options: Namespace, log: Path) -> list[float]:
    """Seconds from the command, the page included, to the end of the first answer."""
    seconds = []
    for _ in range(options.runs):
        server, began = longjing(options.model), perf_counter()
        server.start(options, log)
        try:
            answer = Answer()
            while not answer.reason:
                if server.process.poll() is not None or perf_counter() - began > 60:
                    raise RuntimeError(f"no answer: {log.read_text()[-500:]}")
                answer = asyncio.run(server.ask(server.body(next(problems(options.seed)), options.max_tokens)))
            seconds.append(perf_counter() - began)
        finally:
            server.process.terminate()
            server.process.wait(60)
    return seconds


async def greedy_answers(server: Server, options: Namespace) -> list[str]:
    """To eight problems, without white space and tags. Raises RuntimeError if there is none."""
    answers = []
    for prompt in islice(problems(options.seed), 8):
        answer = await server.ask(server.body(prompt, options.max_tokens, greedy=True), 120)
        if not answer.reason:
            raise RuntimeError(f"{server.name}: status {answer.status}, {answer.text!r}")
        answers.append("".join(answer.text.replace("</think>", "").replace("<think>", "").split()))
    return answers


def peers(options: Namespace, folder: Path) -> tuple[list[tuple[Server, Result]], dict[str, str]]:
    """Those that can be had, each with how many of its greedy answers are ours; and why others can't."""
    python, skipped = options.peer_python, dict[str, str]()
    if python is None:
        return [], {"transformers, llama-cpp-python": "no --peer-python"}
    log = folder / "peer.log"
    with longjing(options.model, "--no-page").running(options, log) as ours:
        expected = asyncio.run(greedy_answers(ours, options))

    def tried(name: str, make: Callable[[], Server]) -> Iterator[tuple[Server, Result]]:
        try:
            server = make()
            with server.running(options, log):
                replies = asyncio.run(greedy_answers(server, options))
        except RuntimeError as error:
            skipped[name] = str(error)
        else:
            same = sum(left == right for left, right in zip(replies, expected, strict=True))
            yield server, {"greedy_answers_as_ours": f"{same} of {len(expected)}"}

    def plain(batching: bool) -> Callable[[], Server]:
        return lambda: transformers(options.model, python, options.max_tokens, batching=batching)

    results = list(tried("transformers, continuous batching", plain(True)))
    results = results or list(tried("transformers, one by one", plain(False)))
    gguf = folder / "model.gguf"
    results += tried("llama-cpp-python", lambda: llama_cpp(options.model, python, gguf, options.threads))
    return results, skipped


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    options.add_argument("--seconds", type=float, default=40.0, help="of each level, and of the chaos")
    options.add_argument("--max-tokens", type=int, default=512, help="of an answer")
    options.add_argument("--peer-python", type=Path, help="the python of the environment with the peers")
    options.add_argument("--chaos", action="store_true")
    options.add_argument("--cold", action="store_true")
    options.set_defaults(model="r1")
    chosen = options.parse_args()
    device, dtype = device_and_dtype(chosen)
    weights = flops.parameters(load_model(resolve(chosen.model)).config) * dtype.itemsize
    machine = measure_machine(device, dtype, weights)
    results: Result = {}
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        others, skipped = peers(chosen, folder)
        ours = longjing(chosen.model, "--no-page")
        sides = [(ours, Result()), *others]
        for number, (server, _) in enumerate(sides):
            stack.enter_context(server.running(chosen, folder / f"{number}.log"))
            warm_up(server, chosen)
            server.process.suspend()
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        alone = context.Process(target=engine, args=(theirs, chosen), daemon=True)
        alone.start()
        levels: list[Result] = []
        for clients in chosen.clients:
            pipe.send((clients, chosen.seconds / 2, WARM * chosen.seconds / 2))
            level: Result = {"clients": clients, "engine_tokens_per_second": pipe.recv()}
            for server, models in sides:
                server.process.resume()
                level[server.name] = models | asyncio.run(load(server, clients, chosen.seconds, chosen))
                server.process.suspend()
            speed = level["longjing"]["tokens_per_second"]
            level["share_of_engine"] = speed / level["engine_tokens_per_second"]
            for server, _ in others:
                level["times_faster"] = level.get("times_faster", {}) | {
                    server.name: speed / max(level[server.name]["tokens_per_second"], 1e-9)
                }
            print(level, flush=True)
            levels.append(level)
        pipe.send(None)
        results = {"levels": levels, "skipped": skipped}
        ours.process.resume()
        if chosen.chaos:
            results["chaos"] = asyncio.run(chaos(ours, chosen))
        stack.close()
        if chosen.cold:
            seconds = cold(chosen, folder / "cold.log")
            results["cold"] = {"seconds_to_first_answer": seconds, "median": median(seconds)}
        machine = fastest(machine, measure_machine(device, dtype, weights))
    report("serve", chosen, machine, results)


if __name__ == "__main__":
    main()
