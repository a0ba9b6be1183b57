"""What the command line names: a model in a file or a module, and inputs for it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from rooftile.errors import OptionError, UserError, nearest
from rooftile.ir.dtypes import DTYPES
from rooftile.users_code import users_code

_TYPE = re.compile(r"\s*(\w+)\s*\[\s*((?:\d+\s*(?:,\s*\d+\s*)*)?)\]\s*", re.ASCII)
_LARGEST_INTEGER = 16  # random token numbers and the like must be valid indices of small tables


@dataclass(frozen=True)
class NamedModel:
    """A model and the inputs it is looked at with."""

    model: Callable[..., Any]
    inputs: tuple[Any, ...]


def named_model(name: str, inputs: Sequence[str], device: torch.device, *, by_shape: bool = False) -> NamedModel:
    """The model called ``name`` (``file.py:object`` or ``package.module:object``), moved to ``device``.

    The object is a module, a function of tensors, or something to be called without arguments that gives a module or
    ``(module, inputs)``. Each of ``inputs`` is a type such as ``bf16[1, 16, 64]``, or the name of a function beside
    the model that gives all inputs. A module made on the meta device has no values to be moved: with ``by_shape`` it
    stays there, and its inputs go there.

    Raises:
        OptionError: there is no such file, module or object, a type cannot be read, there are no inputs, or a module
            has no values where they are wanted.
        UserError: what is named raises something when it is imported or called; with its line.
    """
    place, _, attribute = name.rpartition(":")
    if not place:
        raise OptionError(f"{name!r} names no model", fix="file.py:object or package.module:object")
    with device:  # on the meta device, weights are not even allocated
        module = _module(place)
        model, own_inputs = _model(_attribute(module, attribute, name), name)
        if device.type != "meta" and has_no_values(model):
            if not by_shape:
                raise OptionError(
                    f"{name} has weights on the meta device, without values, and here it is run",
                    fix="make it on a real device; 'rooftile explain' and 'rooftile dump' need no values",
                )
            device = torch.device("meta")
        if isinstance(model, nn.Module):
            model.to(device)
        given = _inputs(inputs, module) if inputs else own_inputs
    if given is None:
        raise OptionError(f"{name} comes without inputs", fix="--inputs 'f32[2, 16, 64]', once for each input")
    return NamedModel(model, tuple(x.to(device) if isinstance(x, torch.Tensor) else x for x in given))


def has_no_values(model: Callable[..., Any]) -> bool:
    """Whether a module has weights or buffers on the meta device, where there are shapes alone."""
    return isinstance(model, nn.Module) and any(x.is_meta for x in (*model.parameters(), *model.buffers()))


def named_object(name: str) -> Any:
    """What ``file.py:object`` or ``package.module:object`` names.

    Raises:
        OptionError: there is no such file, module or object.
        UserError: the file raises something when it is imported.
    """
    place, _, attribute = name.rpartition(":")
    if not place:
        raise OptionError(f"{name!r} names nothing", fix="file.py:object or package.module:object")
    return _attribute(_module(place), attribute, name)


def _module(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix != ".py":
        sys.path.insert(0, "")  # as `python -m` does
        try:
            with users_code(place):
                return importlib.import_module(place)
        except ModuleNotFoundError as error:  # asked for by no line of theirs
            raise OptionError(f"no module {error.name!r}", fix="file.py:object or package.module:object") from None
    if not path.is_file():
        raise OptionError(f"no file {place!r}", fix="file.py:object or package.module:object")
    sys.path.insert(0, str(path.parent.absolute()))
    name = path.stem
    while name in sys.modules:  # of `copy` or `typing`, say, which stay what they are to those who import them
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with users_code(place):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]  # as import does: it is half a module
        if isinstance(error, UserError) and isinstance(error.__cause__, ImportError) and not error.fix:
            error.fix = _by_package(path)
        raise
    return module


def _by_package(path: Path) -> str:
    """How to name what is in a file of a package, which may import by relative names; "" if it is in none."""
    packages = list(takewhile(lambda folder: (folder / "__init__.py").is_file(), path.absolute().parents))
    if not packages:
        return ""
    names = [*(folder.name for folder in reversed(packages)), path.stem]
    return f"name it by its package, {'.'.join(names)}:object, from {packages[-1].parent}"


def _attribute(module: ModuleType, attribute: str, name: str) -> Any:
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise OptionError(f"{name}: there is no {attribute!r} there", fix=nearest(attribute, public))
    return getattr(module, attribute)


def _model(found: Any, name: str) -> tuple[Callable[..., Any], Sequence[Any] | None]:
    if not callable(found):
        raise OptionError(f"{name} is a {type(found).__name__}", fix="name a module, or a function that makes one")
    needs_arguments = not isinstance(found, nn.Module) and _has_required_parameters(found)
    if needs_arguments and isinstance(found, type):
        raise OptionError(
            f"{name} is a class that takes arguments", fix="name an instance, or a function that makes one"
        )
    if needs_arguments or isinstance(found, nn.Module):
        return found, None
    with users_code(f"{name}()"):
        made = found()
    pair = isinstance(made, tuple) and len(made) == 2
    model, inputs = made if pair else (made, None)
    if not isinstance(model, nn.Module):
        raise OptionError(f"{name}() gave a {type(model).__name__}", fix="return a module, or (module, inputs)")
    return model, inputs if inputs is None or isinstance(inputs, (tuple, list)) else (inputs,)


def _has_required_parameters(function: Callable[..., Any]) -> bool:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function written in C, which makes no modules
        return True
    return any(p.default is p.empty and p.kind not in kinds for p in parameters)


def _inputs(texts: Sequence[str], module: ModuleType) -> tuple[Any, ...]:
    if len(texts) == 1 and texts[0].isidentifier():
        function = _attribute(module, texts[0], texts[0])
        with users_code(f"{texts[0]}()"):
            made = function()
        return tuple(made) if isinstance(made, tuple | list) else (made,)
    with users_code(f"an input of {', '.join(texts)}"):
        return tuple(random_tensor(text) for text in texts)


def random_tensor(text: str) -> torch.Tensor:
    """A tensor of the type ``text``, such as ``bf16[1, 16, 64]``: normal floats, small integers, coins.

    Raises:
        OptionError: ``text`` is no type.
    """
    match = _TYPE.fullmatch(text)
    if match is None:
        raise OptionError(f"{text!r} is no input", fix="a dtype and a shape: bf16[1, 16, 64]")
    name, sizes = match.groups()
    if name not in DTYPES:
        raise OptionError(f"unknown dtype {name!r} in {text!r}", fix=nearest(name, DTYPES))
    dtype, shape = DTYPES[name], [int(size) for size in sizes.split(",") if size.strip()]
    if dtype.kind in ("float", "complex"):
        return torch.randn(shape, dtype=torch.complex64 if dtype.kind == "complex" else None).to(dtype.torch)
    return torch.randint(0, 2 if dtype.kind == "bool" else _LARGEST_INTEGER, shape).to(dtype.torch)
