# SPDX-License-Identifier: LGPL-2.1-or-later
"""The headers of a kdump-compressed dump (diskdump format), and what the file lacks.

libkdumpfile reads these files for drgn. It does not check a file against its own end:
it answers with zeros or garbage, or dies of SIGBUS. What it reads is checked here
before. Mirrors makedumpfile's diskdump_mod.h and crash's diskdump.h.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from .elf import PhysicalExtent

__all__ = [
    "FLATTENED_SIGNATURE",
    "SIGNATURE",
    "KdumpError",
    "KdumpHeader",
    "KdumpPages",
]

SIGNATURE = b"KDUMP   "
FLATTENED_SIGNATURE = b"makedumpfile"
"""makedumpfile's stream form: what a pipe carries before it is put in order."""

UTSNAME_FIELDS = 6
UTSNAME_BYTES = 65
STATUS_INCOMPLETE = 8
"""DUMP_DH_COMPRESSED_INCOMPLETE: makedumpfile could not write all pages."""
SUB_HEADER = struct.Struct("<qiiQQQQQQQQQQQ")
DESCRIPTOR = struct.Struct("<QIIQ")
WORDS = DESCRIPTOR.size // 8
DESCRIPTOR_CHUNK = 4096 * DESCRIPTOR.size
OFFSET, SIZE = (0, 64), (64, 32)
"""The first two fields of a page descriptor: their first bit and their bits."""
MAX_BLOCK_SIZE = 1 << 18
"""libkdumpfile's own bound."""
SAMPLE_BYTES = 1 << 20
MIN_LINE_ENDS = 16
RANK_BYTES = 1 << 12
"""How much of the bitmap one count of stored pages covers."""


class KdumpError(ValueError):
    """No kdump-compressed file, or a header that contradicts itself."""


@dataclass(frozen=True)
class KdumpHeader:
    """Blocks 0 and 1 of the file. ``utsname`` is sysname, nodename, release, ...

    ``split`` are the first and the last frame but one of a part of a split dump.
    """

    version: int
    utsname: tuple[str, ...]
    status: int
    block_size: int
    sub_header_blocks: int
    bitmap_blocks: int
    split: tuple[int, int] | None
    note_areas: tuple[tuple[int, int], ...]
    """Offset and size of VMCOREINFO, and of all notes."""

    @classmethod
    def read(cls, file: BinaryIO) -> KdumpHeader:
        """Parse the headers. Raises `KdumpError`."""
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
        status, block_size, sub_header, bitmaps = struct.unpack_from("<IiiI", data, 424)
        is_size = 512 <= block_size <= MAX_BLOCK_SIZE
        if not is_size or block_size & block_size - 1 or sub_header < 0:
            raise KdumpError(f"damaged: block size {block_size} in its kdump header")
        split, areas = _sub_header(file, block_size, version)
        return cls(
            version, utsname, status, block_size, sub_header, bitmaps, split, areas
        )

    @property
    def is_incomplete(self) -> bool:
        """Whether makedumpfile marked the dump incomplete."""
        return bool(self.status & STATUS_INCOMPLETE)

    @property
    def bitmap_bytes(self) -> int:
        """Bytes of each of the two bitmaps: frames of memory, and frames stored."""
        return self.block_size * self.bitmap_blocks // 2

    @property
    def bitmaps_at(self) -> int:
        return self.block_size * (1 + self.sub_header_blocks)

    @property
    def descriptors_at(self) -> int:
        return self.bitmaps_at + self.block_size * self.bitmap_blocks


def _sub_header(
    file: BinaryIO, block_size: int, version: int
) -> tuple[tuple[int, int] | None, tuple[tuple[int, int], ...]]:
    """The frames of a part of a split dump, and the areas of notes.

    Fields came with version 2 (split), 3 (VMCOREINFO), 4 (notes) and 6 (64-bit frames)
    of the header. Raises `KdumpError`.
    """
    file.seek(block_size)
    data = file.read(SUB_HEADER.size)
    if len(data) < SUB_HEADER.size:
        raise KdumpError("truncated within the kdump sub-header; copy it again")
    _, _, is_split, start, end, *areas, _, _, start_64, end_64, _ = SUB_HEADER.unpack(
        data
    )
    if version >= 6:
        start, end = start_64, end_64
    split = (start, end) if version >= 2 and is_split == 1 else None
    known = max(0, min(version - 2, 2))
    pairs = ((areas[0], areas[1]), (areas[2], areas[3]))
    return split, pairs[:known]


