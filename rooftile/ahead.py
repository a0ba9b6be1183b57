"""A program prepared ahead of time: exported, compiled, saved and loaded."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from rooftile.backend import compile_captured
from rooftile.collection import no_collections
from rooftile.config import CompileOptions, inputs_in_order
from rooftile.errors import InputError, OptionError, UnsupportedError
from rooftile.frontend.captured import CapturedInput
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importing import tensor_type
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.core import Value
from rooftile.users_code import line_of


def export(
    model: nn.Module,
    inputs: Sequence[Any],
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
) -> CompiledProgram:
    """Compile ``model`` ahead of time for inputs like ``inputs``, for inference.

    Args:
        inputs: example positional inputs; ``kwargs`` are example keyword inputs.
        dynamic_shapes: which sizes may vary, as in ``torch.export.export``.
        options: as in ``compile``.

    Raises:
        OptionError: an unknown option or value, no module, or inputs that are no sequence.
        UnsupportedError: the model cannot be captured; with the line that is in the way.
    """
    checked = CompileOptions.from_user(None, None, options)
    if not isinstance(model, nn.Module):
        raise OptionError(f"export got a {type(model).__name__}", fix="give it a module that calls it")
    given = inputs_in_order(inputs)
    try:
        with torch.no_grad():
            exported = torch.export.export(
                model, given, dict(kwargs or {}), dynamic_shapes=dynamic_shapes, strict=False
            )
    except GuardOnDataDependentSymNode as error:
        what = f"the model branches on values of a tensor, which a program cannot: {error.cond}"
        raise UnsupportedError(what, where=line_of(error), fix="torch.where, or rooftile.compile") from error
    return CompiledProgram(exported, checked)


def load(path: str | PathLike[str], *, options: Mapping[str, Any] | None = None) -> CompiledProgram:
    """A program that ``CompiledProgram.save`` wrote. Its kernels come from the cache, or are compiled again.

    Raises:
        OptionError: an unknown option or value.
        InputError: the file is not there, holds something else, or is damaged.
    """
    checked = CompileOptions.from_user(None, None, options)
    if not zipfile.is_zipfile(path):  # as all programs are
        raise InputError(f"{fspath(path)} is no file that holds a saved program", fix=_WRITE)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at sums, and would take other weights
        if damaged is not None:
            raise InputError(f"{fspath(path)} is damaged, in {damaged}", fix=_WRITE)
        exported = torch.export.load(path)
    except InputError:
        raise
    except Exception as error:  # of many kinds, for files of other kinds
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{fspath(path)} holds no program that can be read: {what}", fix=_WRITE) from error
    return CompiledProgram(exported, checked)


_WRITE = "write one: program.save(path)"


class CompiledProgram:
    """A model compiled ahead of time. It is called like the model, with tensors of the shapes it was made for."""

    def __init__(self, exported: ExportedProgram, options: CompileOptions) -> None:
        self.exported = exported
        with no_collections():
            self._captured = capture_exported(exported)
            self._function = compile_captured(self._captured, options)
        self._bound = [i.value for i in self._captured.inputs if i.value is not None]
        in_spec = exported.call_spec.in_spec
        self._names = list(tree_unflatten([None] * in_spec.num_leaves, in_spec)[1])
        self._free = [i for i in self._captured.inputs if i.value is None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on ``args`` and ``kwargs``.

        Raises:
            InputError: arguments of another structure, rank, size, dtype or device than the program is for.
        """
        wanted_spec = self.exported.call_spec.in_spec
        if kwargs.keys() == set(self._names):  # in whatever order
            kwargs = {name: kwargs[name] for name in self._names}
        arguments, spec = tree_flatten((args, kwargs))
        if spec != wanted_spec:
            raise InputError(f"the program takes arguments structured as {_form(wanted_spec)}, got {_form(spec)}")
        self._check(arguments)
        with torch.no_grad():
            results = self._function(*self._bound, *arguments)
        out_spec = self.exported.call_spec.out_spec
        return results if out_spec is None else tree_unflatten(list(results), out_spec)

    def _check(self, arguments: Sequence[Any]) -> None:
        for described, argument in zip(self._free, arguments, strict=True):
            _check_kind(described, argument)
        tensors = [(i, a) for i, a in zip(self._free, arguments, strict=True) if i.kind != "size"]
        values = [Value(i.name, tensor_type(i.node.meta["val"])) for i, _ in tensors]
        bind_sizes(values, [tuple(a.shape) for _, a in tensors])

    def invalidate(self) -> None:
        """Compute what is kept of weights anew in the next call: after a weight was written to in a way that torch
        does not notice, such as ``weight.data.mul_(2)``."""
        self._function.invalidate()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the program, with its parameters, to be read by ``rooftile.load``; whole or not at all.

        Raises:
            OptionError: the file cannot be written; what was there before still is.
        """
        path = Path(path)
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
                torch.export.save(self.exported, Path(folder) / path.name)
                (Path(folder) / path.name).replace(path)
        except (OSError, RuntimeError) as error:  # RuntimeError is what torch makes of a full disk
            why = error.strerror if isinstance(error, OSError) else error
            raise OptionError(f"{path} cannot be written: {why}", fix="name another file") from error


class _Leaf:
    def __repr__(self) -> str:
        return "*"


def _form(spec: TreeSpec) -> str:
    """The arguments of a call as they are written, with a star for each tensor or number: ``(*, [*, *], scale=*)``."""
    args, kwargs = tree_unflatten([_Leaf()] * spec.num_leaves, spec)
    return f"({', '.join([*map(repr, args), *(f'{name}={value!r}' for name, value in kwargs.items())])})"


def _check_kind(described: CapturedInput, argument: Any) -> None:
    if described.kind == "size":
        if described.size != argument and isinstance(described.size, int):
            raise InputError(f"input {described.name!r} is {argument!r}; the program is for {described.size}")
        return
    wanted = described.node.meta["val"]
    if not isinstance(argument, torch.Tensor):
        raise InputError(f"input {described.name!r} is a {type(argument).__name__}, which must be a tensor")
    if argument.dtype != wanted.dtype or argument.device.type != wanted.device.type:
        raise InputError(
            f"input {described.name!r} is {argument.dtype} on {argument.device}; "
            f"the program is for {wanted.dtype} on {wanted.device}",
            fix=f"{described.name}.to({str(wanted.device)!r}, {wanted.dtype})",
        )
