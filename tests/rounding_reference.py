"""Rounding at random and 8-bit codes in NumPy, bit for bit what the kernels must store.

Random bits by the integers that `csrc/math/stochastic_rounding.h` tells of; roundings and codes in
float64, by their definition instead of by the bits of floats.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

Array = np.ndarray

PARAM, EMA, FIRST_STATE = 0, 1, 2
BLOCK = 1024
CODE_BLOCK = 256
GOLDEN = 0x9E3779B97F4A7C15
M64 = 2**64 - 1


def mixed(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & M64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & M64
    return x ^ (x >> 31)


def random_bits(n: int, *, seed: int = 0, step: int = 1, tensor: int = 0, stream: int = 0) -> Array:
    """The 32 bits of each of the first `n` elements of an array."""
    key = mixed((mixed((seed + GOLDEN) & M64) + GOLDEN * step) & M64)
    key = mixed((key + GOLDEN * (tensor + 1)) & M64)
    key = mixed((key + GOLDEN * (stream + 1)) & M64)
    blocks = [mixed((key + GOLDEN * (b + 1)) & M64) for b in range(-(-n // BLOCK))]
    offset, twist = (np.array([b >> s & 0xFFFFFFFF for b in blocks], np.uint32) for s in (0, 32))
    x = (np.arange(BLOCK, dtype=np.uint32) + offset[:, None]).reshape(-1)
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x ^= np.repeat(twist, BLOCK)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return (x ^ (x >> 16))[:n]


def round_bfloat16(x: Array, random: Array) -> Array:
    """Of float32 `x`: away from zero where the part cut off plus 16 random bits makes a whole."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    toward_zero = (bits & 0xFFFF0000).view(np.float32)
    # bfloat16's spacing in units of the 16 bits that are cut off.
    up = (bits & 0xFFFF) + (random >> 16) >= 0x10000
    away = ((bits & 0xFFFF0000) + np.uint32(0x10000)).view(np.float32)
    rounded = np.where(np.isfinite(x) & up, away, toward_zero)
    return np.where(np.isnan(x), np.nan, rounded).astype(ml_dtypes.bfloat16)


def code_values(signed: bool) -> Array:
    """What each of the 256 codes stands for at scale 1."""
    c = np.arange(256)
    magnitude = c & 127 if signed else c
    value = (1 + magnitude % 8 / 8) * 2.0 ** (magnitude // 8 - (15 if signed else 31))
    value[magnitude == 0] = 0
    return np.where(signed & (c >= 128), -value, value)


def decode(codes: Array, scales: Array, signed: bool) -> Array:
    spread = np.repeat(scales.astype(np.float64), CODE_BLOCK)[: codes.size]
    return (code_values(signed)[codes] * spread).astype(np.float32)


def block_scale(x: Array) -> float:
    largest = np.abs(x.astype(np.float64)).max(initial=0)
    if not largest <= 1.875 * 2.0**127:
        return np.nan
    if largest == 0:
        return 0.0
    return max(2.0 ** np.ceil(np.log2(largest / 1.875)), 2.0**-95)


def encode(x: Array, signed: bool, random: Array | None) -> tuple[Array, Array]:
    """(codes, scales) of a flat float32 array; `random` None: to the nearest code."""
    codes, scales = np.zeros(x.size, np.uint8), []
    magnitudes = code_values(signed)[: 128 if signed else 256]
    for begin in range(0, x.size, CODE_BLOCK):
        block = x[begin : begin + CODE_BLOCK].astype(np.float64)
        scale = block_scale(block)
        scales.append(scale)
        if not scale > 0:
            continue
        y = np.abs(block) / scale
        r = np.full(y.size, 2**31, np.uint64) if random is None else random[begin:][: y.size]
        below = np.searchsorted(magnitudes, y, "right") - 1
        above = np.minimum(below + 1, magnitudes.size - 1)
        gap = np.where(above > below, magnitudes[above] - magnitudes[below], 1)
        # Within an octave: the float's lowest 20 bits, what lies above the code, and 20 of r's.
        fraction = np.floor((y - magnitudes[below]) / gap * 2**20)
        up = fraction + (r >> 12) >= 2**20
        low = below == 0
        if signed:
            draw = ((r >> 8).astype(np.float32) * np.float32(2**-24)).astype(np.float64)
            first = np.float32(magnitudes[1] * scale)
            up = np.where(low, (draw.astype(np.float32) * first).astype(np.float64) < y * scale, up)
        else:
            up = np.where(low, y > 0, up)
        code = np.where(up, above, below)
        sign = np.where(np.signbit(block) & signed, 128, 0)
        codes[begin : begin + CODE_BLOCK] = code + sign
    return codes, np.array(scales, np.float32)
