"""``rooftile cache``: what is there, why something is not, and taking it from one folder to another."""

from __future__ import annotations

import errno
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rooftile.cli import app
from rooftile.cli.models import emitted_kernels
from rooftile.codegen.kernel import Kernel
from rooftile.config import CompileOptions
from rooftile.errors import InputError
from rooftile.runtime.binary import Binary
from rooftile.runtime.cache import KernelCache
from rooftile.runtime.cache_entries import cache_totals, export_entries, import_entries, read_entries, why
from rooftile.runtime.cache_key import cache_key, key_parts
from rooftile.target import target_named
from tests.rooftile.test_cli import refused
from tests.runtime import kernels
from tests.schemas import misfits

H100 = target_named("h100")
KERNEL = kernels.gather()
MODELS = str(Path(__file__).parent.parent / "rooftile" / "models_to_name.py")


def compiled(kernel: Kernel, arch: int) -> Binary:
    """Stands for Triton's compiler."""
    return Binary(kernel.name, arch, ("ptr",), kernel.num_warps, 1024, 0, 1, kernel.source.encode(), "module {}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelCache:
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(tmp_path / "kernels"))
    return KernelCache(tmp_path / "kernels", compiled)


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_an_entry_says_what_its_key_is_made_of(cache: KernelCache) -> None:
    cache.get_or_build(KERNEL, H100)
    (entry,) = read_entries(cache)
    assert entry.parts == key_parts(KERNEL, H100.arch) and entry.key == cache_key(KERNEL, H100.arch)
    assert entry.name == KERNEL.name


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda k: replace(k, num_warps=16), "num_warps"),
        (lambda k: replace(k, num_stages=7), "num_stages"),
        (lambda k: replace(k, name="other"), "name"),
        (lambda k: replace(k, source=k.source.replace("64", "128")), "source"),
    ],
)
def test_why_names_the_part_that_differs(cache: KernelCache, change: Callable[[Kernel], Kernel], part: str) -> None:
    cache.get_or_build(KERNEL, H100)
    far = replace(KERNEL, num_warps=2, num_stages=9, source="import triton\nx = 1\n")
    cache.get_or_build(far, H100)
    found = why(key_parts(change(KERNEL), H100.arch), read_entries(cache))
    assert not found.cached and found.nearest == cache_key(KERNEL, H100.arch)
    assert [d.part for d in found.differs] == [part]
    assert ("+" in found.differs[0].diff) == (part == "source")
    assert why(key_parts(KERNEL, H100.arch), read_entries(cache)).cached


def test_why_names_versions_and_the_architecture(cache: KernelCache) -> None:
    cache.get_or_build(KERNEL, H100)
    parts = key_parts(KERNEL, 80) | {"triton": "9.9"}
    assert {d.part: d.wanted for d in why(parts, read_entries(cache)).differs} == {"arch": 80, "triton": "9.9"}


def test_nothing_is_near_in_an_empty_cache(cache: KernelCache) -> None:
    found = why(key_parts(KERNEL, H100.arch), read_entries(cache))
    assert not found.cached and found.nearest is None


def test_a_damaged_entry_is_listed_and_is_near_nothing(cache: KernelCache) -> None:
    cache.get_or_build(KERNEL, H100)
    (file,) = cache.entries()
    file.write_bytes(b"not a zip")
    (entry,) = read_entries(cache)
    assert entry.name == "unknown" and cache_totals(cache).made_with == {"unknown": 1}
    found = why(key_parts(KERNEL, H100.arch), [entry])
    assert not found.cached and found.nearest is None


def test_an_entry_with_a_damaged_binary_is_none_and_is_taken_over_again(cache: KernelCache, tmp_path: Path) -> None:
    cache.get_or_build(KERNEL, H100)
    (file,) = cache.entries()
    whole = file.read_bytes()
    assert export_entries(cache, tmp_path / "all.zip") == 1
    at = whole.index(b"kernel.cubin") + len("kernel.cubin") + 2
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert not why(key_parts(KERNEL, H100.arch), read_entries(cache)).cached
    assert export_entries(cache, tmp_path / "none.zip") == 0
    assert import_entries(cache, tmp_path / "all.zip") == (1, 0)
    assert file.read_bytes() == whole


