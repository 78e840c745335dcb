# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing kdump-compressed files (makedumpfile's "diskdump" format), streamed.

Pages are compressed with zlib, equal ones (zero pages too) stored once. Chunks without
content are memory that a filter left out. The page data lie behind the descriptors,
whose number is known only at the end: until then they are in a temporary file without
a name.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, BinaryIO, Optional, Union

from vmemmap_tools.formats.core_write import Repeats, pieces

__all__ = ["KdumpHeader", "write_kdump"]

Buffer = Union[bytes, bytearray, memoryview]
Chunk = tuple[int, Optional[Buffer]]

SIGNATURE = b"KDUMP   "
HEADER_VERSION = 6
STATUS_ZLIB = 1
PAGE_ZLIB = 1
DUMP_LEVEL = 31
"""Zero, cache, user and free pages are filtered; of the first all share one copy."""
UTSNAME_FIELD = 65
DESCRIPTOR = struct.Struct("<QIIQ")
MAX_REMEMBERED = 1 << 20
"""Pages whose content is remembered to store equal ones once: some 200 MB."""


@dataclass(frozen=True)
class KdumpHeader:
    """What the headers say besides the memory. Strings go into ``utsname``.

    ``release`` needs three parts, or libkdumpfile reads nothing.
    """

    release: str
    machine: str
    vmcoreinfo: bytes
    notes: bytes = b""
    phys_base: int = 0
    page_shift: int = 12
    node: str = "model"
    version: str = "#1 SMP"
    cpus: int = 1


def write_kdump(
    file: BinaryIO,
    header: KdumpHeader,
    ranges: Iterable[tuple[int, int, Iterable[Chunk]]],
    spool_directory: str | None = None,
) -> None:
    """Write a dump of memory ranges: start, end (physical, ascending) and chunks.

    Into an empty file that is open for writing and can be seeked.
    """
    with tempfile.TemporaryFile(dir=spool_directory) as spool:
        pages = _Pages(spool, header.page_shift)
        memory = []
        for start, end, chunks in ranges:
            memory.append((start >> header.page_shift, end >> header.page_shift))
            for at, _, content in pieces(chunks, end):
                if content is not None:
                    pages.add(at >> header.page_shift, content)
        _write_file(file, header, memory, pages)


class _Pages:
    """Compresses pages into the spool and keeps their descriptors, in order."""

    def __init__(self, spool: IO[bytes], page_shift: int):
        self.spool = spool
        self.count = 0
        self.stored: list[tuple[int, int]] = []
        """Runs of frames that have a descriptor: start and end."""
        self._page_shift = page_shift
        self._size = 0
        self._tables: list[bytes] = []
        self._table_numbers: list[int] = []
        self._repeats = Repeats()
        self._known: dict[bytes, tuple[int, int, int]] = {}

    def add(self, pfn: int, content: Buffer) -> None:
        """The next piece of memory: whole pages."""
        frames = len(content) >> self._page_shift
        number = self._repeats.find(content)
        if number is None:
            number = len(self._tables)
            self._tables.append(self._descriptors(memoryview(content).cast("B")))
            self._repeats.remember(content, number)
        self._table_numbers.append(number)
        self.count += frames
        if self.stored and self.stored[-1][1] == pfn:
            self.stored[-1] = self.stored[-1][0], pfn + frames
        else:
            self.stored.append((pfn, pfn + frames))

    def write_descriptors(self, file: BinaryIO, data_at: int) -> None:
        """All descriptors, for page data that begin at this offset of the file."""
        uses = Counter(self._table_numbers)
        moved: dict[int, bytes] = {}
        for number in self._table_numbers:
            table = moved.get(number)
            if table is None:
                rows = DESCRIPTOR.iter_unpack(self._tables[number])
                table = b"".join(
                    DESCRIPTOR.pack(data_at + offset, size, flags, 0)
                    for offset, size, flags, _ in rows
                )
                if uses[number] > 1:
                    moved[number] = table
            file.write(table)

    def _descriptors(self, view: memoryview) -> bytes:
        size = 1 << self._page_shift
        return b"".join(
            DESCRIPTOR.pack(*self._page(bytes(view[at : at + size])), 0)
            for at in range(0, len(view), size)
        )

    def _page(self, page: bytes) -> tuple[int, int, int]:
        """Offset in the spool, size and flags of a page."""
        key = hashlib.blake2b(page, digest_size=16).digest()
        place = self._known.get(key)
        if place is None:
            data, flags = zlib.compress(page, 1), PAGE_ZLIB
            if len(data) >= len(page):
                data, flags = page, 0
            place = self._size, len(data), flags
            self.spool.write(data)
            self._size += len(data)
            if len(self._known) < MAX_REMEMBERED:
                self._known[key] = place
        return place


