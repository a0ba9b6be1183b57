"""Candidates compiled for an H100, which need not be here: what the compiled kernel says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rooftile.config import Config
from rooftile.ir.core import Op
from rooftile.ir.schedule import Schedule
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.passes.schedules.override import with_tiles
from rooftile.runtime.build import CompileError
from rooftile.runtime.tuning.trials import Built, build
from rooftile.target import H100
from tests.regions import matmul, meta, regions


@pytest.fixture(scope="module")
def product() -> Op:
    (op,) = regions(matmul, (meta(4096, 512), meta(512, 4096)), target="h100")
    return op


@pytest.fixture(scope="module")
def plain(product: Op) -> Schedule:
    names = [a.name for a in Schedule.from_attrs(product.attrs).axes]
    schedule = with_tiles(Schedule.from_attrs(product.attrs), **dict(zip(names, (64, 64, 64), strict=True)))
    off = {"descriptors": False, "specialize": False, "persistent": False, "flatten": False, "epilogue": 1}
    return replace(schedule, num_warps=4, num_stages=2, **off)


def built(op: Op, schedule: Schedule) -> Built:
    return build((op,), schedule, EXACT_FP32, H100, Config.from_env())


def test_specialisation_that_did_not_happen_is_noticed(product: Op, plain: Schedule) -> None:
    first = built(product, plain)
    with_descriptors = replace(plain, descriptors=True)
    special = built(product, replace(with_descriptors, specialize=True))
    assert special.binary is not None and special.binary.warp_specialized
    assert special.why_not(first) is None
    pretended = replace(built(product, with_descriptors), schedule=special.schedule)
    assert pretended.why_not(first) == "is not specialised, though it was to be"


def test_registers_that_do_not_fit_are_noticed(product: Op, plain: Schedule) -> None:
    first = built(product, plain)
    names = [a.name for a in plain.axes]
    crowded = built(product, with_tiles(plain, **{names[0]: 128, names[1]: 256}))
    assert first.spill_bytes == 0 < crowded.spill_bytes
    assert crowded.why_not(first) == f"spills {crowded.spill_bytes} bytes a thread"
    assert first.why_not(crowded) is None


def test_what_does_not_fit_on_the_chip_is_refused(product: Op, plain: Schedule) -> None:
    names = [a.name for a in plain.axes]
    large = with_tiles(plain, **dict(zip(names, (128, 256, 128), strict=True)))
    with pytest.raises(CompileError, match="bytes of shared memory"):
        built(product, replace(large, num_warps=8, num_stages=4))


def test_equal_kernels_have_equal_keys(product: Op, plain: Schedule) -> None:
    keys = [built(product, s).key(H100) for s in (plain, replace(plain), replace(plain, num_warps=8))]
    assert keys[0] == keys[1] != keys[2]
