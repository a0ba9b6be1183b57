"""The values of run-time sizes, solved from the shapes of the tensors that come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rooftile.errors import InputError
from rooftile.ir.core import Value
from rooftile.ir.expr import Expr, Size, Symbol, symbols
from rooftile.ir.substitution import evaluate


def bind_sizes(
    inputs: Sequence[Value], shapes: Sequence[Sequence[int]], known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """What each size symbol is, given the shapes of the tensors for ``inputs``; ``known`` are bindings to start from.

    A dimension ``a * s + b`` gives ``s``; every dimension is then checked against its own expression.

    Raises:
        InputError: a rank or a size that does not fit, with the input's name.
    """
    bindings = dict(known or {})
    pairs = list(_dimensions(inputs, shapes))
    for value, d, wanted, got in pairs:
        if isinstance(wanted, Expr):
            _solve(value, d, wanted, got, bindings)
    for value, d, wanted, got in pairs:
        unbound = isinstance(wanted, Expr) and any(s.name not in bindings for s in symbols(wanted))
        if not unbound and evaluate(wanted, bindings) != got:
            raise InputError(f"input {value.name!r} has size {got} in dimension {d}, which must be {wanted}")
    return bindings


def _dimensions(inputs: Sequence[Value], shapes: Sequence[Sequence[int]]) -> Iterable[tuple[Value, int, Size, int]]:
    if len(inputs) != len(shapes):
        raise InputError(f"{len(shapes)} tensors for the {len(inputs)} inputs {[v.name for v in inputs]}")
    for value, shape in zip(inputs, shapes, strict=True):
        if len(shape) != value.type.rank:
            raise InputError(f"input {value.name!r} has rank {len(shape)}, which must be {value.type.rank}")
        for d, (wanted, got) in enumerate(zip(value.shape, shape, strict=True)):
            yield value, d, wanted, got


def _solve(value: Value, d: int, wanted: Expr, got: int, bindings: dict[str, int]) -> None:
    """Bind the one symbol of ``a * s + b``; other expressions only get checked."""
    terms = dict(wanted.terms)
    offset = terms.pop((), 0)
    if len(terms) != 1:
        return
    ((monomial, factor),) = terms.items()
    if len(monomial) != 1 or not isinstance(monomial[0], Symbol) or monomial[0].name in bindings:
        return
    symbol = monomial[0]
    size, rest = divmod(got - offset, factor)
    allowed = rest == 0 and size >= symbol.lo and size % symbol.divisor == 0
    if not allowed or (symbol.hi is not None and size > symbol.hi):
        raise InputError(
            f"input {value.name!r} has size {got} in dimension {d}, which must be {wanted} with {facts(symbol)}",
            fix="make a program for this size too; torch captures sizes of 0 and 1 apart",
        )
    bindings[symbol.name] = size


def facts(symbol: Symbol) -> str:
    """What is known of a size, for messages: ``1 <= s <= 4096, a multiple of 16``."""
    upper = "" if symbol.hi is None else f" <= {symbol.hi}"
    multiple = "" if symbol.divisor == 1 else f", a multiple of {symbol.divisor}"
    return f"{symbol.lo} <= {symbol.name}{upper}{multiple}"
