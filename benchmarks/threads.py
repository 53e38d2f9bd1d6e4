"""Steps of reinforcement with several choices of threads, on an idle machine and beside one busy process.

    python benchmarks/threads.py --out benchmarks/results/threads.json

Each choice has a process of its own, since OpenMP reads once how long threads spin, and they take turns: A B C A B C.
The neighbour is a loop that ends by itself. `longjing` is what the package chooses; `best` compares it, phase by phase,
with the fastest of the others in the same rounds.

With `--decoding` it measures instead from which size on decoding gains from all threads: random weights, tokens a
second with one thread and with all.
"""

import multiprocessing
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median
from time import monotonic, perf_counter
from typing import Any

# What a process of its own sets before it imports torch: threads for decoding and for updating (0: all cores), and
# how long GNU's OpenMP spins. None leaves both to the package.
CHOICES: dict[str, tuple[int, int, str] | None] = {
    "longjing": None,
    "one thread": (1, 1, "0"),
    "all, spinning": (0, 0, "300000"),  # OpenMP's own default where there are no more threads than cores
    "all, spinning briefly": (0, 0, "2000"),
    "all, never spinning": (0, 0, "0"),
    "one and all, never spinning": (1, 0, "0"),
}
DECODING = {  # hidden size, layers, intermediate size of dense networks
    "3 million": (192, 6, 512), "9 million": (320, 7, 864), "20 million": (448, 8, 1216), "40 million": (512, 13, 1376),
    "80 million": (640, 16, 1728), "135 million": (768, 19, 2048),
}  # fmt: skip


def step(pipe: Connection, name: str, options: Namespace) -> None:
    """A process that does a step of r1-zero whenever it is asked, and answers with the seconds of its phases."""
    choice = CHOICES[name]
    if choice is not None:
        os.environ["GOMP_SPINCOUNT"] = choice[2]
    import torch

    from longjing.cluster.runtime import Runtime
    from longjing.learning.reinforcement import Reinforcement
    from longjing.recipe.loading import load

    changes = [f"prompts_per_step={options.prompts}", f"max_tokens={options.tokens}", "steps=100"]
    settings = load("r1-zero", changes).stages[0]
    if choice is not None and choice[1]:
        torch.set_num_threads(choice[1])
    learner = Reinforcement(settings, Runtime(options.seed, torch.device("cpu"), torch.float32))  # type: ignore[arg-type]
    if choice is not None:
        learner.generator._threads = choice[0] or torch.get_num_threads()
    pipe.send(None)
    while (number := pipe.recv()) is not None:
        metrics, *_ = learner.step(number)
        pipe.send((metrics["seconds_sampling"], metrics["seconds_updating"]))


def decode(pipe: Connection, name: str, options: Namespace) -> None:
    """A process that decodes a batch with so many threads whenever it is asked, and answers with tokens a second."""
    import torch

    from longjing.generation.native.engine import Engine
    from longjing.generation.request import Request, Sampling
    from longjing.model.config import ModelConfig
    from longjing.model.decoder import Decoder

    hidden, layers, inner = DECODING[name]
    config = ModelConfig("llama", 8192, hidden, inner, layers, hidden // 64, hidden // 64, tie_word_embeddings=True)
    model = Decoder(config).initialise(0).eval()
    pipe.send(sum(parameter.numel() for parameter in model.parameters()))
    while (command := pipe.recv()) is not None:
        batch, threads = command
        engine = Engine(model, None, end_tokens=(), threads=threads or torch.get_num_threads())
        sampling = [Sampling(max_tokens=32, seed=row) for row in range(batch)]
        started = perf_counter()
        engine.generate([Request([1, 2, 3 + row], each) for row, each in enumerate(sampling)])
        pipe.send(32 * batch / (perf_counter() - started))


def busy(seconds: float) -> None:
    end = monotonic() + seconds
    while monotonic() < end:
        pass


@contextmanager
def neighbour(wanted: bool) -> Iterator[None]:
    """While the block runs, and ten minutes at most, a process that computes."""
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=busy, args=(600.0,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def process(work: Any, name: str, options: Namespace) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    started = context.Process(target=work, args=(theirs, name, options), daemon=True)
    started.start()
    theirs.close()
    try:
        yield ours
    finally:
        started.kill()
        started.join()


def steps(options: Namespace) -> dict[str, Any]:
    """Seconds of sampling and updating by choice, idle and beside a neighbour, and how far ours is from the best."""
    results: dict[str, Any] = {}
    for condition, beside in (("idle", False), ("beside a busy process", True)):
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in CHOICES}
        for name in CHOICES:  # a process that only waits would still spin for a while
            with process(step, name, options) as pipe:
                pipe.recv()
                with neighbour(beside):
                    for run in range(options.runs + 1):
                        pipe.send(run)
                        timing = pipe.recv()
                        if run:
                            seconds[name].append(timing)
        rows = {
            name: {
                "sampling": median(one for one, _ in runs), "updating": median(other for _, other in runs),
                "step": median(map(sum, runs)), "runs": runs,
            }
            for name, runs in seconds.items()
        }  # fmt: skip
        others = [row for name, row in rows.items() if name != "longjing"]
        results[condition] = rows | {
            "times_the_best": {
                phase: rows["longjing"][phase] / min(row[phase] for row in others)
                for phase in ("sampling", "updating", "step")
            }
        }
    return results


def sizes(options: Namespace) -> list[dict[str, Any]]:
    """Tokens a second by size and batch, with one thread and with all; the two take turns."""
    rows = []
    for name in DECODING:
        with process(decode, name, options) as pipe:
            parameters = pipe.recv()
            for batch in (1, 16, 64):
                speeds: dict[int, list[float]] = {1: [], 0: []}
                for run in range(options.runs + 1):
                    for threads, figures in speeds.items():
                        pipe.send((batch, threads))
                        speed = pipe.recv()
                        if run:
                            figures.append(speed)
                one, all_ = median(speeds[1]), median(speeds[0])
                rows.append({"parameters": parameters, "batch": batch, "one": one, "all": all_, "gain": all_ / one})
    return rows


def main() -> None:
    from common import measure_machine, parser, report

    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=8, help="of 16 completions each, in a step")
    options.add_argument("--tokens", type=int, default=256, help="the most of a completion")
    options.add_argument("--decoding", action="store_true", help="the sizes, instead of the steps")
    chosen = options.parse_args()
    import torch

    results = sizes(chosen) if chosen.decoding else steps(chosen)
    report("threads", chosen, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


if __name__ == "__main__":
    main()
