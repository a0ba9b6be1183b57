"""One model in a process of its own, its findings printed as JSON: ``python -m benchmarks.zoo.trial KIND NAME ...``.

``coverage NAME CASE`` compiles the small model on the CPU for one case, checks it, and says what was left to ATen.
``speed NAME CONTENDER...`` times layers of full size on the GPU, each contender after a check.
"""

from __future__ import annotations

import copy
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

import rooftile
from benchmarks.clock import milliseconds, peak_bytes, seconds
from benchmarks.contenders import CONTENDERS
from benchmarks.processes import tell, wait_for_turn
from benchmarks.zoo.architectures import ARCHITECTURES, Architecture, Size
from benchmarks.zoo.cases import DRAWS, Decoding, forward, inputs, padded
from rooftile.accuracy import FACTOR, FLOOR, error
from rooftile.checking import check
from rooftile.compilation import Compilation
from rooftile.driver import collecting
from rooftile.report.breaks import breaks_seen

BATCH, LENGTH, STEPS, CAPACITY = 2, 12, 17, 24  # a prefill gives the first token, 16 steps the others
LENGTHS = (7, 12, 33)
TOKENS = 2048  # of a forward pass at full size
PATIENCE = 60  # seconds for one contender's first calls: the others of its trial want theirs

Findings = dict[str, Any]
Given = Mapping[str, Tensor]
Run = Callable[..., Tensor]


def coverage(of: Architecture, case: str) -> Findings:
    """What became of one case of the small model: graphs, breaks, kernels, ATen calls and why, errors, seconds."""
    model = of.built("small")
    start = perf_counter()
    with collecting() as compilations, breaks_seen() as breaks:
        verdict = CASES[case](of, model)
    spent = perf_counter() - start
    return {
        **verdict,
        "seconds": spent,
        "graphs": len(compilations),
        "breaks": [{"reason": b.reason, "source": short(b.source)} for b in breaks],
        "kernels": [sum(op.name == "region" for op in c.graph.ops) for c in compilations],
        "externs": externs_of(compilations),
        "compile": sum(sum(c.seconds.values()) for c in compilations),
    }


def _forward(of: Architecture, model: Any) -> Findings:
    return _checked(of, model, [inputs(of, model, BATCH, LENGTH)], dynamic=None)


def _padded(of: Architecture, model: Any) -> Findings:
    return _checked(of, model, [padded(of, inputs(of, model, BATCH, LENGTH))], dynamic=None)


def _dynamic(of: Architecture, model: Any) -> Findings:
    return _checked(of, model, [inputs(of, model, BATCH, length) for length in LENGTHS], dynamic=True)


def _checked(of: Architecture, model: Any, given: Sequence[Mapping[str, Tensor]], *, dynamic: bool | None) -> Findings:
    fast = rooftile.compile(model, dynamic=dynamic)
    verdicts = [v for each in given for v in check(forward(of, fast), forward(of, model), (), each)]
    worst = max(verdicts, key=lambda v: v.ours / v.allowed)
    return {"kept": all(v.kept for v in verdicts), "error": worst.ours, "allowed": worst.allowed}


