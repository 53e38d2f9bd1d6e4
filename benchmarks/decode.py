"""Generation speed: Longjing's engine against `generate` of transformers, on the same exported weights.

    python benchmarks/decode.py --out benchmarks/results/decode.json
    python benchmarks/decode.py --model smollm2 --dtype bfloat16 --llama-cpp F16 --batch 1 8 32 \
        --prompt 32 --tokens 32 --out benchmarks/results/decode_smollm2.json

Both sample at temperature 1 from the whole distribution; nobody stops early, so that all lengths are equal.
Each lives in a process of its own (its memory is its own, too), and they take turns: A B A B. Both return
token ids, not text.

The floor of a batch is what reading the prompts and decoding need at least on this machine: the larger of
FLOPs over the measured matrix-product peak and bytes over the measured speed of reading as many bytes as the
weights take. `speculating` is the engine drafting with the MTP module, if the model has one; random weights
predict nothing, so give it a --model. `--llama-cpp` adds llama.cpp (`llama_cpp.py`) with the same weights as GGUF of
that type. It takes the likeliest token, which is cheaper than to draw one.
"""

import multiprocessing
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import build_model, device_and_dtype, fastest, measure_machine, parser, peak_bytes, report, summarise
from machine import Machine, decoding_bytes, synchronise

from longjing.generation.factory import make_generator
from longjing.generation.request import Request, Sampling
from longjing.model.config import ModelConfig
from longjing.model.store.checkpoint import load_model, save_model
from longjing.model.store.gguf import write_model
from longjing.planning import flops

SIDES = ["longjing", "transformers", "speculating"]
contexts = ExitStack()
Generate = Callable[[torch.Tensor, int], int]  # prompts `[batch, length]` and a seed -> tokens sampled


def speculating(directory: str, options: Namespace, device: torch.device, dtype: torch.dtype) -> Generate:
    return longjing(directory, options, device, dtype, speculate=True)


def longjing(
    directory: str, options: Namespace, device: torch.device, dtype: torch.dtype, speculate: bool = False
) -> Generate:
    model = load_model(directory, device, dtype)
    speculate = speculate and bool(model.config.num_nextn_predict_layers)
    # Drafts need a layer of their own in the cache, and a column more.
    width = flops.cache_bytes(model.config, dtype.itemsize) + model.config.cache_width * dtype.itemsize

    def generate(prompts: torch.Tensor, seed: int) -> int:
        batch, length = prompts.shape
        area = batch * (length + options.tokens + 2) * width
        generator = make_generator(model, None, cache_bytes=area, max_batch=batch, end_tokens=(), speculate=speculate)
        requests = [
            Request(prompt, Sampling(max_tokens=options.tokens, seed=seed * batch + row))
            for row, prompt in enumerate(prompts.tolist())
        ]
        return sum(len(generation.tokens) for generation in generator.generate(requests))

    return generate


def transformers(directory: str, options: Namespace, device: torch.device, dtype: torch.dtype) -> Generate:
    from transformers import AutoModelForCausalLM

    settings = {"experts_implementation": options.experts} if options.experts else {}
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, **settings).to(device).eval()
    model.generation_config.eos_token_id = None

    def generate(prompts: torch.Tensor, seed: int) -> int:
        torch.manual_seed(seed)
        prompts = prompts.to(device)
        out = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0,
            top_p=1.0, max_new_tokens=options.tokens, pad_token_id=0,
        )  # fmt: skip
        return int(out[:, prompts.shape[1] :].numel())

    return generate


def llama_cpp(directory: str, options: Namespace, device: torch.device, dtype: torch.dtype) -> Generate:
    from llama_cpp import LlamaCpp

    model = load_model(directory)
    file, vocabulary = Path(directory, "model.gguf"), model.config.vocab_size
    write_model(model, file, options.llama_cpp, {"tokenizer.ggml.model": "no_vocab"})
    columns, rows = options.prompt + options.tokens, max(options.batch)
    context = contexts.enter_context(LlamaCpp().context(file, columns, rows, options.threads))

    def generate(prompts: torch.Tensor, seed: int) -> int:
        context.forget()
        last = options.prompt - 1
        # Each prompt by itself: all of them may be more than it takes at once.
        read = [
            context.decode([(token, column, row, column == last) for column, token in enumerate(prompt)], vocabulary)
            for row, prompt in enumerate(prompts.tolist())
        ]
        tokens = np.concatenate(read).argmax(axis=-1)
        for column in range(options.prompt, options.prompt + options.tokens - 1):
            places = [(token, column, row, True) for row, token in enumerate(tokens.tolist())]
            tokens = context.decode(places, vocabulary).argmax(axis=-1)
        return options.tokens * len(prompts)

    return generate


