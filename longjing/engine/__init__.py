"""Tokens in, tokens and log-probabilities out."""

from longjing.engine.engine import Engine, Statistics
from longjing.engine.random import sample_seed, uniform
from longjing.engine.request import Chunk, Event, Generation, Generator, Request, Sampling

__all__ = [
    "Chunk", "Engine", "Event", "Generation", "Generator", "Request", "Sampling", "Statistics", "sample_seed",
    "uniform",
]  # fmt: skip
