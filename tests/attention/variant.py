"""What a spelling of attention is for a test: a function, the shapes of its inputs, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

Function: TypeAlias = Callable[..., Tensor | tuple[Tensor, ...]]

# Letters in the declared shapes: batch, heads, groups of heads, queries, keys, distances between these, head size,
# value size, hidden size.
SMALL = {"b": 2, "h": 4, "g": 2, "i": 19, "j": 75, "r": 37, "d": 16, "e": 24, "c": 24}
SQUARE_SMALL = SMALL | {"j": 19}
LONG = 4096
LARGE = {"b": 1, "h": 4, "g": 2, "i": LONG, "j": LONG, "r": 2 * LONG - 1, "d": 64, "e": 64, "c": 256}


@dataclass(frozen=True)
class Variant:
    """``forward`` takes tensors of the shapes ``inputs`` declares, such as ``"b h i d"`` or ``"b 1 i j: bool"``.

    ``kernels`` is how many it becomes on an H100 at ``LONG`` queries and keys. Where it can't be swept, ``cut`` names
    the value that is stored and the rule that would be needed, and ``stored`` says how many buffers of the size of the
    scores there may be. ``sizes`` overrides the sizes of the letters; where ``square``, there are as many queries as
    keys.
    """

    name: str
    forward: Function
    inputs: dict[str, str]
    kernels: int = 1
    cut: tuple[str, str] | None = None
    stored: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    square: bool = False

    def large(self, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
        """Inputs without values for ``LONG`` queries and keys."""
        sizes = LARGE | self.sizes
        return tuple(_shape(spec, sizes).new(dtype, "meta") for spec in self.inputs.values())

    def small(self, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs of odd sizes."""
        sizes = (SQUARE_SMALL if self.square else SMALL) | self.sizes
        generator = torch.Generator().manual_seed(seed)
        return tuple(_shape(spec, sizes).filled(dtype, generator) for spec in self.inputs.values())


@dataclass(frozen=True)
class _Shape:
    shape: tuple[int, ...]
    kind: str
    keys: int

    def new(self, dtype: torch.dtype, device: str) -> Tensor:
        return torch.empty(self.shape, dtype=DTYPES.get(self.kind, dtype), device=device)

    def filled(self, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        return FILLS[self.kind](self, generator).to(DTYPES.get(self.kind, dtype))


def _shape(spec: str, sizes: dict[str, int]) -> _Shape:
    letters, _, kind = spec.partition(":")
    shape = tuple(int(s) if s.isdigit() else sizes[s] for s in letters.split())
    return _Shape(shape, kind.strip(), sizes["j"])


def _normal(s: _Shape, g: torch.Generator) -> Tensor:
    return torch.randn(s.shape, generator=g)


def _masked(s: _Shape, g: torch.Generator) -> Tensor:
    """A mask under which one row has nothing to attend to."""
    keep = torch.rand(s.shape, generator=g) < 0.7
    if len(s.shape) > 1 and s.shape[-2] > 1:
        keep[..., 3, :] = False
    return keep


FILLS: dict[str, Callable[[_Shape, torch.Generator], Tensor]] = {
    "": _normal,
    "small": lambda s, g: 0.2 * _normal(s, g),
    "positive": lambda s, g: _normal(s, g).abs() + 0.5,
    "fp32": _normal,
    "bool": lambda s, g: torch.rand(s.shape, generator=g) < 0.7,
    "bool with an empty row": _masked,
    "-inf": lambda s, g: torch.zeros(s.shape).masked_fill(~_masked(s, g), -torch.inf),
    "-1e4": lambda s, g: torch.zeros(s.shape).masked_fill(~_masked(s, g), -1e4),
    "0 or 1": lambda s, g: (torch.rand(s.shape, generator=g) < 0.7).float(),
    "length": lambda s, g: torch.randint(1, s.keys + 1, s.shape, generator=g),
    "document": lambda s, g: torch.randint(0, 4, s.shape, generator=g).sort(-1).values,
    "head": lambda s, g: torch.arange(s.shape[0]) % 2,
    "relative": lambda s, g: torch.randint(0, 15, s.shape, generator=g),
}

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bool": torch.bool,
    "bool with an empty row": torch.bool,
    "length": torch.int64,
    "document": torch.int64,
    "head": torch.int64,
    "relative": torch.int64,
}

QKV = {"q": "b h i d", "k": "b h j d", "v": "b h j d"}


class Table:
    """Variants under one heading, collected by a decorator."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.variants: dict[str, Variant] = {}

    def add(self, name: str, forward: Function, **more: object) -> None:
        """One more variant; ``more`` are inputs beside (or in place of) q, k and v, and fields of ``Variant``."""
        fields = {f: more.pop(f) for f in ("kernels", "cut", "stored", "sizes", "square") if f in more}
        inputs = QKV | {k: str(s) for k, s in more.items() if s is not None}
        inputs = {k: s for k, s in inputs.items() if more.get(k, "") is not None}
        variant = replace(Variant(name, forward, inputs), **fields)  # type: ignore[arg-type]
        assert name not in self.variants, name
        self.variants[name] = variant

    def __call__(self, **more: object) -> Callable[[Function], Function]:
        """``add`` as a decorator: the variant has the function's name."""

        def added(forward: Function) -> Function:
            self.add(forward.__name__, forward, **more)
            return forward

        return added
