"""Latents from a seed, the same on every device and in every language.

The generator is SplitMix64 (Steele, Lea, Flood 2014), all arithmetic modulo 2^64. For draw i = 0, 1, 2, ...

    z = seed + (i + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    u = ((z >> 11) + 0.5) * 2^-53                     uniform in (0, 1), never 0 or 1

Unit normal values come in pairs by Box-Muller in float64 and are then rounded to float32:

    r = sqrt(-2 ln u[2k]);   x[2k] = r cos(2 pi u[2k+1]);   x[2k+1] = r sin(2 pi u[2k+1])

A latent with bounds is low + (high - low) u[i]. Input number k of a generator (0, 1, ...) uses seed + k * 2^52. Math libraries
may differ in the last bit of ln, sin and cos; after rounding to float32 that is one unit in the last place, in rare values.
Python >= 3.8, numpy only.
"""

from __future__ import annotations

import numpy as np

from edgegen.runtime.tensors import Kind, TensorSpec

_MASK = (1 << 64) - 1
_INPUT_STRIDE = 1 << 52


def splitmix64(seed: int, count: int) -> np.ndarray:
    """Return the first `count` outputs of SplitMix64 for `seed`, uint64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed & _MASK) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(seed: int, count: int) -> np.ndarray:
    """Return `count` float64 values, uniform in the open interval (0, 1)."""
    return ((splitmix64(seed, count) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(seed: int, count: int) -> np.ndarray:
    """Return `count` float64 values, unit normal."""
    pairs = uniform(seed, count + count % 2).reshape(-1, 2)
    radius, angle = np.sqrt(-2.0 * np.log(pairs[:, 0])), 2.0 * np.pi * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]


def latent(spec: TensorSpec, seed: int) -> np.ndarray:
    """Return a latent of `spec`, batch axis 1: unit normal, or uniform where the spec has bounds."""
    count = int(np.prod(spec.shape, dtype=np.int64))
    if spec.low is None or spec.high is None:
        values = normal(seed, count)
    else:
        values = spec.low + (spec.high - spec.low) * uniform(seed, count)
    return values.astype(spec.dtype).reshape((1,) + tuple(spec.shape))


def draw(spec: TensorSpec, seed: int, index: int = 0) -> np.ndarray:
    """Return input number `index` of a generator for `seed`, batch axis 1; a class input gets a class.

    A class input of one float vector is one-hot; one of ids has its largest id in `high`.
    """
    seed += index * _INPUT_STRIDE
    if spec.kind is not Kind.CLASS:
        return latent(spec, seed)
    choice = float(uniform(seed, 1)[0])
    if spec.dtype.startswith("float") and len(spec.shape) == 1 and spec.shape[0] > 1:
        return np.eye(spec.shape[0], dtype=spec.dtype)[[int(choice * spec.shape[0])]]
    low, high = int(spec.low or 0), int(spec.high or 0)
    return np.full((1,) + tuple(spec.shape), low + int(choice * (high - low + 1)), dtype=spec.dtype)
