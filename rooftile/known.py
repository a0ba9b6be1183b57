"""Which graphs were compiled here before: their kernels are most likely in the cache, so that no compiler is needed.

It is a guess by what Dynamo hands over, made before the graph is looked at. A wrong one costs time and nothing else:
what is missing is compiled all the same, by a process that starts later or for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from rooftile import __version__
from rooftile.config import CompileOptions, Config
from rooftile.runtime.cache import GRAPHS


@dataclass(frozen=True)
class KnownGraph:
    """A graph with the inputs it is compiled for: an empty file in the cache's folder, once it has been compiled."""

    file: Path

    @staticmethod
    def of(module: fx.GraphModule, example_inputs: Sequence[Any], options: CompileOptions) -> KnownGraph:
        """The graph as one of the cache that ``options`` and the environment name."""
        nodes = (node.name for node in module.graph.nodes)  # each is named after what it calls
        told = [__version__, repr(options), *nodes, *map(_described, example_inputs)]
        key = hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]
        return KnownGraph(Config.from_env().with_options(options).cache_dir / GRAPHS / key)

    def is_known(self) -> bool:
        """Whether it was compiled here before, by a Rooftile of this version for a GPU of this kind."""
        return self.file.exists()

    def remember(self) -> None:
        """It has been compiled. Where nothing can be written, the next process does not know."""
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()


def _described(given: Any) -> str:
    if not isinstance(given, torch.Tensor):
        return str(given)
    kind = torch.cuda.get_device_capability(given.device) if given.is_cuda else given.device.type
    return f"{kind} {given.dtype} {'nested' if given.is_nested else tuple(given.shape)}"
