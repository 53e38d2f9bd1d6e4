"""The sides of `serve.py`: servers as processes, the client that asks them, and the engine alone."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import psutil
from common import device_and_dtype

from longjing import tasks
from longjing.generation.native import Engine, Request, Sampling
from longjing.model.store.checkpoint import load_model
from longjing.runs.resolve import resolve
from longjing.serving.served_model import TEMPERATURE, TOP_P
from longjing.text import Tokenizer
from longjing.toys import EVERYDAY

Body = dict[str, Any]


def problems(seed: int) -> Iterator[str]:
    """What clients ask: problems of all four tasks, the same for all sides."""
    parts = [{"name": name} for name in EVERYDAY]
    return (problem.prompt for problem in tasks.get("mixture", parts=parts).problems("train", seed))


@dataclass
class Answer:
    """What came of a question. Times are `perf_counter`'s; `reason` stays None if it has no end."""

    sent: float = field(default_factory=perf_counter)
    first: float = 0.0  # when the first text came
    last: float = 0.0
    status: int = 0  # 0: not even that came
    reason: str | None = None
    tokens: int = 0
    chunks: int = 0
    text: str = ""


@dataclass
class Server:
    """A server's process. `extra` goes into every request, and `sampling` into those that aren't greedy."""

    name: str
    command: list[str]
    extra: Body = field(default_factory=dict)
    sampling: Body = field(default_factory=dict)

    @contextmanager
    def running(self, options: Namespace, log: Path) -> Iterator["Server"]:
        """Started, and stopped at the end. Raises RuntimeError with the end of its log if it doesn't start."""
        self.start(options, log)
        try:
            self._wait(log)
            yield self
        finally:
            with suppress(psutil.NoSuchProcess):
                self.process.resume()
                self.process.terminate()
                self.process.wait(60)

    def start(self, options: Namespace, log: Path) -> None:
        """Start the process, and don't wait for it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
        with log.open("w") as output:
            command = [*self.command, "--port", str(self.port)]
            self.process = psutil.Popen(command, stdout=output, stderr=output, env=environment)

    def _wait(self, log: Path) -> None:
        for _ in range(1200):
            with suppress(OSError):
                self.get("/v1/models")
                return
            if self.process.poll() is not None:
                break
            sleep(0.1)
        raise RuntimeError(f"{self.name} doesn't start: {log.read_text()[-500:]}")

    def get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()

    def metric(self, name: str) -> float:
        """The value of one of our server's metrics."""
        lines = self.get("/metrics").splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"longjing_{name}{{"))

    def resident(self) -> int:
        """Bytes."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(process.memory_info().rss for process in family)

    def body(self, prompt: str, max_tokens: int, greedy: bool = False) -> Body:
        """A request for a stream."""
        sampling = {"temperature": 0} if greedy else {"temperature": TEMPERATURE, "top_p": TOP_P} | self.sampling
        message = {"role": "user", "content": prompt}
        return {"messages": [message], "stream": True, "max_tokens": max_tokens} | self.extra | sampling

    async def open(self, body: Body, buffer: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask, on a connection of its own. `buffer`: bytes that the system may receive before they are read."""
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=buffer or 1 << 16)
        content = json.dumps(body).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        return reader, writer

    async def ask(self, body: Body, seconds: float | None = None) -> Answer:
        """Read a stream to its end, to where it breaks off, or for so many seconds. Little is done for each piece,
        since clients and server share a machine: what they hold is looked at when all are there."""
        answer, received = Answer(), bytearray()
        with suppress(OSError):  # which a TimeoutError is, too
            async with asyncio.timeout(seconds):
                reader, writer = await self.open(body)
                try:
                    while piece := await reader.read(1 << 16):
                        received += piece
                        answer.last = perf_counter()
                        if not answer.first and received.count(b"data: ") > 1:  # the first event names the role
                            answer.first = answer.last
                finally:
                    writer.close()
        _read(bytes(received), answer)
        return answer


def _read(received: bytes, answer: Answer) -> None:
    """Servers write an event in one piece, so its line is whole however the answer was cut for the way."""
    if received:
        answer.status = int(received.split(maxsplit=2)[1])
    for line in received.splitlines():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            answer.text = str(event["error"])
        for choice in event.get("choices", ()):
            delta = choice["delta"]
            text = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            answer.text += text
            answer.chunks += bool(text)
            answer.reason = choice.get("finish_reason") or answer.reason
        answer.tokens = (event.get("usage") or {}).get("completion_tokens", answer.tokens)
    answer.tokens = answer.tokens or answer.chunks  # llama-cpp-python tells no usage, and sends token by token


def longjing(model: str, *options: str) -> Server:
    command = [str(Path(sys.executable).with_name("longjing")), "serve", model, *options]
    return Server("longjing", command, {"stream_options": {"include_usage": True}})


def transformers(model: str, python: Path, max_tokens: int, *, batching: bool) -> Server:
    """With `batching` it fixes the sampling with the first request."""
    directory = resolve(model)
    command = [str(python.with_name("transformers")), "serve", str(directory), "--device", "cpu"]
    command += ["--dtype", "float32", *(["--continuous-batching"] if batching else [])]
    config = json.loads((directory / "config.json").read_text())
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sampling = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0} | ends
    name = "transformers, continuous batching" if batching else "transformers, one by one"
    return Server(name, command, {}, {"generation_config": json.dumps(sampling | {"max_new_tokens": max_tokens})})


def llama_cpp(model: str, python: Path, gguf: Path, threads: int) -> Server:
    """Of a GGUF that is made here. Raises RuntimeError if that can't be."""
    script, directory = Path(__file__).with_name("serve_gguf.py"), resolve(model)
    made = subprocess.run([python, script, directory, gguf], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"llama-cpp-python: {made.stderr.strip().splitlines()[-1]}")
    command = [str(python), "-m", "llama_cpp.server", "--model", str(gguf), "--n_ctx", "2048"]
    command += ["--n_threads", str(threads), "--interrupt_requests", "false"]
    return Server("llama-cpp-python", command, {"top_k": 0, "min_p": 0, "repeat_penalty": 1.0})


def engine(pipe: Connection, options: Namespace) -> None:
    """A process in which the engine runs by itself: for each (clients, seconds, seconds to warm up) received it sends
    the tokens per second that it sampled, with as many requests running as there are clients."""
    device, dtype = device_and_dtype(options)
    directory = resolve(options.model)
    model, tokenizer = load_model(directory, device, dtype), Tokenizer.from_directory(directory)
    while (job := pipe.recv()) is not None:
        clients, seconds, warm = job
        alone = Engine(model, None, max_batch=clients, speculate="auto", prefix_bytes=1 << 28)
        requests, seeds, tokens, started = problems(options.seed), count(), 0, perf_counter()
        while (spent := perf_counter() - started) < seconds:
            for _ in range(clients - alone.unfinished):
                prompt = tokenizer.encode_chat([{"role": "user", "content": next(requests)}])
                settings = Sampling(TEMPERATURE, top_p=TOP_P, max_tokens=options.max_tokens, seed=next(seeds))
                alone.add(Request(prompt, settings))
            events = alone.step()
            tokens += sum(len(event.chunk.token_ids) for event in events) if spent > warm else 0
        pipe.send(tokens / (seconds - warm))
