"""Which device there is, and what the compiler should know of it."""

from __future__ import annotations

from dataclasses import replace

import torch

from rooftile.errors import UnsupportedError
from rooftile.target import Target, detect_target, target_named

OLDEST_ARCH = 80  # bf16 matrix units and asynchronous copies


def default_device() -> torch.device:
    """A GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def with_index(device: torch.device) -> torch.device:
    """``device``; of GPUs, the current one where it says no number."""
    return torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device


def target_of(device: torch.device) -> Target:
    """The target for a torch device; a CUDA device's own limits replace those of its row.

    Raises UnsupportedError for a GPU that is too old or not NVIDIA's, and for any other kind of device.
    """
    if device.type == "cpu":
        return detect_target(None)
    if device.type != "cuda" or torch.version.hip is not None:
        raise UnsupportedError(f"kernels are generated for NVIDIA GPUs and the CPU, not for {device}")
    return _cuda_target(torch.cuda.get_device_properties(device))


def default_target(name: str | None = None) -> Target:
    """The target of that name; without one that of the current GPU, or the CPU where there is none.

    Raises:
        OptionError: there is no target of that name.
    """
    if name is not None:
        return target_named(name)
    if torch.cuda.is_available() and torch.version.hip is None:
        return target_of(torch.device("cuda", torch.cuda.current_device()))
    return target_of(torch.device("cpu"))


def _cuda_target(properties: torch.cuda._CudaDeviceProperties) -> Target:
    arch = properties.major * 10 + properties.minor
    if arch < OLDEST_ARCH:
        raise UnsupportedError(
            f"{properties.name} has compute capability {properties.major}.{properties.minor}; 8.0 or newer is needed",
            fix="use target='cpu' to check the model there, or torch.compile on this GPU",
        )
    row = detect_target(properties.name)
    return replace(
        row,
        arch=arch,
        sm_count=properties.multi_processor_count,
        memory_bytes=getattr(properties, "total_memory", row.memory_bytes),
        shared_memory=getattr(properties, "shared_memory_per_block_optin", row.shared_memory),
        l2_bytes=properties.L2_cache_size,
    )
