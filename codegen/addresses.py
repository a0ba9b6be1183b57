"""Where a load or a store goes: pointer and mask, with what a loop does not change computed before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rooftile.codegen.align import aligned
from rooftile.codegen.guards import Condition, needed
from rooftile.codegen.positions import Positions
from rooftile.codegen.statements import Writer
from rooftile.ir.core import TensorType
from rooftile.ir.expr import Expr, Size, terms_of
from rooftile.ir.polynomial import add
from rooftile.ir.strides import position, strides_of

_LOOPS = frozenset({"loop"})
_GRID = frozenset({"loop", "grid", "ragged"})


@dataclass(frozen=True)
class Access:
    """The pointer and mask of one access as text, with their dimensions; no mask where it is empty."""

    pointer: str
    mask: str
    axes: tuple[str, ...]


class Addresses:
    """Builds accesses over the variables of ``positions``."""

    def __init__(self, positions: Positions, writer: Writer) -> None:
        self._positions = positions
        self._arithmetic = positions.arithmetic
        self._space = positions.space
        self._writer = writer

    def access(
        self,
        buffer: str,
        type: TensorType,
        index: Sequence[Size],
        guard: tuple[tuple[Size, Size], ...],
        order: Sequence[str],
        reuse: bool,
    ) -> Access:
        """The access to ``buffer`` (a pointer's name) at ``index`` where ``guard`` holds.

        The dimensions are those of ``order`` over which index or guard vary. ``reuse`` allows the invariant parts to be
        shared between accesses.
        """
        offset = offset_of(type, index)
        conditions = needed(guard, self._space)
        varying = self._arithmetic.axes(offset)
        masked = {a for c in conditions for a in self._condition_axes(c)}
        axes = tuple(a for a in order if a in varying | masked)
        pointer = self._pointer(buffer, self._choose_split(offset), axes, reuse)
        if not masked <= varying:
            pointer = f"tl.broadcast_to({pointer}, {self.shape(axes)})"
        return Access(pointer, self.mask(conditions, axes), axes)

    def shape(self, axes: Sequence[str]) -> str:
        """The shape of a tile as text."""
        return f"[{', '.join(str(self._space[a].tile) for a in axes)}]"

    def _choose_split(self, offset: Size) -> Size:
        """``offset`` with loop axes split into start and lanes; grid axes too where the tile part then fits 32 bits."""
        whole = self._space.split(offset, _LOOPS)
        split = self._space.split(offset, _GRID)
        return split if self._wide_tile(whole) and not self._wide_tile(split) else whole

    def _wide_tile(self, offset: Size) -> bool:
        return any(self._arithmetic.wide(part) for (tile, _), part in self._parts(offset).items() if tile)

    def _parts(self, offset: Size) -> dict[tuple[bool, int], Size]:
        """The terms of ``offset`` summed by ``(varies over the tile, depth)``."""
        parts: dict[tuple[bool, int], Size] = {}
        for monomial, coefficient in terms_of(offset).items():
            term: Size = Expr(((monomial, coefficient),)) if monomial else coefficient
            key = (bool(self._arithmetic.axes(term)), self._arithmetic.depth(term))
            parts[key] = add(parts.get(key, 0), term)
        if (True, 0) in parts and isinstance(constant := terms_of(offset).get((), 0), int):
            parts[(True, 0)] = add(parts[(True, 0)], constant)
            parts[(False, 0)] = add(parts.get((False, 0), 0), -constant)
        return parts

    def _pointer(self, buffer: str, offset: Size, axes: Sequence[str], reuse: bool) -> str:
        parts = self._parts(offset)
        deepest = max((depth for _, depth in parts), default=0)
        text = buffer
        for depth in range(deepest + 1):
            here = [parts[key] for key in ((False, depth), (True, depth)) if parts.get(key, 0) != 0]
            text = " + ".join([text, *(self._summand(part, axes) for part in here)])
            if here and depth < self._writer.depth and reuse:
                text = self._writer.shared(buffer.removesuffix("_ptr") + "_at", text, depth)
        return text

    def _summand(self, part: Size, axes: Sequence[str]) -> str:
        one_product = isinstance(part, int) or len(part.terms) == 1
        return self._arithmetic.text(part, axes) if one_product else self._arithmetic.atom(part, axes)

    def mask(self, conditions: Sequence[Condition], axes: Sequence[str]) -> str:
        """The conjunction of ``conditions`` over the dimensions ``axes``; empty where there are none."""
        by_depth: dict[int, list[str]] = {}
        for condition in conditions:
            depth, text = self._condition(condition, axes)
            by_depth.setdefault(depth, []).append(text)
        text = ""
        for depth, parts in sorted(by_depth.items()):
            text = " & ".join([text, *parts] if text else parts)
            if depth < self._writer.depth and " & " in text:
                text = self._writer.shared("inside", text, depth)
        return text

    def _condition_axes(self, condition: Condition) -> set[str]:
        return self._arithmetic.axes(condition.left) | self._arithmetic.axes(condition.right)

    def _condition(self, condition: Condition, target: Sequence[str]) -> tuple[int, str]:
        """The depth of a comparison, and the variable that holds it, aligned to ``target``."""
        own = [a for a in target if a in self._condition_axes(condition)]
        left, right = (self._arithmetic.text(side, own) for side in (condition.left, condition.right))
        depth = max(self._arithmetic.depth(condition.left), self._arithmetic.depth(condition.right))
        name = "_".join([*(self._positions.axis_name(a) for a in own), "ok"])
        variable = self._writer.shared(name, f"{left} {'<' if condition.bound else '>='} {right}", depth)
        return depth, aligned(variable, own, target)


def offset_of(type: TensorType, index: Sequence[Size]) -> Size:
    """The element of a buffer, counted from its first, that ``index`` names."""
    return position(index, type.strides or strides_of(type.shape))