def _write_file(
    file: BinaryIO,
    header: KdumpHeader,
    memory: list[tuple[int, int]],
    pages: _Pages,
) -> None:
    block = 1 << header.page_shift
    max_pfn = max((end for _, end in memory), default=0)
    bitmap_blocks = _blocks(-(-max_pfn // 8), block)
    sub_size = 104 + len(header.vmcoreinfo) + len(header.notes)
    sub_blocks = _blocks(sub_size, block)
    bitmap_at = block * (1 + sub_blocks)
    descriptors_at = bitmap_at + 2 * bitmap_blocks * block
    data_at = descriptors_at + DESCRIPTOR.size * pages.count
    ram = sum(end - start for start, end in memory)
    counts = (2 * bitmap_blocks, min(max_pfn, 0xFFFFFFFF), ram, 0, pages.count)
    file.write(_main_header(header, block, sub_blocks, counts))
    file.seek(block)
    file.write(_sub_header(header, block, max_pfn))
    _write_bitmap(file, bitmap_at, memory)
    _write_bitmap(file, bitmap_at + bitmap_blocks * block, pages.stored)
    file.seek(descriptors_at)
    pages.write_descriptors(file, data_at)
    file.truncate(max(file.tell(), data_at))
    file.seek(data_at)
    pages.spool.seek(0)
    shutil.copyfileobj(pages.spool, file, 1 << 20)


def _main_header(
    header: KdumpHeader, block: int, sub_blocks: int, counts: tuple[int, ...]
) -> bytes:
    names = ("Linux", header.node, header.release, header.version, header.machine, "")
    fields = b"".join(n.encode()[: UTSNAME_FIELD - 1].ljust(65, b"\0") for n in names)
    head = SIGNATURE + struct.pack("<i", HEADER_VERSION) + fields
    head += bytes(-len(head) % 8)
    time_and_status = struct.pack("<qqIii", 0, 0, STATUS_ZLIB, block, sub_blocks)
    tail = struct.pack("<IIIIIIi", *_clipped(counts), 0, header.cpus)
    return head + time_and_status + tail


def _clipped(counts: tuple[int, ...]) -> list[int]:
    return [min(count, 0xFFFFFFFF) for count in counts]


def _sub_header(header: KdumpHeader, block: int, max_pfn: int) -> bytes:
    info_at = block + 104
    notes_at = info_at + len(header.vmcoreinfo)
    fields = struct.pack(
        "<qiiQQQQQQQQQQQ",
        header.phys_base,
        DUMP_LEVEL,
        0,  # not split
        0,
        0,
        info_at,
        len(header.vmcoreinfo),
        notes_at if header.notes else 0,
        len(header.notes),
        0,  # no erase information
        0,
        0,  # first and last frame of a split dump
        0,
        max_pfn,
    )
    return fields + header.vmcoreinfo + header.notes


def _write_bitmap(file: BinaryIO, at: int, runs: list[tuple[int, int]]) -> None:
    """One bit per frame, lowest first; bytes that no run touches stay a hole.

    Runs are in ascending order, none overlapping another.
    """
    pending = last = None
    for start, end in runs:
        first_byte, first_bit = divmod(start, 8)
        last_byte, last_bit = divmod(end, 8)
        if pending is not None and last != first_byte:
            file.seek(at + (last or 0))
            file.write(bytes([pending]))
            pending = None
        head = (pending or 0) | (0xFF << first_bit & 0xFF)
        if first_byte == last_byte:
            bits = (1 << last_bit) - (1 << first_bit)
            pending, last = (pending or 0) | bits, last_byte
            continue
        file.seek(at + first_byte)
        file.write(bytes([head]))
        file.write(b"\xff" * (last_byte - first_byte - 1))
        pending, last = (1 << last_bit) - 1, last_byte
    if pending:
        file.seek(at + (last or 0))
        file.write(bytes([pending]))


def _blocks(size: int, block: int) -> int:
    return -(-size // block)
