"""What kernels use of a GPU, found by compiling them for it: no GPU is needed."""

from __future__ import annotations

from collections.abc import Iterable

from rooftile.compilation import Compilation
from rooftile.config import Config
from rooftile.errors import OptionError
from rooftile.runtime.loading import kernel_cache


def compile_resources(compilations: Iterable[Compilation]) -> None:
    """Compile every kernel that has not been, for its target, and enter what each uses into its compilation.

    Raises:
        OptionError: the kernels are for the CPU, which has no registers to count.
        CompileError: Triton refused a kernel.
    """
    config = Config.from_env()
    for compilation in compilations:
        target = compilation.target
        if target.kind == "cpu":
            raise OptionError("the CPU interprets kernels: there are no resources", fix="--target h100, or another GPU")
        ops = [op for op in compilation.kernels if op not in compilation.resources]
        kernels = [compilation.kernels[op] for op in ops]
        binaries = kernel_cache(config.cache_dir).get_or_build_all(kernels, target, config.compile_workers)
        compilation.resources.update((op, binary.resources) for op, binary in zip(ops, binaries, strict=True))
