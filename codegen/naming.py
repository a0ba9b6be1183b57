"""Which variable holds each value of a kernel: loop state keeps one variable from its start to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rooftile.codegen.names import Names, readable
from rooftile.ir.core import Graph, Op, Value
from rooftile.ir.tile_ops import loop_starts, values_read


def name_values(kernel: Graph, buffers: dict[Value, str], names: Names) -> dict[Value, str]:
    """A variable for every value that ops produce and for every loop's state, unique but for state that shares one.

    A loop's start, state and result share a variable where nothing else reads the start, and the state's next value is
    assigned to that variable directly where nothing reads the old one afterwards. Only floats do so: integers and
    booleans may stand in index arithmetic, whose text is shared.
    """
    naming = _Naming(buffers, names)
    naming.uses.update(v for op in _all_ops(kernel) for v in (*op.inputs, *(o for r in op.regions for o in r.outputs)))
    naming.block(kernel)
    return naming.found


def _all_ops(graph: Graph) -> Iterator[Op]:
    for op in graph.ops:
        yield op
        for region in op.regions:
            yield from _all_ops(region)


class _Naming:
    def __init__(self, buffers: dict[Value, str], names: Names) -> None:
        self.found: dict[Value, str] = {}
        self.uses: Counter[Value] = Counter()
        self._buffers = buffers
        self._names = names

    def block(self, graph: Graph) -> None:
        state_of = {
            init: result
            for op in graph.ops
            if op.regions
            for init, result in zip(loop_starts(op), op.outputs, strict=True)
        }
        for op in graph.ops:
            if op.regions:
                self._loop(op)
                continue
            for value in op.outputs if op.name != "constant" else ():
                if value not in self.found:
                    wanted = state_of[value].name if self._one_float(value) and value in state_of else value.name
                    self.found[value] = self._names.fresh(self._wanted(wanted, op))

    def _one_float(self, value: Value) -> bool:
        return value.dtype.is_float and self.uses[value] == 1

    def _wanted(self, name: str, op: Op) -> str:
        """What a value is to be called; loads and casts that have no name of their own say what they load and cast."""
        wanted = readable(name, op.name)
        if wanted == "load":
            return self._buffers[op.inputs[0]].removesuffix("_ptr")
        if wanted == "cast" and (source := self.found.get(op.inputs[0])):
            base = readable(source.removesuffix(f"_{op.inputs[0].dtype}"))
            return f"{base}_{op.output.dtype}"
        return wanted

    def _loop(self, op: Op) -> None:
        (body,) = op.regions
        for init, inner, result, after in zip(loop_starts(op), body.inputs, op.outputs, body.outputs, strict=True):
            share = self._one_float(init) and init in self.found
            name = self.found[init] if share else self._names.fresh(readable(result.name, "state"))
            self.found[inner] = name
            self.found.setdefault(result, name)
            if self._assigned_last(body, inner, after) and after not in self.found:
                self.found[after] = name
        self.block(body)

    def _assigned_last(self, body: Graph, state: Value, after: Value) -> bool:
        """Whether ``after`` may take ``state``'s variable: nothing reads the state once ``after`` is computed."""
        if not state.dtype.is_float or state in body.outputs or body.outputs.count(after) != 1:
            return False
        made = next((n for n, op in enumerate(body.ops) if after in op.outputs), None)
        return made is not None and not any(state in values_read(op) for op in body.ops[made + 1 :])
