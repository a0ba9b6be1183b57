"""What the script of a repro calls: one pass or one kernel on a graph from disk, held against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rooftile.accuracy import FACTOR, FLOOR, promised
from rooftile.blame.parts import ANOTHER_MEANING, Parts
from rooftile.blame.subject import Subject
from rooftile.blame.trial import Trial, as_typed
from rooftile.driver import fp32_precision
from rooftile.ir.core import Graph, TensorType
from rooftile.ir.parser import parse_file
from rooftile.ir.substitution import evaluate as number
from rooftile.passes.lower import Lower
from rooftile.passes.opt import pass_named
from rooftile.passes.switches import Switches
from rooftile.reproduce import random_inputs
from rooftile.runtime.devices import default_device
from rooftile.target import Target, target_named

GRAPH, INPUTS = "before.ir", "inputs.npz"
_SIZE = "size "  # how the names of run-time sizes begin among the arrays


def pass_is_right(folder: Path, name: str, target: str) -> bool:
    """Run pass ``name`` on the graph in ``folder``, hold the graph after it against the one before, and print it."""
    return _said(f"pass {name}", pass_keeps(_read(folder), name, target_named(target)))


def kernel_is_right(folder: Path, target: str) -> bool:
    """Lower the region in ``folder``, hold its kernel against its body, and print it."""
    subject = _read(folder)
    return _said(f"kernel {subject.name}", kernel_keeps(subject, target_named(target)))


def program_is_right(folder: Path, target: str) -> bool:
    """Build the program of the graph in ``folder``, check its results, and print it."""
    subject = _read(folder)
    results = Trial(subject, target_named(target), Switches()).results
    kept = all(accuracy.kept for accuracy in promised(results, subject.eager, subject.exact))
    return _said(f"program {subject.name}", kept)


def pass_keeps(subject: Subject, name: str, target: Target) -> bool:
    """Whether a pass changes nothing where nothing is rounded, and keeps the promise where something is."""
    trial = Trial(subject, target, Switches(), (pass_named(name),))
    before, after = (stage.graph for stage in trial.stages)
    parts = Parts(trial)
    if parts.distance(before, after) > ANOTHER_MEANING:
        return False
    return parts.error(after) <= FACTOR * parts.error(before) + FLOOR


def kernel_keeps(subject: Subject, target: Target) -> bool:
    """Whether the kernels of a graph of scheduled regions compute what their bodies say."""
    trial = Trial(subject, target, Switches(), (Lower(fp32_precision(target)),))
    parts = Parts(trial)
    return not any(parts.of_kernel(op).wrong for op in parts.seen())


def on_random_inputs(graph: Graph, device: torch.device) -> Subject:
    """``graph`` with inputs of its types."""
    tensors, sizes = random_inputs(graph, device)
    return Subject(graph.name, graph, tuple(tensors), sizes)


def write_inputs(tensors: Sequence[torch.Tensor], sizes: Mapping[str, int], folder: Path) -> None:
    """Keep a call's tensors, as bytes since numpy has no bf16, and its run-time sizes."""
    lines = [x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy() for x in tensors]
    named = {_SIZE + name: np.array(size) for name, size in sizes.items()}
    arrays: dict[str, Any] = {f"arr_{n}": line for n, line in enumerate(lines)} | named
    np.savez(folder / INPUTS, **arrays)


def _read(folder: Path) -> Subject:
    graph = parse_file(folder / GRAPH)
    device = default_device()
    if not (folder / INPUTS).exists():
        return on_random_inputs(graph, device)
    with np.load(folder / INPUTS) as kept:
        sizes = {name.removeprefix(_SIZE): int(kept[name]) for name in kept.files if name.startswith(_SIZE)}
        types = [v.type for v in graph.inputs]
        tensors = [_tensor(kept[f"arr_{n}"], t, sizes).to(device) for n, t in enumerate(types)]
    return Subject(graph.name, graph, tuple(tensors), sizes)


def _tensor(line: np.ndarray, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
    shape = [number(s, sizes) for s in type.shape]
    return as_typed(torch.from_numpy(line).view(type.dtype.torch).reshape(shape), type, sizes)


def _said(what: str, right: bool) -> bool:
    print(f"{what} is {'right' if right else 'wrong'}")
    return right
