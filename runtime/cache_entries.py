"""The entries of a kernel cache for reading: what each was made from, why a kernel is not among them, and moving them.

An entry says itself what its key was made from, so that two keys can be told apart by their parts.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from rooftile.errors import InputError
from rooftile.runtime.archive import DamagedArchive, parts_in, unpack
from rooftile.runtime.cache import SUFFIX, KernelCache
from rooftile.runtime.cache_key import key_of
from rooftile.runtime.whole_files import becoming

_MEMBER = re.compile(r"[0-9a-f]{64}" + re.escape(SUFFIX))
_SHOWN = ("name", "arch", "num_warps", "num_stages", "rooftile", "triton", "ptxas")


@dataclass(frozen=True)
class CacheEntry:
    """One kernel on disk. ``parts`` is empty where the file is damaged, or older than the record of parts; one that is
    damaged is built again when it is asked for."""

    key: str
    file: Path
    bytes: int
    modified: float
    parts: Mapping[str, Any]
    damaged: bool

    @property
    def name(self) -> str:
        """The kernel's name."""
        return str(self.parts.get("name", "unknown"))

    def row(self) -> CacheRow:
        """As plain data, without the code."""
        parts = {name: self.parts.get(name) for name in _SHOWN}
        return CacheRow(self.key, str(self.file), self.bytes, self.modified, **parts)


@dataclass(frozen=True)
class CacheRow:
    """One kernel on disk: its key, its size, when it was written (seconds since 1970), what it is and was made with;
    None where the file does not say."""

    key: str
    file: str
    bytes: int
    modified: float
    name: str | None
    arch: int | None
    num_warps: int | None
    num_stages: int | None
    rooftile: str | None
    triton: str | None
    ptxas: str | None


@dataclass(frozen=True)
class CacheTotals:
    """How many kernels and bytes a folder holds, and how many kernels for each architecture and versions."""

    path: str
    kernels: int
    bytes: int
    made_with: Mapping[str, int]


@dataclass(frozen=True)
class Difference:
    """A part of the key that is another: ``wanted`` of the kernel, ``found`` of the entry; code as a diff."""

    part: str
    wanted: Any
    found: Any
    diff: str = ""


@dataclass(frozen=True)
class Why:
    """Whether a kernel is in the cache; if not, the ``nearest`` entry and the parts that differ from its key's."""

    kernel: str
    key: str
    cached: bool
    nearest: str | None = None
    differs: tuple[Difference, ...] = ()


def read_entries(cache: KernelCache) -> list[CacheEntry]:
    """All entries, the latest first."""
    found = [_entry(file) for file in cache.entries()]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: (-entry.modified, entry.key))


def _entry(file: Path) -> CacheEntry | None:
    try:
        stat, content = file.stat(), file.read_bytes()
    except OSError:  # deleted meanwhile
        return None
    try:
        parts, damaged = _parts_of_whole(content), False
    except DamagedArchive:
        parts, damaged = None, True
    return CacheEntry(file.name.removesuffix(SUFFIX), file, stat.st_size, stat.st_mtime, parts or {}, damaged)


def _parts_of_whole(content: bytes) -> dict[str, Any] | None:
    """The parts of an entry's key; None where it holds none. Raises DamagedArchive, wherever the damage is."""
    unpack(content)
    return parts_in(content)


def cache_totals(cache: KernelCache) -> CacheTotals:
    """How many kernels and bytes there are, in all and for each architecture and versions."""
    listed = read_entries(cache)
    made_with = Counter(_made_with(entry) for entry in listed)
    total = sum(entry.bytes for entry in listed)
    return CacheTotals(str(cache.path), len(listed), total, dict(sorted(made_with.items())))


def _made_with(entry: CacheEntry) -> str:
    if not entry.parts:
        return "unknown"
    return f"sm_{entry.parts['arch']}, rooftile {entry.parts['rooftile']}, triton {entry.parts['triton']}"


def why(parts: Mapping[str, Any], entries: Iterable[CacheEntry]) -> Why:
    """Whether the kernel that ``parts`` make a key of is there, and what keeps the nearest entry from being it.

    The nearest entry has the fewest parts that differ, and of these the fewest lines of code.
    """
    key, name = key_of(parts), str(parts["name"])
    listed = list(entries)
    if any(entry.key == key and not entry.damaged for entry in listed):
        return Why(name, key, True)
    candidates = [(entry, _differences(parts, entry.parts)) for entry in listed if entry.parts]
    if not candidates:
        return Why(name, key, False)
    nearest, differs = min(candidates, key=lambda pair: _distance(pair[0], pair[1], name))
    return Why(name, key, False, nearest.key, differs)


def _distance(entry: CacheEntry, differs: tuple[Difference, ...], name: str) -> tuple[int, int, int]:
    return len(differs), sum(d.diff.count("\n") for d in differs), int(entry.name != name)


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[Difference, ...]:
    return tuple(
        Difference(part, None, None, _diff(found.get(part) or (), wanted[part] or ()))
        if part == "source"
        else Difference(part, wanted.get(part), found.get(part))
        for part in dict.fromkeys((*wanted, *found))
        if wanted.get(part) != found.get(part)
    )


def _diff(found: Iterable[str], wanted: Iterable[str]) -> str:
    return "".join(f"{x}\n" for x in unified_diff(list(found), list(wanted), "cached", "wanted", lineterm="", n=1))


def export_entries(cache: KernelCache, file: Path) -> int:
    """Write every whole entry into one archive; how many there are.

    Raises:
        OSError: the file cannot be written, and is as it was.
    """
    count = 0
    partial = file.with_name(f".{file.name}.partial")
    with becoming(file, partial), zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for entry in read_entries(cache):
            if entry.parts and entry.key == key_of(entry.parts):
                archive.writestr(zipfile.ZipInfo(entry.file.name), entry.file.read_bytes())
                count += 1
    return count


def import_entries(cache: KernelCache, file: Path) -> tuple[int, int]:
    """Take over the entries of an archive that are not there yet; how many were taken, and how many were there.

    Everything is looked at first: an archive with one bad member changes nothing.

    Raises:
        InputError: the file is no such archive, or a member is damaged or not what its name says.
        OSError: an entry cannot be written; those before it are there.
    """
    members = list(_members(file))
    there = {key: _entry(cache.file_of(key)) for key, _ in members}
    new = [(key, content) for key, content in members if (entry := there[key]) is None or entry.damaged]
    for key, content in new:
        cache.write(key, content)
    return len(new), len(members) - len(new)


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                yield _checked(file, name, content), content
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} holds no cached kernels: {error}", fix="write one: rooftile cache export") from error


def _checked(file: Path, name: str, content: bytes) -> str:
    """The key of a member that is whole and named after what it was made from."""
    key = name.removesuffix(SUFFIX)
    try:
        parts = _parts_of_whole(content)
    except DamagedArchive as error:
        raise InputError(f"{name} in {file} is damaged: {error}", fix="export it again") from error
    if not _MEMBER.fullmatch(name) or parts is None or key_of(parts) != key:
        raise InputError(f"{name} in {file} is not named after its key", fix="export it again")
    return key
