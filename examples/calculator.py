"""A tool that pays: the task `calculator` answers `<calc>...</calc>`, and reinforcement finds out that asking pays.

    python examples/calculator.py            # about ten minutes on one core
    python examples/calculator.py --seed 1
    python examples/calculator.py --quick    # some seconds, to see that it works

The shipped base has never met the form. So it reads 500 examples first, half of which ask the calculator, while the
other half answer at once, which it can't learn to do well: the sums are too hard for it. Then reinforcement, with the
task's own rewards only. Both stages are measured on the same held-out problems.
"""

import argparse
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from longjing import tasks
from longjing.files import to_json, write_text
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe

TASK: dict[str, Any] = {"name": "calculator"}


def demonstrations(count: int) -> list[dict[str, Any]]:
    """Conversations about training problems: half of them with the tool, half without."""
    random, rows = Random(0), []
    for problem in islice(tasks.get(**TASK).problems("train", 10**6), count):
        sum_, answer = problem.data["expression"], problem.answer
        messages = [{"role": "user", "content": problem.prompt}]
        if random.random() < 0.5:
            call = {"role": "assistant", "reasoning_content": sum_, "content": f"<calc>{sum_}</calc>"}
            messages += [call, {"role": "user", "content": f"= {answer}"}]
        thought = f"{sum_}={answer}"
        messages.append({"role": "assistant", "reasoning_content": thought, "content": f"\\boxed{{{answer}}}"})
        rows.append({"messages": messages, "keep_reasoning": True})
    return rows


def recipe(data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """Two stages: the form, from examples; then what pays."""
    problems = {"problems": 8, "samples": 1} if quick else {"problems": 200, "samples": 4}
    form = {
        "kind": "finetune", "name": "form", "model": "base", "data": [str(data)],
        "epochs": 1 if quick else 6, "rows": 4, "row_length": 512,
        "learning_rate": 1e-3, "warmup_steps": 5,
        "evaluation": {"tasks": [TASK], "max_tokens": 128, **problems},
    }  # fmt: skip
    tool = {
        "kind": "reinforce", "name": "tool", "model": "form", "task": TASK,
        "steps": 1 if quick else 40, "prompts_per_step": 2 if quick else 16, "group_size": 2 if quick else 8,
        "max_tokens": 128, "learning_rate": 3e-4, "warmup_steps": 3,
        "algorithm": "grpo", "advantage_scale": "none", "kl": 0.001, "evaluation": problems,
    }  # fmt: skip
    return {"name": "calculator", "seed": seed, "stages": [form, tool]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="the run's directory; default runs/calculator-seed-N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    out = options.out or Path("runs") / f"calculator-seed-{options.seed}{'-quick' if options.quick else ''}"
    out.parent.mkdir(parents=True, exist_ok=True)
    data, file = out.with_suffix(".jsonl"), out.with_suffix(".yaml")
    rows = demonstrations(20 if options.quick else 500)
    write_text(data, "".join(to_json(row) + "\n" for row in rows))
    write_text(file, to_json(recipe(data.resolve(), options.seed, options.quick)) + "\n")  # JSON is YAML
    run_recipe(load(str(file)), out, Console())


if __name__ == "__main__":
    main()
