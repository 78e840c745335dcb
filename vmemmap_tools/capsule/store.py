# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes by physical address, each range once, with the kind that it was read as."""

from __future__ import annotations

import os
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator

from ..target.words import WORD, Words

__all__ = ["PAGE", "PAGE_SHIFT", "STRUCT_PAGES", "Store"]

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
STRUCT_PAGES = "struct pages"
CHUNK_SHIFT = 21
"""Pieces are kept by 2 MiB of memory, so that one is put between others in no time."""
CHUNK = 1 << CHUNK_SHIFT
FRAMES_OF_CHUNK = CHUNK // PAGE
MAX_PENDING = 1 << 20
"""Bytes that wait in memory for the spool."""


class _Chunk:
    """The pieces in 2 MiB of memory, by address; none overlaps another, or two frames.

    ``places`` are where their bytes are in the spool; ``kinds`` the number of a set of
    kinds for each frame.
    """

    __slots__ = ("kinds", "places", "sizes", "starts")

    def __init__(self) -> None:
        self.starts, self.sizes, self.places = array("I"), array("I"), array("Q")
        self.kinds = array("H", bytes(2 * FRAMES_OF_CHUNK))

    def insert(self, start: int, size: int, place: int) -> None:
        i = bisect_left(self.starts, start)
        self.starts.insert(i, start)
        self.sizes.insert(i, size)
        self.places.insert(i, place)

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of a range, within one frame, of which there are no bytes yet."""
        after = bisect_right(self.starts, start)
        if after:
            start = max(start, self.starts[after - 1] + self.sizes[after - 1])
        found = []
        for i in range(after, len(self.starts)):
            if start >= end or self.starts[i] >= end:
                break
            if start < self.starts[i]:
                found.append((start, self.starts[i]))
            start = self.starts[i] + self.sizes[i]
        if start < end:
            found.append((start, end))
        return found

    def of_frame(self, frame: int) -> range:
        """The numbers of a frame's pieces."""
        start = frame * PAGE
        low = bisect_left(self.starts, start)
        return range(low, bisect_left(self.starts, start + PAGE, low))


