"""Index arithmetic as Triton text: expressions over variables that may be tiles, in 32 bits where that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from rooftile.codegen.align import aligned
from rooftile.codegen.bounds import Range, range_of, range_of_term
from rooftile.ir.expr import Atom, Expr, FloorDiv, Monomial, Size, Symbol, symbols, terms_of


@dataclass(frozen=True)
class Variable:
    """What stands for a symbol: its dimensions, the depth of its block, how large it gets, whether it has 64 bits."""

    axes: tuple[str, ...]
    depth: int
    range: Range
    wide: bool = False


class Variables(Protocol):
    """The variables that stand for symbols."""

    def variable(self, symbol: Symbol) -> Variable:
        """What is known of the variable."""
        ...

    def name(self, symbol: Symbol) -> str:
        """The variable itself, written into the kernel if it is wanted for the first time."""
        ...


class Arithmetic:
    """Prints size expressions over ``variables``."""

    def __init__(self, variables: Variables) -> None:
        self._symbols = variables

    def _variables(self, size: Size) -> list[Variable]:
        return [self._symbols.variable(s) for s in sorted(symbols(size), key=lambda s: s.name)]

    def axes(self, size: Size) -> set[str]:
        """The tile dimensions over which ``size`` varies."""
        return {a for v in self._variables(size) for a in v.axes}

    def depth(self, size: Size) -> int:
        """The depth of the outermost block in which ``size`` can be computed."""
        return max((v.depth for v in self._variables(size)), default=0)

    def range(self, size: Size) -> Range:
        """The interval in which every element of ``size`` lies."""
        return range_of(size, self._ranges(size))

    def wide(self, size: Size) -> bool:
        """Whether the text of ``size`` is computed in 64 bits."""
        ranges = self._ranges(size)
        terms = terms_of(size).items()
        return (
            not range_of(size, ranges).fits_int32
            or any(not range_of_term(m, c, ranges).fits_int32 for m, c in terms)
            or any(v.wide for v in self._variables(size))
        )

    def _ranges(self, size: Size) -> dict[str, Range]:
        return {s.name: self._symbols.variable(s).range for s in symbols(size)}

    def text(self, size: Size, target: Sequence[str]) -> str:
        """``size`` with the dimensions ``target`` (size 1 where it doesn't vary), as a sum of products."""
        if isinstance(size, int):
            return str(size)
        ranges = self._ranges(size)
        terms = sorted(size.terms, key=lambda term: self._first_axis(term[0], target))
        text = ""
        for (monomial, coefficient), wide in zip(terms, widened(terms, ranges), strict=True):
            body = self._term(monomial, abs(coefficient), target, wide=wide)
            sign = "-" if coefficient < 0 else "+"
            text += f" {sign} {body}" if text else (f"-{body}" if coefficient < 0 else body)
        return text

    def _first_axis(self, monomial: Monomial, target: Sequence[str]) -> int:
        """Where a term stands in a sum: in the order of the dimensions, numbers last."""
        if not monomial:
            return len(target) + 1
        varying = self.axes(Expr(((monomial, 1),)))
        return next((n for n, a in enumerate(target) if a in varying), len(target))

    def atom(self, size: Size, target: Sequence[str]) -> str:
        """The text of ``size``, in parentheses unless it is a single name or number."""
        text = self.text(size, target)
        return text if text.isidentifier() or text.isdigit() else f"({text})"

    def _term(self, monomial: Monomial, coefficient: int, target: Sequence[str], *, wide: bool) -> str:
        factors = [self._factor(a, target, alone=len(monomial) == coefficient == 1 and not wide) for a in monomial]
        if wide and monomial and not any(is_wide for _, is_wide, _ in factors):
            text, _, is_tile = factors[0]
            widened = f"{text}.to(tl.int64)" if is_tile else f"tl.cast({text}, tl.int64)"
            factors[0] = (widened, True, is_tile)
        texts = [text for text, _, _ in factors]
        if coefficient != 1 or not texts:
            texts.append(str(coefficient))
        return " * ".join(texts)

    def _factor(self, atom: Atom, target: Sequence[str], *, alone: bool) -> tuple[str, bool, bool]:
        """The text of an atom, whether it has 64 bits, and whether it is a tile."""
        if isinstance(atom, Symbol):
            variable = self._symbols.variable(atom)
            return aligned(self._symbols.name(atom), variable.axes, target), variable.wide, bool(variable.axes)
        wide = self.wide(atom.num) or self.wide(atom.den)
        is_tile = bool(self.axes(atom.num))
        operator, function = ("//", "floor_divide") if isinstance(atom, FloorDiv) else ("%", "floor_mod")
        if self.range(atom.num).low < 0:
            return f"{function}({self.text(atom.num, target)}, {self.text(atom.den, target)})", wide, is_tile
        text = f"{self.atom(atom.num, target)} {operator} {self.atom(atom.den, target)}"
        return (text if alone and not wide else f"({text})"), wide, is_tile


def widened(terms: Sequence[tuple[Monomial, int]], known: Mapping[str, Range]) -> list[bool]:
    """Which terms of a sum, in this order, are computed in 64 bits: those that outgrow 32, and the first one where the
    sum outgrows them before it comes to such a term, or a number does, which has no factor to be widened."""
    ranges = [range_of_term(monomial, coefficient, known) for monomial, coefficient in terms]
    wide = [bool(monomial) and not r.fits_int32 for (monomial, _), r in zip(terms, ranges, strict=True)]
    sums = list(accumulate(ranges, Range.__add__))
    if not sums[-1].fits_int32 or not all(r.fits_int32 for r in ranges):
        before = wide.index(True) if any(wide) else len(terms)
        wide[0] |= not all(r.fits_int32 for r in (*ranges[:before], *sums[:before]))
    return wide
