"""Whole models in use: a prompt read at once, then one token after another into a static cache.

``python -m benchmarks.zoo.whole CASE DEVICE SECONDS CONTENDER...`` is one trial in a process of its own; after SECONDS
no further contender is compiled, and what is there is timed.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import StaticCache

from benchmarks.clock import milliseconds, peak_bytes, seconds
from benchmarks.contenders import CONTENDERS
from benchmarks.processes import Findings, tell, wait_for_turn
from benchmarks.zoo.architectures import ARCHITECTURES, Architecture
from benchmarks.zoo.cases import DRAWS
from benchmarks.zoo.trial import failed
from rooftile.accuracy import FACTOR, FLOOR, error
from rooftile.driver import collecting

CAPACITY = 2048  # positions of a static cache
FILLED = 1024  # of them hold tokens when steps are timed
_TIMED = 30  # steps, all of which must find room in the cache
_PROFILED = 3
_WIDER = {torch.bfloat16: torch.float32, torch.float32: torch.float64}  # in which what is exact is computed

_OLMOE = Architecture(
    "olmoe",
    "decoder",
    "OlmoeConfig",
    "OlmoeForCausalLM",
    {**ARCHITECTURES["mixtral"].small, "num_experts": 8, "num_experts_per_tok": 2},
    {
        "vocab_size": 50304,
        "hidden_size": 2048,
        "intermediate_size": 1024,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "max_position_embeddings": 4096,
    },
    "OLMoE-1B-7B",
)
_LLAMA_3_2 = {
    "num_hidden_layers": 16,
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
    },
}


@dataclass(frozen=True)
class WholeCase:
    """``batch`` prompts of ``length`` tokens without a cache, or, where ``length`` is 1, the next token of each. A
    prompt's logits are wanted for its last token alone, as generation does."""

    name: str
    title: str
    of: Architecture
    batch: int
    length: int
    changes: Mapping[str, Any] = field(default_factory=dict)

    def call(self, device: str) -> tuple[nn.Module, Make]:
        """The model, and what makes a call of it in another form (compiled, in other precision)."""
        small = device == "cpu"
        model = self.of.built("small" if small else "large", *_placed(device), **({} if small else self.changes))
        generator = torch.Generator().manual_seed(self.length)
        filled = (0 if self.length > 1 else FILLED) // (128 if small else 1)
        tokens = filled + (self.length if not small else min(self.length, 16))
        ids = torch.randint(1, model.config.vocab_size, (self.batch, tokens), generator=generator).to(device)
        if not filled:
            return model, lambda run, _: _Prompt(run, ids)
        return model, _Filled(model, ids[:, :filled], CAPACITY // (32 if small else 1)).step(ids[:, filled:])


Make = Callable[[Callable[..., Any], torch.dtype], "_Prompt | _Step"]


@dataclass(frozen=True)
class _Prompt:
    """A call for the last token's logits."""

    run: Callable[..., Any]
    ids: Tensor

    def __call__(self) -> Tensor:
        logits: Tensor = self.run(input_ids=self.ids, use_cache=False, logits_to_keep=1).logits
        return logits

    def reset(self) -> None:
        """Every call finds the same."""


class _Filled:
    """A static cache that holds a prompt; every form of the model writes to one of its own."""

    def __init__(self, model: nn.Module, prompt: Tensor, capacity: int) -> None:
        self._config, self._capacity, self._length = model.config, capacity, prompt.shape[1]
        self._cache = StaticCache(config=model.config, max_cache_len=capacity)
        model(input_ids=prompt, past_key_values=self._cache, use_cache=True, logits_to_keep=1)

    def step(self, ids: Tensor) -> Make:
        """What makes a call for the token behind ``ids``."""

        def make(run: Callable[..., Any], dtype: torch.dtype) -> _Step:
            cache = StaticCache(config=self._config, max_cache_len=self._capacity)
            for mine, filled in zip(cache.layers, self._cache.layers, strict=True):
                mine.lazy_initialization(filled.keys[:, :, :1].to(dtype), filled.values[:, :, :1].to(dtype))
                mine.keys.copy_(filled.keys)
                mine.values.copy_(filled.values)
            return _Step(run, ids, cache, self._length)

        return make


@dataclass(frozen=True)
class _Step:
    """A call that writes one token to the cache and gives the logits of the next."""

    run: Callable[..., Any]
    ids: Tensor
    cache: StaticCache
    filled: int

    def __call__(self) -> Tensor:
        logits: Tensor = self.run(input_ids=self.ids, past_key_values=self.cache, use_cache=True).logits
        return logits

    def reset(self) -> None:
        """Forget what was written since the prompt."""
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(self.filled)


def _placed(device: str) -> tuple[torch.dtype, str]:
    return (torch.float32 if device == "cpu" else torch.bfloat16), device


_LLAMA = ARCHITECTURES["llama"]
CASES = {
    case.name: case
    for case in (
        WholeCase("llama-1b-prefill", "Llama-3.2-1B, prefill 1 x 2048", _LLAMA, 1, 2048, _LLAMA_3_2),
        WholeCase("llama-1b-decode-1", "Llama-3.2-1B, decode, batch 1", _LLAMA, 1, 1, _LLAMA_3_2),
        WholeCase("llama-1b-decode-16", "Llama-3.2-1B, decode, batch 16", _LLAMA, 16, 1, _LLAMA_3_2),
        WholeCase("olmoe-prefill", "OLMoE, 4 layers, prefill 1 x 2048", _OLMOE, 1, 2048, {"num_hidden_layers": 4}),
        WholeCase("olmoe-decode-1", "OLMoE, 4 layers, decode, batch 1", _OLMOE, 1, 1, {"num_hidden_layers": 4}),
        WholeCase("olmoe-decode-16", "OLMoE, 4 layers, decode, batch 16", _OLMOE, 16, 1, {"num_hidden_layers": 4}),
    )
}


def trial(case: WholeCase, device: str, budget: float, contenders: Sequence[str]) -> Findings:
    """Every contender's first call, error against the same weights in a wider dtype, milliseconds and memory; of ours
    also what each kernel takes. Experts are chosen anew at every precision, which is part of all errors: they are taken
    over several draws of tokens together."""
    start = perf_counter()
    model, make = case.call(device)
    dtype = _placed(device)[0]
    wide = dtype if case.of is _OLMOE and device == "cpu" else _WIDER[dtype]  # no grouped product takes float64
    vocabulary = model.config.vocab_size
    exact = _answers(make(copy.deepcopy(model).to(wide), wide), vocabulary)
    allowed = FACTOR * error(_answers(make(model, dtype), vocabulary), exact) + (FLOOR if wide is not dtype else 2e-6)
    found: dict[str, Findings] = {}
    calls: dict[str, _Prompt | _Step] = {}
    for name in contenders:
        found[name] = {}
        if perf_counter() - start > budget:
            found[name]["failure"] = f"not compiled: {budget:.0f} s had passed"
            continue
        try:
            call = make(CONTENDERS[name](model), dtype)
            call.reset()
            with torch.no_grad(), collecting() as compilations:
                found[name]["first_call"] = seconds(call, device)
            if compilations:
                found[name]["compile"] = _parts([c.seconds for c in compilations])
                found[name]["steps"] = [len(c.plan.steps) for c in compilations if c.plan is not None]
            ours = error(_answers(call, vocabulary), exact)  # where graphs are recorded, most are replayed
            found[name] |= {"error": ours, "allowed": allowed, "kept": ours <= allowed}
            calls[name] = call
        except Exception as failure:
            found[name] |= failed(failure)
        print(f"{case.name}, {name}: {perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    wait_for_turn()
    for name, call in calls.items():
        call.reset()
        found[name]["ms"] = milliseconds(call, device, _TIMED)
        call.reset()
        found[name]["peak_bytes"] = peak_bytes(call, device)
        if name.startswith("rooftile") and device != "cpu":
            call.reset()
            found[name]["kernels"] = kernel_times(call)
    return {"contenders": found}


def _answers(call: _Prompt | _Step, vocabulary: int) -> Tensor:
    """What a call gives for other tokens in the place of its own, and for its own."""
    own = call.ids.clone()
    generator = torch.Generator().manual_seed(0)
    others = [torch.randint(1, vocabulary, own.shape, generator=generator) for _ in range(DRAWS - 1)]
    answers = []
    for tokens in (*others, own):
        call.ids.copy_(tokens)
        call.reset()
        with torch.no_grad():
            answers.append(call().double().cpu())
    return torch.cat(answers)


def _parts(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {part: sum(s.get(part, 0.0) for s in each) for part in dict.fromkeys(p for s in each for p in s)}


def kernel_times(call: Callable[[], object]) -> list[dict[str, Any]]:
    """What ran on the GPU in a call: for each kernel's name how often, and the microseconds of all together."""
    call()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_PROFILED):
            call()
        torch.cuda.synchronize()
    rows = [e for e in profile.key_averages() if e.self_device_time_total > 0]
    rows.sort(key=lambda e: -e.self_device_time_total)
    return [{"name": e.key, "count": e.count / _PROFILED, "us": e.self_device_time_total / _PROFILED} for e in rows]


def main() -> None:
    """Run the trial that the command line names."""
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    name, device, budget, *contenders = sys.argv[1:]
    with torch.no_grad():
        _load_compilers(device)
        tell(trial(CASES[name], device, float(budget), contenders))


def _load_compilers(device: str) -> None:
    """Let both compilers compile something, so that first calls do not pay for loading them."""
    for name in ("torch.compile", "rooftile"):
        CONTENDERS[name](nn.Linear(16, 16, device=device))(torch.ones(16, 16, device=device))


if __name__ == "__main__":
    main()
