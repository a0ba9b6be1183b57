"""The benchmark of attention: every case small, trials in processes, what is read from compiled kernels, the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch

import rooftile
from benchmarks import naive
from benchmarks.attention_table import attention_markdown, attention_section, faults
from benchmarks.attention_trial import ATTENTION_CASES, measure, prepare
from benchmarks.compiled import compiled_kernel, compiled_kernels
from benchmarks.processes import run, run_in_turn
from benchmarks.variants import VARIANTS
from rooftile.driver import collecting
from rooftile.ir.schedule import Schedule
from rooftile.runtime.cache import KernelCache
from rooftile.target import H100

SAYS = "from benchmarks.processes import tell, wait_for_turn; "


def python(code: str) -> list[str]:
    """A trial that runs ``code`` once."""
    return ["timeit", "-n", "1", "-r", "1", code]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ATTENTION_CASES)
def test_every_case_runs_small(name: str) -> None:
    with torch.no_grad():
        found = measure(prepare(name, "cpu", 32, ["FlexAttention", "cuDNN", "rooftile"]))
    assert list(found["contenders"]) == (["FlexAttention", "rooftile"] if name in VARIANTS else ["rooftile"])
    assert all(result["kept"] and result["ms"] > 0 for result in found["contenders"].values())
    assert found["kernels"] and found["compiled"] == []
    json.dumps(found)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_library_that_does_something_else_is_noticed() -> None:
    causal = VARIANTS["causal"]
    wrong = replace(causal, model=VARIANTS["full"].model)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(ATTENTION_CASES, "causal", wrong)
        found = prepare("causal", "cpu", 32, ["FlexAttention"]).found
    assert not found["FlexAttention"]["kept"]


def test_masks_are_counted() -> None:
    flops = {name: VARIANTS[name].workload("cpu", 32).flops for name in ("full", "causal", "window", "prefix")}
    pairs = {name: f / flops["full"] * 32 * 32 for name, f in flops.items()}
    # A window of 8, and a prefix of 10: 45 of its pairs are after the query.
    assert pairs == pytest.approx({"full": 1024, "causal": 528, "window": 228, "prefix": 573})


def test_trials_prepare_together_and_are_measured_in_turn() -> None:
    trials = [python(f"{SAYS}import time; time.sleep(1); wait_for_turn(); tell({{'n': {n}}})") for n in range(2)]
    failing = python("raise SystemExit('no such card')")
    found = list(run_in_turn([trials[0], failing, trials[1]], 60, [{}] * 3))
    assert found == [{"n": 0}, {"failure": "SystemExit: no such card"}, {"n": 1}]


def test_a_trial_that_never_ends_is_ended() -> None:
    start = perf_counter()
    sleeping = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(100)'])"
    assert run(python(sleeping), limit=1) == {"failure": "more than 1 s"}
    assert list(run_in_turn([python(sleeping)], 1, [{}])) == [{"failure": "more than 1 s"}]
    assert perf_counter() - start < 50


def test_what_a_schedule_asks_for_is_looked_for_in_the_kernel(tmp_path: Path) -> None:
    q, k, v = (torch.empty(1, 2, 256, 64, dtype=torch.bfloat16, device="meta") for _ in range(3))
    with torch.no_grad(), collecting() as compilations:
        rooftile.compile(naive.Full(), options={"target": "h100"})(q, k, v)
    cache = KernelCache(tmp_path)
    (kernel,) = compiled_kernels(compilations, cache)
    assert kernel.unmet == () and kernel.registers > 0 and kernel.shared_bytes <= H100.shared_memory
    (launch,) = compilations[0].plan.launches  # type: ignore[union-attr]
    schedule = replace(Schedule.from_attrs(launch.op.attrs), descriptors=True, specialize=True)
    plain = replace(cache.get_or_build(launch.kernel, H100), ttgir="")
    wanting = compiled_kernel("attention", launch.kernel.source, schedule, plain)
    assert wanting.unmet == ("no descriptors", "no warp specialisation")


def case(name: str, ms: float, visited: int, **ours: Any) -> dict[str, Any]:
    """Findings of an attention case in one kernel."""
    contenders = {"rooftile": {"ms": ms, "peak_bytes": 2**26, **ours}, "FlexAttention": {"ms": 1.0}, "cuDNN": {}}
    kernels = [{"loops": [{"axis": "j", "visited": visited, "total": 64, "phases": ["all"]}]}]
    facts = {"case": name, "variant": name, "title": VARIANTS[name].title, "length": 4096, "head_size": 128}
    return {**facts, "contenders": contenders, "kernels": kernels, "flops": 5e11}


def test_attention_in_a_table() -> None:
    causal = {**case("causal", 0.5, 33, kept=False), "compiled": [{"name": "swept", "unmet": ["spills"]}]}
    lines = attention_markdown([causal, case("full", 0.8, 64)]).splitlines()
    assert "| 0.800 ms, 625 TFLOP/s | 1.000 ms, 500 TFLOP/s | 1.25 | 64 of 64 | 1.00 | 64 MiB |  |" in lines[2]
    assert "| 2.00 | 33 of 64 | 1.21 |" in lines[3] and "promise broken; swept: spills" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_memory_bound_work_in_a_table() -> None:
    contenders = {"rooftile": {"ms": 0.1}, "torch.compile": {"failures": {"": "RuntimeError: a | b"}}}
    softmax = {"case": "softmax", "title": "softmax", "bytes": 2.4e8, "copy_bandwidth": 3e12, "contenders": contenders}
    lines = attention_markdown([softmax]).splitlines()
    assert "| 100.0 us | 2.40 TB/s | 80% |" in lines[2] and "RuntimeError: a / b" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_failures_have_a_row_and_cost_the_others_nothing() -> None:
    failed = {"case": "t5", "variant": "t5", "title": "T5", "length": 4096, "head_size": 128, "failure": "killed"}
    broken = {"case": "softmax", "title": "softmax", "failure": "killed too"}
    text = attention_markdown([failed, case("full", 0.8, 64), broken])
    assert "killed |" in text and "killed too" in text and "0.800 ms" in text
    assert faults(failed) == ["killed"] and not faults(case("full", 0.8, 64))


def test_results_of_one_card_share_a_table() -> None:
    records = [
        {"device": "H100", "versions": {"torch": "2"}, "date": "2026-11-23", "cases": [case(name, 0.8, 64)]}
        for name in ("full", "causal")
    ]
    assert attention_section(records).count("**H100, 2026-11-23** (torch 2):") == 1
