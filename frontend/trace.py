"""The functional, pre-dispatch ATen trace of an FX graph: torch's own functionalisation under ``make_fx``, in one pass.

This is how ``torch.export`` makes its training graph, without the parts that cost time or refuse symbolic sizes: the
second trace that only collects metadata, and the verifier. Every private torch name that tracing needs is imported here
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx
from torch._C import DispatchKey
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.utils import _disable_saved_tensors_hooks_during_tracing as no_saved_tensors_hooks
from torch._functorch._aot_autograd.functional_utils import from_fun, has_data_mutation, to_fun
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode
from torch.fx import traceback as fx_traceback
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx, maybe_enable_thunkify
from torch.utils._pytree import tree_leaves, tree_map

from rooftile.errors import UnsupportedError
from rooftile.frontend.refusing import calls_in, refuse_calls
from rooftile.frontend.replaced import REPLACED
from rooftile.frontend.written_views import read_what_was_written

# Functions of functions that only call one: where that stands among the arguments, and where its own begin. What they
# say beside that is about gradients, for which the uncompiled function is called, or that a function is called often.
_CALLS = {
    "wrap": (0, 1),
    "tag_activation_checkpoint": (0, 1),
    "wrap_with_set_grad_enabled": (1, 2),
    "invoke_subgraph": (0, 2),
}
# Functions of functions whose definition is nothing but ops and calls, however data turn out.
_DEFINED = frozenset({"flex_attention", "associative_scan", "map_impl", "hints_wrapper"})
# Others that torch traces, and runs itself.
_KEPT = frozenset({"cond", "while_loop", "scan"})
# Stands in exported programs for a call in Python, which tracing makes.
_PLAIN_CALL = "flat_apply"
_TRACED = {*_CALLS, *_DEFINED, *_KEPT, _PLAIN_CALL}
# Checks that the trace has already decided.
_DECIDED = (torch.ops.aten._assert_tensor_metadata.default, torch.ops.aten.sym_constrain_range_for_size.default)
# Composite ops that every block is full of, and that give new memory whatever they are given: they are not asked.
_COMPUTED = frozenset(
    {
        torch.ops.aten.linear.default,
        torch.ops.aten.matmul.default,
        torch.ops.aten.softmax.int,
        torch.ops.aten.layer_norm.default,
        torch.ops.aten.rms_norm.default,
        torch.ops.aten.scaled_dot_product_attention.default,
    }
)
# What torch raises where it does not trace a call.
UNTRACED = (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError)
# An autocast context is entered by these calls where a module enters it itself.
_AUTOCAST_CALLS = (torch.amp.autocast_mode._enter_autocast, torch.amp.autocast_mode._exit_autocast)


@dataclass(frozen=True)
class MutatedInput:
    """Input ``index`` is written to; ``tracked`` if autograd sees that: not so where gradients are off, nor where a
    batch norm counts up its running mean."""

    index: int
    tracked: bool


@dataclass(frozen=True)
class Trace:
    """A functional graph. Its output is ``(new value of each mutated input..., output...)``. ``strides`` are those that
    the outputs have: what was written to keeps its layout, whichever that of its new value is; None is no tensor."""

    module: fx.GraphModule
    mutated: tuple[MutatedInput, ...]
    strides: tuple[Sequence[Any] | None, ...]


def functional_trace(module: fx.GraphModule, inputs: Sequence[Any], fake_mode: FakeTensorMode) -> Trace:
    """Trace ``module`` over ``inputs``: fake tensors of ``fake_mode``, symbolic or plain integers.

    Under autocast, and where functions are transformed (``torch.vmap``, ``torch.func.grad``), the trace is taken one
    level lower (``mm``, ``native_layer_norm``), where autocast's casts and a batch's dimension are in the graph.

    Raises:
        UnsupportedError: an input's metadata is changed (``resize_``, ``t_``), or the graph calls functions of
            functions that torch does not trace, or whose functions write to tensors.
    """
    refuse_calls(module, _TRACED, _CALLS)
    pre_dispatch = not (_uses_autocast(module) or _transforms_functions(module))
    mutated: list[MutatedInput] = []
    strides: list[Sequence[Any] | None] = []

    def run(*args: Any) -> list[Any]:
        wrapped = [to_fun(a) for a in args]
        with fx_traceback.preserve_node_meta():
            outputs = tree_leaves(_Run(module).run(*wrapped))
        mutated.extend(_mutated_inputs(wrapped))
        strides.extend(o.stride() if isinstance(o, torch.Tensor) else None for o in outputs)
        return [from_fun(wrapped[m.index]) for m in mutated] + [from_fun(o) for o in outputs]

    traced = _trace(run, inputs, fake_mode, pre_dispatch)
    return Trace(traced, tuple(mutated), tuple(strides))


def trace_decomposition(
    function: Callable[..., Any], inputs: Sequence[Any], fake_mode: FakeTensorMode
) -> fx.GraphModule:
    """The functional graph of ``function`` below autograd, where composite ops have been taken apart."""

    def run(*args: Any) -> Any:
        return tree_map(from_fun, function(*(to_fun(a) for a in args)))

    with torch.no_grad(), torch._C._DisableAutocast():  # casts are in the graph that the call is from
        return _trace(run, inputs, fake_mode, pre_dispatch=False)


def _trace(
    run: Callable[..., Any], inputs: Sequence[Any], fake_mode: FakeTensorMode, pre_dispatch: bool
) -> fx.GraphModule:
    def guarded(*args: Any) -> Any:
        with maybe_enable_thunkify(), _functionalize_excluded():
            return run(*args)

    # Composite ops are taken apart by their rules in Python where sizes are symbols, which those in C++ don't all keep;
    # these are the same otherwise, and a sixth of the whole trace faster.
    rules = enable_python_dispatcher() if any(map(_is_symbolic, inputs)) else nullcontext()
    # What a user keeps of saved tensors (``torch.utils.checkpoint`` counts them) is not to see those of the trace.
    with (
        fake_mode,
        rules,
        no_saved_tensors_hooks(),
        _Functional(pre_dispatch=pre_dispatch, export=pre_dispatch),
    ):
        traced = make_fx(guarded, decomposition_table={}, pre_dispatch=pre_dispatch, record_module_stack=True)(*inputs)
    for node in [n for n in traced.graph.nodes if n.target in _DECIDED]:
        traced.graph.erase_node(node)  # else it keeps alive what it checks
    read_what_was_written(traced.graph)
    traced.graph.eliminate_dead_code()
    return traced


def _is_symbolic(value: Any) -> bool:
    sizes = value.shape if isinstance(value, torch.Tensor) else (value,)
    return any(isinstance(size, torch.SymInt) for size in sizes)


class _Functional(FunctionalTensorMode):
    """torch's functionalisation, which keeps composite ops whole before dispatch, and takes their schemas' word that
    they give new memory and write to none. Some (``einsum``, ``broadcast_tensors``) give views where nothing is to be
    computed, ``instance_norm`` counts up its running means: such calls are taken apart, so that every write is seen."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.pre_dispatch and _is_kept_whole(func) and _shares_or_writes(func, args, kwargs):
            with self:
                return func.decompose(*args, **kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs)


