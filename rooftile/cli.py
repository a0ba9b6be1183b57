"""The ``rooftile`` command."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rooftile.config import VARIABLES, CompileOptions, Config
from rooftile.errors import OptionError, RooftileError

# Modules that import torch are imported by the commands that need them: `rooftile --help` is to be quick.

app = typer.Typer(
    help="A graph compiler for transformer blocks: a few readable Triton kernels near the roofline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Model = Annotated[str, typer.Argument(help="file.py:object or package.module:object; a module, or what makes one.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--inputs", "-i", help="A type such as 'bf16[1, 16, 64]', once for each input; or a function."),
]
TargetName = Annotated[str | None, typer.Option("--target", "-t", help="Compile for this device, present or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Meta = Annotated[bool, typer.Option("--meta", help="Shapes only: weights are not allocated and nothing runs.")]
Dynamic = Annotated[bool | None, typer.Option("--dynamic/--static", help="Sizes known only at run time, or not.")]


@app.command()
def demo(dump: Annotated[Path | None, typer.Option(help="Where to leave IR and kernels.")] = None) -> None:
    """Compile a Llama-style block, check it against float64, and explain what was done."""
    from rooftile.demo import demonstrate
    from rooftile.demo_text import demo_text

    _print(demo_text(demonstrate(dump)))


@app.command()
def explain(
    model: Model,
    inputs: Inputs = None,
    target: TargetName = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Show the kernels of a model, what was fused and why, bytes and the roofline."""
    options = CompileOptions.from_user(None, dynamic, _given(target=target))
    report, _ = _look(model, inputs, options, meta=meta)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report)


@app.command()
def dump(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("rooftile-dump"),
    inputs: Inputs = None,
    target: TargetName = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Write the IR after every pass, the kernels, the plan and a script that reproduces them."""
    options = CompileOptions.from_user(None, dynamic, _given(target=target, dump=out))
    _, folders = _look(model, inputs, options, meta=meta)
    if as_json:
        typer.echo(json.dumps([str(folder) for folder in folders]))
    else:
        for folder in folders:
            typer.echo(f"{folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")


@app.command()
def opt(
    file: Annotated[Path, typer.Argument(help="IR text; - for standard input.")],
    passes: Annotated[str, typer.Option("--passes", "-p", help="Names, with commas between: canonicalize,fuse.")],
    target: Annotated[str, typer.Option("--target", "-t", help="The device to compile for.")] = "h100",
) -> None:
    """Run passes on IR text and print the result."""
    from rooftile.passes.opt import run_named
    from rooftile.target import target_named

    if str(file) != "-" and not file.is_file():
        raise OptionError(f"no file {str(file)!r}", fix="a file with IR text, or - for standard input")
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    typer.echo(run_named(text, split_passes(passes), target_named(target), file.name), nl=False)


@app.command()
def info(as_json: AsJson = False) -> None:
    """Versions, the device, the cache, and the environment variables."""
    facts = _facts()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    from rooftile.report.text import Table, rich_table

    settings = Config.from_env()
    about = tuple((name, str(value)) for name, value in facts.items())
    variables = tuple((v.name, v.type, str(getattr(settings, v.field)), v.doc) for v in VARIABLES)
    _print(rich_table(Table("This installation", ("what", "is"), about)))
    _print(rich_table(Table("Environment variables", ("name", "takes", "is now", "meaning"), variables)))


@app.command()
def cache(clear: Annotated[bool, typer.Option("--clear", help="Delete all compiled kernels.")] = False) -> None:
    """Show, or empty, the folder of compiled kernels."""
    from rooftile.runtime.cache import KernelCache

    kernels = KernelCache(Config.from_env().cache_dir)
    if clear:
        typer.echo(f"{kernels.path}: {kernels.clear()} kernels deleted")
        return
    sizes = [entry.stat().st_size for entry in kernels.entries()]
    typer.echo(f"{kernels.path}: {len(sizes)} kernels, {sum(sizes) / 1e6:.1f} MB")


@app.command()
def tune(
    model: Model,
    inputs: Inputs = None,
    lock: Annotated[Path, typer.Option("--lock", "-l", help="The lock file.")] = Path("rooftile.lock"),
    effort: Annotated[str, typer.Option(help="quick or full: how many schedules of a kernel are timed.")] = "full",
    seconds: Annotated[float | None, typer.Option(help="The longest that it may take.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Time nothing; say which entries fit this model.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Time the schedules of a model's kernels, and keep the best in a lock file.

    With --check the exit code is 1 if a kernel has no entry that fits, made with these versions, for the device.
    """
    from rooftile import tuning

    if check:
        _check(model, inputs, lock, CompileOptions.from_user(None, dynamic, _given(target=target)), as_json, meta)
        return
    if target or meta:
        raise OptionError("kernels are timed on the device that is here", fix="--target and --meta go with --check")
    found = _named(model, inputs, meta=False)
    report = tuning.tune(
        found.model, *found.inputs, lock=lock, effort=effort, seconds=seconds, dynamic=dynamic, progress=not as_json
    )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report)


