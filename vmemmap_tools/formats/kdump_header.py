# SPDX-License-Identifier: LGPL-2.1-or-later
"""The header of a kdump-compressed dump (diskdump format), and whether it is whole.

libkdumpfile reads these files for drgn; this is what has to be known before: whether
the header is filled in at all, and whether the file was cut short.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["FLATTENED_SIGNATURE", "SIGNATURE", "KdumpError", "KdumpHeader"]

SIGNATURE = b"KDUMP   "
FLATTENED_SIGNATURE = b"makedumpfile"
"""makedumpfile's stream form: what a pipe carries before it is put in order."""

UTSNAME_FIELDS = 6
UTSNAME_BYTES = 65
DESCRIPTOR = struct.Struct("<QIIQ")
DESCRIPTOR_CHUNK = 4096 * DESCRIPTOR.size
COUNT_BYTES = 1 << 16


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
    def read(cls, file: BinaryIO) -> KdumpHeader:
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
        if block_size < 512 or block_size & block_size - 1 or sub_header < 0:
            raise KdumpError(f"kdump header is damaged (block size {block_size})")
        return cls(version, utsname, block_size, sub_header, bitmaps)

    def missing_bytes(self, file: BinaryIO) -> int:
        """How many bytes the last stored page lies beyond the file's end, or 0."""
        size = file.seek(0, os.SEEK_END)
        bitmaps = self.block_size * (1 + self.sub_header_blocks)
        descriptors = bitmaps + self.block_size * self.bitmap_blocks
        if descriptors > size:
            return descriptors - size
        half = self.block_size * self.bitmap_blocks // 2
        file.seek(bitmaps + half)
        pages, left = 0, half
        while left > 0:
            chunk = file.read(min(COUNT_BYTES, left))
            pages += bin(int.from_bytes(chunk, "little")).count("1")
            left -= len(chunk)
        table_end = descriptors + DESCRIPTOR.size * pages
        if table_end > size:
            return table_end - size
        return max(0, _data_end(file, descriptors, table_end) - size)


def _data_end(file: BinaryIO, table: int, table_end: int) -> int:
    """Where the data of the last page that is not zero ends.

    Data lies in the order of its pages, but all zero pages share one near the front:
    the look goes back from the last descriptor until some differ.
    """
    end, stop = 0, table_end
    while stop > table:
        start = max(table, stop - DESCRIPTOR_CHUNK)
        file.seek(start)
        found = set(DESCRIPTOR.iter_unpack(file.read(stop - start)))
        end = max(end, *(offset + length for offset, length, _, _ in found))
        if len(found) > 1:
            break
        stop = start
    return end