def _is_kept_whole(func: Any) -> bool:
    if not isinstance(func, OpOverload) or func in _COMPUTED or func._schema.is_mutable or not func._can_decompose():
        return False
    return not any(argument.alias_info for argument in func._schema.arguments)


def _shares_or_writes(func: OpOverload, args: Any, kwargs: Any) -> bool:
    """Whether some of the results of a call lie where an operand does, or it writes to one. The trace is not to see
    that it was tried."""
    fake_args, fake_kwargs = tree_map(_as_fake, (args, kwargs))
    operands = [x for x in tree_leaves((fake_args, fake_kwargs)) if isinstance(x, torch.Tensor)]
    versions = [x._version for x in operands]
    with disable_proxy_modes_tracing():
        results = func(*fake_args, **fake_kwargs)
    memory = set(map(_memory, operands))
    written = versions != [x._version for x in operands]
    return written or any(_memory(x) in memory for x in tree_leaves(results) if isinstance(x, torch.Tensor))


def _as_fake(value: Any) -> Any:
    return torch._from_functional_tensor(value.elem) if isinstance(value, FunctionalTensor) else value


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Run(fx.Interpreter):
    """Runs the graph with torch's fused inference ops written out and functions that it calls put in their place."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(target, HigherOrderOperator):
            if target.name() not in _CALLS:
                return _as_it_is(target, *tree_map(_written_out, (args, kwargs)))
            place, first = _CALLS[target.name()]
            return _Run(args[place]).run(*args[first:])
        return super().call_function(REPLACED.get(target, target), args, kwargs)


def _written_out(argument: Any) -> Any:
    return partial(run_graph, argument) if isinstance(argument, fx.GraphModule) else argument


def _as_it_is(operator: HigherOrderOperator, args: Any, kwargs: Any) -> Any:
    """The call as torch traces it: with its functions made functional graphs."""
    known = operator.python_key_table
    if FunctionalTensorMode in known:  # it looks for the class itself, not for what that is made of
        known.setdefault(_Functional, known[FunctionalTensorMode])
    try:
        return operator(*args, **kwargs)
    except UNTRACED as error:
        raise UnsupportedError(f"torch does not trace {operator}, a function of functions: {error}") from error


def run_graph(module: fx.GraphModule, *arguments: Any) -> Any:
    """What ``module`` gives, each op traced as coming from the line that the graph says."""
    with fx_traceback.preserve_node_meta():
        return _Run(module).run(*arguments)


def definition_of(operator: HigherOrderOperator) -> Callable[..., Any] | None:
    """torch's definition of a function of functions in ordinary ops; None where there is none."""
    return operator.py_kernels.get(DispatchKey.CompositeExplicitAutograd) if operator.name() in _DEFINED else None


