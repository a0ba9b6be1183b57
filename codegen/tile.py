"""A tile value while its kernel is written: the text that holds it, with which dimensions, or the number that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rooftile.codegen.align import aligned
from rooftile.codegen.expressions import TRITON_TYPE, literal
from rooftile.codegen.space import Space
from rooftile.ir.dtypes import F32, DType

Number = bool | int | float


@dataclass(frozen=True)
class Tile:
    """``text`` has the dimensions ``axes``, which may be fewer than the value's: it doesn't vary over the others.

    A known ``number`` has no variable; its text is the literal. ``depth`` is that of the block that defines the text.
    ``narrow`` is the text of the same integers in 32 bits, where those are enough.
    """

    text: str
    axes: tuple[str, ...]
    dtype: DType
    depth: int = 0
    number: Number | None = None
    narrow: str | None = None

    def aligned(self, target: Sequence[str]) -> str:
        """The text with the dimensions ``target``, of size 1 where the value doesn't vary."""
        return aligned(self.text, self.axes, target)

    def full(self, target: Sequence[str], space: Space) -> str:
        """The text as a tensor of the value's type and of the whole shape of ``target``."""
        shape = f"[{', '.join(str(space[a].tile) for a in target)}]"
        if self.number is not None:
            if self.number == 0 and target:
                return f"tl.zeros({shape}, {TRITON_TYPE[self.dtype]})"
            return f"tl.full({shape}, {self.text}, {TRITON_TYPE[self.dtype]})"
        text = self.aligned(target)
        return text if set(self.axes) == set(target) else f"tl.broadcast_to({text}, {shape})"


def number_tile(value: Number, dtype: DType) -> Tile:
    """A constant of type ``dtype``, rounded to it."""
    rounded = torch.tensor(value, dtype=dtype.torch).item()
    exact = float(value) if dtype is F32 and abs(rounded) < float("inf") else rounded
    return Tile(literal(exact, dtype), (), dtype, number=exact)
