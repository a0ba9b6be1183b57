"""Compiling kernels for NVIDIA GPUs, ahead of time and without a GPU.

Triton's compiler is run stage by stage: its own driver would put every kernel into its own cache and hand back
an object tied to it. Nothing global is touched, so a user's kernels and Inductor's compile beside ours.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Callable, Sequence
from typing import Any

from rooftile.codegen.kernel import Kernel, KernelParam
from rooftile.codegen.parsing import PARSING
from rooftile.errors import InternalError
from rooftile.runtime.binary import Binary, DescriptorLayout

ELEMENT = {  # our dtype names to the signature's
    "f64": "fp64",
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "f8e4m3": "fp8e4nv",
    "f8e5m2": "fp8e5",
    "i64": "i64",
    "i32": "i32",
    "i16": "i16",
    "i8": "i8",
    "u8": "u8",
    "b1": "i1",
}
# What declares the function that assertions call, and the calls: Triton puts a trap behind them.
_FAILS = re.compile(r"^\.extern \.func __assertfail\n\([^)]*\)\n[^;]*;|^\s*call\.uni __assertfail,.*$", re.MULTILINE)
ALIGNED = [["tt.divisibility", 16]]


class CompileError(InternalError):
    """Triton refused a generated kernel, or the kernel needs more of the GPU than a program may have."""


def compile_kernel(kernel: Kernel, arch: int) -> Binary:
    """Compile for ``sm_<arch>``; 0.05 to 1 s. Raises CompileError with the compiler's words and the kernel's line."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend

    target = GPUTarget("cuda", arch, 32)
    backend = make_backend(target)
    try:
        return _run_stages(kernel, arch, target, backend)
    except Exception as error:
        raise CompileError(f"kernel `{kernel.name}` for sm_{arch}: {_reason(error)}") from error


def jit_function(kernel: Kernel) -> Any:
    """The kernel's ``@triton.jit`` function, from its text."""
    filename = f"<rooftile {kernel.name}>"
    linecache.cache[filename] = (len(kernel.source), None, kernel.source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {"__name__": f"rooftile_kernel_{kernel.name}"}
    exec(compile(kernel.source, filename, "exec"), scope)
    return scope[kernel.name]


def signature(params: Sequence[KernelParam]) -> dict[str, str]:
    """Parameter names to Triton's types."""
    return {p.name: _type(p) for p in params}


def _type(param: KernelParam) -> str:
    element = ELEMENT[param.dtype]
    if param.blocks is not None:
        return f"tensordesc<{element}{list(param.blocks.tile)}>"
    return f"*{element}" if param.kind == "buffer" else element


def _run_stages(kernel: Kernel, arch: int, target: Any, backend: Any) -> Binary:
    from triton._C.libtriton import ir
    from triton.compiler import ASTSource

    aligned = {(i,): ALIGNED for i, param in enumerate(kernel.params) if param.aligned}
    with PARSING:  # Triton parses a kernel when its function and when its IR are made
        source = ASTSource(jit_function(kernel), signature(kernel.params), constexprs={}, attrs=aligned)
    # Fusing multiply and add is Triton's default so far; said here because a later version changes it.
    wanted = {"num_warps": kernel.num_warps, "num_stages": kernel.num_stages, "enable_fp_fusion": True}
    if "tl.device_assert(" in kernel.source:  # left out otherwise; what else is asserted then is not asked for
        wanted |= {"debug": True, "sanitize_overflow": False}
    options = backend.parse_options(wanted)
    stages: dict[str, Callable[[Any, dict[str, Any]], Any]] = {}
    backend.add_stages(stages, options, source.language)
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    metadata: dict[str, Any] = {"target": target, **options.__dict__}
    with PARSING:
        module = _make_ir(source, target, options, backend, context)
    ttgir = ""
    for stage, run in stages.items():
        module = run(module, metadata)
        if stage == "ttgir":
            ttgir = str(module)
        elif stage == "ptx":
            module = without_calls(module)
    return _binary(kernel, arch, metadata, module, ttgir)


def without_calls(ptx: str) -> str:
    """``ptx`` with assertions that only trap, if it has asynchronous products: ptxas lets these wait for one another in
    a function that calls another one. The message is lost; what fails is still an error of the launch.
    """
    return _FAILS.sub("", ptx) if "wgmma" in ptx else ptx


def _make_ir(source: Any, target: Any, options: Any, backend: Any, context: Any) -> Any:
    """Triton's first IR of a kernel. The one place that knows of differences among Triton's versions."""
    given = {
        "target": target,
        "options": options,
        "codegen_fns": backend.get_codegen_implementation(options),
        "module_map": backend.get_module_map(),
        "context": context,
    }
    accepted = inspect.signature(source.make_ir).parameters
    return source.make_ir(**{name: value for name, value in given.items() if name in accepted})


def _binary(kernel: Kernel, arch: int, metadata: dict[str, Any], cubin: bytes, ttgir: str) -> Binary:
    return Binary(
        symbol=metadata["name"],
        arch=arch,
        parameters=tuple(kind for param in kernel.params for kind in _passed(param)),
        num_warps=metadata["num_warps"],
        shared_bytes=metadata["shared"],
        scratch_bytes=metadata.get("global_scratch_size") or 0,
        scratch_align=metadata.get("global_scratch_align") or 1,
        descriptors=tuple(
            DescriptorLayout(found["swizzle"], tuple(found["block_size"]))
            for found in metadata.get("tensordesc_meta") or ()
        ),
        waits=kernel.waits,
        cubin=cubin,
        ttgir=ttgir,
    )


def _passed(param: KernelParam) -> tuple[str, ...]:
    """What a launch passes for a parameter: a descriptor is followed by its tensor's shape and strides."""
    if param.blocks is not None:
        rank = len(param.blocks.tile)
        return ("descriptor", *["i32"] * rank, *["i64"] * rank)
    return ("ptr" if param.kind == "buffer" else param.dtype,)


def _reason(error: BaseException) -> str:
    """The last cause in a chain of errors: Triton wraps what went wrong in where it went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
