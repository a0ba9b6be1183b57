"""The emitted file: its names, parameters and grid; the same text for identical layers; it runs on its own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rooftile.codegen.emit import emit
from rooftile.codegen.kernel import KernelParam
from rooftile.codegen.names import readable
from rooftile.errors import InternalError
from rooftile.ir.parser import parse_graph
from rooftile.ir.substitution import evaluate
from rooftile.target import A100, CPU, H100, Target
from tests.codegen.cases import CASES, COMPILED_ONLY, KERNELS, build

SOFTMAX = """
symbols s: 1..
graph softmax(%x: bf16[s, 100]) {
    %x1 = cast(%x) : f32[s, 100]  @ "layers.3.attn" model.py:12
    %max = reduce.max(%x1, dims=[1]) : f32[s]  @ "layers.3.attn" model.py:12
    %e = expand(%max, dims=[0]) : f32[s, 100]
    %d = pointwise.sub(%x1, %e) : f32[s, 100]
    %p = pointwise.exp(%d) : f32[s, 100]
    %sum = reduce.sum(%p, dims=[1]) : f32[s]
    %f = expand(%sum, dims=[0]) : f32[s, 100]
    %o = pointwise.div(%p, %f) : f32[s, 100]  @ "layers.3.attn" model.py:13
    %y = cast(%o) : bf16[s, 100]
    return %y
}
"""


def _text(name: str) -> str:
    return (KERNELS / f"{name}.ir").read_text()


def _code(source: str) -> str:
    """From the imports to the end of the kernel."""
    return source[source.index("import triton\n") : source.index('if __name__ == "__main__":')]


@pytest.mark.parametrize("name", ["matmul", "matmul_symbolic", "softmax", "layer_norm", "gather"])
def test_kernel_reads_like_this(name: str, snapshot: Any) -> None:
    assert _code(build(name, H100).source) == snapshot


@pytest.mark.parametrize("name", [*CASES, *COMPILED_ONLY])
def test_text_is_the_same_every_time(name: str) -> None:
    assert build(name, H100) == build(name, H100)


def test_identical_layers_have_the_same_code() -> None:
    first = _text("matmul").replace("kernel linear", 'kernel "layers.0.linear"').replace("%w", "%layers.0.w")
    second = first.replace("layers.0", "layers.17").replace("%dot", "%dot_5")
    a, b = (emit(parse_graph(text), H100) for text in (first, second))
    assert a.source != b.source  # the header names the layer
    assert (a.name, _code(a.source), a.params) == (b.name, _code(b.source), b.params)


@pytest.mark.parametrize(("target", "waits"), [(H100, True), (A100, False), (CPU, False)], ids=lambda x: str(x))
def test_a_kernel_that_is_launched_early_waits_first(target: Target, waits: bool) -> None:
    kernel = emit(parse_graph(_text("softmax")), target)
    first = _code(kernel.source).split(f"def {kernel.name}", 1)[1].splitlines()[1]
    assert kernel.waits is waits and first.strip().startswith("gdc_wait()") is waits


def test_user_lines_stay_out_of_the_code() -> None:
    kernel = emit(parse_graph(_text("softmax")), H100, parse_graph(SOFTMAX))
    header, code = kernel.source.split("import triton\n", 1)
    assert "model.py:12" in header and "model.py:13" in header
    assert "model.py" not in code


def test_parameters_are_the_buffers_and_the_sizes_in_use() -> None:
    kernel = build("matmul_symbolic")
    buffers = tuple(KernelParam(f"{name}_ptr", "buffer", "f16") for name in "aby")
    sizes = tuple(KernelParam(name, "size", "i32", aligned=False) for name in "kmn")
    assert kernel.params == (*buffers, *sizes)


def test_known_divisor_makes_a_size_aligned() -> None:
    text = _text("copy").replace("1..4096", "1..4096 % 32").replace("grid(128)", "grid(64)")
    assert emit(parse_graph(text), CPU).params[-1] == KernelParam("s", "size", "i32", aligned=True)


def test_size_beyond_32_bits_is_passed_in_64() -> None:
    text = _text("copy").replace("1..4096", "1..8000000000")
    kernel = emit(parse_graph(text), CPU)
    assert kernel.params[-1].dtype == "i64"
    assert "tl.cast(tl.program_id(0), tl.int64) * 128" in kernel.source


@pytest.mark.parametrize("name", [*CASES, *COMPILED_ONLY])
def test_grid_counts_the_tiles(name: str) -> None:
    kernel = build(name)
    sizes = dict(CASES[name].sizes) if name in CASES else {}
    axes = parse_graph(_text(name)).attrs["axes"]
    tiles = 1
    for _, extent, role, tile in axes:
        tiles *= -(-evaluate(extent, sizes) // tile) if role == "grid" else 1
    assert [evaluate(g, sizes) for g in kernel.grid] == [tiles]


def test_dot_too_short_for_the_matrix_units_is_refused() -> None:
    text = _text("int8").replace("loop(32)", "loop(16)").replace("k=32", "k=16")
    with pytest.raises(InternalError, match="32 steps at least"):
        emit(parse_graph(text), H100)


def test_axis_outside_its_loop_is_refused() -> None:
    text = _text("nested_loops").replace("store(%total[b]", "store(%total[i]")
    with pytest.raises(InternalError, match="outside its loop"):
        emit(parse_graph(text), H100)


def test_file_checks_itself(tmp_path: Path) -> None:
    path = tmp_path / "softmax.py"
    path.write_text(emit(parse_graph(_text("softmax")), CPU, parse_graph(SOFTMAX)).source)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    error = re.search(r"^y: relative error (\S+)$", done.stdout, re.MULTILINE)
    assert error and float(error[1]) < 4e-3


def test_quotes_in_names_do_not_break_the_file() -> None:
    body = parse_graph(SOFTMAX.replace('"layers.3.attn" model.py:12', '"say \\"\\"\\"hi\\"\\"\\" \\\\" model.py:12'))
    kernel = emit(parse_graph(_text("softmax")), CPU, body)
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(kernel.source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert parse_graph(constants["IR"]).ops[0].loc.module == 'say """hi""" \\'


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layers.3.mlp_12", "layers_mlp"),
        ("h0", "h0"),
        ("3d conv", "_3d_conv"),
        ("0", "value"),
        ("größe", "gr_e"),
        ("x" * 100, "x" * 48),
    ],
)
def test_readable_names(name: str, expected: str) -> None:
    assert readable(name) == expected
    assert readable(name).isidentifier()
