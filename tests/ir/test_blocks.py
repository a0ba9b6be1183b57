"""The dimensions that axes move addresses through, against every position."""

from __future__ import annotations

import pytest

from rooftile.ir.blocks import Step, rows_aligned, steps_along
from rooftile.ir.dtypes import BF16
from rooftile.ir.expr import Size, axis, symbol
from rooftile.ir.substitution import evaluate

N, K = axis("n", 256), axis("k", 4096)
S = symbol("s", lo=1, divisor=8)

STEPS: list[tuple[Size, int, tuple[Step, ...] | None]] = [
    (N * 4096 + K + 64, 128, (Step(4096),)),
    (N * S + K, 128, (Step(S),)),
    (N // 64 * 9000 + N % 64 * 128 + K, 64, (Step(9000, over=64), Step(128, size=64))),
    (N // 64 * 9000 + N % 64 * 128 + K, 256, (Step(9000, over=64), Step(128, size=64))),
    (N % 64 * 128 + K, 64, (Step(128, size=64),)),
    (N // 96 * 9000 + N % 96 * 128 + K, 64, None),  # a tile of 64 would lie in two rows of 96
    (N // 64 * 9000 + N % 32 * 128 + K, 32, None),
    (N * K, 64, None),
    (N * N + K, 64, None),
    (K, 64, None),
]


@pytest.mark.parametrize(("offset", "tile", "steps"), STEPS)
def test_steps(offset: Size, tile: int, steps: tuple[Step, ...] | None) -> None:
    found = steps_along(offset, "n", tile)
    assert (found and found[0]) == steps
    for n in range(0, 256, 7) if found is not None else ():
        at = {"n": n, "k": 5, "s": 24}
        moved = sum(n // step.over % (step.size or 2**30) * evaluate(step.stride, at) for step in found[0])
        assert moved + evaluate(found[1], at) == evaluate(offset, at)


@pytest.mark.parametrize(
    ("offset", "aligned"),
    [(N * 4096 + K, True), (N * 4096 + K + 8, True), (N * S + K, True), (N * 4096 + K + 4, False), (N * 12 + K, False)],
)
def test_rows_of_a_descriptor_are_multiples_of_16_bytes(offset: Size, aligned: bool) -> None:
    assert rows_aligned(offset, ("n", "k"), BF16, 128) == aligned
    assert not rows_aligned(offset * 2, ("n", "k"), BF16, 128)  # nothing is contiguous
