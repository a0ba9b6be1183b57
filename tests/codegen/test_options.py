"""A schedule's options change how a kernel runs, not what it computes; what can't be carried out is said."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rooftile.codegen.emit import emit
from rooftile.ir.core import freeze_attrs
from rooftile.ir.parser import parse_graph
from rooftile.target import CPU, H100
from tests.codegen.cases import CASES, KERNELS, assert_close, buffers_for, expected, kernel_graph, run
from tests.codegen.options import OPTIONS, build_with, with_options

NARROW = "%w[n, k], guard=[n < {}], fill=0.0"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", CASES)
def test_options_do_not_change_results(name: str, options: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    inputs, outputs = buffers_for(kernel_graph(name), case)
    run(build_with(name, options), [*inputs, *outputs], case.sizes)
    for ours, exact in zip(outputs, expected(case, inputs), strict=True):
        assert_close(ours, exact, case.tolerance)


@pytest.mark.parametrize("columns", [20, 100, 200, 264])
@pytest.mark.parametrize("descriptors", [False, True])
def test_pieces_beyond_the_end_are_not_stored(columns: int, descriptors: bool) -> None:
    torch.manual_seed(0)
    text = (KERNELS / "matmul.ir").read_text().replace("384", str(columns)).replace("%w[n, k]", NARROW.format(columns))
    text = text.replace("%bias[n]", f"%bias[n], guard=[n < {columns}], fill=0.0")
    graph = parse_graph(text.replace("guard=[m < 300])", f"guard=[m < 300, n < {columns}])"))
    graph = replace(graph, attrs=freeze_attrs({**graph.attrs, "epilogue": 4, "descriptors": descriptors}))
    inputs, (result,) = buffers_for(graph, CASES["matmul"])
    kernel = emit(graph, CPU)
    assert "tl.split(" in kernel.source
    run(kernel, [*inputs, result], {})
    assert_close(result, expected(CASES["matmul"], inputs)[0], CASES["matmul"].tolerance)


def test_programs_beyond_the_tiles_are_not_launched() -> None:
    kernel = build_with("matmul", "persistent", H100)
    assert kernel.programs({}) == (9,)
    assert emit(with_options("large", persistent=True), H100).programs({}) == (H100.sm_count,)
    assert "in tl.range(tl.program_id(0), 9, 132, flatten=True):" in kernel.source


# What the header says of each buffer, None where it goes through descriptors.
CARRIERS = {
    "attention": {"q": None, "k": None, "v": None, "o": "it is stored when its program ends"},
    "argmax": {"x": "it reads inf where its guard fails"},
    "causal": {"keep": "b1 has no descriptors", "x": None},
    "gather": {"table": "its index is read from memory", "y": "it is stored when its program ends"},
    "matmul": {"x": None, "w": None, "y": "it is stored when its program ends", "bias": "it has fewer than two axes"},
    "matmul_symbolic": {"a": "its rows are not aligned", "b": None},
    "double": {"a": "f64 has no descriptors"},
    "transpose": {"x": None, "y": "it is stored when its program ends"},
}


@pytest.mark.parametrize("name", CARRIERS)
def test_header_says_what_has_a_descriptor(name: str) -> None:
    (note,) = (line for line in build_with(name, "descriptors").source.splitlines() if line.startswith("Memory "))
    through, _, others = note.removeprefix("Memory ").rstrip(".").partition("through pointers: ")
    for buffer, reason in CARRIERS[name].items():
        if reason is None:
            assert buffer in through.replace(";", "").replace(",", "").split()
        else:
            assert f"{buffer} ({reason})" in others


def test_a_base_that_programs_move_becomes_a_dimension() -> None:
    source = build_with("matmul_batched", "together", H100).source
    assert "tl.reshape(q_block.load([b * 8 + h, i0, 0]), [32, 32])" in source  # 48 rows are no multiple of a tile
    assert "tl.reshape(k_block.load([b * 2 + h // 4, j0, 0]), [64, 32])" in source
    assert "y_block.store([b * 8 + h, i0, j0], tl.reshape(s, [1, 32, 64]))" in source


def test_what_a_piece_would_need_whole_keeps_the_epilogue_whole() -> None:
    assert "tl.split(" in build_with("matmul", "epilogue").source
    assert "tl.split(" not in build_with("attention", "epilogue").source


def test_kernel_reads_like_this(snapshot: Any) -> None:
    source = build_with("matmul", "together", H100).source
    assert source[: source.index('if __name__ == "__main__":')] == snapshot


def test_file_with_descriptors_checks_itself(tmp_path: Path) -> None:
    path = tmp_path / "matmul.py"
    path.write_text(build_with("matmul", "together").source)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "x_block = TensorDescriptor(x_ptr, " in path.read_text()
