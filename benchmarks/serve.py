"""The service under load: Longjing's server against `transformers serve`, on the same exported weights.

    python benchmarks/serve.py --out benchmarks/results/serve.json              # some five minutes
    python benchmarks/serve.py --part cold --out benchmarks/results/serve_cold.json
    python benchmarks/serve.py --part chaos --out benchmarks/results/serve_chaos.json

`load`: so many clients at once, each of which asks a problem of the everyday tasks, reads the streamed reply to its end
and asks the next, for `--seconds`. The two servers take turns level by level, each alone on the machine. Time to first
token and time per token are the client's, the queue included; a reply that does not end as it should is lost.
`engine`: what the engine makes of as many requests at once in process, with no server around it and the same rules of
a turn: the share of it that the server reaches is what is left to be gained.

`cold`: from starting `longjing serve`, its page included, to the first whole answer. `chaos`: clients that are cut in
mid-stream, slow readers, prompts over the limit, and SIGTERM under load.
"""

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
import torch
from common import measure_machine, report

import longjing
from longjing import tasks
from longjing.engine import Engine, Request, Sampling
from longjing.engine.turn import Turn
from longjing.model.files import resolve

TEMPERATURE, TOP_P = 0.6, 0.95


@dataclass
class Server:
    """A server in a process of its own."""

    url: str
    process: "subprocess.Popen[bytes]"
    model: str

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def cached_tokens(self) -> float | None:
        """Tokens of running requests in the cache, if the server says."""
        reply = httpx.get(f"{self.url}/metrics")
        lines = [line for line in reply.text.splitlines() if line.startswith("longjing_cache_tokens{")]
        return float(lines[0].rsplit(" ", 1)[1]) if reply.status_code == 200 and lines else None


@dataclass
class Tally:
    """What the clients of one level saw. Seconds."""

    tokens: int = 0
    replies: int = 0
    lost: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    per_token: list[float] = field(default_factory=list)


def main() -> None:
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--part", choices=["load", "cold", "chaos"], default="load")
    options.add_argument("--model", default="r1")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    options.add_argument("--seconds", type=float, default=30.0, help="of each level")
    options.add_argument("--tokens", type=int, default=256, help="a reply has at most")
    options.add_argument("--runs", type=int, default=5, help="cold starts")
    options.add_argument("--no-peer", dest="peer", action="store_false")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    machine = measure_machine(torch.device("cpu"), torch.float32, 2**20)
    report("serve", given, machine, {"load": load, "cold": cold, "chaos": chaos}[given.part](given))


# Load


def load(options: Namespace) -> dict[str, Any]:
    sides = {"longjing": ours, "transformers": theirs} if options.peer else {"longjing": ours}
    levels = []
    for clients in options.clients:
        level: dict[str, Any] = {"clients": clients}
        for name, start in sides.items():
            with start(options) as server:
                asyncio.run(_crowd(server, min(clients, 16), 3.0, options))  # warm
                before = server.memory()
                tally = asyncio.run(_crowd(server, clients, options.seconds, options))
                level[name] = _figures(tally, options.seconds) | {
                    "memory_mb": [before / 1e6, server.memory() / 1e6], "cached_tokens_after": _emptied(server),
                }  # fmt: skip
        level["engine_tokens_per_second"] = _engine_alone(options, clients)
        level["share_of_engine"] = level["longjing"]["tokens_per_second"] / level["engine_tokens_per_second"]
        print(json.dumps(level), file=sys.stderr)
        levels.append(level)
    return {"levels": levels}


def _figures(tally: Tally, seconds: float) -> dict[str, Any]:
    def quantiles(values: list[float]) -> list[float]:
        ordered = sorted(values) or [float("nan")]
        return [ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99)]

    return {
        "tokens_per_second": tally.tokens / seconds, "replies_per_second": tally.replies / seconds,
        "first_token_p50_p99": quantiles(tally.first), "per_token_p50_p99": quantiles(tally.per_token),
        "replies": tally.replies, "lost": len(tally.lost), "why": sorted(set(tally.lost))[:3],
    }  # fmt: skip


async def _crowd(server: Server, clients: int, seconds: float, options: Namespace) -> Tally:
    """So many clients for so long; those who are in the middle of a reply then read it to its end, uncounted."""
    tally, end = Tally(), time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        await asyncio.gather(
            *(_keep_asking(client, server, number, end, tally, options) for number in range(clients))
        )
    return tally


async def _keep_asking(
    client: httpx.AsyncClient, server: Server, number: int, end: float, tally: Tally, options: Namespace
) -> None:
    for prompt in _prompts(number):
        started = time.perf_counter()
        if started >= end:
            return
        body = {
            "model": server.model, "messages": [{"role": "user", "content": prompt}], "stream": True,
            "max_tokens": options.tokens, "temperature": TEMPERATURE, "top_p": TOP_P,
        }  # fmt: skip
        times: list[float] = []
        reason = None
        try:
            async with client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as reply:
                async for line in reply.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    choices = json.loads(line[6:]).get("choices") or [{}]
                    delta = choices[0].get("delta") or {}
                    reason = choices[0].get("finish_reason") or reason
                    if delta.get("content") or delta.get("reasoning_content"):
                        times.append(time.perf_counter())
        except httpx.HTTPError as problem:
            tally.lost.append(type(problem).__name__)
            continue
        if reason is None or not times:
            tally.lost.append(f"status {reply.status_code}, no end")
            continue
        if times[-1] < end:
            tally.replies += 1
            tally.first.append(times[0] - started)
        # Pieces, not tokens: both servers send one for nearly every token, unless the reader lags behind.
        counted = [moment for moment in times if moment < end]
        tally.tokens += len(counted)
        if len(counted) > 1:
            tally.per_token.append((counted[-1] - counted[0]) / (len(counted) - 1))


