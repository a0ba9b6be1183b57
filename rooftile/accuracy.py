"""The promise "same answer", as a function: how far a result is from the truth, and whether that is no farther than
eager's.

The truth ``r`` is the imported graph evaluated with every float op in float64: what the model says, without any
rounding of its own. ``model.double()`` is something else, since models cast to fp32 inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rooftile.ir.core import Graph
from rooftile.ir.evaluator import evaluate

# err(ours) <= FACTOR * err(eager) + FLOOR: a tenth more rounding than eager, and a few units of fp32 for results
# that eager has exactly.
FACTOR = 1.1
FLOOR = 4e-7


@dataclass(frozen=True)
class Accuracy:
    """One result against the truth: relative errors in the 2-norm, and whether NaN and infinities stand where eager
    has them."""

    ours: float
    eager: float
    same_nonfinite: bool

    @property
    def allowed(self) -> float:
        """The error up to which the promise holds."""
        return FACTOR * self.eager + FLOOR

    @property
    def kept(self) -> bool:
        """Whether the promise holds."""
        return self.same_nonfinite and self.ours <= self.allowed

    def __str__(self) -> str:
        broken = "" if self.kept else " (broken)"
        pattern = "" if self.same_nonfinite else ", NaN or infinity where eager has none or the other way round"
        return f"error {self.ours:.2e}, eager {self.eager:.2e}, allowed {self.allowed:.2e}{pattern}{broken}"


def error(y: torch.Tensor, r: torch.Tensor) -> float:
    """``|y - r| / |r|`` in the 2-norm over the positions where both are finite; ``|y - r|`` where ``r`` is all zeros.

    Raises:
        ValueError: the shapes differ.
    """
    if y.shape != r.shape:
        raise ValueError(f"a result of shape {tuple(y.shape)} against a reference of shape {tuple(r.shape)}")
    y, r = _as_real(y).to(torch.float64), _as_real(r).to(device=y.device, dtype=torch.float64)
    finite = y.isfinite() & r.isfinite()
    y, r = y[finite], r[finite]
    size = float(r.norm())
    return float((y - r).norm()) / (size or 1.0)


def _as_real(x: torch.Tensor) -> torch.Tensor:
    """``x`` outside autograd; a complex one as its real and imaginary parts."""
    return torch.view_as_real(x.detach().resolve_conj()) if x.is_complex() else x.detach()


def promised(
    ours: Sequence[torch.Tensor], eager: Sequence[torch.Tensor], reference: Sequence[torch.Tensor]
) -> list[Accuracy]:
    """Each of our results beside eager's and the truth; the promise holds if every one is ``kept``."""
    return [
        Accuracy(error(y, r), error(e, r), _same_nonfinite(y, e))
        for y, e, r in zip(ours, eager, reference, strict=True)
    ]


def _same_nonfinite(y: torch.Tensor, eager: torch.Tensor) -> bool:
    y, eager = _as_real(y), _as_real(eager).to(y.device)
    if not y.is_floating_point():
        return True
    infinite = torch.where(y.isinf(), y.sign(), 0) == torch.where(eager.isinf(), eager.sign(), 0)
    return bool(torch.equal(y.isnan(), eager.isnan()) and infinite.all())


def truth(graph: Graph, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int] | None = None) -> list[torch.Tensor]:
    """``r``: an imported graph's results with every float op in float64, computed on the device of ``tensors``."""
    device = tensors[0].device if tensors else torch.device("cpu")
    with torch.no_grad(), device:
        return list(evaluate(graph, [t.detach() for t in tensors], dict(sizes) if sizes else None, promote=True))
