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

from rooftile.ir.core import Value
from rooftile.ir.expr import Symbol
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.ir.substitution import evaluate
from rooftile.passes.opt import run_named
from rooftile.target import target_named
from tests.answers import assert_same_answer

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
    shape = [evaluate(size, bindings) for size in value.shape]
    if value.dtype.is_float:
        return torch.randn(shape).to(value.dtype.torch)
    return torch.randint(0, 3 if value.dtype.kind == "int" else 2, shape).to(value.dtype.torch)


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
    torch.manual_seed(0)
    assert_same_answer(before, after, [random_input(v, bindings) for v in before.inputs], bindings)
    if passes[-1] in STABLE:
        assert run_named(result, passes[-1:], target) == result
