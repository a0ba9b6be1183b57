"""A frame: what one call of a program works with. Frames are kept and used again, each by one call at a time.

Everything that a set of sizes decides is in the frame's binding; what stays the same from call to call, such as
launches bound to their arguments' places, is made with the frame; a call brings tensors and memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

import torch

from rooftile.runtime.arguments import ADDRESS_MULTIPLE, Checker, Expected, aligned
from rooftile.runtime.plan import Buffer, Layout, Plan
from rooftile.runtime.slots import AddressSlots, TensorSlots
from rooftile.runtime.steps import Action, Bound

# As functions, which `map` calls faster than a loop calls methods.
ADDRESS, IS_NEGATED = torch.Tensor.data_ptr, torch.Tensor.is_neg


@dataclass(frozen=True)
class Fresh:
    """A result to be allocated."""

    number: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def on(self, device: torch.device) -> torch.Tensor:
        """Memory for it."""
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)


@dataclass(frozen=True, eq=False)
class Binding:
    """What a call with certain sizes needs."""

    plan: Plan
    device: torch.device
    sizes: Mapping[str, int]
    expected: tuple[Expected, ...]
    layout: Layout
    fresh: tuple[Fresh, ...]
    bound: Bound

    @cached_property
    def check(self) -> Checker:
        """Raises InputError for tensors that are not ``expected``."""
        return Checker(self.expected)

    @cached_property
    def _idle(self) -> list[Frame]:
        return []

    def take_frame(self) -> Frame:
        """A frame that no other call is using; ``keep_frame`` gives it back. Threads may do both at once."""
        try:
            return self._idle.pop()
        except IndexError:
            return Frame(self)

    def keep_frame(self, frame: Frame) -> None:
        """Keep a frame for a later call; one whose call failed is not to be used again."""
        self._idle.append(frame)

    def memory(self, results: Sequence[torch.Tensor] | None = None) -> Memory:
        """New memory for a call; the results' may be given."""
        arena = torch.empty(self.layout.arena_bytes, dtype=torch.uint8, device=self.device)
        if results is None:
            results = [fresh.on(self.device) for fresh in self.fresh]
        return Memory(arena, results)


@dataclass(frozen=True)
class Memory:
    """Where a call puts what it computes: intermediates into the arena, and its ``Binding.fresh`` results."""

    arena: torch.Tensor
    results: Sequence[torch.Tensor]


class Frame:
    """See the module's docstring, and ``rooftile.runtime.steps.Frame`` for what steps use.

    Without ``drops``, what ATen returned stays until the call is over.
    """

    def __init__(self, binding: Binding, *, drops: bool = True) -> None:
        self._binding = binding
        self._plan = binding.plan
        self._tensors: dict[int, torch.Tensor] = {}
        self._updated = self._plan.updated
        self._given: dict[int, torch.Tensor] = {}
        self._blocks: dict[int | None, torch.Tensor] = {}
        self._starts: dict[int | None, int] = {}
        bound, buffers = binding.bound, len(self._plan.buffers)
        count = buffers + len(bound.numbers) + len(bound.in_scratch)
        self._addresses = AddressSlots(count) if binding.device.type == "cuda" else None
        self.slots: AddressSlots | TensorSlots = self._addresses or TensorSlots(count)
        for place, number in enumerate(bound.numbers, start=buffers):
            self.slots.put(place, number)
        layout = binding.layout
        behind = [(step.scratch, layout.scratch[number]) for number, step in bound.in_scratch.items()]
        self._inside: dict[int | None, list[tuple[int, int]]] = {}
        for place, at in (*layout.offsets.items(), *((place, at) for place, at in behind if place is not None)):
            if place not in layout.results:
                block, offset = layout.within(at)
                self._inside.setdefault(block, []).append((place, offset))
        self.actions: tuple[Action, ...] = bound.actions(self, drops=drops)

    def enter(self, tensors: Sequence[torch.Tensor], memory: Memory) -> None:
        """Take a call's tensors and memory."""
        self._given = {number: tensors[number] for number in self._updated}
        if self._addresses is None:
            for number, tensor in enumerate(tensors):
                self.hold(number, aligned(tensor))
        else:
            self._read(tensors, self._addresses)
        self._blocks[None] = memory.arena
        for fresh, tensor in zip(self._binding.fresh, memory.results, strict=True):
            self.hold(fresh.number, tensor)
            self._blocks[fresh.number] = tensor
        self._place_intermediates()
        if self._addresses is not None:
            self._addresses.run_on(torch._C._cuda_getCurrentRawStream(self._binding.device.index))

    def _read(self, tensors: Sequence[torch.Tensor], slots: AddressSlots) -> None:
        addresses = list(map(ADDRESS, tensors))
        if reduce(or_, addresses, 0) % ADDRESS_MULTIPLE or any(map(IS_NEGATED, tensors)):
            tensors = list(map(aligned, tensors))
            addresses = list(map(ADDRESS, tensors))
        self._tensors = dict(enumerate(tensors))
        slots.put_first(addresses)

    def leave(self) -> list[torch.Tensor]:
        """The results; the frame lets go of all tensors."""
        self._finish_updates()
        results = [self._copy(r.buffer) if r.copy else self._tensors[r.buffer] for r in self._plan.results]
        self._tensors.clear()
        self._given = {}
        self._blocks.clear()
        if self._addresses is None:  # the slots hold the tensors themselves
            for number in range(len(self._plan.buffers)):
                self.slots.put(number, 0)
        return results

    def _finish_updates(self) -> None:
        """Let torch know what was written over the caller's tensors; where a copy was worked on, write it there."""
        for number, given in self._given.items():
            if self._tensors[number] is not given:
                with torch.no_grad():
                    given.copy_(self._tensors[number])
                self._tensors[number] = given
            elif not given.is_inference():
                torch.autograd.graph.increment_version(given)

    def hold(self, number: int, tensor: torch.Tensor) -> None:
        """Make ``tensor`` what buffer ``number`` is."""
        self._tensors[number] = tensor
        self.slots.put(number, tensor)

    def drop(self, number: int) -> None:
        """Buffer ``number`` is needed no more."""
        del self._tensors[number]
        self.slots.put(number, 0)

    def tensor(self, number: int) -> torch.Tensor:
        """Buffer ``number`` as a tensor."""
        if number not in self._tensors:
            self._tensors[number] = self._view(self._plan.buffers[number])
        return self._tensors[number]

    def _place_intermediates(self) -> None:
        for block, inside in self._inside.items():
            if self._addresses is None:
                for number, _ in inside:
                    self.slots.put(number, self.tensor(number))
                continue
            start = self._blocks[block].data_ptr()
            if start != self._starts.get(block):  # mostly torch hands out the memory of the call before
                self._starts[block] = start
                for place, offset in inside:
                    self.slots.put(place, start + offset)

    def _view(self, buffer: Buffer) -> torch.Tensor:
        layout, sizes, dtype = self._binding.layout, self._binding.sizes, buffer.type.dtype.torch
        block, offset = layout.within(layout.offsets[buffer.number])
        memory = self._blocks[block]
        start = (memory.storage_offset() * memory.itemsize + offset) // dtype.itemsize
        view = torch.empty(0, dtype=dtype, device=memory.device)
        return view.set_(memory.untyped_storage(), start, buffer.shape(sizes), buffer.strides(sizes))

    def _copy(self, number: int) -> torch.Tensor:
        sizes, source = self._binding.sizes, self.tensor(number)
        buffer = self._plan.buffers[number]
        return torch.empty(buffer.shape(sizes), dtype=source.dtype, device=source.device).copy_(source)
