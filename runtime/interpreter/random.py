"""Random numbers from counters: Philox (Salmon et al., SC 2011), bit for bit as ``triton.language`` has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rooftile.runtime.interpreter import elementwise
from rooftile.runtime.interpreter.dtypes import FP32, INT32, INT64, UINT32, UINT64, ElementType
from rooftile.runtime.interpreter.tensor import Operand, Tensor, to_tensor

Words = tuple[Tensor, ...]

ROUNDS = 10
_CONSTANTS: dict[ElementType, tuple[int, int, int, int]] = {  # the two key increments and the two multipliers
    UINT32: (0x9E3779B9, 0xBB67AE85, 0xD2511F53, 0xCD9E8D57),
    UINT64: (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B, 0xD2E7470EE14C6C93, 0xCA5A826395121157),
}


def philox_impl(
    c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, k0: Tensor, k1: Tensor, n_rounds: int = ROUNDS
) -> Words:
    """``n_rounds`` rounds on the counter ``c0..c3`` with the key ``k0, k1``."""
    key_a, key_b, round_a, round_b = (Tensor(c0.element.held.type(c), c0.dtype) for c in _CONSTANTS[c0.element])
    for _ in range(n_rounds):
        old0, old2 = c0, c2
        c0 = elementwise.umulhi(round_b, old2) ^ c1 ^ k0
        c2 = elementwise.umulhi(round_a, old0) ^ c3 ^ k1
        c1 = round_b * old2
        c3 = round_a * old0
        k0, k1 = k0 + key_a, k1 + key_b
    return c0, c1, c2, c3


def philox(seed: Operand, c0: Operand, c1: Operand, c2: Operand, c3: Operand, n_rounds: int = ROUNDS) -> Words:
    """Four random words per counter; the counters' width gives the words'."""
    key: Tensor = to_tensor(seed).to(UINT64)
    a, b, c, d = (to_tensor(counter) for counter in (c0, c1, c2, c3))
    word = UINT32 if a.element.bits == 32 else UINT64
    low, high = (key & 0xFFFFFFFF, key >> 32) if word is UINT32 else (key, Tensor(np.uint64(0), UINT64))
    a, b, c, d = (counter.to(word, bitcast=True) for counter in (a, b, c, d))
    return philox_impl(a, b, c, d, low.to(word), high.to(word), n_rounds)


def randint4x(seed: Operand, offset: Operand, n_rounds: int = ROUNDS) -> Words:
    """Four blocks of random uint32, one word of each per offset."""
    counter: Tensor = to_tensor(offset)
    low = counter.to(UINT32)
    zero = low * 0
    high = (counter >> 32).to(UINT32) if counter.element.bits > 32 else zero
    return philox(seed, low, high, zero, zero, n_rounds)


def uint_to_uniform_float(x: Tensor) -> Tensor:
    """A word as an fp32 in [0, 1)."""
    signed, scale = (INT32, 4.6566127342e-10) if x.element.bits == 32 else (INT64, 1.0842020432385337e-19)
    word = x.to(signed, bitcast=True)
    return elementwise.where(word < 0, -word - 1, word).to(FP32) * scale


def randint(seed: Operand, offset: Operand, n_rounds: int = ROUNDS) -> Tensor:
    """One block of random uint32."""
    return randint4x(seed, offset, n_rounds)[0]


def rand4x(seed: Operand, offsets: Operand, n_rounds: int = ROUNDS) -> Words:
    """Four blocks of uniform fp32."""
    return tuple(map(uint_to_uniform_float, randint4x(seed, offsets, n_rounds)))


def rand(seed: Operand, offset: Operand, n_rounds: int = ROUNDS) -> Tensor:
    """One block of uniform fp32."""
    return uint_to_uniform_float(randint(seed, offset, n_rounds))


def pair_uniform_to_normal(u1: Operand, u2: Operand) -> tuple[Tensor, Tensor]:
    """Two normal deviates from two uniform ones (Box and Muller, 1958)."""
    math = elementwise.functions()
    angle = 6.283185307179586 * u2
    radius = math["sqrt"](-2.0 * math["log"](elementwise.maximum(1.0e-7, u1)))
    return radius * math["cos"](angle), radius * math["sin"](angle)


def randn(seed: Operand, offset: Operand, n_rounds: int = ROUNDS) -> Tensor:
    """One block of normal fp32."""
    first, second = rand4x(seed, offset, n_rounds)[:2]
    return pair_uniform_to_normal(first, second)[0]


def randn4x(seed: Operand, offset: Operand, n_rounds: int = ROUNDS) -> Words:
    """Four blocks of normal fp32."""
    u = rand4x(seed, offset, n_rounds)
    return (*pair_uniform_to_normal(u[0], u[1]), *pair_uniform_to_normal(u[2], u[3]))


def functions() -> dict[str, Callable[..., Any]]:
    """The members of ``triton.language`` in this file, by name."""
    own = (
        philox,
        philox_impl,
        randint,
        randint4x,
        rand,
        rand4x,
        randn,
        randn4x,
        pair_uniform_to_normal,
        uint_to_uniform_float,
    )
    return {function.__name__: function for function in own}
