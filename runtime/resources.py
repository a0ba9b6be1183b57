"""What a compiled kernel uses of a GPU, read from the binary itself: no GPU and no tool is needed.

A cubin is an ELF file. Its ``.nv.info`` sections are lists of attributes: a format byte, an attribute byte, and two
bytes that are the value or, for format 4, the length of the value that follows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_FORMAT_SIZED = 0x04
_FRAME_SIZE = 0x11  # (symbol, bytes of the stack frame): where registers spill to
_PARAMETER = 0x17  # (index, ordinal, offset, bits) of one kernel parameter
_REGISTER_COUNT = 0x2F  # (symbol, registers per thread)


@dataclass(frozen=True)
class Resources:
    """Per thread: registers, and bytes of local memory (spilled registers); per program: bytes of shared memory."""

    registers: int
    spill_bytes: int
    shared_bytes: int


def resources_of(cubin: bytes, shared_bytes: int) -> Resources:
    """The resources of the one kernel in ``cubin``; dynamic shared memory is not in the binary and is given.

    Raises ValueError if ``cubin`` is not a binary with one kernel.
    """
    counts = dict(_attributes(_section(cubin, ".nv.info")))
    if _REGISTER_COUNT not in counts:
        raise ValueError("no kernel in this binary")
    frame = _second_word(counts[_FRAME_SIZE]) if _FRAME_SIZE in counts else 0
    return Resources(_second_word(counts[_REGISTER_COUNT]), frame, shared_bytes)


def parameter_offsets(cubin: bytes, name: str) -> list[int]:
    """The offset of each parameter of kernel ``name`` in its parameter block, in order, hidden ones last."""
    found = [value for kind, value in _attributes(_section(cubin, f".nv.info.{name}")) if kind == _PARAMETER]
    parameters = sorted(struct.unpack_from("<IHH", value) for value in found)
    return [offset for _, _, offset in parameters]


def has_warp_specialization(ttgir: str) -> bool:
    """Whether a loop was split among producer and consumer warps; where it cannot, the compiler silently does not."""
    return "ttg.warp_specialize" in ttgir


def _second_word(value: bytes) -> int:
    word: int = struct.unpack_from("<II", value)[1]
    return word


def _section(elf: bytes, name: str) -> bytes:
    """The contents of a section of a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit ELF file")
    table: int = struct.unpack_from("<Q", elf, 0x28)[0]
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    strings = headers[names][4]
    for header in headers:
        start = strings + header[0]
        if elf[start : elf.index(b"\0", start)].decode() == name:
            return elf[header[4] : header[4] + header[5]]
    raise ValueError(f"no section {name}")


def _attributes(section: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(section):
        form, kind, length = struct.unpack_from("<BBH", section, at)
        size = length if form == _FORMAT_SIZED else 0
        yield kind, section[at + 4 : at + 4 + size]
        at += 4 + size
