"""What a subcommand does with the model that it is given by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rooftile.config import CompileOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rooftile.blame.subject import Subject
    from rooftile.codegen.kernel import Kernel
    from rooftile.compilation import Compilation
    from rooftile.named_model import NamedModel
    from rooftile.target import Target


def found_model(name: str, inputs: list[str] | None, *, meta: bool = False, by_shape: bool = False) -> NamedModel:
    """The model and its inputs on the device that is here, or, with ``meta``, without memory; with ``by_shape`` also
    one that was made without memory.

    Raises:
        OptionError: there is no such model, it comes without inputs, or it has no values and they are wanted.
    """
    import torch

    from rooftile.named_model import named_model
    from rooftile.runtime.devices import default_device

    device = torch.device("meta") if meta else default_device()
    found = named_model(name, inputs or [], device, by_shape=by_shape)
    torch._dynamo.reset()  # a file that compiles while it is imported must make no size a run-time size
    return found


def compiled_model(
    name: str, inputs: list[str] | None, options: CompileOptions, *, meta: bool
) -> tuple[list[Compilation], int]:
    """The compilations of a named model, or of the graphs in the folder of a dump or in a file of IR, and how many
    graphs it has.

    Raises:
        OptionError: there is no such model, file or folder, or it comes without inputs.
    """
    import torch

    from rooftile.report.explaining import compile_afresh, compile_files
    from rooftile.users_code import users_code

    if is_on_disk(name):
        compilations = compile_files(Path(name), options, meta=meta)
        return compilations, len(compilations)
    found = found_model(name, inputs, meta=meta, by_shape=True)
    with torch.no_grad(), users_code(name):
        return compile_afresh(found.model, found.inputs, {}, options)


def subjects(name: str, inputs: list[str] | None, dynamic: bool | None) -> tuple[list[Subject], int]:
    """The graphs of a named model, or of a dump or a file of IR on disk, and how many graphs are not compiled.

    Raises:
        OptionError: there is no such model or dump.
    """
    from rooftile.blame.subject import dump_subjects, model_subjects
    from rooftile.runtime.devices import default_device
    from rooftile.users_code import users_code

    if is_on_disk(name):
        return dump_subjects(Path(name), default_device()), 0
    found = found_model(name, inputs)
    with users_code(name):
        return model_subjects(found.model, found.inputs, dynamic)


def emitted_kernels(
    name: str, inputs: list[str] | None, options: CompileOptions, *, meta: bool
) -> Iterator[tuple[Kernel, Target]]:
    """The kernels of a named model, or of a dump or a file of IR on disk, and what each is for; none is run for a
    dump.

    Raises:
        OptionError: there is no such model or dump.
    """
    import torch

    from rooftile.blame.subject import dump_subjects
    from rooftile.driver import build_program, collecting

    if is_on_disk(name):
        with collecting() as compilations:
            for subject in dump_subjects(Path(name), torch.device("cpu")):
                build_program(subject.graph, options, torch.device("meta"))
    else:
        compilations, _ = compiled_model(name, inputs, options, meta=meta)
    for compilation in compilations:
        yield from ((kernel, compilation.target) for kernel in compilation.kernels.values())


def is_on_disk(name: str) -> bool:
    """Whether ``name`` is a dump's folder or a file of IR rather than a model."""
    return ":" not in name and Path(name).exists()
