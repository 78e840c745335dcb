# SPDX-License-Identifier: LGPL-2.1-or-later
"""The header of a kdump-compressed dump (diskdump format), and whether it is whole.

libkdumpfile reads these files for drgn; this is what has to be known before: whether
the header is filled in at all, and whether the file was cut short. libkdumpfile maps
the file into memory and trusts offsets and sizes: one that crosses the end of the file
kills the process (SIGBUS). `KdumpHeader.check` finds such values first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "FLATTENED_SIGNATURE",
    "MAX_OFFSET",
    "SIGNATURE",
    "KdumpError",
    "KdumpHeader",
    "Readable",
]

SIGNATURE = b"KDUMP   "
FLATTENED_SIGNATURE = b"makedumpfile"
"""makedumpfile's stream form: what a pipe carries before it is put in order."""

UTSNAME_FIELDS = 6
UTSNAME_BYTES = 65
DESCRIPTOR = struct.Struct("<QIIQ")
DESCRIPTOR_CHUNK = 4096 * DESCRIPTOR.size
COUNT_BYTES = 1 << 16
OFFSET, SIZE = (0, 64), (64, 32)
"""The first two fields of a page descriptor: their first bit and their bits."""
SUB_HEADER = struct.Struct("<QIIQQQQQQQQ")
"""``struct kdump_sub_header`` of 64-bit kernels up to ``size_eraseinfo``."""
AREAS = (("VMCOREINFO", 3, 5), ("notes", 4, 7), ("erase information", 5, 9))
"""What the sub-header names: since which header version, at which of its fields."""
MAX_AREA_BYTES = 64 << 20
"""No kernel writes more notes than this; see `elf.MAX_NOTE_BYTES`."""
MAX_OFFSET = 1 << 56
"""A larger offset is damage and not the size of the file that this was cut from."""
MAX_BLOCK_SIZE = 1 << 18
"""libkdumpfile's own bound."""
SAMPLE_BYTES = 1 << 20
MIN_LINE_ENDS = 16


class Readable(Protocol):
    """A file, or what a stream stands for."""

    def seek(self, offset: int, whence: int = ..., /) -> int: ...

    def read(self, size: int, /) -> bytes: ...


class KdumpError(ValueError):
    """No kdump-compressed file, or a header that contradicts itself."""


