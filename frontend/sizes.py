"""torch's symbolic sizes (sympy expressions) as ``rooftile.ir.expr``: the only place where the two meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from math import gcd, lcm
from typing import Any
from weakref import WeakKeyDictionary

import sympy
import torch
from torch._guards import TracingContext
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy import functions

from rooftile.errors import UnsupportedError
from rooftile.ir.division import ceildiv, floordiv
from rooftile.ir.expr import Size, symbol, terms_of
from rooftile.ir.polynomial import add, mul
from rooftile.ir.ranges import at_least

# Above this an upper bound says nothing: torch's own "unbounded" is near the largest 64-bit integer.
_UNBOUNDED = 2**48

_DIVISIONS: tuple[type, ...] = (functions.FloorDiv, functions.CleanDiv)
_MODULI: tuple[type, ...] = (functions.Mod, functions.PythonMod)


def to_size(value: Any) -> Size:
    """A Python or symbolic integer as a size.

    Raises:
        UnsupportedError: the size depends on data, or uses a function that sizes here don't have (such as max).
    """
    if isinstance(value, torch.SymInt):
        constant = value.node.maybe_as_int()
        return constant if constant is not None else expression_size(value.node.expr, value.node.shape_env)
    return int(value)


def to_sizes(values: Sequence[Any]) -> tuple[Size, ...]:
    """``to_size`` of each."""
    return tuple(to_size(v) for v in values)


def to_strides(values: Sequence[Any]) -> tuple[Size, ...]:
    """``to_size`` of each stride, with ``n`` where torch writes ``max(1, n)`` for the stride past a dimension of ``n``.

    The two differ for empty tensors only, whose strides address nothing.
    """
    return tuple(
        expression_size(v.node.expr.replace(_is_at_least_one, _without_one), v.node.shape_env)
        if isinstance(v, torch.SymInt)
        else int(v)
        for v in values
    )


def _is_at_least_one(expr: sympy.Basic) -> bool:
    return isinstance(expr, (sympy.Max, functions.Max)) and len(expr.args) == 2 and sympy.Integer(1) in expr.args


def _without_one(expr: sympy.Basic) -> sympy.Basic:
    return next(a for a in expr.args if a != 1)


def expression_size(expr: sympy.Expr, env: Any) -> Size:
    """A sympy expression over the symbols of the shape environment ``env`` as a size; raises as ``to_size`` does."""
    known = _known(env)
    return _size(expr.xreplace(known) if known else expr, env)


def _known(env: ShapeEnv) -> dict[sympy.Basic, sympy.Integer]:
    """What torch has compared with a number while it traced, and found equal. That is a guard of what is compiled, so
    sizes may be written either way."""
    counted, known = _KNOWN.get(env, (0, {}))
    if counted != len(env.guards):
        known = {}
        for guard in env.guards:
            if isinstance(guard.expr, sympy.Eq):
                sides = [side.xreplace(known) for side in guard.expr.args]
                for side, other, written in zip(sides, reversed(sides), guard.expr.args, strict=True):
                    if other.is_Integer and not side.is_Integer:
                        known[written] = known[side] = other
        _KNOWN[env] = len(env.guards), known
    return known


def found_equal(shown: Sequence[Any]) -> dict[Size, int]:
    """Sizes that torch found equal to numbers while it traced tensors and integers such as these."""
    sizes: Iterator[Any] = (n for each in shown for n in (each.shape if isinstance(each, torch.Tensor) else (each,)))
    env: ShapeEnv | None = next((n.node.shape_env for n in sizes if isinstance(n, torch.SymInt)), None)
    found: dict[Size, int] = {}
    if env is not None:
        for expr, number in _known(env).items():
            with suppress(UnsupportedError):
                found[_size(expr, env)] = int(number)
    return found


# One size for each symbol, however much more torch finds out about it later: a size that is written in two ways is two.
_SYMBOLS: WeakKeyDictionary[ShapeEnv, dict[sympy.Symbol, Size]] = WeakKeyDictionary()
_KNOWN: WeakKeyDictionary[ShapeEnv, tuple[int, dict[sympy.Basic, sympy.Integer]]] = WeakKeyDictionary()


def _size(expr: sympy.Expr, env: ShapeEnv) -> Size:
    if expr.is_Integer:
        return int(expr)
    if expr.is_Symbol:
        return _symbol(expr, env)
    operands = [_size(e, env) for e in expr.args if not (expr.is_Pow and e is expr.args[1])]
    if expr.is_Add:
        return reduce(add, operands)
    if expr.is_Mul:
        return reduce(mul, operands)
    if expr.is_Pow and expr.args[1].is_Integer and expr.args[1] > 0:
        return reduce(mul, operands * int(expr.args[1]))
    if isinstance(expr, _DIVISIONS):
        return floordiv(*operands)
    if isinstance(expr, _MODULI):
        return _rest(*operands)
    if isinstance(expr, functions.ModularIndexing):
        return _rest(floordiv(operands[0], operands[1]), operands[2])
    if isinstance(expr, (sympy.Max, sympy.Min, functions.Max, functions.Min)):
        return _extremum(expr, operands, env)
    raise UnsupportedError(
        f"the size {expr} cannot be written with +, *, // and %", fix="mark that dimension static, or compile a part"
    )


def _rest(num: Size, den: Size) -> Size:
    """``num % den``, as what a multiple of ``den`` leaves: a length rounded up or down by it is that multiple then."""
    if isinstance(den, int) and all(c < 0 for c in terms_of(num).values()):
        return add(num, mul(ceildiv(mul(num, -1), den), den))
    return add(num, mul(mul(floordiv(num, den), den), -1))


def _extremum(expr: sympy.Expr, operands: Sequence[Size], env: ShapeEnv) -> Size:
    """The operand of a maximum or minimum that is the one: provably, or in the call that is being compiled for, which
    then becomes a guard of what is compiled."""
    sign = 1 if isinstance(expr, (sympy.Max, functions.Max)) else -1
    for a in operands:
        if all(at_least(mul(add(a, mul(b, -1)), sign), 0) for b in operands):
            return a
    if not _takes_guards(env):
        raise UnsupportedError(f"which operand {expr} is depends on the call", fix="mark these dimensions static")
    return next(
        operand
        for a, operand in zip(expr.args, operands, strict=True)
        if all(a is b or env.evaluate_expr(sympy.Ge((a - b) * sign, 0)) for b in expr.args)
    )


def _takes_guards(env: ShapeEnv) -> bool:
    """Whether what is found of sizes is checked in every call: while Dynamo compiles, not of exported programs."""
    context = TracingContext.try_get()
    return context is not None and context.fake_mode is not None and context.fake_mode.shape_env is env


def _symbol(symbol_: sympy.Symbol, env: ShapeEnv) -> Size:
    if not env.var_to_range or symbol_ not in env.var_to_range or _depends_on_data(symbol_):
        raise UnsupportedError(f"the size {symbol_} depends on the values of a tensor")
    found = _SYMBOLS.setdefault(env, {})
    if symbol_ not in found:
        bounds = env.var_to_range[symbol_]
        lo, hi = _bound(bounds.lower, 0) or 0, _bound(bounds.upper, None)
        found[symbol_] = symbol(symbol_.name, lo=lo, hi=hi, divisor=_divisor(symbol_, env))
    return found[symbol_]


def _divisor(symbol_: sympy.Symbol, env: ShapeEnv) -> int:
    """What the symbol is a multiple of, as far as torch has found out while it traced: of ``k``, where a multiple of it
    leaves no remainder, or where it is as much as ``k`` times its quotient by ``k``, rounded somehow."""
    known, found = _known(env), [1]
    for expr, number in known.items():
        operands: Sequence[Any] = expr.args
        if isinstance(expr, _MODULI) and number == 0 and operands[1].is_Integer:
            coefficient, rest = operands[0].as_coeff_Mul()
            if rest == symbol_:
                size = int(operands[1])
                found.append(size // gcd(size, int(coefficient)))
    for guard in env.guards:
        if isinstance(guard.expr, sympy.Eq) and guard.expr.has(symbol_) and guard.expr.has(*_DIVISIONS):
            left, right = (side.xreplace(known) for side in guard.expr.args)
            found += _exact_divisors(symbol_, sympy.expand(left - right), env)
    return lcm(*found)


def _exact_divisors(symbol_: sympy.Symbol, zero: sympy.Expr, env: ShapeEnv) -> Iterator[int]:
    """Each ``k`` of the quotients ``symbol_ // k`` in ``zero``, which is 0: a product, less the same one with quotients
    times their divisors in place of factors. These are all rounded down, so that none can be, or there is but one."""
    terms = sympy.Add.make_args(zero)
    whole = next((term for term in terms if not term.has(*_DIVISIONS)), sympy.Integer(0))
    if len(terms) != 2 or not (_is_positive(whole, env) or _is_positive(-whole, env)):
        return
    quotients: Sequence[Any] = list(zero.atoms(*_DIVISIONS))
    parts = [(*quotient.args[0].as_coeff_Add(), quotient.args[1]) for quotient in quotients]
    plain = all(number.is_Symbol and by.is_Integer for _, number, by in parts)
    rounded = plain and all(0 <= more < by and (more == 0 or len(parts) == 1) for more, _, by in parts)
    exact = {quotient: number / by for quotient, (_, number, by) in zip(quotients, parts, strict=True)}
    if rounded and sympy.expand(zero.xreplace(exact)) == 0:
        yield from (int(by) for _, number, by in parts if number == symbol_)


def _is_positive(product: sympy.Expr, env: ShapeEnv) -> bool:
    """Whether it is a product of positive numbers and symbols."""
    factors = sympy.Mul.make_args(product)
    ranges = env.var_to_range
    return all((f.is_Integer and f > 0) or (f in ranges and ranges[f].lower >= 1) for f in factors)


def _depends_on_data(symbol_: sympy.Symbol) -> bool:
    return str(symbol_.name).startswith("u") and str(symbol_.name)[1:].isdigit()


def _bound(bound: Any, otherwise: int | None) -> int | None:
    return int(bound) if bound.is_Integer and abs(int(bound)) < _UNBOUNDED else otherwise


def bind_sizes(sources: Sequence[Any], arguments: Sequence[Any]) -> Mapping[str, int]:
    """The value of every run-time size, read from a call's arguments; ``sources`` are ``SymbolSource``."""
    return {source.symbol.name: source.value(arguments) for source in sources}
