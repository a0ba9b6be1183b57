"""The census: configurations and arguments made by rule, trials in forks, the table."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.census import is_left, said
from benchmarks.census_table import census_section, grouped
from benchmarks.forked import Findings, Tell, run_forked
from benchmarks.zoo import counted
from benchmarks.zoo.arguments import argument_sets
from benchmarks.zoo.counted import Built, architectures, build, count, draw_weights, truth, verdict
from benchmarks.zoo.small import small_configurations

RIGHT: Findings = {
    "stage": "done",
    "kept": True,
    "error": 1e-7,
    "allowed": 5e-7,
    "against": "float64",
    "kernels": 9,
    "externs": [],
    "graphs": 1,
    "uncompiled": 0,
    "breaks": [],
    "compile": 1.5,
    "seconds": 3.0,
}
CALLS = {"externs": [{"target": "aten.sort.default", "source": "m.py:1", "count": 2}]}
BREAKS = {"graphs": 3, "breaks": [{"reason": "print", "source": "m.py:2"}]}


def told(kind: str) -> Findings:
    found: Findings = {}
    torch._dynamo.reset()
    count(kind, found.update)
    torch._dynamo.reset()
    return found


@pytest.mark.parametrize("kind", ["gpt_neo", "convnext"])
def test_an_architecture_is_counted(kind: str) -> None:
    found = told(kind)
    assert found["stage"] == "done" and found["kept"], found
    assert found["kernels"] > 0 and found["graphs"] == 1 and found["uncompiled"] == 0
    assert 0 < found["error"] <= found["allowed"] < 1e-5 and found["against"] == "float64"


def test_a_wrong_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    right = counted._compiled

    def wrong(built: Built) -> Any:
        ours, findings = right(built)
        return [ours[0] * 1.001, *ours[1:]], findings

    monkeypatch.setattr(counted, "_compiled", wrong)
    found = told("gpt_neo")
    assert not found["kept"] and found["error"] > 5e-4 and is_left(found)


def test_one_layer_of_each_kind_is_kept_where_layers_differ() -> None:
    config = next(small_configurations("qwen3_next"))
    assert config.layer_types == ["linear_attention", "full_attention"] and config.num_hidden_layers == 2


def test_what_was_alike_stays_alike_and_what_was_not_does_not() -> None:
    alike, shared = (next(small_configurations(kind)) for kind in ("deepseek_v3", "qwen3"))
    assert alike.num_key_value_heads == alike.num_attention_heads == 4
    assert alike.head_dim == alike.qk_rope_head_dim == 8
    assert next(small_configurations("mistral")).num_key_value_heads == 2
    assert shared.vocab_size == 128


def test_special_tokens_lie_in_the_small_vocabulary() -> None:
    config = next(small_configurations("llava"))
    assert config.image_token_index < 128 and config.text_config.vocab_size == 128


def test_an_argument_without_a_rule_is_named() -> None:
    class Strange(nn.Module):
        main_input_name = "input_ids"
        config = next(small_configurations("gpt2"))

        def forward(self, input_ids: torch.Tensor, moon_phase: torch.Tensor) -> torch.Tensor:
            return input_ids + moon_phase

    with pytest.raises(TypeError, match="moon_phase"):
        next(argument_sets(Strange()))


def test_no_parameter_stays_all_alike() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    draw_weights(model)
    assert all(p.std() > 0 for p in model.parameters())


def test_what_draws_or_counts_otherwise_in_float64_is_not_the_truth() -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.dtype is torch.float64 else x * 3

    built = Built(Wide(), {"x": torch.ones(3)})
    against, exact = truth(built, [torch.full((3,), 3.0)])
    assert against == "imported" and exact[0].tolist() == [3.0, 3.0, 3.0]


def test_results_of_another_shape_are_not_right() -> None:
    found = verdict([torch.ones(2)], [torch.ones(3)], [torch.ones(3)], "float64")
    assert not found["kept"] and is_left(found)


def test_every_model_of_transformers_is_an_architecture() -> None:
    names = architectures()
    assert {"llama", "t5", "vit", "wav2vec2", "clip"} <= {*names} and len(names) > 300


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(ValueError, match="sub-configurations"):
        build("encoder-decoder")


def _sleeps(name: str, tell: Tell) -> None:
    tell({"stage": name})
    time.sleep(60)


def _ends(name: str, tell: Tell) -> None:
    tell({"stage": name})
    os._exit(3)


def _raises(name: str, tell: Tell) -> None:
    raise ValueError(f"no {name}\nat all")


def test_a_trial_that_ends_early_keeps_what_it_told() -> None:
    assert run_forked(_sleeps, "slow", 0.3) == {"stage": "slow", "failure": "more than 0 s"}
    assert run_forked(_ends, "dies", 20) == {"stage": "dies", "failure": "the process ended with 3"}
    assert run_forked(_raises, "luck", 20) == {"failure": "ValueError: no luck at all"}


@pytest.mark.parametrize(
    ("found", "group"),
    [
        (RIGHT, ("one graph, all fused", "")),
        ({**RIGHT, **CALLS}, ("one graph, with ATen calls", "`aten.sort.default`")),
        ({**RIGHT, **BREAKS}, ("in pieces", "print")),
        ({**RIGHT, "uncompiled": 1}, ("in pieces", "some graphs uncompiled")),
        ({**RIGHT, "kept": False}, ("not right", "1.0e-07, 5.0e-07 allowed")),
        ({"stage": "compiling", "failure": "more than 90 s"}, ("failed", "compiling: more than 90 s")),
        ({"stage": "building", "failure": "no | rule"}, ("not built", "no / rule")),
    ],
)
def test_what_became_of_an_architecture(found: Findings, group: tuple[str, str]) -> None:
    assert grouped(found) == group


def test_the_section_counts() -> None:
    broken = {"stage": "building", "failure": "no rule"}
    case = {"case": "transformers-5", "known": 9, "architectures": {"a": RIGHT, "b": {**RIGHT, **CALLS}, "c": broken}}
    section = census_section([{"versions": {"torch": "2"}, "date": "today", "cases": [case]}])
    assert "Of 9 architectures 3 were counted, of which 2 could be built small and run. 2 gave" in section
    assert "| one graph, all fused | 1 |  | a |" in section and "| not built | 1 | no rule | c |" in section
    assert "Nothing has been counted" in census_section([])


def test_a_line_says_what_was_found() -> None:
    assert "right" in said(RIGHT) and "9 kernels" in said(RIGHT)
    assert said({"stage": "building", "failure": "no rule"}) == "building: no rule"
