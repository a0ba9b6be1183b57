"""A kernel's text made callable on the CPU, and its grid run program by program."""

from __future__ import annotations

import ast
import builtins
import linecache
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from rooftile.codegen.parsing import PARSING, parse
from rooftile.errors import InternalError
from rooftile.runtime.interpreter import language
from rooftile.runtime.interpreter.descriptor import Descriptor
from rooftile.runtime.interpreter.dtypes import INT32, INT64, OF_TORCH
from rooftile.runtime.interpreter.memory import Memory
from rooftile.runtime.interpreter.tensor import PointerType, Tensor, to_tensor


class KernelError(InternalError):
    """A kernel failed on the CPU: which program, at which line of the kernel's text, and what went wrong there."""


class Interpreted:
    """The ``@triton.jit`` function ``name`` of a kernel's text, ready to run, by several threads at once if need be."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.filename = f"<kernel {name} {abs(hash(source)):x}>"
        linecache.cache[self.filename] = (len(source), None, source.splitlines(keepends=True), self.filename)
        tree = ast.fix_missing_locations(_ScalarsAreTensors().visit(parse(source, self.filename)))
        scope: dict[str, Any] = {"__name__": f"rooftile_kernel.{name}", "__builtins__": _kernel_builtins()}
        with PARSING:
            code = compile(tree, self.filename, "exec")
        exec(code, scope)
        self._function: Callable[..., None] = scope[name]

    def run(self, grid: Sequence[int], arguments: Sequence[Any], *, wide: Sequence[bool] = ()) -> None:
        """Run every program of ``grid`` (one to three sizes), the first axis fastest, as GPUs number them.

        Arguments are CPU tensors, written in place, integers, and descriptors, ours or Triton's for a launch. Integers
        are int32, or int64 where ``wide`` (a flag per argument) says so. Raises KernelError.
        """
        sizes = (*grid, 1, 1)[:3]
        names = self._function.__code__.co_varnames
        flags = (*wide, *[False] * (len(arguments) - len(wide)))
        values = [_argument(*each) for each in zip(arguments, names, flags, strict=False)]
        coordinates = [language.first_axes(range(size)) for size in sizes]
        extents = language.first_axes(sizes)
        with np.errstate(all="ignore"):
            for z in coordinates[2]:
                for y in coordinates[1]:
                    for x in coordinates[0]:
                        self._run_one((x, y, z), extents, values)

    def _run_one(self, ids: tuple[Tensor, ...], extents: tuple[Tensor, ...], values: list[Tensor | Descriptor]) -> None:
        token = language.program.set((ids, extents))
        try:
            self._function(*values)
        except Exception as error:
            raise self._failure(ids, error) from error
        finally:
            language.program.reset(token)

    def _failure(self, ids: tuple[Tensor, ...], error: Exception) -> KernelError:
        line, trace = 0, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.filename:
                line = trace.tb_lineno
            trace = trace.tb_next
        program = ", ".join(str(int(i.data)) for i in ids)
        return KernelError(
            f"kernel `{self.name}`, program ({program}): {type(error).__name__}: {error}",
            op=linecache.getline(self.filename, line).strip() if line else "",
            where=f"line {line} of the kernel" if line else "the kernel's call",
        )


def _argument(value: Any, name: str, wide: bool) -> Tensor | Descriptor:
    if isinstance(value, Descriptor):
        return value
    if hasattr(value, "block_shape"):  # Triton's ``TensorDescriptor``
        return Descriptor.of(value.base, name, 0, value.shape, value.strides, value.block_shape)
    if isinstance(value, torch.Tensor):
        if value.dtype not in OF_TORCH:
            raise TypeError(f"`{name}`: kernels do not take {value.dtype}")
        return Tensor(np.int64(0), PointerType(Memory(value, name)))
    dtype = INT64 if wide else INT32
    return Tensor(dtype.held.type(value), dtype)


class _ScalarsAreTensors(ast.NodeTransformer):
    """Inside functions, ``x = 0`` makes ``x`` a scalar tensor, as in Triton; ``x: tl.constexpr = 0`` stays a number."""

    def __init__(self) -> None:
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if self._depth:
            node.value = ast.Call(ast.Name("__to_tensor__", ast.Load()), [node.value], [])
        return node


def _jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    return function if function is not None else lambda decorated: decorated


@cache
def _triton() -> SimpleNamespace:
    """What a kernel sees as the module ``triton``."""
    return SimpleNamespace(
        jit=_jit,
        language=language.namespace(),
        cdiv=lambda x, y: (x + y - 1) // y,
        next_power_of_2=lambda n: 1 << (n - 1).bit_length(),
    )


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    """``import`` for kernels: ``triton`` is ours, every other module is the real one."""
    root, *path = name.split(".")
    if root != "triton":
        return builtins.__import__(name, globals, locals, fromlist, level)
    module: Any = _triton()
    for part in path if fromlist else ():
        module = getattr(module, part)
    return module


@cache
def _kernel_builtins() -> dict[str, Any]:
    """Python's builtins as Triton's compiler reads them."""
    return vars(builtins) | {
        "__import__": _import,
        "__to_tensor__": to_tensor,
        "range": language.loop,
        "min": language.smallest,
        "max": language.largest,
    }
