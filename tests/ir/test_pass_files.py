"""Every `tests/ir/<pass>/*.ir`: a graph, a line `---`, and the graph that the pass makes of it.

The text must be exactly that (`pytest --update` writes what is made now), and both graphs, run by the reference
evaluator on random inputs, must keep the promise of the same answer. Comments above say what is shown, and may set

    # run: canonicalize, axes        the passes (default: the one that the folder is named after)
    # target: h100                   the device (default: cpu)
    # sizes: s0=12                   run-time sizes (default: the least that is 3 or more)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from rooftile.ir.core import Graph, Value
from rooftile.ir.evaluator import evaluate
from rooftile.ir.expr import Symbol
from rooftile.ir.expr import evaluate as evaluate_size
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.passes.opt import run_named
from rooftile.target import target_named

FILES = sorted(Path(__file__).parent.glob("*/*.ir"))
SEPARATOR = "---\n"
STABLE = ("canonicalize", "axes")  # passes that find nothing to do on their own result


def settings(text: str) -> dict[str, str]:
    """The settings in the comments above a graph."""
    return dict(re.findall(r"^# (run|target|sizes): (.*)$", text, re.MULTILINE))


def least_size(symbol: Symbol) -> int:
    """The smallest size from 3 on that the symbol's facts allow."""
    return -(-max(symbol.lo, 3) // symbol.divisor) * symbol.divisor


def random_input(value: Value, bindings: Mapping[str, int]) -> torch.Tensor:
    """Normal floats, and integers that are indices of any dimension of three or more."""
    shape = [evaluate_size(size, bindings) for size in value.shape]
    if value.dtype.is_float:
        return torch.randn(shape).to(value.dtype.torch)
    return torch.randint(0, 3 if value.dtype.kind == "int" else 2, shape).to(value.dtype.torch)


def error(y: torch.Tensor, r: torch.Tensor) -> float:
    """The relative error in the 2-norm over finite positions."""
    finite = torch.isfinite(r) & torch.isfinite(y)
    y, r = y.double()[finite], r.double()[finite]
    return float((y - r).norm() / r.norm().clamp(min=1e-300))


def assert_same_answer(before: Graph, after: Graph, bindings: Mapping[str, int]) -> None:
    """The promise of the README, with `before` as eager; integers and booleans must be equal."""
    torch.manual_seed(0)
    inputs = [random_input(v, bindings) for v in before.inputs]
    eager, ours, exact = (
        evaluate(graph, inputs, bindings, promote)
        for graph, promote in ((before, False), (after, False), (before, True))
    )
    for value, e, y, r in zip(before.outputs, eager, ours, exact, strict=True):
        assert (e.dtype, e.shape) == (y.dtype, y.shape)
        if not value.dtype.is_float:
            assert torch.equal(e, y), f"%{value.name}"
            continue
        assert torch.equal(e.isnan(), y.isnan()) and torch.equal(e.isinf(), y.isinf()), f"%{value.name}"
        assert error(y, r) <= 1.1 * error(e, r) + 4e-7, f"%{value.name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_pass_file(path: Path, request: pytest.FixtureRequest) -> None:
    text, _, expected = path.read_text().partition(SEPARATOR)
    said = settings(text)
    target = target_named(said.get("target", "cpu"))
    passes = said.get("run", path.parent.name).split(", ")
    result = run_named(text, passes, target, str(path))
    if request.config.getoption("--update") and result != expected:
        path.write_text(text + SEPARATOR + result)
        expected = result
    assert result == expected

    before, after = parse_graph(text, str(path)), parse_graph(result)
    assert print_graph(after) == result
    bindings = {s.name: least_size(s) for s in before.size_symbols()}
    bindings |= {name: int(size) for name, size in re.findall(r"(\w+)=(\d+)", said.get("sizes", ""))}
    assert_same_answer(before, after, bindings)
    if passes[-1] in STABLE:
        assert run_named(result, passes[-1:], target) == result
