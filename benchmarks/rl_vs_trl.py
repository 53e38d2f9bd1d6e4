"""Reinforcement learning: Longjing's GRPO against TRL's `GRPOTrainer`, from the same exported checkpoint.

    python benchmarks/rl_vs_trl.py --setting a --out benchmarks/results/rl_vs_trl_a.json
    python benchmarks/rl_vs_trl.py --setting b --dtype float32 --repeats 1 --out benchmarks/results/rl_vs_trl_b.json
    longjing run benchmarks/reproduction/chain-sum-smollm2.yaml
    GOMP_SPINCOUNT=300000 python benchmarks/rl_vs_trl.py --setting c --model runs/chain-sum-smollm2 --lora 16 \
        --dtype bfloat16 --repeats 1 --evaluate-every 0 --rows 16 --steps 4 \
        --out benchmarks/results/rl_vs_trl_c_lora.json

Setting a: a dense decoder of 4.3 million random parameters, 8 problems x 8 samples, prompts of 20 tokens and
64 new ones, nobody stops early; the reward is the share of the letters a to m in what was written. Setting b: the
recipe `r1-zero` without its KL, so completions of uneven lengths and groups without a signal. Setting c: a real model
(SmolLM2-135M after a cold start, its adapter merged), 8 problems of reasoning-gym's chain_sum x 8 samples of up to 200
tokens, all weights or `--lora` of that rank.

Both sides get the same prompts in the same order, the same judge, group size, batch, loss (clipped surrogate,
the same normalisation, beta 0), AdamW, schedule, clipping, number format and threads. One thing is each side's
own: Longjing leaves groups without a signal out of the loss and its denominator, TRL trains on them with
advantage 0. TRL runs at its best on a CPU: no gradient checkpointing, `generate` on a static batch, nothing
logged or saved; `--rows` and `--experts` say how it cuts its batch for the backward pass and runs the experts.

The variable gives both sides OpenMP's own way of waiting, which is the faster one on a machine that does nothing else.

Each side and number format is a process of its own, and they take turns step by step. Medians leave out the
first step of each repeat. Repeats differ in their seed. Weights are evaluated outside the clock, all of them by
Longjing's engine on the same problems and seeds. The floor is the FLOPs of sampling, and of training on the
groups with a signal, at the measured peak of matrix products.
"""

import multiprocessing
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import fmean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import fastest, measure_machine, report
from machine import Machine
from rl_sides import SIDES, EarlyLetters, Setting, Step, serve

import longjing
from longjing.evaluation import evaluate
from longjing.generation.native.engine import Engine
from longjing.learning.reinforcement import ReinforcementSettings
from longjing.learning.settings import LoRASettings, TaskReference
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.device import DTYPES, choose_device
from longjing.model.layers.lora import merge_lora
from longjing.model.store.checkpoint import load_model, save_model
from longjing.planning import flops
from longjing.problems import Task
from longjing.recipe import loading
from longjing.runs.resolve import resolve
from longjing.text.tokenizer import Tokenizer


def setting_a(directory: str, options: Namespace) -> Setting:
    """Write the random checkpoint. Without an end token in its config nobody stops early."""
    stories = TaskReference(name="word-problems").make().problems("train", 0)
    texts = [problem.prompt for problem in islice(stories, 2000)]
    tokenizer = Tokenizer.train(texts, 1024)
    config = ModelConfig(
        "llama", vocab_size=1024, hidden_size=256, intermediate_size=704, num_hidden_layers=5,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True, bos_token_id=tokenizer.bos_id,
        pad_token_id=tokenizer.pad_id,
    )  # fmt: skip
    save_model(Decoder(config).initialise(options.seed), directory)
    tokenizer.save(directory)
    stage = ReinforcementSettings(
        model=directory, task=TaskReference(name="countdown"), steps=options.steps or 20, prompts_per_step=8,
        group_size=8, max_tokens=64, kl=0.0, aggregation="tokens", advantage_scale="none",
        rewards={"accuracy": 1.0}, learning_rate=1e-3,
    )  # fmt: skip
    return Setting(stage, EarlyLetters(), rows=64)


