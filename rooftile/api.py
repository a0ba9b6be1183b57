"""The public functions: ``compile`` for a model that is called, ``export`` for one that is prepared ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from os import PathLike, fspath
from typing import Any, TypeVar, overload
from zipfile import is_zipfile

import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed, Unsupported
from torch.export import ExportedProgram
from torch.utils._pytree import tree_flatten_with_path, tree_unflatten

from rooftile.backend import Backend, compile_captured
from rooftile.collection import no_collections
from rooftile.config import CompileOptions
from rooftile.errors import InputError, OptionError, RequirementError
from rooftile.frontend.captured import CapturedInput
from rooftile.frontend.dynamo import raise_plainly
from rooftile.frontend.exported import capture_exported
from rooftile.frontend.importing import tensor_type
from rooftile.frontend.provenance import user_line
from rooftile.ir.bindings import bind_sizes
from rooftile.ir.core import Value

_Model = TypeVar("_Model", bound=Callable[..., Any])


@overload
def compile(
    model: _Model,
    *,
    mode: str | None = None,
    dynamic: bool | None = None,
    fullgraph: bool = False,
    options: Mapping[str, Any] | None = None,
) -> _Model: ...
@overload
def compile(
    model: None = None,
    *,
    mode: str | None = None,
    dynamic: bool | None = None,
    fullgraph: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Callable[[_Model], _Model]: ...
def compile(
    model: Any = None,
    *,
    mode: str | None = None,
    dynamic: bool | None = None,
    fullgraph: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Compile a module or a function of tensors; without ``model``, a decorator that does.

    It is ``torch.compile`` with our backend: compilation happens at the first call, and again where shapes, dtypes or
    Python values that the model depends on change.

    Args:
        mode: ``"default"``, ``"reduce-overhead"`` or ``"max-autotune"``.
        dynamic: True makes every size a run-time size, False none, None those that were seen to change.
        fullgraph: refuse a model that Dynamo cannot capture as one graph.
        options: see ``rooftile.config.CompileOptions``; ``require=["no-extern", "no-breaks"]`` makes misses errors.

    Raises:
        OptionError: an unknown mode, option or value (the message names the nearest valid one), or nothing to call.
    """
    checked = CompileOptions.from_user(mode, dynamic, options)
    if model is None:
        return lambda wrapped: compile(wrapped, mode=mode, dynamic=dynamic, fullgraph=fullgraph, options=options)
    if not callable(model):
        raise OptionError(f"compile got {model!r}, which cannot be called", fix="give it a module or a function")
    whole = fullgraph or "no-breaks" in checked.require
    backend = Backend(checked)
    compiled: Any = torch.compile(model, backend=backend, dynamic=dynamic, fullgraph=whole)
    if not isinstance(model, nn.Module):
        compiled = _with_plain_errors(compiled, checked)
        compiled.invalidate = backend.invalidate
        return compiled
    compiled.forward = _with_plain_errors(_fresh_in_training(compiled.forward, model, backend), checked)
    object.__setattr__(compiled, "invalidate", backend.invalidate)  # torch would set it on the model itself
    return compiled


def _fresh_in_training(function: Callable[..., Any], model: nn.Module, backend: Backend) -> Callable[..., Any]:
    """``function`` of ``model``; in training, where weights change in ways that torch may not notice, nothing that was
    computed from them before is used."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if model.training:
            backend.invalidate()
        return function(*args, **kwargs)

    return call


def _with_plain_errors(function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
    """``function`` with our errors not wrapped in Dynamo's, and breaks reported as the requirement they violate."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BackendCompilerFailed as failure:
            raise_plainly(failure)
        except Unsupported as failure:
            if "no-breaks" in options.require:
                raise _broken(failure) from failure
            raise

    return call


def _broken(failure: Unsupported) -> RequirementError:
    reason = (failure.msg or str(failure)).strip().splitlines()[0]
    fix = "take that code out of the model, or drop the requirement to run it between two graphs"
    return RequirementError("no-breaks", reason, where=user_line(failure.real_stack), fix=fix)


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
        OptionError: an unknown option or value.
        UnsupportedError: the model cannot be captured.
    """
    checked = CompileOptions.from_user(None, None, options)
    with torch.no_grad():
        exported = torch.export.export(
            model, tuple(inputs), dict(kwargs or {}), dynamic_shapes=dynamic_shapes, strict=False
        )
    return CompiledProgram(exported, checked)


def load(path: str | PathLike[str], *, options: Mapping[str, Any] | None = None) -> CompiledProgram:
    """A program that ``CompiledProgram.save`` wrote. Its kernels come from the cache, or are compiled again.

    Raises:
        OptionError: an unknown option or value.
        InputError: the file is not there, or holds something else.
    """
    checked = CompileOptions.from_user(None, None, options)
    if not is_zipfile(path):  # as all programs are
        raise InputError(f"{fspath(path)} is no file that holds a saved program", fix="write one: program.save(path)")
    return CompiledProgram(torch.export.load(path), checked)


class CompiledProgram:
    """A model compiled ahead of time. It is called like the model, with tensors of the shapes it was made for."""

    def __init__(self, exported: ExportedProgram, options: CompileOptions) -> None:
        self.exported = exported
        with no_collections():
            self._captured = capture_exported(exported)
            self._function = compile_captured(self._captured, options)
        self._bound = [i.value for i in self._captured.inputs if i.value is not None]
        self._free = [i for i in self._captured.inputs if i.value is None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on ``args`` and ``kwargs``.

        Raises:
            InputError: arguments of another structure, rank, size, dtype or device than the program is for.
        """
        given, spec = tree_flatten_with_path((args, kwargs))
        wanted_spec = self.exported.call_spec.in_spec
        if spec != wanted_spec:
            raise InputError(f"the program takes arguments structured as {wanted_spec}, got {spec}")
        arguments = [leaf for _, leaf in given]
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
        """Write the program, with its parameters, to be read by ``rooftile.load``."""
        torch.export.save(self.exported, path)


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
