"""What every benchmark shares: the model it runs, the machine it runs on, and the file it leaves behind."""

import json
import platform
import resource
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import Machine, measure

from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.device import DTYPES, choose_device, choose_dtype
from longjing.runs import RunDirectory
from longjing.runs.models import load

# Shapes whose speed is measured with random weights, since it doesn't depend on what a model has learned.
SIZES = {
    "shipped": ModelConfig(
        "deepseek_v3", vocab_size=1024, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16,
        v_head_dim=32, first_k_dense_replace=1, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
        moe_intermediate_size=96, num_nextn_predict_layers=1,
    ),
    # DeepSeek-V3's shape, 0.6 billion parameters of which 0.2 work on a token: for GPUs.
    "mixture": ModelConfig(
        "deepseek_v3", vocab_size=32768, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12,
        num_attention_heads=16, num_key_value_heads=16, q_lora_rank=512, kv_lora_rank=256, qk_nope_head_dim=64,
        qk_rope_head_dim=32, v_head_dim=64, first_k_dense_replace=1, n_routed_experts=32, n_shared_experts=1,
        num_experts_per_tok=4, moe_intermediate_size=448,
    ),
    # Qwen2.5-0.5B.
    "qwen2.5-0.5b": ModelConfig(
        "qwen2", vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, attention_bias=True, tie_word_embeddings=True,
        rope={"rope_type": "default", "rope_theta": 1_000_000.0},
    ),
}  # fmt: skip


def run_recipe(recipe: str, seed: int, out: Path, changes: Sequence[str] = ()) -> RunDirectory:
    """Run a recipe with a seed to its end, or what is left of it, as `longjing run` does."""
    longjing = Path(sys.executable).with_name("longjing")
    settings = [part for change in changes for part in ("--set", change)]
    subprocess.run([str(longjing), "run", recipe, "--seed", str(seed), "--out", str(out), *settings], check=True)
    return RunDirectory(out)


def parser(description: str | None) -> ArgumentParser:
    """The options that all benchmarks take."""
    options = ArgumentParser(description=description)
    options.add_argument("--model", help="a directory or a shipped name; without it, random weights of a --size")
    options.add_argument("--size", default="shipped", choices=list(SIZES))
    options.add_argument("--device", default="cpu")
    options.add_argument("--dtype", default="float32", choices=list(DTYPES))
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--runs", type=int, default=5, help="timed repetitions, after one to warm up")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, help="where the JSON goes, e.g. benchmarks/results/NAME.json")
    return options


def device_and_dtype(options: Namespace) -> tuple[torch.device, torch.dtype]:
    """The device and number format asked for, with the threads set."""
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    return device, choose_dtype(options.dtype, device)


def build_model(options: Namespace, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The model asked for, or one of the size asked for with random weights."""
    if options.model:
        return load(options.model, device, dtype)[0]
    return Decoder(SIZES[options.size]).initialise(options.seed).to(device, dtype).eval()


def fastest(before: Machine, after: Machine) -> Machine:
    """The better figures of two measurements, since a floor is what the machine can do at its best."""
    return Machine(
        **asdict(before)
        | {"matmul": max(before.matmul, after.matmul), "bandwidth": max(before.bandwidth, after.bandwidth)}
    )


def measure_machine(device: torch.device, dtype: torch.dtype, working_set: int) -> Machine:
    """See `machine.measure`; the working set is at least a megabyte, below which overheads dominate."""
    return measure(device, dtype, max(working_set, 2**20))


def peak_bytes(device: torch.device) -> int:
    """The most memory so far: of the device, or of this process (resident, its libraries included)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def summarise(seconds: list[float], tokens: int, peak: int) -> dict[str, Any]:
    """Median speed, every run, and the peak of memory."""
    return {"tokens_per_second": tokens / median(seconds), "seconds": seconds, "peak_bytes": peak}


def report(name: str, options: Namespace, machine: Machine, results: Any) -> None:
    """Print the results as JSON with their birth certificate, and write them to `--out`."""
    settings = {key: value for key, value in vars(options).items() if key != "out" and value is not None}
    document = {
        "benchmark": name,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"system": platform.system(), "python": platform.python_version()},
        "versions": _versions("torch", "transformers", "numpy", "safetensors"),
        "settings": settings,
        "results": results,
    }
    text = json.dumps(document, indent=2, default=str)  # paths among the settings
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")


def _commit() -> str:
    if shutil.which("git") is None:
        return "none"

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short", "HEAD") or "none") + (" with changes" if changed else "")


def _versions(*packages: str) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
