"""Recorded programs, by a recorder that does again on the CPU what it saw: what is copied, and when it is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rooftile.runtime import graphs
from rooftile.runtime.graphs import MOST_MOVES, GraphProgram, Replay, why_not
from rooftile.runtime.plan import Plan
from tests.runtime.test_plan import Chain, program, sums

N = 64


class Again:
    """Records by remembering; like a CUDA graph's, its work reads and writes the same memory each time."""

    def __init__(self) -> None:
        self.recordings = 0
        self.replays = 0
        self.elsewhere = False
        self.fails = False

    def record(self, work: Callable[[], None]) -> Replay:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recordings += 1

        def replay() -> None:
            self.replays += 1
            work()

        return replay

    def is_recording(self) -> bool:
        return self.elsewhere

    def order(self) -> None:
        pass


def recorded(plan: Plan) -> tuple[GraphProgram, Again]:
    again = Again()
    return GraphProgram(program(plan), again), again


def weighted() -> Plan:
    """``x + w``."""
    chain = Chain("x", "w")
    return chain.plan(chain.add(*chain.inputs), kinds=("input", "parameter"))


def test_the_first_call_is_plain_and_the_next_ones_are_replays() -> None:
    run, again = recorded(sums(3))
    x, y = torch.randn(N), torch.randn(N)
    for calls in range(4):
        torch.testing.assert_close(run([x, y], {"n": N})[0], x + 3 * y)
        assert (again.recordings, again.replays) == (min(calls, 1), calls)


def test_an_input_that_stays_is_read_where_it_lies() -> None:
    run, again = recorded(sums(1))
    x, y = torch.zeros(N), torch.zeros(N)
    for value in range(4):
        x.fill_(value)
        assert run([x, y], {"n": N})[0][0] == value
    assert again.recordings == 1


def test_an_input_that_moves_is_copied_from_then_on() -> None:
    run, again = recorded(sums(1))
    y = torch.ones(N)
    kept = [torch.full((N,), float(n)) for n in range(6)]
    assert [run([x, y], {"n": N})[0][0].item() for x in kept] == [n + 1.0 for n in range(6)]
    assert again.recordings == 1  # it had moved when the first recording was made
    late = [torch.full((N,), float(n)) for n in range(3)]
    assert [run([kept[0], y], {"n": N})[0][0].item() for y in late] == [0.0, 1.0, 2.0]
    assert again.recordings == 2


def test_results_outlive_the_next_replay() -> None:
    run, _ = recorded(sums(2))
    x, y = torch.ones(N), torch.ones(N)
    results = []
    for value in range(4):
        x.fill_(value)
        results += run([x, y], {"n": N})
    assert [r[0].item() for r in results] == [2.0, 3.0, 4.0, 5.0]


def test_a_result_may_be_the_next_input() -> None:
    run, _ = recorded(sums(2))
    x, y = torch.zeros(N), torch.ones(N)
    for _ in range(5):
        (x,) = run([x, y], {"n": N})
    assert x[0] == 10.0


def test_every_size_has_its_recording() -> None:
    run, again = recorded(sums(2))
    ones = {n: torch.ones(n) for n in (8, 16)}
    for n in (8, 16) * 3:
        assert run([ones[n], ones[n]], {"n": n})[0].tolist() == [3.0] * n
    assert again.recordings == 2


def test_only_so_many_sizes_are_recorded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(graphs, "MOST_SIZES", 2)
    run, again = recorded(sums(1))
    ones = {n: torch.ones(n) for n in (8, 16, 24, 32)}
    for n in [*ones] * 4:
        assert run([ones[n], ones[n]], {"n": n})[0].tolist() == [2.0] * n
    assert (again.recordings, again.replays) == (2, 2 * 3)
    assert "2 other sizes are recorded" in caplog.text


