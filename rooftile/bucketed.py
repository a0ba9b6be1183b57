"""A program for each bucket of run-time sizes, where a lock file has schedules of their own for some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from rooftile.compilation import Runnable
from rooftile.ir.core import Op
from rooftile.passes.regions.sizes import next_power
from rooftile.passes.reschedule import Better

Choice = Mapping[Op, Better]


class Bucketed:
    """Runs ``first`` for the sizes that ``choice`` is for, and for others what ``make`` makes of their choice.

    Buckets with the same choice share a program; a program is made when its bucket is first called.
    """

    def __init__(
        self,
        first: Runnable,
        choice: Choice,
        choose: Callable[[Mapping[str, int]], Choice],
        make: Callable[[Choice], Runnable],
    ) -> None:
        self._choose = choose
        self._make = make
        self._made: list[tuple[Choice, Runnable]] = [(choice, first)]
        self._by_bucket: dict[tuple[int, ...], Runnable] = {}

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        return self.program(sizes)(tensors, sizes)

    def programs(self) -> list[Runnable]:
        """All that have been made so far."""
        return [program for _, program in self._made]

    def program(self, sizes: Mapping[str, int]) -> Runnable:
        """The program for these sizes, which always come in the same order."""
        bucket = tuple(map(next_power, sizes.values()))
        if bucket not in self._by_bucket:
            self._by_bucket[bucket] = self._program(self._choose(sizes))
        return self._by_bucket[bucket]

    def _program(self, choice: Choice) -> Runnable:
        for other, program in self._made:
            if other == choice:
                return program
        program = self._make(choice)
        self._made.append((choice, program))
        return program