def _decode(of: Architecture, model: Any) -> Findings:
    ids = inputs(of, model, BATCH, LENGTH // 2)["input_ids"]
    wanted = Decoding(of, model, ids, CAPACITY).run(model, STEPS)
    found = Decoding(of, model, ids, CAPACITY).run(rooftile.compile(model), STEPS)
    return {"kept": bool(torch.equal(found, wanted))}


CASES: Mapping[str, Callable[[Architecture, Any], Findings]] = {
    "forward": _forward,
    "padded": _padded,
    "dynamic": _dynamic,
    "decode": _decode,
}


def has_case(of: Architecture, case: str) -> bool:
    """Whether a case makes sense for the architecture."""
    return of.kind != "image" and (case != "decode" or of.kind != "encoder") if case != "forward" else True


def externs_of(compilations: Sequence[Compilation]) -> list[Findings]:
    """The ATen calls of all graphs, alike ones counted together."""
    found: dict[tuple[str, str], Findings] = {}
    for c in compilations:
        for op in c.graph.ops:
            if op.name == "extern":
                target = str(op.attrs["target"])
                source = short(op.loc.source)
                row = found.setdefault((target, source), {"target": target, "source": source, "count": 0})
                row["count"] += 1
    return list(found.values())


def short(source: str) -> str:
    return source.rsplit("/", 1)[-1]


def speed(of: Architecture, contenders: Sequence[str], size: Size = "large", device: str = "cuda") -> Findings:
    """Milliseconds, memory and error of every contender for a forward pass in bf16; the error is against the same
    weights in fp32, over several draws of inputs together, and is allowed to be a tenth more than eager's.

    Experts are chosen anew at every precision: tokens that go elsewhere are in all errors, and make most of them. Which
    tokens those are is chance, so that one draw would say little.
    """
    model = of.built(size, torch.bfloat16, device)
    length = min(TOKENS, getattr(model.config, "max_position_embeddings", TOKENS))
    batch = 16 if of.kind == "image" else TOKENS // length
    draws = [inputs(of, model, batch, length, device, draw) for draw in range(DRAWS)]
    found: dict[str, Findings] = {}
    runs = {name: run for name in contenders if (run := _prepared(of, name, model, draws[0], device, found))}
    _judge(of, model, draws, runs, found)
    if device == "cuda":
        torch.cuda.empty_cache()  # other models are preparing on the same GPU
    wait_for_turn()
    for name, run in runs.items():
        found[name]["ms"] = milliseconds(lambda run=run: run(**draws[0]), device, 20)
        found[name]["peak_bytes"] = peak_bytes(lambda run=run: run(**draws[0]), device)
    return {"contenders": found}


def _prepared(
    of: Architecture, name: str, model: nn.Module, given: Given, device: str, found: dict[str, Findings]
) -> Run | None:
    """A contender that has been called once; None, and its failure among what was ``found``, where it cannot be."""
    try:
        run = forward(of, CONTENDERS[name](model))
        with _at_most(PATIENCE):
            found[name] = {"first_call": seconds(lambda: run(**given), device)}
        return run
    except Exception as failure:
        found[name] = failed(failure)
        return None


def _judge(
    of: Architecture, model: nn.Module, draws: Sequence[Given], runs: dict[str, Run], found: dict[str, Findings]
) -> None:
    """Put the contenders' errors into what was ``found``; who fails is taken out of ``runs``."""
    exact, eager = forward(of, copy.deepcopy(model).float()), forward(of, model)
    theirs, ours = Apart(), {name: Apart() for name in runs}
    for given in draws:
        truth = exact(**_float(given))
        theirs.add(eager(**given), truth)
        for name, run in list(runs.items()):
            try:
                ours[name].add(run(**given), truth)
            except Exception as failure:
                found[name] = failed(failure)
                del runs[name]
    allowed = FACTOR * theirs.error + FLOOR
    for name in runs:
        found[name] |= {"error": ours[name].error, "allowed": allowed, "kept": ours[name].error <= allowed}


def failed(failure: Exception) -> Findings:
    """Why a contender has no result, in a line."""
    return {"failure": f"{type(failure).__name__}: {failure}".splitlines()[0]}


@dataclass
class Apart:
    """How far results are from the truth: of all that were added, as one tensor."""

    off: float = 0.0  # squares of 2-norms
    size: float = 0.0

    def add(self, result: Tensor, truth: Tensor) -> None:
        """One more result."""
        size = float(truth.double().norm())
        self.off += (error(result, truth) * size) ** 2
        self.size += size**2

    @property
    def error(self) -> float:
        """The relative error in the 2-norm."""
        return float((self.off / self.size) ** 0.5)


@contextmanager
def _at_most(limit: int) -> Iterator[None]:
    """What runs inside is interrupted by a ``TimeoutError`` after ``limit`` seconds."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _float(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.float() if x.is_floating_point() else x for name, x in given.items()}


def main() -> None:
    """Run the trial that the command line names."""
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    kind, name, *rest = sys.argv[1:]
    with torch.no_grad():
        of = ARCHITECTURES[name]
        tell(coverage(of, *rest) if kind == "coverage" else speed(of, rest))


if __name__ == "__main__":
    main()
