"""Passes, rules and ops of your own: how they are registered.

What is registered holds for all later compilations of the process. It is a part of the key of compiled kernels, stands
in every report's versions, and makes Dynamo forget what it has compiled so far, so that models are compiled again with
it. Register before compiling, then: it costs nothing there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rooftile.errors import OptionError, nearest
from rooftile.ir.registered import REGISTERED, Kind, Registration, digest_of
from rooftile.passes import extensions
from rooftile.passes.base import Pass
from rooftile.passes.canonical.rewrite import Rule, rule_name
from rooftile.passes.extensions import Inserted, ReductionRule
from rooftile.passes.pipeline import pipeline

_Function = TypeVar("_Function", bound=Callable[..., Any])


def register_pass(each: Pass, *, after: str) -> None:
    """Run ``each`` on every graph, after the pass (or the registered one) named ``after``.

    Raises:
        OptionError: there is such a pass already, none is called ``after``, or no graph is left after it.
    """
    names = [p.name for p in pipeline()]
    _check_new("a pass", each.name, names)
    if after not in names or after == names[-1]:
        raise OptionError(f"no pass can stand after {after!r}", fix=nearest(after, names[:-1]))
    extensions.PASSES.append(Inserted(each, after))
    _enter("pass", each.name, type(each), each, after)


def register_rule(key: str, rule: Rule) -> None:
    """Let ``canonicalize`` ask ``rule`` about every op ``key``: an op's name, or ``pointwise.`` and a function's.

    The rule's name is its function's. Where it applies, the ledger says so.

    Raises:
        OptionError: no op is called that, or another rule has the name.
    """
    from rooftile.ir.graph_ops import GRAPH_OPS
    from rooftile.ir.scalar import SCALARS

    known = [*GRAPH_OPS, *(f"pointwise.{name}" for name in SCALARS)]
    if key not in known:
        raise OptionError(f"no op is called {key!r}", fix=nearest(key, known))
    taken = [rule_name(r) for rules in extensions.RULES.values() for r in rules]
    _check_new("a rule", rule_name(rule), taken)
    extensions.RULES[key] = (*extensions.RULES.get(key, ()), rule)
    _enter("rule", rule_name(rule), key, rule)


def register_reduction_rule(name: str, rule: ReductionRule) -> None:
    """Let ``derive`` try ``rule`` where a reduction keeps a region from being one kernel and its own rules don't apply.

    Its steps, which should have the rule's name, show up in derivations and in the ledger.

    Raises:
        OptionError: another rule has the name.
    """
    _check_new("a rule", name, ["commute", "split", "correct", "merge", "skip", *extensions.REDUCTION_RULES])
    extensions.REDUCTION_RULES[name] = rule
    _enter("reduction rule", name, rule)


def register_op(*overloads: Any) -> Callable[[_Function], _Function]:
    """A decorator: the function builds what calls of ``overloads`` (``torch.ops.mine.op.default``) mean.

    It gets a ``rooftile.frontend.importing.Import`` and the operands by the overload's schema, and returns a value.

    Raises:
        OptionError: one of them has a meaning already.
    """
    import rooftile.frontend.importer  # noqa: F401  (fills the table)
    from rooftile.frontend.rows import ROWS

    def register(function: _Function) -> _Function:
        for overload in overloads:
            _check_new("an op", str(overload), map(str, ROWS))
        for overload in overloads:
            ROWS[overload] = function
            _enter("op", str(overload), function)
        return function

    return register


def register_scalar(
    name: str, reference: Callable[..., Any], *, triton: str, arity: int = 1, double: str | None = None, **algebra: Any
) -> None:
    """A function of single floats, for ops and rules to build with.

    Args:
        name: what it is called in the IR, as ``pointwise.name``.
        reference: what it computes, on torch tensors of one shape; in any float dtype.
        triton: its text, with ``{0}``, ``{1}``, ... for the operands, which are names or numbers. It may call
            ``tl`` and ``libdevice``, and what ``rooftile.codegen.expressions`` does.
        arity: how many operands it takes.
        double: its text for f64, where that differs.
        algebra: columns of ``rooftile.ir.scalar.Scalar``: what the rules of fusion may rely on, and ``flops``.

    Raises:
        OptionError: there is such a function, or the name or the text cannot be one.
    """
    from rooftile.codegen.expressions import POINTWISE, Row
    from rooftile.ir.scalar import SCALARS, Scalar

    _check_new("a scalar function", name, SCALARS)
    used = {int(n) for n in re.findall(r"\{(\d+)\}", triton)}
    if not name.isidentifier() or used != set(range(arity)):
        raise OptionError(f"{name!r} as {triton!r} is no function of {arity} operands", fix="tl.exp({0}) * {1}")
    SCALARS[name] = Scalar(name, arity, reference, operands="float", **algebra)
    POINTWISE[name] = Row(floats=triton, double=double)
    _enter("scalar", name, reference, triton, double, arity, algebra)


@contextmanager
def registered() -> Iterator[None]:
    """What is registered inside the ``with`` block is forgotten after it: for tests."""
    import rooftile.frontend.importer  # noqa: F401  (fills the table)
    from rooftile.codegen.expressions import POINTWISE
    from rooftile.frontend.rows import ROWS
    from rooftile.ir.scalar import SCALARS

    tables: tuple[Any, ...] = (extensions.RULES, extensions.REDUCTION_RULES, POINTWISE, ROWS, SCALARS)
    before, passes, known = [dict(table) for table in tables], list(extensions.PASSES), list(REGISTERED)
    try:
        yield
    finally:
        for table, held in zip(tables, before, strict=True):
            table.clear()
            table.update(held)
        extensions.PASSES[:], REGISTERED[:] = passes, known
        _forget_compiled()


def _check_new(what: str, name: str, taken: Any) -> None:
    if name in list(taken):
        raise OptionError(f"there is {what} named {name!r} already", fix="give it another name")


def _enter(kind: Kind, name: str, *things: Any) -> None:
    REGISTERED.append(Registration(kind, name, digest_of(things)))
    _forget_compiled()


def _forget_compiled() -> None:
    """Let Dynamo compile again what it has compiled without, or with, what is registered."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
