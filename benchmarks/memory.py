"""The most memory that an update of a real model takes, beside what `learning/memory.py` expects.

    python benchmarks/memory.py --out benchmarks/results/memory.json

Each case is a stage of two steps in a process of its own, whose greatest resident set is read when it ends.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from common import device_and_dtype, measure_machine, parser, peak_bytes, report

MODEL = "smollm2"
READING: dict[str, Any] = {"kind": "finetune", "model": MODEL, "epochs": 1, "rows": 4, "row_length": 512}
AGAIN = {"activation_checkpointing": True}
ADAPTER = {"lora": {"rank": 16}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fine-tuning, 512 tokens": ("float32", READING | {"micro_tokens": 512}),
    "fine-tuning, 2048 tokens": ("float32", READING),
    "fine-tuning, 2048 tokens, checkpointing": ("float32", READING | AGAIN),
    "fine-tuning, bfloat16, 512 tokens": ("bfloat16", READING | {"micro_tokens": 512}),
    "fine-tuning, bfloat16, 2048 tokens": ("bfloat16", READING),
    "fine-tuning, bfloat16, 2048 tokens, checkpointing": ("bfloat16", READING | AGAIN),
    "adapter, 2048 tokens": ("float32", READING | ADAPTER),
    "adapter, bfloat16, 512 tokens": ("bfloat16", READING | ADAPTER | {"micro_tokens": 512}),
}


def measure(dtype: str, stage: dict[str, Any]) -> dict[str, Any]:
    """Of one case: bytes at the peak, and bytes expected."""
    with tempfile.TemporaryDirectory() as folder:
        out, data = Path(folder) / "run", Path(folder) / "data.jsonl"
        if "row_length" in stage:
            words = " ".join(f"{number} plus {number} is {2 * number}." for number in range(28))
            turns = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": words}]
            data.write_text(f"{json.dumps({'messages': turns})}\n" * 8)  # each fills most of a row
            stage = stage | {"data": [str(data)]}
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(
            yaml.safe_dump({"name": "memory", "device": "cpu", "dtype": dtype, "stages": [stage | {"name": "stage"}]})
        )
        child = [sys.executable, __file__, "--child", str(recipe), str(out)]
        done = subprocess.run(child, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        peak = int(done.stdout.splitlines()[-1])
        expected = json.loads((out / "stage" / "memory.json").read_text())["bytes"]
    return {"peak_bytes": peak, "expected_bytes": expected, "ratio": expected / peak}


def child(recipe: str, out: str) -> None:
    import torch
    from rich.console import Console

    from longjing.recipe.loading import load
    from longjing.recipe.running import run_recipe

    run_recipe(load(recipe), Path(out), Console(file=io.StringIO()))
    print(peak_bytes(torch.device("cpu")))


def main() -> None:
    options = parser(__doc__).parse_args()
    machine = measure_machine(*device_and_dtype(options), 2**26)
    cases = {}
    for name, (dtype, stage) in CASES.items():
        cases[name] = measure(dtype, stage)
        print(f"{name}: {cases[name]['peak_bytes'] / 1e9:.2f} GB, expected {cases[name]['expected_bytes'] / 1e9:.2f}")
    report("memory", options, machine, cases)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