def setting_b(directory: str, options: Namespace) -> Setting:
    """Write the recipe's model without its prediction modules, which neither side trains."""
    (stage,) = (stage for stage in loading.load("r1-zero").stages if isinstance(stage, ReinforcementSettings))
    source = resolve(options.model or stage.model)
    model = load_model(source)
    bare = Decoder(ModelConfig.from_dict(model.config.to_dict() | {"num_nextn_predict_layers": 0}))
    bare.load_state_dict(model.state_dict(), strict=False)
    save_model(bare, directory)
    Tokenizer.from_directory(source).save(directory)
    changes = {"model": directory, "steps": options.steps or 12, "kl": 0.0, "dynamic_sampling": 0}
    stage = ReinforcementSettings.model_validate(stage.model_dump(exclude={"name"}) | changes)
    if stage.minibatches > 1 or stage.optimizer != "adamw" or stage.preset().objective.kind != "grpo":
        raise SystemExit("the recipe's minibatches, optimiser or objective has no counterpart here")
    return Setting(stage, stage.task.make(), rows=options.rows, experts=options.experts)


def setting_c(directory: str, options: Namespace) -> Setting:
    """Write the model whole, in the number format that its kind is published in."""
    if not options.model:
        raise SystemExit("setting c needs a --model that was taught to think, like runs/r1-smollm2/cold-start")
    model, tokenizer = longjing.load(options.model, dtype="bfloat16")
    merge_lora(model)
    save_model(model, directory)
    tokenizer.save(directory)
    rate = 3e-4 if options.lora else 1e-5
    stage = ReinforcementSettings(
        model=directory, task=TaskReference(name="gym:chain_sum"), steps=options.steps or 12, prompts_per_step=8,
        group_size=8, max_tokens=200, kl=0.0, aggregation="tokens", advantage_scale="none", instruction="",
        rewards={"accuracy": 1.0, "format": 0.2}, learning_rate=rate,
        lora=LoRASettings(rank=options.lora) if options.lora else None,
    )  # fmt: skip
    return Setting(stage, stage.task.make(), rows=options.rows)


@dataclass
class Contestant:
    """One side in one number format: its process now, and what all its repeats were like."""

    side: str
    dtype: str
    repeats: list[list[Step]]
    loaded: int = 0

    def __str__(self) -> str:
        return f"{self.side} {self.dtype}"

    def start(self, setting: Setting, seed: int, device: torch.device, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(
            target=serve, args=(there, self.side, self.dtype, setting, seed, device, threads), daemon=True
        )
        self.process.start()
        there.close()
        self.loaded = self.pipe.recv()
        self.repeats.append([])

    def step(self) -> None:
        self.pipe.send(True)
        self.repeats[-1].append(self.pipe.recv())

    def save(self, path: Path) -> None:
        self.pipe.send(str(path))
        self.pipe.recv()

    def stop(self) -> None:
        self.pipe.send(False)
        self.process.join()


@dataclass(frozen=True)
class Examiner:
    """Measures saved weights on held-out problems, the same for all."""

    task: Task
    tokenizer: Tokenizer
    stage: ReinforcementSettings
    problems: int
    device: torch.device

    def accuracy(self, directory: str | Path) -> float:
        engine = Engine(load_model(directory, self.device), self.tokenizer)
        return evaluate(
            engine, self.tokenizer, self.task, split="validation", problems=self.problems, samples=4,
            temperature=self.stage.temperature, max_tokens=self.stage.max_tokens, instruction=self.stage.instruction,
        ).pass_at_1  # fmt: skip


def floor_seconds(config: ModelConfig, machine: Machine, step: Step, frozen: bool) -> float:
    """Seconds that the FLOPs of a step take at the machine's peak."""
    total = 0.0
    for prompt, lengths, rewards in zip(step.prompts, step.lengths, step.rewards, strict=True):
        total += flops.generation(config, prompt, lengths)
        if max(rewards) > min(rewards):
            sizes = [prompt + length for length in lengths]
            total += sum(size * flops.training(config, size, frozen=frozen) for size in sizes)
    return machine.floor(total, 0)


def without_signal(step: Step) -> float:
    return fmean(max(rewards) == min(rewards) for rewards in step.rewards)


def reward(step: Step) -> float:
    return fmean(map(fmean, step.rewards))


def tokens(step: Step) -> int:
    return sum(map(sum, step.lengths))


def summary(contestant: Contestant, config: ModelConfig, machine: Machine, frozen: bool) -> dict[str, Any]:
    """Medians over the steps after each repeat's first, and every figure behind them."""
    timed = [step for repeat in contestant.repeats for step in repeat[1:]]
    seconds = median(step.seconds for step in timed)
    floor = median(floor_seconds(config, machine, step, frozen) for step in timed)
    figures: dict[str, Callable[[Step], float]] = {
        "seconds": lambda step: step.seconds,
        "seconds_of_processors": lambda step: step.processor,
        "seconds_sampling": lambda step: step.sampling,
        "seconds_judging": lambda step: step.judging,
        "seconds_updating": lambda step: step.seconds - step.sampling - step.judging,
        "tokens": tokens,
        "longest": lambda step: max(map(max, step.lengths)),
        "groups_without_signal": without_signal,
        "reward": reward,
    }
    return {
        "side": contestant.side,
        "dtype": contestant.dtype,
        **{name: median(map(figure, timed)) for name, figure in figures.items() if name.startswith("seconds")},
        "tokens_per_second": sum(map(tokens, timed)) / sum(step.seconds for step in timed),
        "groups_without_signal": fmean(map(without_signal, timed)),
        "floor_seconds": floor,
        "times_the_floor": seconds / floor,
        "loaded_bytes": contestant.loaded,
        "peak_bytes": max(step.peak for repeat in contestant.repeats for step in repeat),
        "steps": {
            name: [[round(figure(step), 4) for step in repeat] for repeat in contestant.repeats]
            for name, figure in figures.items()
        },
    }


def overlap(ours: Contestant, theirs: Contestant) -> dict[str, Any]:
    """The two reward curves, and their mean difference over the run with its standard error: between repeats,
    which saw the same problems on both sides, or between steps if there is one repeat only."""
    curves = [[[reward(step) for step in repeat] for repeat in side.repeats] for side in (ours, theirs)]
    steps = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(*curves, strict=True)]
    noisy = [fmean(differences) for differences in steps] if len(steps) > 1 else steps[0]
    rollouts = len(ours.repeats[0][0].rewards) * len(ours.repeats[0][0].rewards[0])
    means = [[fmean(values) for values in zip(*side, strict=True)] for side in curves]
    return {
        "dtype": ours.dtype,
        "samples": [rollouts * step for step in range(len(means[0]))],
        "longjing": means[0],
        "trl": means[1],
        "mean_difference": fmean(noisy),
        "standard_error": stdev(noisy) / len(noisy) ** 0.5 if len(noisy) > 1 else None,
        "largest_difference": max(abs(a - b) for a, b in zip(*means, strict=True)),
    }


