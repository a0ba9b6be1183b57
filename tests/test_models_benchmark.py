"""The tables of docs/models.md from records, and which cases an architecture has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.models_table import coverage_markdown, extern_markdown, speed_markdown, speed_section
from benchmarks.zoo import trial
from benchmarks.zoo.architectures import ARCHITECTURES
from benchmarks.zoo.cases import inputs
from benchmarks.zoo.trial import CASES, Apart, has_case
from rooftile.accuracy import error

EXTERN = {"target": "aten.topk.default", "source": "moe.py:3", "count": 2}
RUN: dict[str, Any] = {"kept": True, "error": 1e-7, "allowed": 5e-7, "graphs": 1, "breaks": [], "kernels": [9, 2]}
RECORD: dict[str, Any] = {
    "name": "llama",
    "device": "CPU",
    "cases": [
        {
            "case": "llama",
            "runs": {
                "forward": {**RUN, "externs": [EXTERN], "compile": 1.23},
                "dynamic": {"failure": "more than 70 s"},
                "decode": {
                    "kept": False,
                    "graphs": 2,
                    "breaks": [{"reason": "print", "source": "m.py:1"}],
                    "kernels": [1],
                    "externs": [],
                },
            },
        }
    ],
}


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_row_of_the_coverage() -> None:
    (row,) = coverage_markdown([RECORD]).splitlines()[2:]
    assert cells(row) == [
        "llama",
        "1.0e-07 / 5.0e-07",
        "failed: more than 70 s",
        "other tokens than eager",
        "forward 1, decode 2",
        "print (m.py:1)",
        "11",
        "2",
        "1.2 s",
    ]


def test_an_aten_call_is_listed_with_its_reason() -> None:
    (row,) = extern_markdown([RECORD]).splitlines()[2:]
    reason = "takes the largest of long rows, which no kernel does"
    assert cells(row) == ["`aten.topk.default`", "llama", "moe.py:3", reason]


def test_a_broken_promise_is_said() -> None:
    broken = {**RECORD, "cases": [{"case": "llama", "runs": {"padded": {**RUN, "kept": False, "externs": []}}}]}
    assert "promise broken" in coverage_markdown([broken])


def test_speed_has_a_column_for_each_contender() -> None:
    found = {"rooftile": {"ms": 1.5, "peak_bytes": 2**21, "error": 1e-3, "allowed": 2e-3}, "eager": {"failure": "OOM"}}
    record = {"cases": [{"case": "llama", "title": "Llama-3.2-1B", "contenders": found}]}
    (row,) = speed_markdown([record]).splitlines()[2:]
    assert cells(row) == ["llama (Llama-3.2-1B)", "1.500 ms", "failed: OOM", "1.0e-03 / 2.0e-03", "2 MiB"]
    assert "Nothing has been measured" in speed_section([])


def test_a_trial_of_speed_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "wait_for_turn", lambda: None)
    with torch.no_grad():
        found = trial.speed(ARCHITECTURES["vit"], ["eager", "rooftile"], "small", "cpu")["contenders"]
    assert found["eager"]["kept"] and found["rooftile"]["kept"] and found["rooftile"]["ms"] > 0


def test_errors_of_several_draws_are_that_of_all_as_one() -> None:
    pairs = [(torch.randn(3, 5), torch.randn(3, 5)) for _ in range(4)]
    apart = Apart()
    for result, truth in pairs:
        apart.add(result, truth)
    results, truths = (torch.cat(side) for side in zip(*pairs, strict=True))
    assert apart.error == pytest.approx(error(results, truths))


def test_a_contender_is_judged_by_all_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    class WrongAtTheThird:
        def __init__(self, model: Any) -> None:
            self.model, self.calls = model, 0

        def __call__(self, **given: torch.Tensor) -> Any:
            self.calls += 1
            found = self.model(**given)
            found.logits = found.logits * (3.0 if self.calls == 4 else 1.0)  # the first call is the one that compiles
            return found

    class FailsAtTheThird(WrongAtTheThird):
        def __call__(self, **given: torch.Tensor) -> Any:
            if self.calls == 3:
                raise ValueError("not this one")
            return super().__call__(**given)

    monkeypatch.setattr(trial, "wait_for_turn", lambda: None)
    made = {"eager": lambda model: model, "wrong": WrongAtTheThird, "fails": FailsAtTheThird}
    monkeypatch.setattr(trial, "CONTENDERS", made)
    with torch.no_grad():
        found = trial.speed(ARCHITECTURES["vit"], list(made), "small", "cpu")["contenders"]
    assert found["eager"]["kept"] and not found["wrong"]["kept"]
    assert found["fails"] == {"failure": "ValueError: not this one"}


def test_draws_differ() -> None:
    of = ARCHITECTURES["llama"]
    model = of.built("small")
    first, second = (inputs(of, model, 1, 12, draw=draw)["input_ids"] for draw in range(2))
    assert not torch.equal(first, second)


def test_images_are_neither_padded_nor_decoded() -> None:
    assert [case for case in CASES if has_case(ARCHITECTURES["vit"], case)] == ["forward"]
    assert [case for case in CASES if has_case(ARCHITECTURES["bert"], case)] == ["forward", "padded", "dynamic"]
    assert [case for case in CASES if has_case(ARCHITECTURES["t5"], case)] == list(CASES)
