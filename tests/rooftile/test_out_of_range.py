"""Indices out of range: an error that names the line where eager raises one, on the GPU a device assertion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import rooftile
from rooftile.codegen.emit import emit
from rooftile.driver import collecting
from rooftile.errors import OutOfRangeError
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100
from tests.regions import regions

Function = Callable[..., Tensor]
TABLE = torch.arange(40.0).reshape(10, 4)
HIDDEN = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
LINE = "test_out_of_range.py:"


def ids(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


BEYOND: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "embedding": (lambda w, i: F.embedding(i, w), (TABLE, ids(3, 10))),
    "embedding, negative": (lambda w, i: F.embedding(i, w), (TABLE, ids(3, -1))),
    "embedding in a product": (lambda w, i: F.embedding(i, w) @ w.T, (TABLE, ids(10, 3, 2))),
    "embedding of a part of a table": (lambda w, i: F.embedding(i, w[:5]), (TABLE, ids(5))),
    "embedding of a transposed table": (lambda w, i: F.embedding(i, w), (torch.randn(4, 10).T, ids(10))),
    "index": (lambda w, i: w[i], (TABLE, ids(3, 10))),
    "index, too negative": (lambda w, i: w[i], (TABLE, ids(3, -11))),
    "index of int32": (lambda w, i: w[i], (TABLE, ids(3, 10).int())),
    "two indices, one in another row": (lambda w, i, j: w[i, j], (TABLE, ids(3, 2), ids(1, 4))),
    "gather in another row": (lambda w, i: w.gather(1, i), (TABLE, ids(3, 4)[None])),
    "gather, negative": (lambda w, i: w.gather(1, i), (TABLE, ids(0, -1)[:, None])),
    "gather from what is computed": (lambda w, i: w.softmax(-1).gather(1, i), (TABLE, ids(3, 4)[:, None])),
    "index_select in another row": (lambda w, i: w.index_select(1, i), (TABLE, ids(3, 4))),
    "a target of cross-entropy": (lambda w, t: F.cross_entropy(w, t), (TABLE, ids(*range(10)).clamp(max=4))),
    "a target of cross-entropy from hidden states": (
        lambda h, w, t: F.cross_entropy(h @ w.T, t, ignore_index=-1),
        (HIDDEN, TABLE, ids(9, 0, -1, 10)),
    ),
    "a target that is negative and not ignored": (
        lambda h, w, t: F.cross_entropy(h @ w.T, t),
        (HIDDEN, TABLE, ids(9, 0, -100, -1)),
    ),
    "a log-probability's index": (
        lambda h, w, t: (h @ w.T).log_softmax(-1).gather(1, t[:, None]),
        (HIDDEN, TABLE, ids(9, 0, 3, 10)),
    ),
}


@pytest.mark.parametrize("name", BEYOND)
def test_an_index_out_of_range_is_an_error_that_names_the_line(name: str) -> None:
    torch._dynamo.reset()
    function, arguments = BEYOND[name]
    with pytest.raises((IndexError, RuntimeError)):
        function(*arguments)
    with pytest.raises(IndexError, match="an index is out of range: the dimension") as caught:
        rooftile.compile(function)(*arguments)
    assert isinstance(caught.value, OutOfRangeError)
    assert f"{LINE}{function.__code__.co_firstlineno}" in caught.value.where


WITHIN: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "negative indices": (lambda w, i: w[i], (TABLE, ids(-1, -10, 9))),
    "positions that a tile's idle lanes leave": (lambda w, i: w[i + torch.arange(7)], (TABLE, ids(*[3] * 7))),
    "indices in a part of the result": (lambda w, i: torch.cat([w[i - 3], w]), (TABLE, ids(*range(3, 10)))),
    "indices in a padded result": (lambda w, i: F.pad(w[i], (0, 0, 2, 3)), (TABLE, ids(9, 0, 4))),
    "an index into what is padded": (lambda w, i: F.pad(w, (1, 1))[:, i], (TABLE, ids(0, 5, 3))),
    "targets that are ignored": (lambda w, t: F.cross_entropy(w, t), (TABLE, ids(*[-100] * 5, 0, 1, 2, 3, 3))),
    "ignored targets of cross-entropy from hidden states": (
        lambda h, w, t: F.cross_entropy(h @ w.T, t),
        (HIDDEN, TABLE, ids(-100, 9, 0, -100)),
    ),
    "an ignored target beyond the end": (
        lambda h, w, t: F.cross_entropy(h @ w.T, t, ignore_index=17),
        (HIDDEN, TABLE, ids(17, 9, 0, 17)),
    ),
    "no indices": (lambda w, i: w[i], (TABLE, ids().long())),
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", WITHIN)
def test_indices_in_range_are_no_error(name: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    function, arguments = WITHIN[name]
    torch.testing.assert_close(rooftile.compile(function, dynamic=dynamic)(*arguments), function(*arguments))


def test_the_check_is_compiled_for_a_gpu() -> None:
    torch._dynamo.reset()
    with collecting() as found:
        rooftile.compile(F.embedding, options={"target": "h100"})(ids(1, 2), TABLE)
    (kernel,) = found[0].kernels.values()
    assert "mask=" in kernel.source  # nothing outside the table is read while the assertion is under way
    assert b"__assertfail" in compile_kernel(kernel, 90).cubin


def test_the_sweep_over_a_vocabulary_checks_its_targets() -> None:
    def loss(h: Tensor, w: Tensor, t: Tensor) -> Tensor:
        return F.cross_entropy(h @ w.T, t)

    shapes = (torch.empty(n, 256, dtype=torch.bfloat16, device="meta") for n in (1024, 8000))
    ops = regions(loss, (*shapes, torch.empty(1024, dtype=torch.int64, device="meta")), "h100")
    sweep = next(op for op in ops if any(inner.name == "contract" for inner in op.regions[0].ops))
    (check,) = [op for op in sweep.regions[1].ops if op.name == "check"]  # once for a row, not in every step
    assert check.attrs["message"] == "an index is out of range: the dimension that it reads has 8000 elements"
    binary = compile_kernel(emit(sweep.regions[1], H100, sweep.regions[0]), 90)
    # A call would let asynchronous products wait for one another: where there are any, a failed check only traps.
    assert b"__assertfail" not in binary.cubin and "ttng.warp_group_dot" in binary.ttgir
    assert binary.resources.spill_bytes == 0
