"""Which regions compute just what one ATen call of the model gives, so that the call itself may take their place.

Where a library may be faster at a call as a whole, the importer notes what the call stands for. The note says nothing
about how the value is computed, and no rewrite reads it; what replaces a value elsewhere replaces it here. It ends at
``fuse``: a region with that result gets the attribute ``call``, if the operands are views of what the region reads::

    %y = ... : f32[4, 64, 32]                                  %y = region(%q, %k, %v) {
    %c = called(%y, %q, %k, %v, target="aten.sdpa")     ->         ...
                                                               } call=[0, "aten.sdpa", ...]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rooftile.ir.core import Attr, Graph, Op, Value
from rooftile.ir.extern import VIEWS


@dataclass(frozen=True)
class Calls:
    """What is known of calls in a graph: the notes by the result that they are about."""

    notes: Mapping[Value, Op]
    producers: Mapping[Value, Op]

    @staticmethod
    def of(graph: Graph) -> Calls:
        """Those that the graph has notes of."""
        return Calls({op.inputs[0]: op for op in graph.ops if op.name == "called"}, graph.producers())

    def attrs(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> dict[str, Attr]:
        """The attribute ``call`` of a region: the number of the result, the target, the arguments by position and by
        name, and what view of the call's result it is. Nothing where no result is a view of a call's, or an operand of
        it is not there."""
        for number, value in enumerate(outputs):
            note = self._note(value)
            if note is None:
                continue
            views = [self._view(operand, inputs) for operand in note.inputs[1:]]
            if None not in views:
                args, kwargs = (_with_operands(note.attrs[name], (None, *views)) for name in ("args", "kwargs"))
                return {"call": (number, note.attrs["target"], args, kwargs, self._view(value, note.inputs[:1]))}
        return {}

    def _note(self, value: Value) -> Op | None:
        """The note of what ``value`` is a view of."""
        while value not in self.notes:
            op = self.producers.get(value)
            if op is None or op.name not in VIEWS:
                return None
            value = op.inputs[0]
        return self.notes[value]

    def _view(self, value: Value, inputs: Sequence[Value]) -> Attr:
        """``value`` as a view of one of the inputs; None where it is more than that."""
        if value in inputs:
            return ("operand", inputs.index(value))
        op = self.producers.get(value)
        if op is None or op.name not in VIEWS:
            return None
        inner = self._view(op.inputs[0], inputs)
        if inner is None or op.name == "reshape":
            return inner and ("reshape", inner, *value.shape)
        if op.name == "permute":
            return ("permute", inner, *op.attrs["perm"])
        places = dict(zip(op.attrs["dims"], op.inputs[0].shape, strict=True))
        return ("expand", ("reshape", inner, *(places.get(d, 1) for d in range(value.type.rank))), *value.shape)


def _with_operands(argument: Attr, operands: Sequence[Attr]) -> Attr:
    """An argument with these in the place of its operands, by number."""
    if not isinstance(argument, tuple):
        return argument
    if argument[:1] == ("operand",):
        return operands[argument[1]]  # type: ignore[index]
    return tuple(_with_operands(each, operands) for each in argument)