@dataclass(frozen=True)
class KdumpHeader:
    """Block 0 of the file. ``utsname`` is sysname, nodename, release, version, ..."""

    version: int
    utsname: tuple[str, ...]
    block_size: int
    sub_header_blocks: int
    bitmap_blocks: int

    @classmethod
    def read(cls, file: Readable) -> KdumpHeader:
        """Parse block 0. Raises `KdumpError`."""
        file.seek(0)
        data = file.read(464)
        if data[:8] != SIGNATURE:
            raise KdumpError("not a kdump-compressed dump")
        if len(data) < 464:
            raise KdumpError("truncated within the kdump header; copy it again")
        (version,) = struct.unpack_from("<i", data, 8)
        names = (
            data[12 + UTSNAME_BYTES * i : 12 + UTSNAME_BYTES * (i + 1)]
            for i in range(UTSNAME_FIELDS)
        )
        utsname = tuple(n.split(b"\0")[0].decode("ascii", "replace") for n in names)
        # utsname ends at 402; struct timeval is aligned to 8 and 16 bytes long.
        _, block_size, sub_header, bitmaps = struct.unpack_from("<IiiI", data, 424)
        if not 512 <= block_size <= MAX_BLOCK_SIZE or block_size & block_size - 1:
            raise KdumpError(f"kdump header is damaged (block size {block_size})")
        if sub_header < 0:
            raise KdumpError(
                f"kdump header is damaged ({sub_header} sub-header blocks)"
            )
        return cls(version, utsname, block_size, sub_header, bitmaps)

    def check(self, file: Readable) -> None:
        """Refuse offsets and sizes that cannot be right in a file that is whole.

        Reads the sub-header and all page descriptors. Raises `KdumpError`.
        """
        file_size = file.seek(0, os.SEEK_END)
        self._check_areas(file, file_size)
        table, table_end = self._descriptor_table(file)
        file.seek(table)
        left = table_end - table
        while left > 0:
            chunk = file.read(min(DESCRIPTOR_CHUNK, left))
            if _reaches(chunk, SIZE, self.block_size + 1) or (
                _reaches(chunk, OFFSET, max(0, file_size - self.block_size))
                and any(o + n > file_size for o, n, _, _ in _descriptors(chunk))
            ):
                raise KdumpError(
                    "damaged: a page descriptor names data that cannot be right"
                    + _cause(file)
                )
            left -= len(chunk)

    def _check_areas(self, file: Readable, file_size: int) -> None:
        file.seek(self.block_size)
        data = file.read(SUB_HEADER.size)
        if self.version < 1 or len(data) < SUB_HEADER.size:
            return
        fields = SUB_HEADER.unpack(data)
        for name, since, index in AREAS:
            offset, size = fields[index : index + 2]
            if self.version < since or not size:
                continue
            if size > MAX_AREA_BYTES or offset + size > file_size:
                raise KdumpError(
                    f"damaged: its sub-header names {size} bytes of {name} at offset "
                    f"{offset}, the file has {file_size} bytes{_cause(file)}"
                )

    def missing_bytes(self, file: Readable) -> int:
        """How many bytes the last stored page lies beyond the file's end, or 0."""
        size = file.seek(0, os.SEEK_END)
        bitmaps = self.block_size * (1 + self.sub_header_blocks)
        descriptors = bitmaps + self.block_size * self.bitmap_blocks
        if descriptors > size:
            return descriptors - size
        descriptors, table_end = self._descriptor_table(file)
        if table_end > size:
            return table_end - size
        return max(0, self._data_end(file, descriptors, table_end) - size)

    def _descriptor_table(self, file: Readable) -> tuple[int, int]:
        """Where the page descriptors begin and end."""
        bitmaps = self.block_size * (1 + self.sub_header_blocks)
        half = self.block_size * self.bitmap_blocks // 2
        file.seek(bitmaps + half)
        pages, left = 0, half
        while left > 0:
            chunk = file.read(min(COUNT_BYTES, left))
            pages += bin(int.from_bytes(chunk, "little")).count("1")
            left -= len(chunk)
        start = bitmaps + self.block_size * self.bitmap_blocks
        return start, start + DESCRIPTOR.size * pages

    def _data_end(self, file: Readable, table: int, table_end: int) -> int:
        """Where the data of the last page that is not zero ends.

        Data lies in the order of its pages, but all zero pages share one near the
        front: the look goes back from the last descriptor until some differ. Raises
        `KdumpError` for sizes that no page has.
        """
        end, stop = 0, table_end
        while stop > table:
            start = max(table, stop - DESCRIPTOR_CHUNK)
            file.seek(start)
            found = set(_descriptors(file.read(stop - start)))
            if any(o > MAX_OFFSET or n > self.block_size for o, n, _, _ in found):
                raise KdumpError(
                    "damaged: a page descriptor names data that cannot be right"
                    + _cause(file)
                )
            end = max(end, *(offset + length for offset, length, _, _ in found))
            if len(found) > 1:
                break
            stop = start
        return end


def _descriptors(chunk: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(offset, size, flags, page flags) of page descriptors; a cut last one is left."""
    return DESCRIPTOR.iter_unpack(
        chunk[: len(chunk) // DESCRIPTOR.size * DESCRIPTOR.size]
    )


def _reaches(chunk: bytes, field: tuple[int, int], limit: int) -> bool:
    """Whether a field of some page descriptor is ``limit`` or more.

    All of them at once, by one addition of long integers: a field that is large enough
    carries into the bit behind it. A loop takes thirty times as long, and a dump of a
    large machine has tens of millions.
    """
    at, bits = field
    ones = int.from_bytes(
        b"\1".ljust(DESCRIPTOR.size, b"\0") * (len(chunk) // DESCRIPTOR.size), "little"
    )
    fields = int.from_bytes(chunk, "little") >> at & ones * ((1 << bits) - 1)
    sums = fields + ones * max(0, (1 << bits) - limit)
    return bool(sums & ones << bits)


def _cause(file: Readable) -> str:
    """What damaged the file, where its bytes show that: "\\r" before every "\\n"."""
    file.seek(0)
    sample = file.read(SAMPLE_BYTES)
    ends = sample.count(b"\n")
    if ends >= MIN_LINE_ENDS and sample.count(b"\r\n") == ends:
        return "; it was transferred as text (every LF became CR LF): copy it as binary"
    return "; copy it again, as binary and not as text"
