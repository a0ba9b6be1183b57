"""What a compiled kernel is made from, as one hash: equal keys mean equal binaries."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from rooftile import __version__
from rooftile.codegen.kernel import Kernel, KernelParam
from rooftile.ir.registered import fingerprint

FORMAT = 2  # of the cached files: raised when they change

# Variables that change what Triton's compiler makes of the same kernel.
COMPILER_VARIABLES = (
    "DISABLE_LLVM_OPT",
    "DISABLE_MMA_V3",
    "DISABLE_PTXAS_OPT",
    "LLVM_PASS_PLUGIN_PATH",
    "TRITON_DISABLE_LINE_INFO",
    "TRITON_F32_DEFAULT",
    "TRITON_OVERRIDE_ARCH",
)


def cache_key(kernel: Kernel, arch: int, environ: Mapping[str, str] = os.environ) -> str:
    """64 hexadecimal digits, from the kernel, the architecture and every version that has a say; no path, no time."""
    return key_of(key_parts(kernel, arch, environ))


def key_of(parts: Mapping[str, Any]) -> str:
    """The key that these parts make."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def key_parts(kernel: Kernel, arch: int, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What goes into the key, by name, in JSON's types.

    Comments, blank lines, what stands before the imports and the self-check after the kernel don't count.
    """
    return {
        "format": FORMAT,
        "rooftile": __version__,
        "triton": triton_version(),
        "ptxas": _ptxas_version(environ.get("TRITON_PTXAS_PATH")),
        "variables": {name: environ[name] for name in COMPILER_VARIABLES if name in environ},
        "arch": arch,
        "name": kernel.name,
        "source": compiled_lines(kernel.source),
        "params": [_param(param) for param in kernel.params],
        "num_warps": kernel.num_warps,
        "num_stages": kernel.num_stages,
        **({"registered": extensions} if (extensions := fingerprint()) else {}),
    }


def _param(param: KernelParam) -> dict[str, Any]:
    """A parameter; of the tensor that a descriptor describes, the blocks alone are compiled in."""
    told: dict[str, Any] = {"name": param.name, "kind": param.kind, "dtype": param.dtype, "aligned": param.aligned}
    return told if param.blocks is None else {**told, "tile": list(param.blocks.tile)}


def compiled_lines(source: str) -> list[str]:
    """The lines of a kernel file that are compiled."""
    lines = source.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(("import ", "from "))), 0)
    last = next((i for i, line in enumerate(lines) if line.startswith("if __name__")), len(lines))
    return [line for line in lines[first:last] if line.strip() and not line.lstrip().startswith("#")]


@cache
def triton_version() -> str:
    """The version of Triton that is installed, or ``none``."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "none"


@cache
def _ptxas_version(path: str | None) -> str:
    """The version of an assembler other than the one that comes with Triton."""
    if not path:
        return "triton's"
    try:
        return subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
