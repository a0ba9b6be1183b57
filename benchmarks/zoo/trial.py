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
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

import rooftile
from benchmarks.clock import milliseconds, peak_bytes, seconds
from benchmarks.contenders import CONTENDERS
from benchmarks.processes import tell, wait_for_turn
from benchmarks.zoo.architectures import ARCHITECTURES, Architecture, Size
from benchmarks.zoo.cases import Decoding, forward, inputs, padded
from rooftile.accuracy import error
from rooftile.checking import check
from rooftile.compilation import Compilation
from rooftile.driver import collecting
from rooftile.report.breaks import breaks_seen

BATCH, LENGTH, STEPS, CAPACITY = 2, 12, 17, 24  # a prefill gives the first token, 16 steps the others
LENGTHS = (7, 12, 33)
TOKENS = 2048  # of a forward pass at full size
PATIENCE = 60  # seconds for one contender's first calls: the others of its trial want theirs

Findings = dict[str, Any]


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
    weights in fp32, and is allowed to be a tenth more than eager's.

    Experts are chosen anew at every precision: where a model has them, tokens that go elsewhere are in both errors.
    """
    model = of.built(size, torch.bfloat16, device)
    length = min(TOKENS, getattr(model.config, "max_position_embeddings", TOKENS))
    given = inputs(of, model, 16 if of.kind == "image" else TOKENS // length, length, device)
    runs: dict[str, Any] = {}
    found: dict[str, Findings] = {}
    exact = forward(of, copy.deepcopy(model).float())(**_float(given))
    allowed = 1.1 * error(forward(of, model)(**given), exact) + 4e-7
    if device == "cuda":
        torch.cuda.empty_cache()  # other models are preparing on the same GPU
    for name in contenders:
        try:
            run = forward(of, CONTENDERS[name](model))
            with _at_most(PATIENCE):
                spent = seconds(lambda run=run: run(**given), device)
                ours = error(run(**given), exact)
            found[name] = {"first_call": spent, "error": ours, "allowed": allowed, "kept": ours <= allowed}
            runs[name] = run
        except Exception as failure:
            found[name] = {"failure": f"{type(failure).__name__}: {failure}".splitlines()[0]}
    wait_for_turn()
    for name, run in runs.items():
        found[name]["ms"] = milliseconds(lambda run=run: run(**given), device, 20)
        found[name]["peak_bytes"] = peak_bytes(lambda run=run: run(**given), device)
    return {"contenders": found}


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
