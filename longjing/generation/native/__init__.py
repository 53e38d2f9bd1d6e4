"""Tokens in, tokens and log-probabilities out."""

from longjing.generation.native.engine import Engine
from longjing.generation.native.statistics import EngineStatistics
from longjing.generation.random import sample_seed, uniform
from longjing.generation.request import Chunk, Event, Generation, Generator, Request, Sampling

__all__ = [
    "Chunk", "Engine", "Event", "Generation", "Generator", "Request", "Sampling", "EngineStatistics", "sample_seed",
    "uniform",
]  # fmt: skip