class KdumpPages:
    """Which pages a kdump file holds, asked of its bitmap and page descriptors.

    Needed for a file that is cut or marked incomplete only: `first_absent` reads the
    file for each page. Raises `KdumpError` where the bitmaps themselves are cut.
    """

    extents: Sequence[PhysicalExtent] = ()
    """Not listed: a filtered dump has as many as it has pages."""

    def __init__(self, file: BinaryIO, header: KdumpHeader):
        self._file = file
        self._block = header.block_size
        self._bitmap = header.bitmaps_at + header.bitmap_bytes
        self._bitmap_bytes = header.bitmap_bytes
        self._table = header.descriptors_at
        self.file_size = file.seek(0, os.SEEK_END)
        if self._table > self.file_size:
            raise KdumpError(
                f"cut short within its page bitmaps ({self._table - self.file_size} "
                "bytes of them are missing), without which no page can be found; copy "
                "it again"
            )
        self._ranks = self._count()
        self.count = self._ranks[-1]
        """Pages that the file should hold."""
        missing = self._missing_bytes()
        if missing > DESCRIPTOR.size * self.count + self._block * (self.count + 1):
            raise KdumpError(
                f"damaged: its page descriptors lead far beyond its end{_cause(file)}"
            )
        self.missing_bytes = missing
        """How far the last stored page lies beyond the end of the file, at least."""
        self.has_holes = bool(missing) or header.is_incomplete
        if not self.has_holes:
            self._check_descriptors()

    def _check_descriptors(self) -> None:
        """Refuse a page descriptor that a whole file cannot have. Raises `KdumpError`.

        libkdumpfile maps the file and trusts offsets and sizes: data that crosses its
        end kills the process (SIGBUS). Where `has_holes`, each read is checked.
        """
        self._file.seek(self._table)
        left = DESCRIPTOR.size * self.count
        while left > 0:
            chunk = self._file.read(min(DESCRIPTOR_CHUNK, left))
            if _reaches(chunk, SIZE, self._block + 1) or (
                _reaches(chunk, OFFSET, max(0, self.file_size - self._block))
                and any(
                    offset + size > self.file_size
                    for offset, size, _, _ in DESCRIPTOR.iter_unpack(chunk)
                )
            ):
                raise KdumpError(
                    "damaged: a page descriptor names data that cannot be right"
                    + _cause(self._file)
                )
            left -= len(chunk)

    def absent(self) -> int:
        """How many of the pages are not in the file."""
        absent = max(0, self.count - (self.file_size - self._table) // DESCRIPTOR.size)
        self._file.seek(self._table)
        left = self.count - absent
        while left > 0:
            words = array("Q", self._file.read(min(left * 24, DESCRIPTOR_CHUNK)))
            sizes = words[1::WORDS]
            for offset, size in zip(words[0::WORDS], sizes):
                if not offset or offset + (size & 0xFFFFFFFF) > self.file_size:
                    absent += 1
            left -= len(sizes)
            if not sizes:
                break
        return absent

    def first_absent(self, pa: int, size: int) -> tuple[int, str] | None:
        """The first address of ``pa .. pa+size`` that is not in the file, and why.

        The reason is "cut". Pages that the dump leaves out on purpose are not named:
        libkdumpfile names them.
        """
        for pfn in range(pa // self._block, -(-(pa + size) // self._block)):
            index = self._index(pfn)
            if index is not None and not self._holds(index):
                return max(pa, pfn * self._block), "cut"
        return None

    def first_held(self) -> int | None:
        """A physical address that the file holds; the lowest of its first frames."""
        for pfn in range(min(self._bitmap_bytes * 8, 1 << 16)):
            index = self._index(pfn)
            if index is not None and self._holds(index):
                return pfn * self._block
        return None

    def _index(self, pfn: int) -> int | None:
        """The number of a frame's descriptor, None for a frame without one."""
        byte, bit = divmod(pfn, 8)
        if not 0 <= byte < self._bitmap_bytes:
            return None
        block = byte // RANK_BYTES
        self._file.seek(self._bitmap + block * RANK_BYTES)
        data = self._file.read(byte - block * RANK_BYTES + 1)
        if not data[-1] >> bit & 1:
            return None
        below = int.from_bytes(data[:-1], "little"), data[-1] & (1 << bit) - 1
        return self._ranks[block] + sum(bin(bits).count("1") for bits in below)

    def _holds(self, index: int) -> bool:
        self._file.seek(self._table + DESCRIPTOR.size * index)
        data = self._file.read(DESCRIPTOR.size)
        if len(data) < DESCRIPTOR.size:
            return False
        offset, size, _, _ = DESCRIPTOR.unpack(data)
        return bool(offset) and size <= self._block and offset + size <= self.file_size

    def _count(self) -> array[int]:
        """Stored pages below each block of the bitmap, and at last all of them."""
        ranks = array("Q", [0])
        self._file.seek(self._bitmap)
        left = self._bitmap_bytes
        while left > 0:
            data = self._file.read(min(RANK_BYTES, left))
            bits = bin(int.from_bytes(data, "little")).count("1")
            ranks.append(ranks[-1] + bits)
            left -= len(data)
        return ranks

    def _missing_bytes(self) -> int:
        table_end = self._table + DESCRIPTOR.size * self.count
        if table_end > self.file_size:
            return table_end - self.file_size
        return max(0, self._data_end(table_end) - self.file_size)

    def _data_end(self, table_end: int) -> int:
        """Where the data of the last page that is not zero ends.

        Data lies in the order of its pages, but all zero pages share one near the
        front: the look goes back from the last descriptor until some differ.
        """
        end, stop = 0, table_end
        while stop > self._table:
            start = max(self._table, stop - DESCRIPTOR_CHUNK)
            self._file.seek(start)
            found = set(DESCRIPTOR.iter_unpack(self._file.read(stop - start)))
            end = max(end, *(offset + length for offset, length, _, _ in found))
            if len(found) > 1:
                break
            stop = start
        return end


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


def _cause(file: BinaryIO) -> str:
    """What damaged the file, where its bytes show that: "\\r" before every "\\n"."""
    file.seek(0)
    sample = file.read(SAMPLE_BYTES)
    ends = sample.count(b"\n")
    if ends >= MIN_LINE_ENDS and sample.count(b"\r\n") == ends:
        return "; it was transferred as text (every LF became CR LF): copy it as binary"
    return "; copy it again, as binary and not as text"