def serve(pipe: Connection, side: str, directory: str, options: Namespace) -> None:
    """One side's process: sends its memory once loaded, then for each (prompts, seed) received the seconds
    it took and the peak of memory so far."""
    device, dtype = device_and_dtype(options)
    make = {
        "longjing": longjing, "transformers": transformers, "speculating": speculating, "llama.cpp": llama_cpp
    }[side]  # fmt: skip
    generate = make(directory, options, device, dtype)
    pipe.send(peak_bytes(device))
    while (job := pipe.recv()) is not None:
        synchronise(device)
        started = perf_counter()
        tokens = generate(*job)
        synchronise(device)
        seconds = perf_counter() - started
        if tokens != len(job[0]) * options.tokens:
            raise RuntimeError(f"{side} made {tokens} tokens, not {len(job[0])} x {options.tokens}")
        pipe.send((seconds, peak_bytes(device)))


def floor_seconds(config: ModelConfig, machine: Machine, batch: int, options: Namespace, width: int) -> float:
    """Seconds that the work of one batch takes at least."""
    prompt, steps = options.prompt, options.tokens
    reading = batch * flops.generation(config, prompt, [1])
    per_step = batch * flops.forward(config, prompt + steps / 2, absorbed=True)
    bytes_read = decoding_bytes(config, batch, prompt + steps / 2, width)
    return machine.floor(reading, 0) + (steps - 1) * machine.floor(per_step, bytes_read)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch", type=int, nargs="+", default=[1, 16, 256])
    options.add_argument("--prompt", type=int, default=20, help="tokens of each prompt; all prompts differ")
    options.add_argument("--tokens", type=int, default=128, help="new tokens of each completion")
    options.add_argument("--experts", help="experts_implementation of transformers, if not its default")
    options.add_argument("--llama-cpp", help="llama.cpp takes its turns too, with weights of this type, like F16")
    chosen = options.parse_args()
    if chosen.llama_cpp:
        SIDES.append("llama.cpp")
    chosen.batch.sort()  # memory peaks only grow, so the batch of each must too
    device, dtype = device_and_dtype(chosen)
    model = build_model(chosen, device, dtype)
    config = model.config
    generator = torch.Generator().manual_seed(chosen.seed)
    context = multiprocessing.get_context("spawn")
    results: list[dict[str, Any]] = []
    with TemporaryDirectory() as directory:
        save_model(model, directory)
        del model
        weights = flops.parameters(config) * dtype.itemsize
        machine = measure_machine(device, dtype, weights)
        pipes, processes = {}, []
        for side in SIDES:
            pipes[side], theirs = context.Pipe()
            processes.append(context.Process(target=serve, args=(theirs, side, directory, chosen), daemon=True))
            processes[-1].start()
            theirs.close()
        loaded = {side: pipes[side].recv() for side in SIDES}
        for batch in chosen.batch:
            seconds: dict[str, list[float]] = {side: [] for side in SIDES}
            peaks: dict[str, int] = {}
            for run in range(chosen.runs + 1):
                prompts = torch.randint(config.vocab_size, (batch, chosen.prompt), generator=generator)
                for side in SIDES:
                    pipes[side].send((prompts, run))
                    spent, peaks[side] = pipes[side].recv()
                    if run:  # the first warms up
                        seconds[side].append(spent)
            sampled = batch * chosen.tokens
            rows = {
                side: summarise(seconds[side], sampled, peaks[side]) | {"loaded_bytes": loaded[side]} for side in SIDES
            }
            speeds = [rows[side]["tokens_per_second"] for side in SIDES]
            results.append({"batch": batch, **rows, "times_faster": speeds[0] / speeds[1]})
        for side, process in zip(SIDES, processes, strict=True):
            pipes[side].send(None)
            process.join()
        machine = fastest(machine, measure_machine(device, dtype, weights))
    for result in results:
        floor = floor_seconds(config, machine, result["batch"], chosen, dtype.itemsize)
        result["floor_seconds"] = floor
        for side in SIDES:
            sampled = result["batch"] * chosen.tokens
            result[side]["times_the_floor"] = sampled / result[side]["tokens_per_second"] / floor
    report("decode", chosen, machine, results)


if __name__ == "__main__":
    main()
