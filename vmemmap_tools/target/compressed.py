# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dumps that are compressed as a whole: a capsule is read, other dumps are refused.

A capsule is small. It is decompressed into a temporary file without a name, within a
bound, and only if its first bytes are those of a capsule.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from typing import BinaryIO, Callable, cast

from ..formats.kdump_header import SIGNATURE
from ..formats.output import spool
from ..formats.seal import MAGIC, MAX_NOTES
from .base import TargetError

__all__ = ["compression_of", "decompress_capsule"]

MAX_SIZE = 4 << 30
"""Bytes of a decompressed capsule: that of a terabyte has a twentieth."""
MAX_WORKING_MEMORY = 128 << 20
"""Of the decompressor: xz -9 needs 65 MiB."""
CHUNK = 1 << 20
HEAD = 64 << 10
KDUMP_BLOCK_SIZE_AT = 428

MAGICS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def compression_of(head: bytes) -> str | None:
    """The program that compressed a file with these first bytes, None if none did."""
    return next(
        (name for magic, name in MAGICS.items() if head.startswith(magic)), None
    )


def decompress_capsule(path: str) -> BinaryIO | None:
    """The capsule in a compressed file, None for any other file.

    Raises `TargetError` for a compressed file that cannot be unpacked, and OSError.
    """
    with open(path, "rb") as file:
        name = compression_of(file.read(8))
        if name is None:
            return None
        file.seek(0)
        try:
            return _unpack(file, name)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise TargetError(
                f"{path} is damaged or cut short: {name} cannot unpack it"
            ) from None


def _unpack(file: BinaryIO, name: str) -> BinaryIO | None:
    """The content of a compressed capsule, None for other content."""
    opener = OPENERS.get(name)
    if opener is None:
        return None
    source, whole = opener(file), spool()
    try:
        whole.write(source.read(HEAD))
        notes = _notes(whole)
        if notes is None:
            whole.close()
            return None
        whole.seek(0, 2)
        _copy(source, whole, sum(notes))
        whole.seek(notes[0])
        if MAGIC not in whole.read(notes[1]):
            whole.close()
            return None
        whole.seek(0, 2)
        _copy(source, whole, MAX_SIZE)
        if source.read(1):
            whole.close()
            return None
    except BaseException:
        whole.close()
        raise
    whole.flush()
    return whole


def _copy(source: BinaryIO, target: BinaryIO, end: int) -> None:
    """Copy until so many bytes have been written in all."""
    while (left := end - target.tell()) > 0 and (data := source.read(min(left, CHUNK))):
        target.write(data)


def _notes(file: BinaryIO) -> tuple[int, int] | None:
    """(offset, size) of a dump's notes by its first bytes, None if there are none."""
    file.seek(0)
    head = file.read(HEAD)
    if head.startswith(b"\x7fELF") and len(head) >= 120:
        # The first program header of a core is that of its notes.
        place = struct.unpack_from("<Q16xQ", head, 72)
    elif head.startswith(SIGNATURE) and len(head) >= KDUMP_BLOCK_SIZE_AT + 4:
        (block,) = struct.unpack_from("<i", head, KDUMP_BLOCK_SIZE_AT)
        if not 0 < block <= len(head) - 104:
            return None
        place = struct.unpack_from("<QQ", head, block + 48)
    else:
        return None
    return None if max(place) > MAX_NOTES else (place[0], place[1])


def _open_xz(file: BinaryIO) -> BinaryIO:
    """Raises LZMAError for a file that needs more memory than any capsule's."""
    probe = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_WORKING_MEMORY)
    probe.decompress(file.read(4096), 1)
    file.seek(0)
    return cast(BinaryIO, lzma.LZMAFile(file))


OPENERS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gzip": lambda file: cast(BinaryIO, gzip.GzipFile(fileobj=file)),
    "bzip2": lambda file: cast(BinaryIO, bz2.BZ2File(file)),
    "xz": _open_xz,
}
