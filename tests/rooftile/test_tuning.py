"""From `tune` to a lock file, and from a lock file to compiled kernels."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import rooftile
from rooftile import measured, plans, tuning
from rooftile.cli import app
from rooftile.compilation import Compilation
from rooftile.config import Config
from rooftile.driver import collecting
from rooftile.errors import OptionError
from rooftile.ir.core import Graph
from rooftile.ir.schedule import Schedule
from rooftile.passes.lowering.contractions import EXACT_FP32
from rooftile.plans import say_no_graphs
from rooftile.runtime.plan import Plan
from rooftile.runtime.tuning.clocks import WallClock
from rooftile.runtime.tuning.lock import read_lock, update_lock
from rooftile.target import CPU
from tests.regions import matmul

MODELS = str(Path(__file__).parent / "models_to_name.py")
X, W = torch.randn(96, 64), torch.randn(64, 80)


class SmallTilesAreFast(WallClock):
    """A clock for tests: the smaller the tiles, the faster."""

    def microseconds(self, calls: Sequence[Any], repeats: int) -> list[list[float]]:
        return [[100.0 + sum(a.tile for a in call.built.schedule.axes)] * repeats for call in calls]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch._dynamo.reset()
    measured._say_missing.cache_clear()
    measured.say_nothing_is_timed.cache_clear()
    say_no_graphs.cache_clear()
    monkeypatch.setattr(tuning, "clock_for", lambda target, device: SmallTilesAreFast())
    yield


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "rooftile.lock"
    rooftile.tune(matmul, X, W, lock=path)
    return path


def compiled(model: Callable[..., Any], *inputs: torch.Tensor, **options: Any) -> Compilation:
    torch._dynamo.reset()
    with collecting() as compilations:
        result = rooftile.compile(model, options=options)(*inputs)
    torch.testing.assert_close(result, model(*inputs), rtol=1e-4, atol=1e-4)
    return compilations[0]


def schedules(compilation: Compilation) -> list[Schedule]:
    return [Schedule.from_attrs(op.attrs) for op in compilation.graph.ops if op.name == "region"]


def test_tuning_writes_what_compiling_reads(lock: Path) -> None:
    (entry,) = read_lock(lock)
    before, after = compiled(matmul, X, W), compiled(matmul, X, W, lock=lock)
    assert schedules(before) != schedules(after)
    assert tuple(f"{a.name}: {a.role} {a.tile}" for a in schedules(after)[0].axes) == entry.axes
    (row,) = [e for e in after.context.ledger if e.decision == "rescheduled"]
    assert "the first choice" in row.reason and "on cpu" in row.reason


def test_with_a_lock_nothing_is_timed(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "Search", lambda *_: pytest.fail("something was timed"))
    compiled(matmul, X, W, lock=lock, autotune="full")
    monkeypatch.setenv("ROOFTILE_LOCK", str(lock))
    assert schedules(compiled(matmul, X, W)) == schedules(compiled(matmul, X, W, lock=lock))


def test_other_names_and_lines_are_the_same_kernel(lock: Path) -> None:
    def renamed(tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        product = tokens @ weight
        return torch.relu(product)

    assert schedules(compiled(renamed, X, W, lock=lock)) == schedules(compiled(matmul, X, W, lock=lock))


def test_a_kernel_without_an_entry_is_said_once(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        compiled(lambda x: torch.sigmoid(x), X, lock=lock)
    said = [r.getMessage() for r in caplog.records if r.name == "rooftile.tuning"]
    assert len(said) == 1 and "no entry for 1 of 1 kernels on cpu" in said[0]


def test_an_entry_that_fits_no_more_is_left_out(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock.write_text(lock.read_text().replace("num_warps", "warp_count"))
    assert schedules(compiled(matmul, X, W, lock=lock)) == schedules(compiled(matmul, X, W))
    assert "fits no more: there is no option warp_count" in caplog.text


def test_a_lock_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        compiled(matmul, X, W, lock=tmp_path / "none.lock")


def test_run_time_sizes_are_tuned_for_those_of_the_inputs(tmp_path: Path) -> None:
    path = tmp_path / "rooftile.lock"
    for rows in (40, 300):
        torch._dynamo.reset()
        rooftile.tune(matmul, torch.randn(rows, 64), W, lock=path, dynamic=True)
    buckets = [sorted(entry.sizes.values()) for entry in read_lock(path)]
    assert buckets == [[64, 64, 128], [64, 128, 512]]


@pytest.fixture
def two_buckets(tmp_path: Path) -> Path:
    """A lock with tiles of 16 for some 40 rows and of 64 for some 300."""
    path = tmp_path / "rooftile.lock"
    for rows in (40, 300):
        torch._dynamo.reset()
        rooftile.tune(matmul, torch.randn(rows, 64), W, lock=path, dynamic=True)
    for entry, tile in zip(read_lock(path), (16, 64), strict=True):
        name, role, _ = entry.axes[0].split(" ")
        update_lock(path, [replace(entry, axes=(f"{name} {role} {tile}", *entry.axes[1:]))])
    return path


@pytest.mark.parametrize(("rows", "tile"), [(30, 16), (40, 16), (500, 64), (3000, 64)])
def test_of_several_buckets_that_of_the_first_call_is_used(two_buckets: Path, rows: int, tile: int) -> None:
    torch._dynamo.reset()
    with collecting() as compilations:
        rooftile.compile(matmul, dynamic=True, options={"lock": two_buckets})(torch.randn(rows, 64), W)
    assert schedules(compilations[0])[0].axes[0].tile == tile


def test_a_call_in_another_bucket_gets_that_ones_schedule(two_buckets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make_plan = plans.make_plan

    def noted(graph: Graph, kernels: Any) -> Plan:
        made.extend(str(Schedule.from_attrs(op.attrs)) for op in graph.ops)
        return make_plan(graph, kernels)

    monkeypatch.setattr(plans, "make_plan", noted)
    torch._dynamo.reset()
    fast = rooftile.compile(matmul, dynamic=True, options={"lock": two_buckets})
    for rows in (40, 300, 50, 20, 310, 1000):
        x = torch.randn(rows, 64)
        torch.testing.assert_close(fast(x, W), matmul(x, W), rtol=1e-4, atol=1e-4)
    assert ["grid(16)" in text for text in made] == [True, False]  # each once, for the first call in its bucket


def test_a_lock_is_read_once_and_not_when_a_bucket_is_first_called(two_buckets: Path) -> None:
    torch._dynamo.reset()
    fast = rooftile.compile(matmul, dynamic=True, options={"lock": two_buckets})
    fast(torch.randn(40, 64), W)
    two_buckets.write_text("edited while this runs")
    x = torch.randn(300, 64)
    torch.testing.assert_close(fast(x, W), matmul(x, W), rtol=1e-4, atol=1e-4)


def test_kernels_without_axes_are_locked_too(tmp_path: Path) -> None:
    path, x = tmp_path / "rooftile.lock", torch.tensor(2.0)
    rooftile.tune(lambda t: t.exp() + 1, x, lock=path, effort="quick")
    (entry,) = read_lock(path)
    assert entry.axes == () and entry.options
    torch._dynamo.reset()
    fast = rooftile.compile(lambda t: t.exp() + 1, options={"lock": path})
    torch.testing.assert_close(fast(x), x.exp() + 1)


def test_the_report_is_data_and_text(lock: Path) -> None:
    report = rooftile.tune(matmul, X, W, lock=lock, effort="quick")
    assert "first choice" in str(report) and "grid" in str(report)
    (row,) = json.loads(json.dumps(report.to_dict()))["kernels"]
    assert row["microseconds"] < row["first_microseconds"] and row["timed"] > 1


def test_a_lock_that_cannot_be_written_is_refused_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "Search", lambda *_: pytest.fail("timed"))
    (tmp_path / "file").write_text("")
    for lock in (tmp_path / "file", tmp_path / "file" / "rooftile.lock", tmp_path):
        with pytest.raises(OptionError):
            rooftile.tune(matmul, X, W, lock=lock)


def test_without_a_gpu_it_is_said_once_what_times_are_worth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tuning._say_interpreted.cache_clear()
    for _ in range(2):
        rooftile.tune(matmul, X, W, lock=tmp_path / "rooftile.lock", effort="quick", seconds=0)
    assert caplog.text.count("it is the interpreter that is timed") == 1


def test_an_unknown_effort_is_refused() -> None:
    with pytest.raises(OptionError, match="effort cannot be 'fill'"):
        rooftile.tune(matmul, X, W, effort="fill")


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_command_tunes_and_checks(tmp_path: Path) -> None:
    lock = str(tmp_path / "rooftile.lock")
    assert "Tuned for cpu" in run("tune", f"{MODELS}:with_inputs", "--lock", lock, "--effort", "quick")
    assert "locked" in run("tune", f"{MODELS}:with_inputs", "--lock", lock, "--check")
    other = run("tune", f"{MODELS}:with_inputs", "--lock", lock, "--check", "--target", "h100", code=1)
    assert "missing" in other and "h100, sm_90, 132 processors" in other


def test_the_check_knows_versions_and_misfits(tmp_path: Path) -> None:
    lock = tmp_path / "rooftile.lock"
    run("tune", f"{MODELS}:with_inputs", "--lock", str(lock), "--json")
    check = ("tune", f"{MODELS}:with_inputs", "--lock", str(lock), "--check", "--json")
    whole = lock.read_text()
    lock.write_text(whole.replace("triton 3", "triton 2"))
    assert json.loads(run(*check, code=1))[0]["status"] == "other versions"
    lock.write_text(whole.replace("loop", "whole"))
    assert json.loads(run(*check, code=1))[0]["status"] == "misfit"


def test_nothing_is_timed_on_the_cpu_while_compiling(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        compiled(matmul, X, W, autotune="quick")
    said = [r.getMessage() for r in caplog.records if r.name == "rooftile.tuning"]
    assert len(said) == 1 and "nothing is timed on cpu" in said[0]


def test_what_autotuning_finds_is_kept_for_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "clock_for", lambda target, device: SmallTilesAreFast())
    regions = [op for op in compiled(matmul, X, W).graph.ops if op.name == "region"]
    config = replace(Config.from_env(), cache_dir=tmp_path, autotune="quick")
    known = measured.Measured(CPU, torch.device("cpu"), config, EXACT_FP32, {})
    found = known.autotuned(regions)
    assert (tmp_path / "tuned-quick.lock").is_file() and len(found) == 1
    monkeypatch.setattr(measured, "entry_of", lambda *_: pytest.fail("timed again"))
    assert known.autotuned(regions) == found


@pytest.mark.parametrize("fault", ["damaged", "not writable"])
def test_autotuning_goes_on_where_the_cache_is_of_no_use(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measured, "clock_for", lambda target, device: SmallTilesAreFast())
    regions = [op for op in compiled(matmul, X, W).graph.ops if op.name == "region"]
    folder, kept = tmp_path / "cache", tmp_path / "cache" / "tuned-quick.lock"
    if fault == "damaged":
        folder.mkdir()
        kept.write_text("format = 1\n[kernel]\n")
    else:
        folder.write_text("a file where the folder should be")
    config = replace(Config.from_env(), cache_dir=folder, autotune="quick")
    assert len(measured.Measured(CPU, torch.device("cpu"), config, EXACT_FP32, {}).autotuned(regions)) == 1
    assert ("damaged" in caplog.text, "this process only" in caplog.text) == (fault == "damaged", fault != "damaged")
    assert kept.is_file() == (fault == "damaged")


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_modes_that_need_a_gpu_say_so_once(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        torch._dynamo.reset()
        torch.testing.assert_close(rooftile.compile(lambda t: t + 1, mode=mode)(X), X + 1)
    with caplog.at_level(logging.WARNING):
        said = [r.getMessage() for r in caplog.records if "CUDA graphs need a GPU" in r.getMessage()]
    assert len(said) == 1 and mode in said[0]
