"""Two products that share their first operand, written as one: where that can be done, with the results of two."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rooftile.codegen.emit import emit
from rooftile.codegen.kernel import Kernel
from rooftile.ir.core import freeze_attrs
from rooftile.ir.parser import parse_graph
from rooftile.runtime.build import compile_kernel
from rooftile.target import H100
from tests.codegen.cases import assert_close, run

TWO_BUFFERS = "%gate: bf16[{n}, {k}], %up: bf16[{n}, {k}]"
ONE_BUFFER = "%both: bf16[{rows}, {k}]"
JOINED = {"descriptors": True, "persistent": True, "joined": True}
KERNEL = """\
kernel gated(%x: bf16[{m}, {k}], {weights}, %y: bf16[{m}, {n}]) {{
    axis m = {m} : grid(64)
    axis n = {n} : grid({columns})
    axis k = {k} : loop(64)
    with grid=[n, m], group=[m, 2], num_warps=4, num_stages=3, outputs=1
    %start = constant(value={start}) : f32[m=64, n={columns}]
    %start_1 = constant(value=0.0) : f32[m=64, n={columns}]
    %a, %b = loop(%start, %start_1, axis=k) : f32[m=64, n={columns}], f32[m=64, n={columns}]
        body k(%a_part: f32[m=64, n={columns}], %b_part: f32[m=64, n={columns}]) {{
            %x_1 = load(%x[m, k], guard=[m < {m}, k < {k}], fill=0.0) : bf16[m=64, k=64]
            %first = load({first}, guard=[n < {n}, k < {k}], fill=0.0) : bf16[n={columns}, k=64]
            %dot = dot(%x_1, %first, %a_part, axis=k, precision="ieee") : f32[m=64, n={columns}]
            %second = load({second}, guard=[n < {n}, k < {k}], fill=0.0) : bf16[n={columns}, k=64]
            %dot_1 = dot(%x_1, %second, %b_part, axis=k, precision="ieee") : f32[m=64, n={columns}]
            return %dot, %dot_1
        }}
    %gated = pointwise.mul(%a, %b) : f32[m=64, n={columns}]
    %difference = pointwise.sub(%gated, %a) : f32[m=64, n={columns}]
    %out = cast(%difference) : bf16[m=64, n={columns}]
    store(%y[m, n], %out, guard=[m < {m}, n < {n}])
}}
"""


def gated(
    m: int, n: int, k: int, options: Mapping[str, object] = JOINED, *, weights: str = TWO_BUFFERS, **text: object
) -> Kernel:
    """``(x @ a.T) * (x @ b.T) - x @ a.T`` of ``m`` rows, ``n`` columns and depth ``k``."""
    rows = text.pop("rows", 2 * n)
    values = {"first": "%gate[n, k]", "second": "%up[n, k]", "columns": 64, "start": 0.0} | text
    source = KERNEL.format(m=m, n=n, k=k, weights=weights.format(n=n, k=k, rows=rows), **values)
    graph = parse_graph(source)
    return emit(replace(graph, attrs=freeze_attrs({**graph.attrs, **options})), H100)


def joined(kernel: Kernel) -> bool:
    """Whether the kernel has one dot, as its header says."""
    one = kernel.source.count("tl.dot(") == 1
    assert one == any(note.startswith("Products joined: of ") for note in kernel.notes)
    return one


def check(kernel: Kernel, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, *buffers: torch.Tensor) -> None:
    """Run the kernel on ``x`` and the ``buffers`` that hold both weights, and compare."""
    result = torch.full((len(x), len(first)), torch.nan, dtype=torch.bfloat16)
    run(kernel, [x, *buffers, result], {})
    a, b = x.double() @ first.double().T, x.double() @ second.double().T
    assert_close(result, a * b - a, 4e-3)


@given(
    m=st.integers(1, 150),
    n=st.integers(1, 150),
    k=st.integers(1, 20).map(lambda eighths: 8 * eighths),
    gap=st.integers(0, 40).map(lambda eighths: 8 * eighths),
    swapped=st.booleans(),
    epilogue=st.sampled_from([1, 2, 4]),
)
@settings(deadline=None, max_examples=25)
def test_two_buffers_are_one_operand_wherever_they_lie(
    m: int, n: int, k: int, gap: int, swapped: bool, epilogue: int
) -> None:
    memory = torch.randn(2 * n * k + gap).bfloat16()
    lower, upper = memory[: n * k].view(n, k), memory[n * k + gap :].view(n, k)
    first, second = (upper, lower) if swapped else (lower, upper)
    kernel = gated(m, n, k, JOINED | {"epilogue": epilogue})
    assert joined(kernel)
    check(kernel, torch.randn(m, k).bfloat16(), first, second, first, second)


@given(
    n=st.integers(1, 150),
    k=st.integers(1, 20).map(lambda eighths: 8 * eighths),
    apart=st.integers(1, 200),
    swapped=st.booleans(),
)
@settings(deadline=None, max_examples=15)
def test_parts_of_one_buffer_are_one_operand(n: int, k: int, apart: int, swapped: bool) -> None:
    both = torch.randn(n + apart, k).bfloat16()
    texts = ["%both[n, k]", f"%both[n + {apart}, k]"]
    parts = [both[:n], both[apart:]]
    if swapped:
        texts.reverse()
        parts.reverse()
    kernel = gated(70, n, k, weights=ONE_BUFFER, rows=n + apart, first=texts[0], second=texts[1])
    assert joined(kernel) and "swapped" not in kernel.source
    check(kernel, torch.randn(70, k).bfloat16(), parts[0], parts[1], both)


@pytest.mark.parametrize(
    "text",
    [
        {"start": 1.0},
        {"columns": 256},
        {"second": "%up[n, k + 8]"},
        {"weights": "%gate: bf16[{n}, {k}], %up: bf16[{n}, {k}] strides [128, 1]"},
        {"weights": "%gate: bf16[{n}, {k}], %up: bf16[{k}, {n}]", "second": "%up[k, n]"},
        {"weights": "%gate: bf16[{n}, {k}]", "second": "%gate[n, k]"},
    ],
    ids=lambda text: next(iter(text)),
)
def test_what_does_not_lie_at_one_distance_stays_two(text: dict[str, object]) -> None:
    assert not joined(gated(64, 128, 64, **text))  # type: ignore[arg-type]


def test_only_descriptors_that_the_host_makes_hold_both() -> None:
    assert not joined(gated(64, 64, 64, {"joined": True}))
    assert not joined(gated(64, 64, 64, {"descriptors": True, "specialize": True, "joined": True}))


@pytest.mark.parametrize("epilogue", [1, 2])
def test_matrix_units_are_fed_one_tile_of_both(epilogue: int) -> None:
    binary = compile_kernel(gated(4096, 4096, 1024, JOINED | {"epilogue": epilogue}, columns=128), 90)
    assert "instrShape = [16, 256, 16]" in binary.ttgir and binary.ttgir.count("ttng.warp_group_dot ") == 1
    assert "ttg.convert_layout" not in binary.ttgir and "ttg.local_load" not in binary.ttgir
    assert [layout.box for layout in binary.descriptors if len(layout.box) == 3] == [(2, 128, 64)]
    assert binary.resources.spill_bytes == 0


def test_file_checks_itself(tmp_path: Path) -> None:
    path = tmp_path / "gated.py"
    path.write_text(gated(70, 72, 72).source)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "gate_ptr, up_ptr = torch.stack([gate_ptr, up_ptr])" in path.read_text()
