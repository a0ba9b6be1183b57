"""Import: a captured ATen graph becomes graph IR, node by node, through the table of rows.

An op without a row is taken apart by torch's own decomposition where that consists of ops with rows; else it becomes
``extern``: the ATen call itself, in its place in the order.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from rooftile.errors import InternalError, UnsupportedError
from rooftile.frontend import (  # noqa: F401  (each fills its part of the table)
    aten_activations,
    aten_attention,
    aten_contractions,
    aten_conversions,
    aten_convolutions,
    aten_creation,
    aten_grouped,
    aten_indexing,
    aten_normalization,
    aten_pointwise,
    aten_pooling,
    aten_reductions,
    aten_sorting,
    aten_views,
)
from rooftile.frontend.aten_updates import IN_PLACE
from rooftile.frontend.captured import Captured
from rooftile.frontend.decomposing import decomposed
from rooftile.frontend.importing import Import, tensor_type
from rooftile.frontend.nodes import tensors_of
from rooftile.frontend.pairs import by_pairs, plainly
from rooftile.frontend.provenance import loc_of
from rooftile.frontend.rows import NOTED, ROWS, ROWS_BY_NAME, DeclinedError, RefusedError, Results
from rooftile.frontend.scalars import symbolic_float
from rooftile.frontend.sizes import found_equal, to_size, to_strides
from rooftile.frontend.updates import chains, updates
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Attr, Graph, TensorType, Value
from rooftile.ir.dtypes import from_torch
from rooftile.ir.expr import Size
from rooftile.ir.extern import encode, encode_call
from rooftile.ir.optable import InferenceError
from rooftile.ir.ranges import equal, equal_shapes
from rooftile.ir.strides import is_contiguous


@dataclass(frozen=True)
class Imported:
    """Graph IR whose inputs are the captured tensor inputs in order, then ``constants``; outputs are the results."""

    graph: Graph
    constants: tuple[torch.Tensor, ...]


def import_captured(captured: Captured) -> Imported:
    """Import the graph of a capture. The graph's attribute ``kinds`` says what each input is: a parameter or buffer
    that the call writes to is ``"state"``; ``updates``, if there, which outputs are to be written over which inputs;
    ``trained``, that autograd records calls, behind which weights are likely to change.

    Raises:
        UnsupportedError: an input or a result is of a dtype that the IR doesn't have.
        InternalError: a row built something else than what torch computes.
    """
    in_place = {call: c.alone for c in chains(captured) for call in c.calls}
    shown = [each.node.meta["val"] for each in captured.inputs]
    importer = _Importer(GraphBuilder(), in_place, found_equal(shown))
    kinds: list[str] = []
    written = {m.input for m in captured.mutations}
    for number, described in enumerate(captured.inputs):
        if described.kind == "size":
            importer.values[described.node] = described.size
        else:
            kinds.append("state" if number in written and described.kind != "input" else described.kind)
            importer.add_input(described.name, described.node.meta["val"], described.node)
    graph = captured.module.graph
    importer.add_constants(captured.module)
    for node in graph.nodes:
        if node.op == "call_function" and node.target is not torch._C._set_grad_enabled:
            with importer.im.b.at(loc_of(node)):
                importer.values[node] = importer.call(node)
    outputs = [importer.tensor(node) for node in captured.results]
    kinds += ["constant"] * len(importer.constants)
    attrs: dict[str, Attr] = {"kinds": tuple(kinds)}
    if pairs := updates(captured):
        attrs["updates"] = pairs
    if any(captured.results_require_grad):
        attrs["trained"] = True
    return Imported(importer.im.b.finish(outputs, attrs), tuple(importer.constants))


class _Importer:
    """The state of one import: what each node has become."""

    def __init__(
        self,
        builder: GraphBuilder,
        in_place: Mapping[fx.Node, bool] = MappingProxyType({}),
        equal_to: Mapping[Size, int] = MappingProxyType({}),
    ) -> None:
        self.im = Import(builder)
        # Calls that replace elements, whatever the table says of them; if not by a kernel (True), then by ATen.
        self._in_place = in_place
        self.values: dict[fx.Node, Any] = {}
        self.constants: list[torch.Tensor] = []
        self._equal_to = dict(equal_to)
        self._made_here: set[fx.Node] = set()  # from numbers alone: such a value is on no device

    def add_input(self, name: str, shown: torch.Tensor, node: fx.Node) -> None:
        """A graph input; its strides are part of its type where it isn't dense."""
        try:
            type = tensor_type(shown)
        except DeclinedError as declined:
            raise UnsupportedError(f"input {name!r}: {declined}") from None
        strides = to_strides(shown.stride())
        if not is_contiguous(type.shape, strides):
            type = replace(type, strides=strides)
        self.values[node] = self.im.b.input(name.replace(".", "_"), type)

    def add_constants(self, module: fx.GraphModule) -> None:
        """Tensors held by the graph itself: a single number becomes a constant, others become bound inputs."""
        for node in module.graph.nodes:
            if node.op != "get_attr":
                continue
            constant = operator.attrgetter(node.target)(module)
            if isinstance(constant, fx.GraphModule):  # of a function of functions, which is refused where it is called
                continue
            if not isinstance(constant, torch.Tensor):
                raise UnsupportedError(f"the graph holds {node.target}, a {type(constant).__name__}")
            if constant.dim() == 0 and _in_kernels(constant) and not isinstance(constant, torch._subclasses.FakeTensor):
                self.values[node] = self.im.b.constant(constant.item(), tensor_type(constant).dtype)
                self._made_here.add(node)
            else:
                self.add_input(node.name, constant, node)
                self.constants.append(constant)

    def tensor(self, node: fx.Node) -> Value:
        """What a node that is a tensor has become."""
        value = plainly(self.values[node])
        assert isinstance(value, Value), node
        return value

    def call(self, node: fx.Node) -> Any:
        """Import one call: a size, an item of a tuple, an ATen op."""
        shown = node.meta.get("val")
        if isinstance(shown, (torch.SymInt, int)):
            return to_size(shown)
        if isinstance(shown, torch.SymFloat):
            return symbolic_float(self.im, shown)
        if node.target is operator.getitem:
            return self._item(node)
        if isinstance(node.target, type) and issubclass(node.target, tuple):  # a named tuple around several results
            return self._resolve(node.args)
        if not isinstance(node.target, OpOverload):
            raise UnsupportedError(f"the graph calls {node.target}", where=loc_of(node).source)
        if all(n in self._made_here for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)):
            self._made_here.add(node)
        arguments, options = self._resolve(node.args), self._resolve(dict(node.kwargs))
        if node in self._in_place:
            return self._update(node, arguments, options) or self._extern(node)
        pairs = by_pairs(self.im, node, arguments, options, self._extern)
        return pairs or self._by_row(node, arguments, options) or self._by_parts(node) or self._extern(node)

    def _item(self, node: fx.Node) -> Value:
        source, number = node.args
        assert isinstance(source, fx.Node)
        try:
            value = self.values[source][number]
        except (KeyError, IndexError):
            raise UnsupportedError(f"result {number} of {source.target} is not computed") from None
        assert isinstance(value, Value)
        return value

    def _resolve(self, argument: Any) -> Any:
        """Nodes replaced by what they have become."""
        if isinstance(argument, fx.Node):
            return self.values[argument]
        if isinstance(argument, (list, tuple)):
            return [self._resolve(a) for a in argument]
        if isinstance(argument, dict):
            return {key: self._resolve(a) for key, a in argument.items()}
        return argument

    def _by_row(self, node: fx.Node, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        assert isinstance(node.target, OpOverload)
        function = ROWS.get(node.target) or ROWS_BY_NAME.get(node.target.name())
        if function is None or self._is_for_aten(node):
            return None
        self.im.node, self.im.expected = node, node.meta["val"]
        try:
            results = function(self.im, *arguments, **options)
        except RefusedError:
            return self._extern(node)
        except (DeclinedError, InferenceError):  # with symbolic sizes, inference may not see that shapes agree
            return None
        results = self._as_found(results, node)
        _check(results, node)
        if node.target in NOTED and isinstance(results, Value):
            self._note(results, node, arguments, options)
        return results if isinstance(results, (Value, Mapping)) else list(results)

    def _as_found(self, results: Results, node: fx.Node) -> Results:
        """A result with the sizes that torch has for it, where these are numbers that it has found sizes equal to."""
        if not isinstance(results, Value) or results.type.rank == 0:
            return results
        wanted = tensor_type(node.meta["val"])
        differ = [d for d, pair in enumerate(zip(results.shape, wanted.shape, strict=False)) if not equal(*pair)]
        for d in differ:
            if self._equal_to.get(results.shape[d]) == wanted.shape[d]:
                results = self.im.b.slice(results, d, 0, wanted.shape[d])
        return results

    def _note(self, result: Value, node: fx.Node, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Say what ``result`` is: what this call gives. Not so where it depends on sizes known at run time."""
        if all(isinstance(n.meta.get("val"), torch.Tensor) for n in node.all_input_nodes):
            operands = [result]
            attrs = encode_call(node.target, arguments, options, operands)
            self.im.b.op("called", operands, attrs)

    def _update(self, node: fx.Node, arguments: Sequence[Any], options: Mapping[str, Any]) -> Value | None:
        """The call as a scatter over the tensor that it updates, where nobody else wants the old elements."""
        assert isinstance(node.target, OpOverload)
        row = IN_PLACE.get(node.target)
        if row is None or not self._in_place[node] or self._is_for_aten(node):
            return None
        before = len(self.im.b.ops)
        try:
            result = row(self.im, *arguments, **options)
        except (DeclinedError, InferenceError):
            self.im.forget_from(before)
            return None
        _check(result, node)
        return result

    def _is_for_aten(self, node: fx.Node) -> bool:
        """Whether only ATen can make the call, whatever the table says of the op."""
        foreign = any(not _in_kernels(shown) for n in (node, *node.all_input_nodes) for shown in tensors_of(n))
        return foreign or self._moves_between_devices(node)

    def _moves_between_devices(self, node: fx.Node) -> bool:
        """Whether the op reads a tensor of another device than it writes to: only ATen can copy that."""
        target = _device(node)
        return any(n not in self._made_here and _device(n) not in (None, target) for n in node.all_input_nodes)

    def _by_parts(self, node: fx.Node) -> Any:
        """The op as its decomposition, if all of that has rows."""
        if _draws_random_numbers(node) or self._is_for_aten(node):
            return None
        parts = decomposed(node)
        if parts is None:
            return None
        inner = _Importer(self.im.b)
        inner.im = self.im
        inner.values = dict(zip(parts.inputs, (self.values[n] for n in parts.outer), strict=True))
        before = len(self.im.b.ops)
        try:
            for part in parts.calls:
                inner.values[part] = inner.call(part)
        except UnsupportedError:
            self.im.forget_from(before)
            return None
        if any(op.name == "extern" for op in self.im.b.ops[before:]):
            self.im.forget_from(before)
            return None
        return inner._resolve(parts.result)

    def _extern(self, node: fx.Node) -> Any:
        """The ATen call itself."""
        self._made_here.discard(node)  # it runs, so what it makes is on a device
        shown = node.meta.get("val")
        results = list(shown) if isinstance(shown, (list, tuple)) else [shown]
        try:
            types = [tensor_type(r) for r in results if isinstance(r, torch.Tensor)]
        except DeclinedError as declined:
            raise UnsupportedError(f"{node.target}: {declined}", where=loc_of(node).source) from None
        arguments, options = plainly(self._resolve(node.args)), plainly(self._resolve(dict(node.kwargs)))
        operands, attrs = encode(node.target, arguments, options, types)
        made = iter(self.im.b.multi("extern", operands, attrs, name=node.name))
        if isinstance(shown, torch.Tensor):
            return next(made)
        return {number: next(made) for number, r in enumerate(results) if isinstance(r, torch.Tensor)}


def _device(node: fx.Node) -> torch.device | None:
    return next((t.device for t in tensors_of(node)), None)


def _in_kernels(tensor: torch.Tensor) -> bool:
    """Whether kernels compute with the tensor's dtype."""
    dtype = from_torch(tensor.dtype)
    return dtype is not None and dtype.in_kernels


def _draws_random_numbers(node: fx.Node) -> bool:
    """Whether the call may draw random numbers."""
    target = node.target
    assert isinstance(target, OpOverload)
    return torch.Tag.nondeterministic_seeded in target.tags


def _check(results: Results, node: fx.Node) -> None:
    """What a row has built must be what torch says, in dtype and shape."""
    shown = node.meta["val"]
    if isinstance(results, Value):
        pairs = [(results, shown)]
    elif isinstance(results, Mapping):
        pairs = [(value, shown[number]) for number, value in results.items()]
    else:
        pairs = list(zip(results, shown, strict=True))
    for value, wanted in pairs:
        type = tensor_type(wanted)
        if not _same(value.type, type):
            raise InternalError(
                f"{node.target} became {value.dtype}{list(value.shape)}, torch says {type.dtype}{list(type.shape)}",
                op=node.format_node() or "",
                where=loc_of(node).source,
            )


def _same(built: TensorType, wanted: TensorType) -> bool:
    return built.dtype is wanted.dtype and equal_shapes(built.shape, wanted.shape)
