"""Launching a kernel: everything that does not change is prepared once, a launch packs its arguments and goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import torch

from rooftile.codegen.kernel import Kernel
from rooftile.runtime.interpreter.program import Interpreted

Argument: TypeAlias = torch.Tensor | int


class Launcher(Protocol):
    """A kernel bound to a device."""

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument]) -> None:
        """Run ``grid`` programs (one to three sizes; none if any is 0), ``arguments`` in the order of the parameters.

        Buffers are tensors on the launcher's device; a CUDA launcher also takes addresses. Nothing is checked that the
        plan has checked already: types, devices and alignment are the caller's promise.
        """


class CpuLauncher:
    """Runs a kernel on CPU tensors, before it returns."""

    def __init__(self, kernel: Kernel) -> None:
        self._program = Interpreted(kernel.name, kernel.source)
        self._wide = [param.dtype == "i64" for param in kernel.params]

    def __call__(self, grid: Sequence[int], arguments: Sequence[Argument]) -> None:
        self._program.run(grid, arguments, wide=self._wide)
