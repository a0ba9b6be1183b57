"""Tiles and options that are worth a measurement, as tables. A row's tiles are upper limits."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from rooftile.ir.schedule import OPTIONS

Changes: TypeAlias = Mapping[str, Any]


class Dot(NamedTuple):
    """Tiles of contractions side by side, and the launch that suits them."""

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int


class Sweep(NamedTuple):
    """Rows of a chain and the step of its sweeps, and the launch that suits them."""

    rows: int
    step: int
    num_warps: int
    num_stages: int


DOTS = (
    Dot(128, 256, 64, 8, 3),
    Dot(128, 256, 64, 8, 4),
    Dot(256, 128, 64, 8, 3),
    Dot(256, 128, 64, 8, 4),
    Dot(128, 128, 64, 8, 3),
    Dot(128, 128, 64, 8, 4),
    Dot(128, 128, 64, 4, 3),
    Dot(128, 128, 64, 4, 4),
    Dot(128, 128, 128, 8, 2),
    Dot(128, 64, 64, 4, 4),
    Dot(64, 256, 64, 4, 4),
    Dot(64, 128, 64, 4, 3),
    Dot(64, 128, 64, 4, 4),
    Dot(64, 128, 128, 4, 3),
    Dot(64, 64, 64, 4, 4),
    Dot(64, 64, 128, 4, 3),
    Dot(32, 64, 128, 4, 4),
)
# For products with few rows: columns, depth, stages.
SKINNY = tuple(product((16, 32, 64, 128), (64, 128, 256, 512), (3, 4, 6)))
DOTS_OF_FP32 = (
    Dot(128, 64, 32, 4, 3),
    Dot(64, 128, 32, 4, 3),
    Dot(128, 128, 32, 8, 2),
    Dot(128, 64, 32, 8, 3),
    Dot(64, 64, 32, 4, 3),
    Dot(64, 64, 16, 4, 3),
    Dot(64, 32, 32, 4, 3),
    Dot(32, 64, 32, 4, 3),
    Dot(32, 32, 32, 4, 3),
    Dot(16, 64, 32, 4, 2),
    Dot(16, 32, 64, 4, 2),
)
SWEEPS = (
    Sweep(128, 64, 8, 3),
    Sweep(128, 64, 8, 2),
    Sweep(128, 64, 4, 2),
    Sweep(128, 64, 4, 3),
    Sweep(128, 128, 8, 2),
    Sweep(128, 128, 8, 3),
    Sweep(128, 128, 4, 2),
    Sweep(128, 32, 8, 3),
    Sweep(64, 128, 4, 2),
    Sweep(64, 64, 4, 2),
    Sweep(64, 64, 4, 3),
    Sweep(64, 32, 4, 2),
    Sweep(64, 32, 4, 3),
    Sweep(32, 64, 4, 2),
    Sweep(16, 128, 4, 3),
    Sweep(16, 128, 4, 4),
    Sweep(16, 64, 4, 3),
    Sweep(16, 64, 2, 3),
    Sweep(16, 32, 2, 5),
)
SWEEPS_OF_FP32 = (
    Sweep(32, 64, 4, 2),
    Sweep(32, 32, 4, 1),
    Sweep(16, 64, 4, 2),
    Sweep(32, 32, 4, 2),
    Sweep(32, 64, 4, 1),
    Sweep(16, 32, 4, 2),
    Sweep(128, 64, 8, 1),
    Sweep(16, 32, 4, 1),
)

# What a kernel with contractions may do beside its tiles, as changes of what is usual, the best on an H100 first;
# ``group`` is how many tiles are numbered together. Those with ``joined`` are for two products that can be one.
PLAIN: Changes = OPTIONS
DOT_OPTIONS: tuple[Changes, ...] = (
    {"descriptors": True, "persistent": True, "flatten": True, "joined": True},
    {"descriptors": True, "persistent": True, "flatten": True, "joined": True, "epilogue": 2},
    {"descriptors": True, "persistent": True, "joined": True},
    {"descriptors": True, "joined": True},
    {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2},
    {"descriptors": True, "persistent": True},
    {"descriptors": True, "persistent": True, "flatten": True},
    {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2, "group": 16},
    {},
    {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2, "group": 4},
    {"descriptors": True},
    {"descriptors": True, "persistent": True, "epilogue": 2},
    {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2, "tail": 2},
    {"descriptors": True, "persistent": True, "flatten": True, "epilogue": 2, "tail": 4},
    {"descriptors": True, "persistent": True, "flatten": True, "joined": True, "epilogue": 2, "tail": 2},
)
SWEEP_OPTIONS: tuple[Changes, ...] = (
    {"descriptors": True, "phases": 2},
    {"phases": 2},
    {"descriptors": True},
    {"descriptors": True, "specialize": True},
    {},
)
