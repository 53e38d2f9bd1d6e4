"""Tokens in, tokens and log-probabilities out."""

from longjing.generation.native.engine import Engine
from longjing.generation.native.scheduler import EngineStatistics
from longjing.generation.random import sample_seed
from longjing.generation.request import Chunk, Event, Generation, Request, Sampling

__all__ = ["Chunk", "Engine", "EngineStatistics", "Event", "Generation", "Request", "Sampling", "sample_seed"]
