"""Where a captured node comes from: the module's path in the model and the user's source line."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import torch
from torch import fx

from rooftile.ir.core import UNKNOWN, Loc

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = str(Path(torch.__file__).parent)
# `L['self'].layers[0].attn`, `L['self']._modules['layers']._modules['0']`: keep the names.
_PATH_PARTS = re.compile(r"\['?([^\]']*)'?\]|\.?(\w+)")
_NOT_NAMES = frozenset({"_modules", "_parameters", "_buffers", "L", "self", "G", "fn"})


def loc_of(node: fx.Node) -> Loc:
    """The location of ``node``: the innermost frame outside of torch, a line of the user's or a library's model."""
    trace = node.meta.get("stack_trace")
    module = _module_of(node)
    if not trace:
        return Loc(module) if module else UNKNOWN
    file, line = _user_frame(trace)
    return Loc(module, file, line)


@lru_cache(maxsize=4096)
def _user_frame(trace: str) -> tuple[str, int]:
    frames = [(file, int(line)) for file, line in _FRAME.findall(trace)]
    outside = [frame for frame in frames if not frame[0].startswith(_TORCH)]
    file, number = (outside or frames or [("", 0)])[-1]
    return file.encode(errors="replace").decode(), number  # what is no UTF-8 in a name can stand in no kernel's source


def _module_of(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = list(stack.values())[-1][0]
    return model_path(path if isinstance(path, str) else "")


@lru_cache(maxsize=4096)
def model_path(source: str) -> str:
    """A Dynamo source or module path without its scaffolding: ``layers.0.attn.weight``."""
    parts = [quoted or plain for quoted, plain in _PATH_PARTS.findall(source)]
    return ".".join(p for p in parts if p and p not in _NOT_NAMES)