def test_an_archive_that_cannot_be_written_is_as_it_was(
    cache: KernelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.get_or_build(KERNEL, H100)
    file = tmp_path / "kept" / "all.zip"
    file.parent.mkdir()
    file.write_bytes(b"mine")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space"):
        export_entries(cache, file)
    assert [each.read_bytes() for each in file.parent.iterdir()] == [b"mine"]


def test_a_cache_that_takes_no_kernels_is_named(
    cache: KernelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.get_or_build(KERNEL, H100)
    archive, folder = tmp_path / "all.zip", tmp_path / "file"
    export_entries(cache, archive)
    folder.write_text("no folder")
    monkeypatch.setenv("ROOFTILE_CACHE_DIR", str(folder))
    assert f"{folder} cannot be written" in refused(monkeypatch, capsys, "cache", "import", str(archive))


def test_entries_are_taken_to_another_folder(cache: KernelCache, tmp_path: Path) -> None:
    for warps in (1, 2, 4):
        cache.get_or_build(replace(KERNEL, num_warps=warps), H100)
    assert export_entries(cache, tmp_path / "all.zip") == 3
    other = KernelCache(tmp_path / "other", compiled)
    other.get_or_build(replace(KERNEL, num_warps=2), H100)
    assert import_entries(other, tmp_path / "all.zip") == (2, 1)
    fresh = KernelCache(tmp_path / "other", compiled)
    for warps in (1, 2, 4):
        assert fresh.get_or_build(replace(KERNEL, num_warps=warps), H100).num_warps == warps
    assert fresh.stats().disk_hits == 3 and fresh.stats().built == 0


@pytest.mark.parametrize("fault", ["name", "content", "path", "archive"])
def test_a_bad_archive_changes_nothing(cache: KernelCache, tmp_path: Path, fault: str) -> None:
    cache.get_or_build(KERNEL, H100)
    cache.get_or_build(replace(KERNEL, num_warps=8), H100)
    export_entries(cache, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    last = list(members)[-1]
    content = members.pop(last)
    name = {"name": "0" * 64 + ".kernel.zip", "path": "../" + last}.get(fault, last)
    members[name] = content[:-40] if fault == "content" else content
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    if fault == "archive":
        bad.write_bytes(b"no zip")
    other = KernelCache(tmp_path / "other", compiled)
    with pytest.raises(InputError):
        import_entries(other, bad)
    assert other.entries() == []


def test_the_commands(cache: KernelCache, tmp_path: Path) -> None:
    assert run("cache") == run("cache", "stats")
    assert "0 kernels, 0.0 MB" in run("cache")
    options = CompileOptions.from_user(options={"target": "h100"})
    for kernel, target in emitted_kernels(f"{MODELS}:with_inputs", None, options, meta=True):
        cache.get_or_build(replace(kernel, num_warps=32), target)
    count = len(cache.entries())
    assert f"{count} kernels" in run("cache") and json.loads(run("cache", "stats", "--json"))["kernels"] == count
    rows = json.loads(run("cache", "ls", "--json"))
    assert len(rows) == count and "down_contract" in run("cache", "ls")
    assert not [fault for row in rows for fault in misfits(row, "cache-ls")]
    assert not misfits(json.loads(run("cache", "stats", "--json")), "cache-stats")
    model = (f"{MODELS}:with_inputs", "--meta", "--target", "h100")
    rows = json.loads(run("cache", "why", *model, "--json", code=1))
    assert [d["part"] for row in rows for d in row["differs"]] == ["num_warps"] * count
    assert not [fault for row in rows for fault in misfits(row, "cache-why")]
    assert "num_warps" in run("cache", "why", *model, code=1)
    run("dump", *model, "-o", str(tmp_path / "dump"))
    assert json.loads(run("cache", "why", str(tmp_path / "dump"), "--target", "h100", "--json", code=1)) == rows
    for kernel, target in emitted_kernels(f"{MODELS}:with_inputs", None, options, meta=True):
        cache.get_or_build(kernel, target)
    assert all(row["cached"] for row in json.loads(run("cache", "why", *model, "--json")))
    run("cache", "export", str(tmp_path / "kernels.zip"))
    assert f"{2 * count} kernels deleted" in run("cache", "clear")
    assert f"{2 * count} kernels more, 0 were there" in run("cache", "import", str(tmp_path / "kernels.zip"))
