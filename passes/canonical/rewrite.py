"""The driver of local rewrites: one sweep over the ops, each simplified as it is put down.

A rule looks at an op and at what made its operands, and answers with a value that already exists, with another op for
the same result (``Make``), or with None. Since operands come first in the list, they are final when an op is reached,
so one sweep reaches the fixed point: no worklist, and a cost in proportion to the number of ops. What a rule emits on
the way is simplified too. Equal ops become one; at the end, what nothing uses is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from rooftile.ir.core import Graph, Op, TensorType, Value, freeze_attrs
from rooftile.ir.graph_ops import infer_graph_op
from rooftile.ir.ranges import equal_shapes
from rooftile.passes.base import working_on
from rooftile.passes.liveness import live_ops
from rooftile.passes.switches import permitted


class Make(NamedTuple):
    """The op that is to compute a result instead."""

    name: str
    inputs: Sequence[Value]
    attrs: Mapping[str, Any]


Rule: TypeAlias = "Callable[[Op, Rewriter], Value | Make | None]"
# By op name (``"reshape"``), or for one scalar function (``"pointwise.pow"``), tried in order.
Rules: TypeAlias = Mapping[str, Sequence[Rule]]
Applied: TypeAlias = "Callable[[Rule, Op], None]"

_COMMUTATIVE = frozenset({"add", "mul", "and", "or", "xor", "eq", "ne"})
_STEPS_LIMIT = 100  # no op takes more than a handful; a pair of rules that undo each other would take for ever


class Rewriter:
    """What a rule may use: who made a value, and emitting further ops."""

    def __init__(self, graph: Graph, rules: Rules, applied: Applied | None = None) -> None:
        self._rules = rules
        self._applied = applied
        self._made_by: dict[Value, Op] = {}
        self._instead: dict[Value, Value] = {}
        self._known: dict[Any, Op] = {}
        self._ops: list[Op] = []
        self._names = {value.name for value in graph.values()}
        self._next: dict[str, int] = {}
        self._current: Op | None = None

    def producer(self, value: Value) -> Op | None:
        """The op that makes ``value``; None for an input of the graph."""
        return self._made_by.get(value)

    def made_by(self, value: Value, name: str) -> Op | None:
        """The op that makes ``value``, if it is a ``name``."""
        op = self._made_by.get(value)
        return op if op is not None and op.name == name else None

    def emit(self, name: str, inputs: Sequence[Value], attrs: Mapping[str, Any]) -> Value:
        """The result of a further op, simplified like any other; it takes its location from the op being rewritten."""
        assert self._current is not None
        (type,) = infer_graph_op(name, [v.type for v in inputs], attrs)
        value = Value(self._fresh(name if name == "constant" else self._current.outputs[0].name), type)
        return self._place(Op(name, tuple(inputs), (value,), freeze_attrs(attrs), (), self._current.loc))

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph; ``graph`` itself where nothing applied."""
        for op in graph.ops:
            self._current = op
            inputs = tuple(self._instead.get(v, v) for v in op.inputs)
            regions = (*(rewrite(body, self._rules, self._applied) for body in op.regions[:1]), *op.regions[1:])
            if inputs != op.inputs or regions != op.regions:
                op = replace(op, inputs=inputs, regions=regions)
            if len(op.outputs) == 1 and op.name not in ("extern", "region"):
                value = op.output
                with working_on(op):
                    self._instead[value] = self._place(op)
            else:
                self._append(op)
        outputs = tuple(self._instead.get(v, v) for v in graph.outputs)
        ops = live_ops(self._ops, outputs)
        if outputs == graph.outputs and ops == list(graph.ops):
            return graph
        return replace(graph, ops=tuple(ops), outputs=outputs)

    def _fresh(self, wanted: str) -> str:
        """``wanted`` with the next number in place of its own, if it ends in one."""
        stem = re.sub(r"_\d+$", "", wanted)
        name = stem
        while name in self._names:
            self._next[stem] = self._next.get(stem, 0) + 1
            name = f"{stem}_{self._next[stem]}"
        self._names.add(name)
        return name

    def _append(self, op: Op) -> None:
        self._ops.append(op)
        for value in op.outputs:
            self._made_by[value] = op

    def _place(self, op: Op) -> Value:
        """Simplify ``op`` and put down what is left of it; an equal op that is there already serves instead."""
        for _ in range(_STEPS_LIMIT):
            result = self._first_rule(op)
            if isinstance(result, Value):
                _check_type(op, result.type)
                return result
            if result is None:
                break
            types = infer_graph_op(result.name, [v.type for v in result.inputs], result.attrs)
            _check_type(op, types[0])
            op = Op(result.name, tuple(result.inputs), op.outputs, freeze_attrs(result.attrs), (), op.loc)
        else:
            raise RuntimeError(f"the rules for {op.name} undo each other at %{op.output.name}")
        key = _key(op)
        if key in self._known:
            return self._known[key].output
        self._known[key] = op
        self._append(op)
        return op.output

    def _first_rule(self, op: Op) -> Value | Make | None:
        keys = (op.name, f"pointwise.{op.attrs['fn']}") if op.name == "pointwise" else (op.name,)
        for key in keys:
            for rule in self._rules.get(key, ()):
                result = rule(op, self)
                if result is not None and permitted(rule_name(rule), op.output, op.loc):
                    if self._applied is not None:
                        self._applied(rule, op)
                    return result
        return None


def rewrite(graph: Graph, rules: Rules, applied: Applied | None = None) -> Graph:
    """``graph`` with ``rules`` applied everywhere (in regions too), equal ops joined and unused ones left out;
    ``applied`` is told of each."""
    return Rewriter(graph, rules, applied).run(graph)


def rule_name(rule: Rule) -> str:
    """What a rule is called: its function's name."""
    return str(getattr(rule, "__name__", "rule")).strip("_")


def _check_type(op: Op, type: TensorType) -> None:
    want = op.output.type
    if type.dtype is not want.dtype or not equal_shapes(type.shape, want.shape):
        raise TypeError(f"a rule for {op.name} makes {type.dtype}{list(type.shape)} of %{op.output.name}: {want}")


def _key(op: Op) -> Any:
    inputs = op.inputs
    if op.attrs.get("fn") in _COMMUTATIVE and op.name == "pointwise":
        inputs = tuple(sorted(inputs, key=id))
    return op.name, inputs, tuple((name, _attr_key(attr)) for name, attr in sorted(op.attrs.items()))


def _attr_key(attr: Any) -> Any:
    """Equal only for attributes that print alike: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(attr, tuple):
        return tuple(_attr_key(item) for item in attr)
    return repr(attr) if isinstance(attr, bool | float) else attr