class Store:
    """Byte ranges of frames. What came first stays: a store is one look at memory.

    The bytes lie in a temporary file without a name. Beside them there are words of
    struct pages: as ranges of a file they would take seven times their size.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, _Chunk] = {}
        self._sets: list[frozenset[str]] = [frozenset()]
        self._with: dict[tuple[int, str], int] = {}
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - kept open
        self._pending = bytearray()
        self._spooled = 0
        self.size_of_ranges = 0
        self.words = Words()

    def put(self, pa: int, data: bytes, kind: str) -> None:
        """Keep bytes; those that are there already are not altered."""
        at = 0
        while at < len(data):
            number, start = divmod(pa + at, CHUNK)
            size = min(len(data) - at, PAGE - start % PAGE)
            chunk = self._chunks.get(number)
            if chunk is None:
                chunk = self._chunks[number] = _Chunk()
            self._add_kind(chunk, start // PAGE, kind)
            for first, end in chunk.missing(start, start + size):
                part = data[at + first - start : at + end - start]
                chunk.insert(first, end - first, self._append(part))
            at += size

    def _append(self, data: bytes) -> int:
        place = self._spooled + len(self._pending)
        self._pending += data
        self.size_of_ranges += len(data)
        if len(self._pending) >= MAX_PENDING:
            # A file system that is nearly full takes a part; what is left stays here.
            written = os.pwrite(self._spool.fileno(), self._pending, self._spooled)
            self._spooled += written
            del self._pending[:written]
        return place

    def _bytes(self, place: int, size: int) -> bytes:
        at = place - self._spooled
        if at >= 0:
            return bytes(self._pending[at : at + size])
        data = os.pread(self._spool.fileno(), min(size, -at), place)
        return data + self._pending[: size - len(data)]

    def _add_kind(self, chunk: _Chunk, frame: int, kind: str) -> None:
        before = chunk.kinds[frame]
        after = self._with.get((before, kind))
        if after is None:
            wanted = self._sets[before] | {kind}
            if wanted not in self._sets:
                self._sets.append(wanted)
            after = self._with[before, kind] = self._sets.index(wanted)
        chunk.kinds[frame] = after

    def get(self, pa: int, size: int) -> bytes | None:
        """Bytes that are all there, else None."""
        parts, end = [], pa + size
        while pa < end:
            number, start = divmod(pa, CHUNK)
            chunk = self._chunks.get(number)
            i = bisect_right(chunk.starts, start) - 1 if chunk is not None else -1
            if chunk is None or i < 0:
                return None
            offset = start - chunk.starts[i]
            length = min(chunk.sizes[i] - offset, end - pa)
            if length <= 0:
                return None
            parts.append(self._bytes(chunk.places[i] + offset, length))
            pa += length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drop(self, frames: Collection[int]) -> None:
        """Forget frames."""
        for pfn in frames:
            chunk = self._chunks.get(pfn // FRAMES_OF_CHUNK)
            if chunk is None:
                continue
            found = chunk.of_frame(pfn % FRAMES_OF_CHUNK)
            part = slice(found.start, found.stop)
            self.size_of_ranges -= sum(chunk.sizes[part])
            del chunk.starts[part], chunk.sizes[part], chunk.places[part]
            chunk.kinds[pfn % FRAMES_OF_CHUNK] = 0
        if frames:
            self.words = self.words.without(frames)

    def drop_struct_pages(self) -> None:
        """Forget the frames that hold them."""
        self.drop({pfn for pfn in self.frames() if STRUCT_PAGES in self.kinds(pfn)})
        self.words = Words()

    def frames(self) -> Iterator[int]:
        """The frames of which there are bytes, in ascending order."""
        for number in sorted(self._chunks):
            first, before = number * FRAMES_OF_CHUNK, -1
            for start in self._chunks[number].starts:
                if start // PAGE != before:
                    before = start // PAGE
                    yield first + before

    def kinds(self, pfn: int) -> frozenset[str]:
        """What a frame's content was read as."""
        chunk = self._chunks.get(pfn // FRAMES_OF_CHUNK)
        found = self._sets[chunk.kinds[pfn % FRAMES_OF_CHUNK]] if chunk else None
        return found or frozenset({STRUCT_PAGES})

    def pieces(self, pfn: int) -> list[tuple[int, bytes]]:
        """(offset, bytes) of a frame, in order; none touches another."""
        base, found = pfn << PAGE_SHIFT, []
        chunk = self._chunks.get(pfn // FRAMES_OF_CHUNK)
        if chunk is not None:
            numbers = chunk.of_frame(pfn % FRAMES_OF_CHUNK)
            rows = ((chunk.starts[i] % PAGE, chunk.sizes[i]) for i in numbers)
            for start, size in _joined(rows):
                data = self.get(base + start, size)
                assert data is not None, "these pieces touch"
                found.append((start, data))
        return found

    def extents(self) -> Iterator[tuple[int, int]]:
        """(physical address, size) of all bytes, neighbours joined, in order."""
        return _joined(
            ((number << CHUNK_SHIFT) + start, size)
            for number in sorted(self._chunks)
            for start, size in zip(
                self._chunks[number].starts, self._chunks[number].sizes
            )
        )

    def contents(self) -> Iterator[bytes]:
        """All bytes in order of address, piece by piece."""
        for number in sorted(self._chunks):
            chunk = self._chunks[number]
            yield from map(self._bytes, chunk.places, chunk.sizes)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.size_of_ranges + WORD * len(self.words)


def _joined(rows: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(start, size) of ranges in order; those that touch are one."""
    start = end = -1
    for first, size in rows:
        if first != end:
            if end > start:
                yield start, end - start
            start = first
        end = first + size
    if end > start:
        yield start, end - start
