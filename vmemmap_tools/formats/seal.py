# SPDX-License-Identifier: LGPL-2.1-or-later
"""A note within a dump that describes the file and lets damage be told.

Its description is a header (magic, checksum of the rest of the file, checksum and size
of the body) and a body of any bytes. The same note serves ELF cores and
kdump-compressed files.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from .elf import Elf, ElfError
from .elf_write import note
from .kdump_header import SIGNATURE

__all__ = ["SealError", "read_seal", "seal", "sealed_note"]

NAME, KIND = "VMEMMAP_TOOLS", 1
MAGIC = b"vmemmap capsule\n"
HEADER = struct.Struct("<16sIIQ")
MAX_BODY = 32 << 20
MAX_NOTES = 64 << 20
CHUNK = 1 << 20


class SealError(ValueError):
    """A sealed file that is not as it was when it was sealed."""


def sealed_note(body: bytes) -> bytes:
    """The note, to be put into a file; `seal` completes it."""
    return note(NAME, KIND, HEADER.pack(MAGIC, 0, zlib.crc32(body), len(body)) + body)


def seal(file: BinaryIO) -> None:
    """Write the checksum of the rest into a file that has the note."""
    at = _find(file)
    if at is None:
        raise SealError("the file has no note to be sealed")
    _, _, crc, size = _header(file, at)
    file.seek(at)
    rest = _checksum(file, at, at + HEADER.size + size)
    file.seek(at)
    file.write(HEADER.pack(MAGIC, rest, crc, size))


def read_seal(file: BinaryIO) -> bytes | None:
    """The body of the note, None where there is none. Raises `SealError`."""
    at = _find(file)
    if at is None:
        return None
    _, rest, crc, size = _header(file, at)
    file.seek(at + HEADER.size)
    body = file.read(size) if size <= MAX_BODY else b""
    if len(body) != size or zlib.crc32(body) != crc:
        raise SealError("its own description is damaged")
    if _checksum(file, at, at + HEADER.size + size) != rest:
        raise SealError("its checksum is not that of its content")
    return body


def _header(file: BinaryIO, at: int) -> tuple[bytes, int, int, int]:
    file.seek(at)
    data = file.read(HEADER.size)
    if len(data) < HEADER.size:
        raise SealError("it ends within its own description")
    magic, rest, crc, size = HEADER.unpack(data)
    return magic, rest, crc, size


def _find(file: BinaryIO) -> int | None:
    """Where the description begins. Raises `SealError` for a note without one."""
    for offset, size in _note_areas(file):
        file.seek(offset)
        notes = file.read(min(size, MAX_NOTES))
        found = notes.find(MAGIC)
        if found >= 0:
            return offset + found
        if NAME.encode() + b"\0" in notes:
            raise SealError("its own description is damaged")
    return None


def _note_areas(file: BinaryIO) -> list[tuple[int, int]]:
    file.seek(0)
    head = file.read(464)
    if head.startswith(SIGNATURE):
        if len(head) < 464:
            return []
        (block,) = struct.unpack_from("<i", head, 428)
        file.seek(max(block, 0))
        sub_header = file.read(104)
        if len(sub_header) < 104:
            return []
        # struct kdump_sub_header: offset_note and size_note.
        return [struct.unpack_from("<QQ", sub_header, 48)]
    if not head.startswith(b"\x7fELF"):
        return []
    try:
        return Elf(file).note_areas()
    except ElfError:
        return []


def _checksum(file: BinaryIO, start: int, end: int) -> int:
    """The checksum of a file but for the bytes from ``start`` to ``end``."""
    crc, position = 0, 0
    file.seek(0)
    while True:
        if position == start:
            position = end
            file.seek(end)
        wanted = min(CHUNK, start - position) if position < start else CHUNK
        data = file.read(wanted)
        if not data:
            return crc
        crc = zlib.crc32(data, crc)
        position += len(data)
