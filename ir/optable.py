"""What a row of an op table is, and how rows are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from rooftile.ir.core import Op, TensorType
from rooftile.ir.dtypes import DType
from rooftile.ir.scalar import SCALARS, Scalar


class InferenceError(ValueError):
    """Operand types and attributes that an op does not accept; the message says what it wants and what it got."""


class Evaluation(Protocol):
    """What a reference implementation may ask of the evaluator that runs it."""

    @property
    def bindings(self) -> Mapping[str, int]:
        """The run-time sizes."""
        ...

    def dtype(self, dtype: DType) -> torch.dtype:
        """The torch dtype that stands for an IR dtype here: float64 for every float in double precision."""
        ...


Infer = Callable[[Sequence[TensorType], Mapping[str, Any]], tuple[TensorType, ...]]
Reference = Callable[[Op, Sequence[torch.Tensor], Evaluation], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class OpDef:
    """One op: its name, what it means in a sentence, type inference (shared by builder, parser and verifier), and its
    reference in torch.

    ``attrs`` names the attributes it takes, in the order in which they print, of which those in ``optional`` may be
    left out. ``view`` says that the op only renames elements: its result is an index expression of its operand and
    costs nothing inside a kernel.
    """

    name: str
    doc: str
    attrs: tuple[str, ...]
    infer: Infer
    reference: Reference | None
    view: bool = False
    optional: tuple[str, ...] = ()


def require(condition: bool, message: str) -> None:
    """Raise ``InferenceError(message)`` unless ``condition``."""
    if not condition:
        raise InferenceError(message)


def scalar_row(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> Scalar:
    """The row of the scalar function that a ``pointwise`` of either level computes, which takes these operands: as many
    as that, of one dtype (but for the condition of a choice)."""
    require(attrs["fn"] in SCALARS, f"unknown scalar function {attrs['fn']!r}")
    row = SCALARS[attrs["fn"]]
    require(len(types) == row.arity, f"{row.name} takes {row.arity} operands, got {len(types)}")
    values = types[1:] if row.chooses else types
    require(
        len({t.dtype for t in values}) == 1, f"{row.name} wants operands of one dtype, got {[t.dtype for t in types]}"
    )
    return row
