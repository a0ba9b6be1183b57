"""What the cost model and the tiler know of a device: one row of plain numbers each.

Rates are what a large copy or a large library matmul reaches, not the data sheet's peak: a floor that nothing reaches
would make every decision look equally bad.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from rooftile.errors import OptionError, nearest

HOPPER = 90  # the compute capability, times ten, of the first cards with descriptors


@dataclass(frozen=True)
class Target:
    """A device as the compiler sees it.

    ``arch`` is the compute capability times ten (90 for sm_90; 0 on the CPU). A real card may differ from its row in
    ``arch``, ``sm_count`` or a limit; whoever holds the card puts its own numbers in with ``dataclasses.replace``.
    """

    name: str
    kind: Literal["cuda", "cpu"]
    arch: int
    sm_count: int
    memory_bytes: int
    """How much memory the device has."""
    bandwidth: float
    """Bytes per second of device memory, read and written together."""
    flops: Mapping[str, float]
    """FLOP per second of a matmul, by dtype name; ``f32`` is a product as exact as fp32, ``tf32`` the rounded one."""
    scalar_flops: float
    """FLOP per second of pointwise fp32 arithmetic."""
    shared_memory: int
    """Bytes that one program may use."""
    registers_per_sm: int
    """32-bit registers."""
    l2_bytes: int
    cache_bandwidth: float
    """Bytes per second that are read of the L2 cache."""
    launch_seconds: float
    """From the end of one kernel to the start of the next."""
    op_seconds: float
    """The fixed cost of one tile op in one program; 0 where a tile's cost is its elements'."""
    max_tile_elements: int
    """The largest tile that one program may hold."""

    @property
    def launches_early(self) -> bool:
        """Whether a kernel may be launched before the one before it has ended, and wait for it itself (CUDA's
        programmatic dependent launch)."""
        return self.kind == "cuda" and self.arch >= HOPPER

    def matmul_rate(self, dtype: str) -> float:
        """FLOP per second of a matmul on ``dtype``; integers that have no unit of their own are taken for fp32."""
        return self.flops.get(dtype, self.flops["f32"])

    def floor_seconds(self, bytes: float, flops: float, dtype: str) -> float:
        """The roofline: the least time in which ``bytes`` can be moved and ``flops`` of matmul on ``dtype`` be done."""
        return max(bytes / self.bandwidth, flops / self.matmul_rate(dtype))


def _rates(*, f64: float, f32: float, tf32: float, f16: float, f8: float, i8: float) -> Mapping[str, float]:
    teraflops = {
        "f64": f64,
        "f32": f32,
        "tf32": tf32,
        "bf16": f16,
        "f16": f16,
        "f8e4m3": f8,
        "f8e5m2": f8,
        "i8": i8,
        "u8": i8,
    }
    return MappingProxyType({name: rate * 1e12 for name, rate in teraflops.items()})


# A tile of fp32 in half the register file, the other half being for the operands and addresses.
_TILE_IN_REGISTERS = 2**15

# Measured: the copy, bf16, fp8, and the cache, of which a matrix product that runs at 619 TFLOP/s in tiles of 128x128
# reads 9.7 TB/s. The other matmul rates are the data sheet's times bf16's measured share of it, 0.78; but a product of
# fp32 is three of TF32, of which Triton makes 2048 cubed in 208 us on an H200.
H100 = Target(
    name="h100",
    kind="cuda",
    arch=90,
    sm_count=132,
    memory_bytes=80 * 10**9,
    bandwidth=3.02e12,
    flops=_rates(f64=52, f32=80, tf32=385, f16=769, f8=1300, i8=1540),
    scalar_flops=52e12,
    shared_memory=232_448,
    registers_per_sm=65_536,
    l2_bytes=50 * 2**20,
    cache_bandwidth=9.7e12,
    launch_seconds=2e-6,
    op_seconds=0.0,
    max_tile_elements=_TILE_IN_REGISTERS,
)

# The H100's processor with faster memory; the copy and the bf16 rate are measured.
H200 = Target(
    name="h200",
    kind="cuda",
    arch=90,
    sm_count=132,
    memory_bytes=141 * 10**9,
    bandwidth=4.3e12,
    flops=_rates(f64=52, f32=80, tf32=385, f16=788, f8=1300, i8=1540),
    scalar_flops=52e12,
    shared_memory=232_448,
    registers_per_sm=65_536,
    l2_bytes=60 * 2**20,
    cache_bandwidth=9.7e12,
    launch_seconds=2e-6,
    op_seconds=0.0,
    max_tile_elements=_TILE_IN_REGISTERS,
)

# The 80 GB card, not measured: the data sheet times the H100's shares of its own (0.9 of memory, 0.78 of arithmetic).
A100 = Target(
    name="a100",
    kind="cuda",
    arch=80,
    sm_count=108,
    memory_bytes=80 * 10**9,
    bandwidth=1.83e12,
    flops=_rates(f64=15, f32=25, tf32=122, f16=243, f8=243, i8=487),
    scalar_flops=15e12,
    shared_memory=166_912,
    registers_per_sm=65_536,
    l2_bytes=40 * 2**20,
    cache_bandwidth=5.9e12,
    launch_seconds=2.5e-6,
    op_seconds=0.0,
    max_tile_elements=_TILE_IN_REGISTERS,
)

# A mid-range card since Ampere: limits that all of them have, rates in the usual proportion of memory to arithmetic.
CUDA = Target(
    name="cuda",
    kind="cuda",
    arch=80,
    sm_count=64,
    memory_bytes=16 * 10**9,
    bandwidth=0.7e12,
    flops=_rates(f64=0.4, f32=8, tf32=40, f16=80, f8=80, i8=160),
    scalar_flops=20e12,
    shared_memory=101_376,
    registers_per_sm=65_536,
    l2_bytes=6 * 2**20,
    cache_bandwidth=2.2e12,
    launch_seconds=3e-6,
    op_seconds=0.0,
    max_tile_elements=_TILE_IN_REGISTERS,
)

# The evaluator of the Triton language over numpy (``runtime/interpreter``). A tile op costs a call, whatever the tile's
# size, so the largest tiles win, up to the most elements that Triton lets a tile have.
CPU = Target(
    name="cpu",
    kind="cpu",
    arch=0,
    sm_count=1,
    memory_bytes=2**40,
    bandwidth=0.4e9,
    flops=_rates(f64=20e-3, f32=40e-3, tf32=40e-3, f16=20e-3, f8=10e-3, i8=10e-3),
    scalar_flops=0.5e9,
    shared_memory=2**40,
    registers_per_sm=2**40,
    l2_bytes=2**20,
    cache_bandwidth=1.3e9,
    launch_seconds=3e-4,
    op_seconds=1e-4,
    max_tile_elements=2**20,
)

TARGETS: Mapping[str, Target] = MappingProxyType({row.name: row for row in (H100, H200, A100, CUDA, CPU)})

# What a card calls itself, as whole words of torch's device name ("NVIDIA A100-SXM4-80GB"); GH200 is Hopper with HBM3e.
_CARDS = {"H100": H100, "H200": H200, "GH200": H200, "A100": A100}


def target_named(name: str) -> Target:
    """The row of that name, in any case. Raises OptionError with the nearest one."""
    if (target := TARGETS.get(name.lower())) is None:
        raise OptionError(f"unknown target {name!r}", fix=nearest(name, TARGETS))
    return target


def detect_target(device_name: str | None) -> Target:
    """The row for a CUDA device's name as torch reports it; ``cuda`` for a card without a row, ``cpu`` for None."""
    if device_name is None:
        return CPU
    words = re.findall(r"[A-Z0-9]+", device_name.upper())
    return next((_CARDS[word] for word in words if word in _CARDS), CUDA)