def time_to(target: float, seconds: list[float], accuracy: list[float]) -> float | None:
    """Training seconds until the accuracy first reaches `target`, on straight lines between evaluations."""
    points = list(zip(seconds, accuracy, strict=True))
    if accuracy[0] >= target:
        return 0.0
    for (before, low), (after, high) in zip(points, points[1:], strict=False):
        if high >= target:
            return before + (after - before) * (target - low) / (high - low)
    return None


def held_out(
    contestants: list[Contestant], accuracies: dict[str, list[list[float]]], at: list[int]
) -> list[dict[str, Any]]:
    """Mean accuracy and training time at each evaluation, and the time to the accuracy that all reached."""
    curves = []
    for contestant in contestants:
        ends = [fmean(sum(step.seconds for step in repeat[:count]) for repeat in contestant.repeats) for count in at]
        means = [fmean(values) for values in zip(*accuracies[str(contestant)], strict=True)]
        curves.append((ends, means))
    target = min(max(means) for _, means in curves)
    return [
        {
            "side": contestant.side, "dtype": contestant.dtype, "steps": at, "seconds": ends, "accuracy": means,
            "every_repeat": accuracies[str(contestant)], "target": target,
            "seconds_to_target": time_to(target, ends, means),
        }
        for contestant, (ends, means) in zip(contestants, curves, strict=True)
    ]  # fmt: skip


