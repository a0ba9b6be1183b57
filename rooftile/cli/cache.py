"""``rooftile cache``: the compiled kernels on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rooftile.cli.arguments import AsJson, Dynamic, Inputs, Meta, Model, TargetName, given
from rooftile.cli.printing import say, show, show_json
from rooftile.config import CompileOptions, Config

if TYPE_CHECKING:
    from rooftile.runtime.cache import KernelCache
    from rooftile.runtime.cache_entries import Why

cache = typer.Typer(help="The compiled kernels on disk: list, explain misses, delete, move.", add_completion=False)

File = Annotated[Path, typer.Argument(help="The archive.")]


@cache.callback(invoke_without_command=True)
def cache_folder(
    context: typer.Context, clear: Annotated[bool, typer.Option("--clear", help="As the command clear.")] = False
) -> None:
    """The compiled kernels on disk: list, explain misses, delete, move. By itself as stats."""
    if context.invoked_subcommand is None:
        clear_cache() if clear else stats()


@cache.command()
def ls(as_json: AsJson = False) -> None:
    """List the kernels, the latest first."""
    from rooftile.runtime.cache_entries import read_entries

    entries = [asdict(entry.row()) for entry in read_entries(_cache())]
    if as_json:
        show_json(entries)
        return
    columns = ("key", "name", "arch", "bytes", "num_warps", "num_stages", "triton")
    rows = [{**entry, "key": entry["key"][:12]} for entry in entries]
    _show_table("Compiled kernels", columns, [tuple(_text(row[c]) for c in columns) for row in rows])


@cache.command()
def stats(as_json: AsJson = False) -> None:
    """Count kernels and bytes, by what they were made for and with."""
    from rooftile.runtime.cache_entries import cache_totals

    totals = cache_totals(_cache())
    if as_json:
        show_json(asdict(totals))
        return
    say(f"{totals.path}: {totals.kernels} kernels, {totals.bytes / 1e6:.1f} MB")
    for made_with, count in totals.made_with.items():
        say(f"  {count} for {made_with}")


@cache.command()
def why(
    model: Model,
    inputs: Inputs = None,
    target: TargetName = None,
    as_json: AsJson = False,
    dynamic: Dynamic = None,
    meta: Meta = False,
) -> None:
    """Say for each kernel of a model (or of a dump) whether it is cached; if not, what differs from the nearest entry.

    The exit code is 1 if one is not.
    """
    from rooftile.cli.models import emitted_kernels
    from rooftile.errors import OptionError
    from rooftile.runtime import cache_entries
    from rooftile.runtime.cache_key import key_parts

    options = CompileOptions.from_user(None, dynamic, given(target=target))
    entries = cache_entries.read_entries(_cache())
    found = [
        cache_entries.why(key_parts(kernel, on.arch), entries)
        for kernel, on in emitted_kernels(model, inputs, options, meta=meta)
        if on.kind == "cuda"
    ]
    if not found:
        raise OptionError("no kernel is compiled for this device", fix="--target h100, or another GPU")
    if as_json:
        show_json([asdict(each) for each in found])
    else:
        _show_reasons(found)
    if not all(each.cached for each in found):
        raise typer.Exit(1)


@cache.command("clear")
def clear_cache() -> None:
    """Delete all compiled kernels."""
    from rooftile.errors import OptionError

    kernels = _cache()
    try:
        count = kernels.clear()
    except OSError as error:
        raise OptionError(f"{error.filename} cannot be deleted: {error.strerror}") from error
    say(f"{kernels.path}: {count} kernels deleted")


@cache.command("export")
def export_cache(file: File) -> None:
    """Write all compiled kernels into one archive."""
    from rooftile.errors import writing
    from rooftile.runtime.cache_entries import export_entries

    with writing(file, "name another file"):
        count = export_entries(_cache(), file)
    say(f"{file}: {count} kernels")


@cache.command("import")
def import_cache(file: File) -> None:
    """Take over the kernels of an archive; one that is damaged changes nothing."""
    from rooftile.errors import writing
    from rooftile.runtime.cache_entries import import_entries

    kernels = _cache()
    with writing(kernels.path, "set ROOFTILE_CACHE_DIR to another folder"):
        new, known = import_entries(kernels, file)
    say(f"{kernels.path}: {new} kernels more, {known} were there")


def _cache() -> KernelCache:
    from rooftile.runtime.cache import KernelCache

    return KernelCache(Config.from_env().cache_dir)


def _show_reasons(found: list[Why]) -> None:
    rows = []
    for each in found:
        nearest = "cached" if each.cached else f"nearest: {each.nearest[:12]}" if each.nearest else "none is like it"
        rows.append((each.kernel, nearest, "", "", ""))
        for d in each.differs:
            lines = f"{d.diff.count(chr(10))} lines of diff" if d.diff else ""
            rows.append(("", "", d.part, lines or _text(d.wanted), "" if lines else _text(d.found)))
    _show_table("Kernels and the cache", ("kernel", "is", "differs in", "wanted", "cached"), rows)
    for each in found:
        for d in each.differs:
            if d.diff:
                say(f"\n{each.kernel}:\n{d.diff}", ended=True)


def _show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rooftile.report.text import Table, rich_table

    show(rich_table(Table(title, columns, tuple(rows))))


def _text(value: Any) -> str:
    return "" if value is None else str(value)
