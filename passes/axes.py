"""The pass ``axes``: names every dimension, for whoever reads the graph.

Before::

    %s = contract[b=4, h=16, i=512, j=512, d=64](%q[b, h, i, d], %k[b, h, j, d], ...) : f32[4, 16, 512, 512]
    %m = reduce.max(%s, dims=[3]) : f32[4, 16, 512]

After::

    %s = contract[b=4, h=16, i=512, j=512, d=64](...) : f32[b=4, h=16, i=512, j=512]
    %m = reduce.max(%s, dims=[3]) : f32[b=4, h=16, i=512]

Dimensions that ops make one (``dims``) form a class, and a class has one letter wherever it occurs. Two dims of one
value, and two axes of one op, never join: ``q`` and ``k`` read from one ``x`` are two axes of the scores, whatever they
are in ``x``. Within an op different classes have different letters, none of them the name of a run-time size; far
apart, a letter may serve again. Nothing else in the graph depends on the names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from string import ascii_lowercase
from typing import ClassVar

from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.expr import symbols
from rooftile.passes.base import PassContext
from rooftile.passes.regions.dims import Dim, shared_dims

# What a dimension usually is, by the rank of its value: batch, head, position, feature.
_ROLES = {1: "d", 2: "nd", 3: "bid", 4: "bhid"}
# The letter to take where a role's own is taken by a neighbour; after these, the alphabet.
_ALTERNATIVES = {"b": "bn", "h": "hgr", "i": "ijkl", "j": "jkl", "d": "defc", "n": "nmlt"}
# What a batched product calls its axes counts for more than places: rows i and columns j of scores are no features.
_PRODUCT_VOTE = 1000


class _Classes:
    """Union-find over dims, in which a class never holds two dims of one owner."""

    def __init__(self) -> None:
        self._parent: dict[Dim, Dim] = {}
        self._owners: dict[Dim, set[Value | Op]] = {}

    def find(self, dim: Dim) -> Dim:
        """The representative of ``dim``'s class."""
        parent = self._parent
        if dim not in parent:
            parent[dim] = dim
            self._owners[dim] = {dim.owner}
            return dim
        while parent[dim] is not dim:
            parent[dim] = parent[parent[dim]]
            dim = parent[dim]
        return dim

    def join(self, a: Dim, b: Dim) -> None:
        """Make two classes one, unless that would make two dims of one owner the same."""
        small, large = sorted((self.find(a), self.find(b)), key=lambda root: len(self._owners[root]))
        if small is large or not self._owners[small].isdisjoint(self._owners[large]):
            return
        self._parent[small] = large
        self._owners[large] |= self._owners.pop(small)


def _dims_of(owner: Value | Op) -> list[Dim]:
    number = owner.type.rank if isinstance(owner, Value) else len(owner.attrs.get("axes", ()))
    return [Dim(owner, d) for d in range(number)]


def _classes(graph: Graph) -> dict[Dim, Dim]:
    """Every dim with its class."""
    classes = _Classes()
    for op in graph.ops:
        for a, b in shared_dims(op):
            classes.join(a, b)
    owners: Iterable[Value | Op] = chain(graph.values(), graph.ops)
    return {dim: classes.find(dim) for owner in owners for dim in _dims_of(owner)}


def _wishes(classes: Mapping[Dim, Dim]) -> dict[Dim, dict[str, int]]:
    """For each class, how often each letter is wished for."""
    wishes: dict[Dim, dict[str, int]] = {}
    for dim, root in classes.items():
        votes = wishes.setdefault(root, {})
        for name, weight in _wish(dim).items():
            votes[name] = votes.get(name, 0) + weight
    return wishes


def _wish(dim: Dim) -> dict[str, int]:
    """A letter for ``dim`` and how much it is wished for; none where nothing speaks for any."""
    if isinstance(dim.owner, Value):
        roles = _ROLES.get(dim.owner.type.rank)
        return {roles[dim.number]: 1} if roles else {}
    name: str = dim.owner.attrs["axes"][dim.number][0]
    return {name: _PRODUCT_VOTE} if name in _ALTERNATIVES and _is_batched(dim.owner) else {}


def _is_batched(op: Op) -> bool:
    """Whether an axis stands in the result and in every operand of a contraction: many small products, not a layer."""
    if op.name != "contract":
        return False
    read = [frozenset(s.name for entry in access for s in symbols(entry)) for access in op.attrs["maps"]]
    return bool(frozenset(op.attrs["out"]).intersection(*read))


def _letters(graph: Graph, classes: Mapping[Dim, Dim]) -> dict[Dim, str]:
    """A letter for each class: the widest class chooses first, and neighbours (classes that meet in an op) differ."""
    meetings: list[tuple[Value | Op, ...]] = [(v,) for v in graph.inputs]
    meetings += [(*(op.inputs if op.name != "called" else ()), *op.outputs, op) for op in graph.ops]
    taken: list[set[str]] = [set() for _ in meetings]
    meets: dict[Dim, list[int]] = {}
    for number, owners in enumerate(meetings):
        for root in dict.fromkeys(classes[dim] for owner in owners for dim in _dims_of(owner)):
            meets.setdefault(root, []).append(number)
    letters: dict[Dim, str] = {}
    wishes = _wishes(classes)
    sizes = {s.name for s in graph.size_symbols()}
    for root in sorted(meets, key=lambda r: -len(meets[r])):
        used = sizes.union(*(taken[number] for number in meets[root]))
        letters[root] = next(name for name in _candidates(wishes[root]) if name not in used)
        for number in meets[root]:
            taken[number].add(letters[root])
    return letters


def _candidates(wishes: Mapping[str, int]) -> Iterable[str]:
    ranked = sorted(wishes, key=lambda name: -wishes[name])
    alternatives = [letter for name in ranked for letter in _ALTERNATIVES.get(name, "")]
    return chain(ranked, alternatives, ascii_lowercase, (f"a{n}" for n in count(1)))


@dataclass(frozen=True)
class Axes:
    """Fills in ``TensorType.axes`` of every value, the bodies of regions included; see the module."""

    name: ClassVar[str] = "axes"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """The graph with named dimensions; the same one where they have these names already."""
        return _named(graph)


def _named(graph: Graph) -> Graph:
    classes = _classes(graph)
    letters = _letters(graph, classes)
    renamed = {value: _with_axes(value, classes, letters) for value in graph.values()}
    bodies = {op.regions[0]: _named(op.regions[0]) for op in graph.ops if op.regions}
    if all(old is new for old, new in chain(renamed.items(), bodies.items())):
        return graph
    ops = tuple(
        replace(
            op,
            inputs=tuple(renamed[v] for v in op.inputs),
            outputs=tuple(renamed[v] for v in op.outputs),
            regions=tuple(bodies.get(body, body) for body in op.regions),
        )
        for op in graph.ops
    )
    inputs, outputs = (tuple(renamed[v] for v in values) for values in (graph.inputs, graph.outputs))
    return replace(graph, inputs=inputs, ops=ops, outputs=outputs)


def _with_axes(value: Value, classes: Mapping[Dim, Dim], letters: Mapping[Dim, str]) -> Value:
    axes = tuple(letters[classes[dim]] for dim in _dims_of(value))
    return value if value.type.axes == axes else Value(value.name, replace(value.type, axes=axes))
