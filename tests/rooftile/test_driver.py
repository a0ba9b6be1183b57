"""From imported graphs to programs: what is recorded, dumped, required, and what an unusual request gives."""

from __future__ import annotations

import json
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rooftile.accuracy import promised, truth
from rooftile.config import CompileOptions
from rooftile.driver import build_program, collecting
from rooftile.errors import InternalError, OptionError, RequirementError
from rooftile.ir.builder import GraphBuilder
from rooftile.ir.core import Graph, Loc, TensorType
from rooftile.ir.dtypes import B1, BF16, F32, I64
from rooftile.ir.evaluator import evaluate
from rooftile.ir.expr import Size, symbol
from rooftile.ir.extern import encode
from rooftile.ir.parser import parse_graph
from rooftile.ir.printer import print_graph
from rooftile.passes.canonicalize import Canonicalize
from rooftile.reproduce import random_inputs

CPU = torch.device("cpu")


def attention_like(length: Size = 12) -> Graph:
    """A projection, a softmax over its columns, and a contraction with the result."""
    b = GraphBuilder("mix")
    x, w = b.input("x", TensorType(F32, (2, length, 16))), b.input("w", TensorType(F32, (16, 16)))
    with b.at(Loc("mix.proj", "mix.py", 7)):
        q = b.einsum("btc,dc->btd", x, w)
    scores = b.einsum("bid,bjd->bij", q, x)
    shifted = b.pointwise("exp", b.pointwise("sub", scores, b.reduce("max", scores, (2,), keepdim=True)))
    weights = b.pointwise("div", shifted, b.reduce("sum", shifted, (2,), keepdim=True))
    return b.finish([b.einsum("bij,bjd->bid", weights, x)], {"kinds": ("input", "parameter")})


def with_sort() -> Graph:
    b = GraphBuilder("sorted")
    x = b.input("x", TensorType(F32, (5, 8)))
    operands, attrs = encode("aten.msort.default", [b.pointwise("neg", x)], {}, [x.type])
    with b.at(Loc("model.router", "router.py", 3)):
        y = b.op("extern", operands, attrs)
    return b.finish([b.pointwise("mul", y, y)])


def assert_right(graph: Graph, options: CompileOptions | None = None) -> None:
    tensors, sizes = random_inputs(graph, CPU)
    ours = build_program(graph, options, CPU)(tensors, sizes)
    verdicts = promised(ours, evaluate(graph, tensors, sizes), truth(graph, tensors, sizes))
    assert all(v.kept for v in verdicts), verdicts


@pytest.mark.parametrize("length", [1, 7, 33])
def test_a_program_keeps_the_promise(length: int) -> None:
    assert_right(attention_like(length))


def test_one_program_serves_every_size() -> None:
    graph = attention_like(symbol("t", lo=2, hi=512))
    with collecting() as compilations:
        program = build_program(graph, None, CPU)
    for length in (2, 31, 64, 129):
        x, w = torch.randn(2, length, 16), torch.randn(16, 16)
        (ours,) = program([x, w], {"t": length})
        torch.testing.assert_close(ours, evaluate(graph, [x, w], {"t": length})[0], rtol=1e-4, atol=1e-4)
    assert len(compilations) == 1 and compilations[0].sizes == {"t": 2}


def test_an_aten_call_stays_in_its_place() -> None:
    assert_right(with_sort())


def test_the_ledger_says_which_calls_stay() -> None:
    with collecting() as compilations:
        build_program(with_sort(), None, CPU)
    (entry,) = compilations[0].context.ledger.of("extern")
    assert "aten.msort.default" in entry.reason and entry.sources == ("router.py:3",)


def test_no_extern_can_be_required() -> None:
    with pytest.raises(RequirementError, match=r"aten\.msort\.default runs as an ATen call") as error:
        build_program(with_sort(), CompileOptions(require=("no-extern",)), CPU)
    assert error.value.where == "router.py:3, in model.router"


def test_a_pipeline_that_is_stopped_early_still_computes() -> None:
    with collecting() as compilations:
        assert_right(attention_like(), CompileOptions(stop_after="fuse"))
    assert compilations[0].plan is None and compilations[0].stages[-1].name == "fuse"


def test_a_target_that_is_not_here_still_computes() -> None:
    with collecting() as compilations:
        assert_right(attention_like(), CompileOptions(target="h100"))
    (compilation,) = compilations
    assert compilation.target.name == "h100" and len(compilation.kernels) == len(compilation.graph.ops)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(OptionError, match="unknown target 'h10'"):
        build_program(attention_like(), CompileOptions(target="h10"), CPU)


def test_an_unknown_pass_to_stop_after_is_refused() -> None:
    with pytest.raises(OptionError, match="there is no such pass") as error:
        build_program(attention_like(), CompileOptions(stop_after="fuze"), CPU)
    assert "did you mean 'fuse'" in error.value.fix


def test_on_the_meta_device_nothing_is_computed() -> None:
    graph = attention_like(symbol("t", lo=2, hi=512))
    with collecting() as compilations:
        program = build_program(graph, CompileOptions(target="h100"), torch.device("meta"))
    given = [torch.empty(2, 300, 16, device="meta"), torch.empty(16, 16, device="meta")]
    (result,) = program(given, {"t": 300})
    assert result.is_meta and result.shape == (2, 300, 16)
    assert compilations[0].plan is not None and compilations[0].sizes == {"t": 300}


