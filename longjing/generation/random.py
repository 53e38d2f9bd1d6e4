"""Random numbers that belong to a sample and a position, whoever else is in the batch."""

import hashlib

from torch import Tensor


def sample_seed(run_seed: int, step: int, problem: str, sample: int) -> int:
    """The seed of one sample, in [0, 2^63): a hash, so that near arguments give unrelated streams."""
    key = repr((run_seed, step, problem, sample)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def uniform(seeds: Tensor, positions: Tensor) -> Tensor:
    """One number in [0, 1) for each (seed, position), both int64 of one shape: float32 in steps of 2^-24.

    Counter-based: the finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014) over the seed and then the position. In integers, so every device gives the same bits.
    """
    state = _scramble(_scramble(seeds) + (positions + 1) * _GOLDEN)
    return _shift(state, 40).float() * 2.0**-24  # 24 bits: with more, float32 would round up to 1


def _scramble(state: Tensor) -> Tensor:
    state = (state ^ _shift(state, 30)) * _FIRST
    state = (state ^ _shift(state, 27)) * _SECOND
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; int64's own would drag the sign along."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def signed(value: int) -> int:
    """`value` modulo 2^64, as the int64 of the same bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN, _FIRST, _SECOND = map(signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
