"""Loads and stores: through tensor descriptors where the schedule wants that and it is legal, else through pointers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rooftile.codegen.addresses import Access, Addresses, offset_of
from rooftile.codegen.descriptors import Block, Carriers, block_of
from rooftile.codegen.expressions import literal
from rooftile.codegen.kernel import Blocks
from rooftile.codegen.statements import Call, Store
from rooftile.codegen.values import Values
from rooftile.errors import InternalError
from rooftile.ir.core import Op, Value
from rooftile.ir.expr import symbols


class Memory:
    """Writes the loads and stores of a kernel; ``buffers`` are the pointers' names.

    ``carriers``, where descriptors are wanted, are told of each buffer how it was accessed. ``persistent`` programs go
    on after a store.
    """

    def __init__(
        self, values: Values, buffers: Mapping[Value, str], carriers: Carriers | None, persistent: bool
    ) -> None:
        self._values = values
        self._positions = values.positions
        self._writer = values.writer
        self._buffers = buffers
        self._carriers = carriers
        self._persistent = persistent
        self.addresses = Addresses(values.positions, values.writer)

    def load(self, op: Op) -> None:
        """Define the tile that a load reads."""
        buffer, *indices = op.inputs
        gathered = self._values.bind(indices)
        held = self._values.held(op.output)
        block = self._block(op, held)
        if block is not None:
            self._values.define(op, self._block_loaded(buffer, block), block.held)
            return
        access = self.addresses.access(
            self._buffers[buffer], buffer.type, op.attrs["index"], op.attrs["guard"], held, reuse=not gathered
        )
        self._values.define(op, f"tl.load({access.pointer}{_mask_arguments(op, access)})", access.axes)

    def store(self, op: Op) -> None:
        """Write a tile; a value is broadcast over the axes that it lacks."""
        buffer, value, *indices = op.inputs
        scattered = self._values.bind(indices)
        tile, held = self._values.tiles[value], self._values.held(value)
        order = held + tuple(a for a in self._values.space.axes if a not in held)
        block = self._stored_block(op, self._addressed(op, order))
        if block is not None and set(tile.axes) <= set(block.held):
            self._store_block(buffer, block, tile.full(block.held, self._values.space))
            return
        access = self.addresses.access(
            self._buffers[buffer], buffer.type, op.attrs["index"], op.attrs["guard"], order, reuse=not scattered
        )
        if not set(tile.axes) <= set(access.axes):
            raise InternalError(f"a store of {value.name} over {tile.axes} at an index that varies over {access.axes}")
        self._writer.add(Store(access.pointer, tile.aligned(access.axes), access.mask))

    # Through descriptors

    def _block(self, op: Op, held: tuple[str, ...]) -> Block | None:
        """The block that an access moves, None where it goes through pointers."""
        if self._carriers is None:
            return None
        buffer, fill = op.inputs[0], op.attrs.get("fill")
        offset, name = offset_of(buffer.type, op.attrs["index"]), self._buffers[buffer]
        found = block_of(
            buffer.dtype,
            buffer.type.numel,
            offset,
            op.attrs["guard"],
            held,
            self._positions,
            own=self._carriers.own,
        )
        if isinstance(found, Block) and fill in (None, 0):
            self._carriers.reasons.setdefault(name, None)
            return found
        self._carriers.reasons[name] = found if isinstance(found, str) else f"it reads {fill} where its guard fails"
        return None

    def _stored_block(self, op: Op, held: tuple[str, ...]) -> Block | None:
        """The block that a store moves. At the end of a program nothing runs beside it, and a pointer needs fewer
        registers."""
        if self._persistent or self._carriers is None:
            return self._block(op, held)
        self._carriers.reasons[self._buffers[op.inputs[0]]] = "it is stored when its program ends"
        return None

    def _addressed(self, op: Op, order: Sequence[str]) -> tuple[str, ...]:
        """The axes of ``order``, among those that the tile of a store has or could have, that move its address."""
        moved = {s.name for e in op.attrs["index"] for s in symbols(e)}
        return tuple(a for a in order if a in moved and self._values.space[a].tile > 1)

    def block(self, op: Op) -> Block | None:
        """The block that a load moves; None where it goes through pointers."""
        self._values.bind(op.inputs[1:])
        return self._block(op, self._values.held(op.output))

    def block_text(self, descriptor: str, block: Block) -> str:
        """What loads a block, with all of its dimensions."""
        return f"{descriptor}.load([{self._starts(block)}])"

    def name(self, buffer: Value) -> str:
        """The pointer's name."""
        return self._buffers[buffer]

    def _block_loaded(self, buffer: Value, block: Block) -> str:
        text = self.block_text(self.descriptor(buffer, block), block)
        if len(block.held) == len(block.dimensions):
            return text
        return f"tl.reshape({text}, {self.addresses.shape(block.held)})"

    def _store_block(self, buffer: Value, block: Block, text: str) -> None:
        if len(block.held) != len(block.dimensions):
            text = f"tl.reshape({text}, {_tiles(block)})"
        self._writer.add(Call(f"{self.descriptor(buffer, block)}.store([{self._starts(block)}], {text})"))

    def _starts(self, block: Block) -> str:
        """Where a block starts, along each dimension: in 32 bits, which is all that descriptors take."""
        arithmetic = self._positions.arithmetic
        texts = ((arithmetic.text(d.start, ()), arithmetic.wide(d.start)) for d in block.dimensions)
        return ", ".join(f"tl.cast({text}, tl.int32)" if wide else text for text, wide in texts)

    def descriptor(self, buffer: Value, block: Block, other: str | None = None) -> str:
        """The parameter or the variable that is a block's descriptor; a program makes its own once, before all
        loops, unless it is of two buffers, the ``other`` beside this one."""
        arithmetic, name = self._positions.arithmetic, self._buffers[buffer]
        if self._carriers is not None and self.made_by_host(block):
            shape, strides = tuple(d.extent for d in block.dimensions), tuple(d.stride for d in block.dimensions)
            blocks = Blocks(name, block.base, shape, strides, tuple(d.tile for d in block.dimensions), other)
            return self._carriers.given(buffer.dtype, blocks)
        base = name if block.base == 0 else f"{name} + {arithmetic.text(block.base, ())}"
        extents = ", ".join(arithmetic.text(d.extent, ()) for d in block.dimensions)
        steps = ", ".join(arithmetic.text(d.stride, ()) for d in block.dimensions)
        text = f"tl.make_tensor_descriptor({base}, [{extents}], [{steps}], {_tiles(block)})"
        return self._writer.shared(name.removesuffix("_ptr") + "_block", text, 0)

    def made_by_host(self, block: Block) -> bool:
        """Whether the host makes a block's descriptor: it is the same for all programs."""
        return self._carriers is not None and not self._carriers.own and not self._varies(block)

    def _varies(self, block: Block) -> bool:
        """Whether programs have different bases of a block."""
        return any(s.name in self._positions.space for s in symbols(block.base))


def _tiles(block: Block) -> str:
    return f"[{', '.join(str(d.tile) for d in block.dimensions)}]"


def _mask_arguments(op: Op, access: Access) -> str:
    if not access.mask:
        return ""
    fill = op.attrs["fill"]
    other = "" if fill is None else f", other={literal(fill, op.output.dtype)}"
    return f", mask={access.mask}{other}"