def test_a_dump_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="nothing can be dumped into"):
        build_program(attention_like(), CompileOptions(dump=tmp_path / "file" / "folder"), CPU)


def test_a_dump_holds_all_there_is_to_read(tmp_path: Path) -> None:
    build_program(attention_like(), CompileOptions(dump=tmp_path), CPU)
    irs = sorted(tmp_path.glob("*.ir"))
    assert irs[0].name == "00-import.ir" and irs[-1].name.endswith("-lower.ir")
    for path in irs:
        assert print_graph(parse_graph(path.read_text())) == path.read_text()
    kernels = sorted((tmp_path / "kernels").glob("*.py"))
    assert len(kernels) == json.loads((tmp_path / "report.json").read_text())["totals"]["kernels"]
    assert (tmp_path / "index.html").read_text().startswith("<!doctype html>")
    plan = (tmp_path / "plan.txt").read_text()
    assert all(f"launch {path.stem}[" in plan for path in kernels) and "arena" in plan


def test_the_repro_of_a_dump_builds_and_checks_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_program(attention_like(), CompileOptions(dump=tmp_path), CPU)
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(tmp_path / "repro.py"), run_name="__main__")
    assert done.value.code == 0
    assert "error" in capsys.readouterr().out


def test_further_graphs_get_folders_of_their_own(tmp_path: Path) -> None:
    for _ in range(2):
        build_program(attention_like(), CompileOptions(dump=tmp_path), CPU)
    assert (tmp_path / "graph-2" / "00-import.ir").is_file()


def test_a_dump_replaces_what_an_earlier_process_left(tmp_path: Path) -> None:
    for name in ("00-import.ir", "09-old.ir"):
        (tmp_path / name).write_text("stale")
    (tmp_path / "notes.txt").write_text("the user's own")
    build_program(attention_like(), CompileOptions(dump=tmp_path), CPU)
    assert not (tmp_path / "09-old.ir").exists() and (tmp_path / "notes.txt").exists()


def test_a_fault_of_ours_leaves_a_repro(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Graph:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(Canonicalize, "run", fail)
    with pytest.raises(InternalError, match="by nothing") as error:
        build_program(attention_like(), None, CPU)
    assert error.value.pass_name == "canonicalize"
    script = Path(error.value.repro)
    assert script.name == "repro.py"
    assert parse_graph((script.parent / "00-import.ir").read_text()).name == "mix"


def test_only_what_is_compiled_inside_is_collected() -> None:
    with collecting() as outer:
        build_program(attention_like(), None, CPU)
        with collecting() as inner:
            build_program(with_sort(), None, CPU)
    build_program(with_sort(), None, CPU)
    assert [c.imported.name for c in outer] == ["mix", "sorted"] and [c.imported.name for c in inner] == ["sorted"]


def test_threads_compile_and_run_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(assert_right, attention_like(n)) for n in (5, 6, 7, 8)]:
            done.result()


def test_random_inputs_are_positive_where_roots_are_taken_of_them() -> None:
    b = GraphBuilder("roots")
    variance, x = b.input("variance", TensorType(F32, (64,))), b.input("x", TensorType(F32, (3, 64)))
    shifted = b.pointwise("add", variance, b.pointwise("mul", variance, variance))
    scale = b.broadcast(b.pointwise("rsqrt", shifted), (3, 64))
    tensors, _ = random_inputs(b.finish([b.pointwise("mul", x, scale)]), CPU)
    assert tensors[0].min() >= 0 and tensors[1].min() < 0


def test_random_inputs_have_the_types_of_the_graph() -> None:
    b = GraphBuilder("typed")
    types = [TensorType(F32, (4, 6), strides=(1, 5)), TensorType(I64, (3,)), TensorType(B1, (5,)), TensorType(BF16, ())]
    values = [b.input(name, type) for name, type in zip("xyzw", types, strict=True)]
    tensors, sizes = random_inputs(b.finish(values), CPU)
    assert [(t.dtype, tuple(t.shape)) for t in tensors] == [(t.dtype.torch, t.shape) for t in types]
    assert tensors[0].stride() == (1, 5) and tensors[1].min() >= 0 and tensors[1].max() < 3 and sizes == {}


@pytest.mark.parametrize("target", [None, "h100"])
def test_a_length_is_a_quotient_by_a_size_that_cannot_be_large(target: str | None) -> None:
    """As of a grid of 64 points in so many rows: planned for thousands of rows, there would be no columns."""
    text = """\
symbols rows: 2..
graph main(%x: f32[rows, 64 // rows, 8 // (64 // rows)]) {
    with kinds=["input"]
    %sum = reduce.sum(%x, dims=[1]) : f32[rows, 8 // (64 // rows)]
    return %sum
}
"""
    graph = parse_graph(text)
    with collecting() as compilations:
        program = build_program(graph, CompileOptions(target=target), torch.device("meta" if target else "cpu"))
    (kernel,) = compilations[0].kernels.values()
    assert kernel.source
    x = torch.randn(8, 8, 1, device="meta" if target else "cpu")
    (got,) = program([x], {"rows": 8})
    assert got.shape == (8, 1) and (target or torch.allclose(got, x.sum(1)))
