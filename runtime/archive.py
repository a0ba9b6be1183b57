"""A compiled kernel as one file: a zip archive with the source, the binary, Triton's IR and the launch data.

Any unzip shows it. The archive's own checksums tell a damaged file from a whole one; archives are written without
times, so that equal kernels are equal files.
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rooftile.runtime.binary import Binary, DescriptorLayout

SOURCE, CUBIN, TTGIR, LAUNCH, KEY = "kernel.py", "kernel.cubin", "kernel.ttgir", "launch.json", "key.json"
_OUTSIDE_LAUNCH = ("cubin", "ttgir")
# What reading an archive in memory raises where it is not whole: a flipped bit may also say that a member is encrypted,
# or compressed in another way.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError),
    *(KeyError, ValueError, TypeError),
)


class DamagedArchive(ValueError):
    """A file that is not a whole archive of a kernel."""


def pack(binary: Binary, source: str, parts: Mapping[str, Any]) -> bytes:
    """The archive of a kernel, the text that it was compiled from, and the parts of its key."""
    launch = {name: value for name, value in asdict(binary).items() if name not in _OUTSIDE_LAUNCH}
    members = {
        SOURCE: source.encode(),
        CUBIN: binary.cubin,
        TTGIR: binary.ttgir.encode(),
        LAUNCH: json.dumps(launch, indent=1).encode(),
        KEY: json.dumps(parts, indent=1).encode(),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, compresslevel=1)
    return file.getvalue()


def parts_in(file: bytes) -> dict[str, Any] | None:
    """The parts of the key of an archive; None where it holds none. Raises DamagedArchive."""
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            if KEY not in archive.namelist():
                return None
            parts: dict[str, Any] = dict(json.loads(archive.read(KEY)))
            return parts
    except _DAMAGE as error:
        raise DamagedArchive(str(error)) from error


def unpack(file: bytes) -> Binary:
    """The kernel in an archive. Raises DamagedArchive."""
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}  # all, since reading checks the sums
            launch = json.loads(members[LAUNCH])
            launch["parameters"] = tuple(launch["parameters"])
            found = launch.get("descriptors", ())
            launch["descriptors"] = tuple(DescriptorLayout(x["swizzle"], tuple(x["box"])) for x in found)
            return Binary(cubin=members[CUBIN], ttgir=members[TTGIR].decode(), **launch)
    except _DAMAGE as error:
        raise DamagedArchive(str(error)) from error
