"""What the benchmarks that ask shipped models share: their options, the answers, and how a share is told."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import longjing
from longjing.evaluation.bootstrap import Interval
from longjing.generation.native import Engine, Request, Sampling
from longjing.generation.random import sample_seed
from longjing.problems import Completion


def parser(description: str | None, problems: int) -> ArgumentParser:
    """The options; `problems`: how many of each kind are asked by default."""
    options = ArgumentParser(description=description)
    options.add_argument("--models", nargs="+", default=["r1"])
    options.add_argument("--problems", type=int, default=problems)
    options.add_argument("--samples", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path)
    return options


def engine_of(model: str) -> Engine:
    return Engine(*longjing.load(model), max_batch=64)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def ask(
    engine: Engine, questions: Sequence[tuple[str, list[dict[str, str]]]], options: Namespace
) -> list[list[Completion]]:
    """The samples of each question at temperature 0.6. `questions`: a name, on which the seeds depend, and the chat."""
    assert engine.tokenizer is not None
    requests = [
        Request(prompt, Sampling(0.6, max_tokens=512, seed=sample_seed(options.seed, 0, name, number)))
        for name, messages in questions
        for prompt in [engine.tokenizer.encode_chat(messages)]
        for number in range(options.samples)
    ]
    completions = [
        Completion.parse(one.text, truncated=one.finish_reason == "length") for one in engine.generate(requests)
    ]
    return [completions[start : start + options.samples] for start in range(0, len(completions), options.samples)]


def figures(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