def _prompts(client: int) -> Iterator[str]:
    everyday = tasks.get("mixture", parts=[{"name": name, "language": "en"} for name in tasks.EVERYDAY])
    return (problem.prompt for problem in everyday.problems("train", client))


def _engine_alone(options: Namespace, rows: int) -> float:
    """Tokens a second of as many requests at once as there are clients, twice over, in process."""
    model, tokenizer = longjing.load(options.model)
    engine = Engine(model, tokenizer, max_batch=256)
    prompts = [
        tokenizer.encode_chat([{"role": "user", "content": next(_prompts(n))}]) for n in range(2 * rows)
    ]

    def request(number: int, prompt: list[int]) -> Request:
        sampling = Sampling(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=options.tokens, seed=number)
        return Request(prompt, sampling, Turn(tokenizer, prompt, options.tokens, engine.end_tokens))

    engine.max_batch = rows
    started = time.perf_counter()
    said = engine.generate([request(*one) for one in enumerate(prompts)])
    return sum(len(one.tokens) for one in said) / (time.perf_counter() - started)


def _emptied(server: Server) -> float | None:
    for _ in range(100):
        if not server.cached_tokens():
            break
        time.sleep(0.05)
    return server.cached_tokens()


# Servers


@contextmanager
def ours(options: Namespace, *more: str) -> Iterator[Server]:
    command = [
        str(Path(sys.executable).with_name("longjing")),
        "serve",
        options.model,
        *(more or ["--no-page"]),
    ]
    with _started(command, f"longjing-{options.model}", "/health") as server:
        yield server


@contextmanager
def theirs(options: Namespace) -> Iterator[Server]:
    directory = str(resolve(options.model))
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", directory, "--device", "cpu", "--dtype", "float32", "--continuous-batching"]
    with _started(command, directory, "/health") as server:
        yield server


@contextmanager
def _started(command: list[str], model: str, health: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--port", str(port)], **quiet)
    server = Server(f"http://127.0.0.1:{port}", process, model)
    try:
        for _ in range(1200):
            try:
                if httpx.get(server.url + health, timeout=1).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        else:
            raise RuntimeError(f"{command[0]} doesn't come up")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


# Cold starts, and chaos


def cold(options: Namespace) -> dict[str, Any]:
    seconds = []
    for _ in range(options.runs):
        started = time.perf_counter()
        with ours(options, "--page") as server:
            body = {"messages": [{"role": "user", "content": "What is 34+57?"}], "seed": 0}
            assert httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
            seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "median": median(seconds)}


def chaos(options: Namespace) -> dict[str, Any]:
    with ours(options) as server:
        cut, slow, long = asyncio.run(_chaos(server, options))
        cached = _emptied(server)
        stopped = asyncio.run(_stop_under_load(server, options))
    return {
        "cut_in_mid_stream": cut, "slow_readers_served": slow, "too_long_refused": long,
        "cached_tokens_after": cached, "stopped_under_load": stopped,
    }  # fmt: skip


async def _chaos(server: Server, options: Namespace) -> tuple[int, int, int]:
    url = f"{server.url}/v1/chat/completions"

    def body(number: int) -> dict[str, Any]:
        prompt = next(islice(_prompts(number), 1))
        return {
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "max_tokens": options.tokens,
        }

    async def leave(number: int) -> bool:
        async with client.stream("POST", url, json=body(number)) as reply:
            pieces = random.Random(number).randrange(1, 40)
            async for _ in reply.aiter_lines():
                pieces -= 1
                if not pieces:
                    return True
        return False

    async def dawdle(number: int) -> bool:
        async with client.stream("POST", url, json=body(number)) as reply:
            text = ""
            async for part in reply.aiter_text(256):
                text += part
                await asyncio.sleep(0.02)
        return text.rstrip().endswith("[DONE]")

    async def overdo(number: int) -> bool:
        reply = await client.post(url, json={"messages": [{"role": "user", "content": "1 " * 5000}]})
        return reply.status_code == 400

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        whole = await asyncio.gather(*(work(n) for work in (leave, dawdle, overdo) for n in range(100)))
    return sum(whole[:100]), sum(whole[100:200]), sum(whole[200:])


async def _stop_under_load(server: Server, options: Namespace) -> dict[str, Any]:
    tally = Tally()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        end = time.perf_counter() + 3
        asking = [
            asyncio.create_task(_keep_asking(client, server, number, end, tally, options))
            for number in range(64)
        ]
        await asyncio.sleep(2)
        server.process.send_signal(signal.SIGTERM)
        signalled = time.perf_counter()
        code = await asyncio.to_thread(server.process.wait, 60)
        left = time.perf_counter() - signalled
        await asyncio.gather(*asking)
    refused = sum(why != "RemoteProtocolError" for why in tally.lost)
    return {
        "exit_code": code, "seconds": left, "refused": refused, "broken_off": len(tally.lost) - refused,
        "why": sorted(set(tally.lost)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
