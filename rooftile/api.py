"""``compile``, for a model that is called; ``rooftile.ahead`` is for one that is prepared ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from itertools import chain
from types import MethodType
from typing import Any, TypeVar, overload

import torch
from torch import nn
from torch._dynamo.eval_frame import OptimizedModule, innermost_fn
from torch._dynamo.exc import BackendCompilerFailed, Unsupported

from rooftile.backend import Backend
from rooftile.config import CompileOptions
from rooftile.errors import OptionError, RequirementError
from rooftile.frontend.dynamo import raise_plainly
from rooftile.runtime.packed import invalidate_all_of
from rooftile.users_code import line_in

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
    model = _uncompiled(model)
    compiled = _compiled_module if isinstance(model, nn.Module) else _compiled_function
    return compiled(model, Backend(checked), dynamic, whole)


def _uncompiled(model: Any) -> Any:
    """What was compiled, where ``model`` is what ``rooftile.compile`` or ``torch.compile`` gave."""
    if isinstance(model, OptimizedModule):
        return model._orig_mod
    if isinstance(model, MethodType):
        return MethodType(innermost_fn(model.__func__), model.__self__)
    return innermost_fn(model)


def _compiled_function(function: Callable[..., Any], backend: Backend, dynamic: bool | None, whole: bool) -> Any:
    compiled: Any = torch.compile(function, backend=backend, dynamic=dynamic, fullgraph=whole)
    compiled = _with_plain_errors(compiled, backend.options)
    compiled._torchdynamo_wrapper_id = id(compiled)  # without it `innermost_fn` stops here
    compiled.invalidate = backend.invalidate
    return compiled


def _compiled_module(model: nn.Module, backend: Backend, dynamic: bool | None, whole: bool) -> Any:
    compiled: Any = torch.compile(model, backend=backend, dynamic=dynamic, fullgraph=whole)
    compiled.forward = _with_plain_errors(_fresh_in_training(compiled.forward, model), backend.options)
    made_again = _compiled_module, (model, backend, dynamic, whole)
    # Attributes of the compiled module: torch would set them on the model itself.
    object.__setattr__(compiled, "invalidate", backend.invalidate)
    object.__setattr__(compiled, "__reduce_ex__", lambda _: made_again)  # torch's copies have none of the above
    return compiled


def _fresh_in_training(function: Callable[..., Any], model: nn.Module) -> Callable[..., Any]:
    """``function`` of ``model``; in training, where weights change in ways that torch may not notice, nothing that was
    computed from them before is used."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if model.training:
            invalidate_all_of(chain(model.parameters(), model.buffers()))
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
    return RequirementError("no-breaks", reason, where=line_in(failure.real_stack or ()), fix=fix)