def parse() -> Namespace:
    options = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--setting", choices=["a", "b", "c"], required=True)
    options.add_argument("--model", help="a directory, a run, or a shipped name; default in b: the recipe's")
    options.add_argument("--lora", type=int, default=0, help="setting c: the rank; 0 for all weights")
    options.add_argument("--steps", type=int, help="default: 20 in a, 12 in b and c")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--dtype", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    options.add_argument("--device", default="cpu")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--evaluate-every", type=int, default=4, help="settings b and c: steps; 0 for never")
    options.add_argument("--problems", type=int, default=100, help="settings b and c: held-out problems")
    options.add_argument("--rows", type=int, default=32, help="settings b and c: TRL's rows per backward pass")
    options.add_argument("--experts", help="setting b: TRL's experts_implementation, if not the default")
    options.add_argument("--out", type=Path, help="where the JSON goes")
    return options.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    contestants = [Contestant(side, dtype, []) for dtype in options.dtype for side in SIDES]
    with TemporaryDirectory() as folder:
        directory, saved = f"{folder}/checkpoint", Path(folder, "saved")
        setting = {"a": setting_a, "b": setting_b, "c": setting_c}[options.setting](directory, options)
        config, stage = load_model(directory).config, setting.stage
        weights = flops.parameters(config) * 4
        machines = {dtype: measure_machine(device, DTYPES[dtype], weights) for dtype in options.dtype}
        examiner = Examiner(setting.task, Tokenizer.from_directory(directory), stage, options.problems, device)
        every = options.evaluate_every if options.setting != "a" else 0
        at = [count for count in range(stage.steps + 1) if every and (count % every == 0 or count == stage.steps)]
        before = [examiner.accuracy(directory)] if at else []
        accuracies: dict[str, list[list[float]]] = {str(contestant): [] for contestant in contestants}
        for repeat in range(options.repeats):
            for contestant in contestants:
                contestant.start(setting, options.seed + repeat, device, options.threads)
                accuracies[str(contestant)].append(list(before))
            for count in range(1, stage.steps + 1):
                for contestant in contestants:
                    contestant.step()
                for contestant in contestants if count in at else []:
                    contestant.save(saved)
                    accuracies[str(contestant)][-1].append(examiner.accuracy(saved))
            for contestant in contestants:
                contestant.stop()
    for dtype, machine in machines.items():
        machines[dtype] = fastest(machine, measure_machine(device, DTYPES[dtype], weights))
    frozen = stage.lora is not None
    rows = [summary(contestant, config, machines[contestant.dtype], frozen) for contestant in contestants]
    pairs = list(zip(contestants[::2], contestants[1::2], strict=True))
    seconds = {side: [row["seconds"] for row in rows if row["side"] == side] for side in SIDES}
    results: dict[str, Any] = {
        "setting": stage.model_dump(mode="json", exclude={"model"}) | {"task": setting.task.name},
        "trl": {"version": version("trl"), "rows": setting.rows, "experts": setting.experts},
        "matmul_flops_per_second": {dtype: machine.matmul for dtype, machine in machines.items()},
        "contestants": rows,
        "times_faster": dict(zip(options.dtype, (b / a for a, b in zip(*seconds.values(), strict=True)), strict=True)),
        "times_faster_best_against_best": min(seconds["trl"]) / min(seconds["longjing"]),
        "curves": [overlap(*pair) for pair in pairs],
        "held_out": held_out(contestants, accuracies, at) if at else [],
    }
    report("rl_vs_trl", options, machines[options.dtype[0]], results)
    show(results)


def show(results: dict[str, Any]) -> None:
    """The figures that matter, as tables."""
    print(f"\n{'':20}{'s/step':>8}{'sampling':>10}{'updating':>10}{'tokens/s':>10}{'x floor':>9}{'peak MB':>9}")
    for row in results["contestants"]:
        print(
            f"{row['side'] + ' ' + row['dtype']:20}{row['seconds']:8.3f}{row['seconds_sampling']:10.3f}"
            f"{row['seconds_updating']:10.3f}{row['tokens_per_second']:10.0f}{row['times_the_floor']:9.1f}"
            f"{row['peak_bytes'] / 2**20:9.0f}"
        )
    for dtype, times in results["times_faster"].items():
        print(f"{dtype}: Longjing {times:.2f} times faster")
    print(f"best against best: {results['times_faster_best_against_best']:.2f} times")
    for curve in results["curves"]:
        error = curve["standard_error"]
        print(
            f"reward, {curve['dtype']}: from {curve['longjing'][0]:.3f} to {curve['longjing'][-1]:.3f} (Longjing) and "
            f"{curve['trl'][0]:.3f} to {curve['trl'][-1]:.3f} (TRL); mean difference {curve['mean_difference']:+.4f}"
            + (f", standard error {error:.4f}" if error is not None else "")
        )
    for curve in results["held_out"]:
        accuracies = " ".join(f"{accuracy:.3f}" for accuracy in curve["accuracy"])
        reached = curve["seconds_to_target"]
        print(
            f"{curve['side']} {curve['dtype']}: held-out accuracy {accuracies} after steps {curve['steps']}; "
            f"{curve['target']:.3f} after {reached:.0f} s"
        )


if __name__ == "__main__":
    main()
