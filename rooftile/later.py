"""A program whose kernels are still being compiled while its caller does something else: Dynamo writes guards and code
for as long as a second after it was given a program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import torch

from rooftile.compilation import Runnable


class Later:
    """What ``make`` gives, which waits for the kernels; it is made at the first call, once by all threads."""

    def __init__(self, make: Callable[[], Runnable]) -> None:
        self._make = make
        self._made: Runnable | None = None
        self._guard = threading.Lock()

    def made(self) -> Runnable:
        """The program. Raises CompileError where Triton refuses a kernel, now and whenever it is asked for again."""
        with self._guard:
            if self._made is None:
                self._made = self._make()
            return self._made

    def __call__(self, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
        return self.made()(tensors, sizes)
