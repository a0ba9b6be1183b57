"""From a plan to a program: kernels are compiled or taken from the cache, each once, and bound to the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from rooftile.codegen.kernel import Kernel
from rooftile.config import Config
from rooftile.errors import UnsupportedError
from rooftile.runtime.cache import KernelCache
from rooftile.runtime.cache_key import cache_key
from rooftile.runtime.compile_client import compile_client
from rooftile.runtime.launch import CpuLauncher, CudaLauncher, Launcher
from rooftile.runtime.plan import Plan
from rooftile.runtime.program import Program
from rooftile.target import Target


def load(plan: Plan, target: Target, device: torch.device, config: Config) -> Program:
    """The program that runs ``plan`` on ``device``, which has an index if it is a GPU.

    Raises:
        UnsupportedError: the plan's kernels are for another kind of device.
        CompileError: Triton refused a kernel.
    """
    if target.kind != device.type:
        raise UnsupportedError(f"kernels for {target.name} do not run on {device}", fix="leave the target out")
    launchers = launchers_of([launch.kernel for launch in plan.launches], target, device, config)
    return Program(plan, launchers, device)


def begin(kernels: Sequence[Kernel], target: Target, config: Config) -> None:
    """Begin to compile kernels for a GPU, which ``load`` will wait for."""
    distinct = {cache_key(kernel, target.arch): kernel for kernel in kernels}
    kernel_cache(config.cache_dir).begin(list(distinct.values()), target, config.compile_workers)


def launchers_of(kernels: Sequence[Kernel], target: Target, device: torch.device, config: Config) -> list[Launcher]:
    """A launcher for each kernel, in order; kernels that differ only in comments share one."""
    keys = [cache_key(kernel, target.arch) for kernel in kernels]
    distinct = dict(zip(keys, kernels, strict=True))
    ready: list[Launcher] = (
        [CpuLauncher(kernel) for kernel in distinct.values()]
        if target.kind == "cpu"
        else _for_cuda(list(distinct.values()), target, device, config)
    )
    by_key = dict(zip(distinct, ready, strict=True))
    return [by_key[key] for key in keys]


def _for_cuda(kernels: Sequence[Kernel], target: Target, device: torch.device, config: Config) -> list[Launcher]:
    cache = kernel_cache(config.cache_dir)
    binaries = cache.get_or_build_all(kernels, target, config.compile_workers)
    return [CudaLauncher(binary, device.index) for binary in binaries]


@lru_cache
def kernel_cache(path: Path) -> KernelCache:
    """The process's one cache of kernels under ``path``."""
    return KernelCache(path, compile_client().compile)
