"""One architecture of the census: made small, run by eager, in float64 and by Rooftile, and what became of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto

from benchmarks.forked import Findings, Tell
from benchmarks.zoo.arguments import argument_sets
from benchmarks.zoo.small import small_configurations
from benchmarks.zoo.trial import externs_of, short
from rooftile.accuracy import Accuracy, promised
from rooftile.backend import Backend
from rooftile.checking import reference
from rooftile.config import CompileOptions
from rooftile.driver import collecting
from rooftile.report.breaks import breaks_seen

LARGEST = 20_000_000  # parameters of what is called small
FAR = 1e-3  # an error of eager's in fp32 that rounding does not explain
_TRIES = 60  # configurations that are tried

# Heads that make a model whole; what has none of these is taken without, or with whatever it has.
_FIRST = ("SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "CAUSAL_LM")
_HEADS = [n for n in vars(modeling_auto) if n.startswith("MODEL_FOR_") and n.endswith("_MAPPING") and n.isupper()]
_MAPPINGS = [
    getattr(modeling_auto, name)
    for name in (*(f"MODEL_FOR_{head}_MAPPING" for head in _FIRST), "MODEL_MAPPING", *_HEADS)
]


def architectures() -> list[str]:
    """Every model type that transformers has a model for."""
    names = [n for n in vars(modeling_auto) if n.startswith("MODEL_") and n.endswith("_MAPPING_NAMES")]
    return sorted({kind for name in names for kind in getattr(modeling_auto, name)})


@dataclass(frozen=True)
class Built:
    """A small model, and arguments that it takes."""

    model: nn.Module
    given: Mapping[str, Any]


def count(kind: str, tell: Tell) -> None:
    """Tell what becomes of the architecture, stage by stage."""
    torch.set_num_threads(1)
    with torch.no_grad():
        tell({"stage": "building"})
        built = build(kind)
        shapes = {n: list(x.shape) for n, x in built.given.items() if isinstance(x, Tensor)}
        tell({"model": type(built.model).__name__, "inputs": shapes, "stage": "eager"})
        eager = _run(built.model, built)
        tell({"stage": "float64"})
        against, exact = truth(built, eager)
        tell({"against": against, "stage": "compiling"})
        try:
            ours, findings = _compiled(built)
        except Exception:
            torch._dynamo.reset()
            tell({"stage": "tracing"})
            _run(torch.compile(built.model, backend="eager"), built)  # raises where it is not we who fail
            tell({"stage": "compiling"})
            raise
        tell(findings)
        found = verdict(ours, eager, exact, against)
        if not found["kept"] and (traced := _traced(built, eager)) is not None:
            tell({"against": "traced"})
            found = verdict(ours, *traced, "imported")
        tell({**found, "stage": "done"})


def _traced(built: Built, eager: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]] | None:
    """Eager's results and float64's of what Dynamo traces, where that is not what the model does otherwise: some leave
    a mask out unless they are traced."""
    torch._dynamo.reset()
    traced = _run(torch.compile(built.model, backend="eager"), built)
    if _alike(traced, eager):
        return None
    torch._dynamo.reset()
    return traced, _run(reference(built.model), built)


def build(kind: str) -> Built:
    """The first small model of its type that is really small and runs.

    Raises:
        Exception: of the first that was tried; what stood in the way.
    """
    first: Exception | None = None
    for tried, config in enumerate(small_configurations(kind)):
        try:
            if (found := _built(config)) is not None:
                return found
        except Exception as error:
            first = first or error
        if tried == _TRIES:
            break
    raise first or ValueError("no configuration can be made small")


def _built(config: PreTrainedConfig) -> Built | None:
    first: Exception | None = None
    for make in dict.fromkeys(m[type(config)] for m in _MAPPINGS if type(config) in m):
        for each in make if isinstance(make, tuple) else (make,):
            try:
                return _running(each, config)
            except Exception as error:
                first = first or error
    raise first or ValueError("transformers has no model for it")


def _running(make: type[nn.Module], config: PreTrainedConfig) -> Built:
    with torch.device("meta"):
        numbers = sum(p.numel() for p in make(copy.deepcopy(config)).parameters())
    if numbers > LARGEST:
        raise ValueError(f"{numbers / 1e6:.0f} million parameters are left where all known sizes are small")
    torch.manual_seed(0)
    model = make(copy.deepcopy(config)).float().eval()
    draw_weights(model)
    found: tuple[int, Exception] | None = None  # the first of those with the fewest arguments
    for given in argument_sets(model):
        built = Built(model, given)
        try:
            if _run(model, built):
                return built
        except Exception as error:
            if found is None or len(given) < found[0]:
                found = len(given), error
    raise found[1] if found else ValueError("it gives no tensors")


@torch.no_grad()
def draw_weights(model: nn.Module) -> None:
    """Weights of such a size that every layer matters, and none that are all alike: where a router's are zeros, each
    choice is a tie. Vectors that differ (decays, steps of time) stay."""
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    summed = {id(m.weight): m.weight[0].numel() for m in convolutions}
    for parameter in model.parameters():
        if not parameter.is_floating_point() or not parameter.numel():
            continue
        if parameter.dim() > 1:
            parameter.normal_(0.0, summed.get(id(parameter), parameter.shape[-1]) ** -0.5)
        elif parameter.min() == parameter.max() or not parameter.isfinite().all():
            start = float(parameter.flatten()[0])
            parameter.normal_(start if abs(start) < 100 else 1.0, 0.2)


def _run(model: Callable[..., Any], built: Built) -> list[Tensor]:
    torch.manual_seed(1)  # for what draws numbers in a forward pass
    given = {n: x.clone() if isinstance(x, Tensor) else x for n, x in built.given.items()}
    return [x for x in tree_leaves(model(**given)) if isinstance(x, Tensor)]


def truth(built: Built, eager: Sequence[Tensor]) -> tuple[str, list[Tensor]]:
    """What errors are against, and its results: the model in float64; where it does not take that, the imported graph
    in float64; or eager."""
    wide = {n: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for n, x in built.given.items()}
    try:
        exact = _run(copy.deepcopy(built.model).double(), Built(built.model, wide))
        if _alike(exact, eager):
            return "float64", exact
    except Exception:  # many models make fp32 tensors inside
        pass
    try:
        exact = _run(reference(built.model), built)
        if _alike(exact, eager):
            return "imported", exact
    except Exception:  # what is not imported is told by our own run
        pass
    finally:
        torch._dynamo.reset()
    return "eager", list(eager)


def _alike(exact: Sequence[Tensor], eager: Sequence[Tensor]) -> bool:
    return [x.shape for x in exact] == [x.shape for x in eager] and all(
        a.eager < FAR for a in promised(eager, eager, exact)
    )


def verdict(ours: Sequence[Tensor], eager: Sequence[Tensor], exact: Sequence[Tensor], against: str) -> Findings:
    """The result that is worst beside what is allowed."""
    if [x.shape for x in ours] != [x.shape for x in eager]:
        return {"kept": False, "failure": "results of other shapes than eager's"}
    found = promised(ours, eager, exact)
    worst = max(found, key=lambda a: a.ours / _allowed(a, against))
    kept = all(a.same_nonfinite and a.ours <= _allowed(a, against) for a in found)
    return {"kept": kept, "error": worst.ours, "allowed": _allowed(worst, against), "eager": worst.eager}


def _allowed(a: Accuracy, against: str) -> float:
    return a.allowed if against != "eager" else 1e-5


def _compiled(built: Built) -> tuple[list[Tensor], Findings]:
    """Our results, and what was compiled for them."""
    graphs = 0
    backend = Backend(CompileOptions())

    def counted(module: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return backend(module, example_inputs)

    with collecting() as compilations, breaks_seen() as breaks:
        ours = _run(torch.compile(built.model, backend=counted), built)
    return ours, {
        "kernels": sum(op.name == "region" for c in compilations for op in c.graph.ops),
        "externs": externs_of(compilations),
        "graphs": graphs,
        "uncompiled": graphs - len(compilations),
        "breaks": [{"reason": b.reason, "source": short(b.source)} for b in breaks],
        "compile": round(sum(sum(c.seconds.values()) for c in compilations), 2),
    }