def fake_mode_of(node: fx.Node) -> FakeTensorMode | None:
    """The mode of the fake tensors that a node works on."""
    values = [node.meta.get("val"), *(n.meta.get("val") for n in node.all_input_nodes)]
    flat = [v for value in values for v in (value if isinstance(value, (list, tuple)) else [value])]
    return next((v.fake_mode for v in flat if isinstance(v, FakeTensor)), None)


@contextmanager
def _functionalize_excluded() -> Iterator[None]:
    """Keep C++ functionalisation from running above the Python one, as AOTAutograd does."""
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.Functionalize)):
        yield


def _uses_autocast(module: fx.GraphModule) -> bool:
    ambient = any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    return ambient or any(node.target in _AUTOCAST_CALLS for node in calls_in(module))


def _transforms_functions(module: fx.GraphModule) -> bool:
    """Whether Dynamo wrote a transform of ``torch.func`` out, as calls that enter and leave it."""
    modules = (getattr(node.target, "__module__", None) or "" for node in calls_in(module))
    return any(name.startswith("torch._functorch") or name == "torch._C._functorch" for name in modules)


def _mutated_inputs(wrapped: Sequence[Any]) -> Iterator[MutatedInput]:
    for index, value in enumerate(wrapped):
        if not isinstance(value, FunctionalTensor):
            continue
        if torch._functionalize_has_metadata_mutation(value.elem):
            raise UnsupportedError(
                f"the model changes the metadata of its input number {index} in place",
                fix="use the out-of-place form (x = x.t(), not x.t_())",
            )
        if has_data_mutation(value):
            untracked = torch._functionalize_are_all_mutations_under_no_grad_or_inference_mode(value.elem)
            after: Any = from_fun(value)
            yield MutatedInput(index, not untracked and bool(after.requires_grad))