def _check(name: str, inputs: list[str] | None, lock: Path, options: CompileOptions, as_json: bool, meta: bool) -> None:
    from dataclasses import asdict

    from rooftile.report.text import Table, rich_table
    from rooftile.tuning import check_lock

    compilations, _ = _compiled(name, inputs, options, meta=meta)
    rows = check_lock(compilations, lock)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        cells = tuple((row.name, row.status, row.text) for row in rows)
        _print(rich_table(Table(f"Kernels in {lock}", ("kernel", "status", "meaning"), cells)))
    if any(row.status != "locked" for row in rows):
        raise typer.Exit(1)


def split_passes(text: str) -> list[str]:
    """Pass names at the commas, those inside braces left alone: ``a,b{x=1,y=2}`` is two."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _look(name: str, inputs: list[str] | None, options: CompileOptions, *, meta: bool) -> tuple[Any, list[Path]]:
    """The report on a named model, and the folders that were dumped into."""
    from rooftile.report.collect import report_of

    compilations, graphs = _compiled(name, inputs, options, meta=meta)
    folders = [c.dump for c in compilations if c.dump is not None]
    return report_of(compilations, uncompiled=graphs - len(compilations)), folders


def _compiled(name: str, inputs: list[str] | None, options: CompileOptions, *, meta: bool) -> tuple[list[Any], int]:
    """The compilations of a named model, and how many graphs it has."""
    import torch

    from rooftile.report.explaining import compile_afresh

    found = _named(name, inputs, meta=meta)
    with torch.no_grad():
        return compile_afresh(found.model, found.inputs, {}, options)


def _named(name: str, inputs: list[str] | None, *, meta: bool) -> Any:
    import torch

    from rooftile.named_model import named_model

    device = torch.device("meta" if meta else "cuda" if torch.cuda.is_available() else "cpu")
    return named_model(name, inputs or [], device)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _facts() -> dict[str, str]:
    from rooftile.report.collect import versions
    from rooftile.runtime.cache import KernelCache
    from rooftile.runtime.devices import default_target

    target = default_target()
    kernels = KernelCache(Config.from_env().cache_dir)
    where = "through the interpreter" if target.kind == "cpu" else f"sm_{target.arch}, {target.sm_count} processors"
    return {
        **versions(),
        "python": platform.python_version(),
        "target": f"{target.name} ({where})",
        "cache": f"{kernels.path} ({len(kernels.entries())} kernels)",
    }


def _print(shown: Any) -> None:
    """Through rich, as wide as the terminal; wide enough for the tables where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(shown)


def main() -> None:
    """Run the command.

    Errors of ours are one message and exit code 2; with ROOFTILE_DEBUG they show where they come from.
    """
    try:
        app()
    except RooftileError as error:
        if Config.from_env().debug:
            raise
        typer.echo(f"rooftile: {error}", err=True)
        sys.exit(2)
