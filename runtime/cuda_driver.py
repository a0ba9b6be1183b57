"""The few calls of the CUDA driver that running a kernel takes, through ctypes.

Triton's own launcher is a C module compiled per signature by the machine's C compiler, different in each version, and
wants Triton imported. The driver's interface is stable, and a call through ctypes costs about a microsecond.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rooftile.errors import RooftileError

_SHARED_WITHOUT_ASKING = 48 * 1024  # bytes of dynamic shared memory that need no opt-in
_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_PREFER_SHARED = 1  # CU_FUNC_CACHE_PREFER_SHARED
_BEFORE_OTHERS_END = 6  # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
_NO_CONTEXT = (3, 201, 400)  # not initialised, invalid context, a handle of another context: another one is current


class CudaError(RooftileError):
    """The CUDA driver refused a call."""


class LaunchConfig(ctypes.Structure):
    """``CUlaunchConfig``: how many programs of how many threads, on which stream (a handle)."""

    _fields_ = (
        *((f"grid_{axis}", ctypes.c_uint) for axis in "xyz"),
        *((f"block_{axis}", ctypes.c_uint) for axis in "xyz"),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("attribute_count", ctypes.c_uint),
    )


class LaunchAttribute(ctypes.Structure):
    """``CUlaunchAttribute``: what else is asked of a launch, by number, and a value of 64 bytes, here one number."""

    _fields_ = (("number", ctypes.c_int), ("padding", ctypes.c_int), ("value", ctypes.c_int * 16))


# For kernels that wait by themselves for those before: they may be placed on the device as these come to their ends.
EARLY = LaunchAttribute(_BEFORE_OTHERS_END, 0, (1,))


class CudaDriver:
    """The driver library. All addresses and handles are plain integers."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._contexts: dict[int, ctypes.c_void_p] = {}
        pointer = ctypes.c_void_p
        self._launch = library.cuLaunchKernelEx
        self._launch.argtypes = [pointer, pointer, pointer, pointer]
        self._launch.restype = ctypes.c_int

    def call(self, name: str, *arguments: Any) -> None:
        """Call the driver's function ``name``. Raises CudaError."""
        self.check(getattr(self._library, name)(*arguments), name)

    def check(self, status: int, name: str) -> None:
        """Raise CudaError unless ``status`` is success."""
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            raise CudaError(f"{name} failed: {(text.value or b'unknown error').decode()} ({status})")

    @contextmanager
    def context_of(self, device: int) -> Iterator[None]:
        """The primary context of ``device`` (torch's) is the thread's current one inside the ``with`` block.

        Afterwards the one before is current again; a thread that had none keeps the device's.
        """
        before = ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuCtxGetCurrent", ctypes.byref(before))
        self.call("cuCtxSetCurrent", self._primary_context(device))
        try:
            yield
        finally:
            if before.value:
                self.call("cuCtxSetCurrent", before)

    def _primary_context(self, device: int) -> ctypes.c_void_p:
        if device not in self._contexts:
            context = ctypes.c_void_p()
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self._contexts[device] = context
        return self._contexts[device]

    def load(self, cubin: bytes, symbol: str, shared_bytes: int) -> int:
        """Load a binary into the current context; the handle of its kernel, which lives as long as the process."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), cubin)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, symbol.encode())
        if shared_bytes > _SHARED_WITHOUT_ASKING:
            self.call("cuFuncSetCacheConfig", function, _PREFER_SHARED)
            self.call("cuFuncSetAttribute", function, _MAX_DYNAMIC_SHARED, shared_bytes)
        assert function.value is not None
        return function.value

    def launch(self, device: int, config: Any, function: Any, parameters: Any) -> None:
        """``cuLaunchKernelEx``; enters the context of ``device`` if another or none is current. Raises CudaError.

        ``config`` refers to a ``LaunchConfig``; ``parameters`` is an array of pointers to the arguments.
        """
        status = self._launch(config, function, parameters, None)
        if status in _NO_CONTEXT:
            with self.context_of(device):
                status = self._launch(config, function, parameters, None)
        if status:
            self.check(status, "cuLaunchKernelEx")


@cache
def cuda_driver() -> CudaDriver:
    """The machine's CUDA driver. Raises CudaError where there is none."""
    try:
        return CudaDriver(ctypes.CDLL("libcuda.so.1"))
    except OSError as error:
        raise CudaError(
            f"no CUDA driver: {error}", fix="run on a machine with an NVIDIA GPU, or target the CPU"
        ) from error