def test_weights_are_never_copied_and_a_moved_one_is_recorded_again() -> None:
    run, again = recorded(weighted())
    x, weights = torch.ones(N), [torch.full((N,), float(n)) for n in range(3)]
    for w in weights:
        for _ in range(3):
            assert run([x, w], {"n": N})[0][0] == 1 + w[0]
    assert again.recordings == 3


def test_weights_that_keep_moving_end_it(caplog: pytest.LogCaptureFixture) -> None:
    run, again = recorded(weighted())
    kept = [torch.full((N,), float(n)) for n in range(MOST_MOVES + 4)]
    with caplog.at_level(logging.WARNING, "rooftile.graphs"):
        for w in kept:
            assert run([w, w], {"n": N})[0][0] == 2 * w[0]
    assert 1 < again.recordings <= MOST_MOVES
    assert [r.getMessage() for r in caplog.records] == [
        "chain runs without a CUDA graph: its weights have moved 8 times"
    ]


def test_what_cannot_be_recorded_runs_plainly_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    run, again = recorded(sums(1))
    again.fails = True
    with caplog.at_level(logging.WARNING, "rooftile.graphs"):
        for _ in range(3):
            assert run([torch.ones(N), torch.ones(N)], {"n": N})[0][0] == 2
    (record,) = caplog.records
    assert "recording failed: operation not permitted" in record.getMessage()


def test_a_call_inside_somebody_elses_recording_is_a_plain_one() -> None:
    run, again = recorded(sums(1))
    x = torch.ones(N)
    run([x, x], {"n": N})
    again.elsewhere = True
    run([x, x], {"n": N})
    assert again.recordings == 0


def test_an_aten_call_the_host_waits_for_is_not_recorded() -> None:
    chain = Chain("x", "y")
    plain = chain.call("aten.neg.default", chain.inputs[0])
    assert why_not(chain.plan(plain)) is None
    waits = Chain("x", "y")
    value = waits.call("aten.nonzero.default", waits.inputs[0])
    assert why_not(waits.plan(value)) == "the host waits for the result of aten.nonzero.default"


def test_aten_calls_and_copied_results_are_replayed() -> None:
    chain = Chain("x", "y")
    x, y = chain.inputs
    run, again = recorded(chain.plan(chain.add(chain.call("aten.neg.default", x), y), x))
    for n in range(4):
        given = torch.full((N,), float(n))
        total, same = run([given, torch.ones(N)], {"n": N})
        assert (total[0].item(), same[0].item()) == (1.0 - n, n) and same.data_ptr() != given.data_ptr()
    assert again.replays == 3


def test_misaligned_and_negated_inputs_are_copied() -> None:
    run, _ = recorded(sums(1))
    line = torch.randn(N + 1)
    pairs = torch.randn(N, dtype=torch.complex64).conj()
    negated = torch.view_as_real(pairs.resolve_conj())[:, 1].contiguous()._neg_view()
    for _ in range(3):
        torch.testing.assert_close(run([line[1:], negated], {"n": N})[0], line[1:] + negated)


def test_inference_mode_may_come_and_go() -> None:
    run, again = recorded(sums(1))
    y = torch.ones(N)
    for number in range(6):
        with torch.inference_mode(number % 2 == 1):
            assert run([torch.full((N,), float(number)), y], {"n": N})[0][0] == number + 1
    assert again.replays == 5


def test_inputs_that_want_gradients_are_copied_without_them() -> None:
    run, _ = recorded(sums(1))
    for number in range(4):
        x = torch.full((N,), float(number), requires_grad=True)
        (result,) = run([x, torch.ones(N)], {"n": N})
        assert result[0] == number + 1 and not result.requires_grad


def test_threads_take_turns() -> None:
    run, _ = recorded(sums(4))

    def call(value: float) -> bool:
        x, y = torch.full((N,), value), torch.ones(N)
        return all(bool((run([x, y], {"n": N})[0] == value + 4).all()) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, map(float, range(8))))
