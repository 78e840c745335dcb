# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often each frame is mapped: distinct frames and shared ones, in bounded memory.

A terabyte of base-page vmemmap has four million entries. Frames seen are bits, in
chunks that exist only where there are many frames (32 MiB per TiB of RAM at the very
most), else numbers: entries of a damaged table may lead anywhere. Only frames that are
mapped more than once get a counter of their own.
Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["FrameCounts"]

CHUNK_SHIFT = 15
CHUNK = 1 << CHUNK_SHIFT
CHUNK_BYTES = CHUNK // 8
FEW = 16
"""Frames of a chunk that are kept as numbers; with more it is worth its bits."""


class FrameCounts:
    """Counts mappings per frame. ``shared`` holds {pfn: mappings}, for two and more."""

    def __init__(self) -> None:
        self._seen: dict[int, bytearray] = {}
        self._few: dict[int, tuple[int, ...]] = {}
        self.distinct = 0
        self.shared: dict[int, int] = {}

    def add_each(self, pfns: Iterable[int]) -> None:
        """Frames that are mapped once more each: `add_times` without the times."""
        seen, shared = self._seen, self.shared
        fresh = 0
        for pfn in pfns:
            chunk = seen.get(pfn >> CHUNK_SHIFT)
            if chunk is None:
                chunk = self._begin(pfn)
                if chunk is None:
                    fresh += self._add_to_few(pfn, 1)
                    continue
            index = pfn >> 3 & CHUNK_BYTES - 1
            bit = 1 << (pfn & 7)
            byte = chunk[index]
            if byte & bit:
                shared[pfn] = shared.get(pfn, 1) + 1
            else:
                chunk[index] = byte | bit
                fresh += 1
        self.distinct += fresh

    def add_times(self, counts: Iterable[tuple[int, int]]) -> None:
        """(pfn, mappings): frames that are mapped so many times more."""
        seen, shared = self._seen, self.shared
        fresh = 0
        for pfn, mappings in counts:
            chunk = seen.get(pfn >> CHUNK_SHIFT)
            if chunk is None:
                chunk = self._begin(pfn)
                if chunk is None:
                    fresh += self._add_to_few(pfn, mappings)
                    continue
            index = pfn >> 3 & CHUNK_BYTES - 1
            bit = 1 << (pfn & 7)
            byte = chunk[index]
            if byte & bit:
                shared[pfn] = shared.get(pfn, 1) + mappings
            else:
                chunk[index] = byte | bit
                fresh += 1
                if mappings > 1:
                    shared[pfn] = mappings
        self.distinct += fresh

    def add_range(self, pfn: int, count: int) -> None:
        """``count`` adjoining frames, mapped once more each."""
        end = pfn + count
        while pfn < end:
            chunk, first, number = self._piece(pfn, end)
            whole_bytes = not (first | number) & 7
            part = slice(first >> 3, first + number >> 3)
            if whole_bytes and not any(chunk[part]):
                chunk[part] = b"\xff" * (number >> 3)
                self.distinct += number
            else:
                self.add_each(range(pfn, pfn + number))
            pfn += number

    def _begin(self, pfn: int) -> bytearray | None:
        """The bits of a frame's chunk, made now; None while it has few frames."""
        number = pfn >> CHUNK_SHIFT
        few = self._few.get(number, ())
        if len(few) < FEW or pfn in few:
            return None
        return self._to_bits(number)

    def _to_bits(self, number: int) -> bytearray:
        """A chunk as bits, whatever it has been until now."""
        chunk = self._seen.setdefault(number, bytearray(CHUNK_BYTES))
        for pfn in self._few.pop(number, ()):
            chunk[pfn >> 3 & CHUNK_BYTES - 1] |= 1 << (pfn & 7)
        return chunk

    def _add_to_few(self, pfn: int, mappings: int) -> int:
        """Count a frame of a chunk with few; 1 if it is a new one."""
        number = pfn >> CHUNK_SHIFT
        few = self._few.get(number, ())
        if pfn in few:
            self.shared[pfn] = self.shared.get(pfn, 1) + mappings
            return 0
        self._few[number] = (*few, pfn)
        if mappings > 1:
            self.shared[pfn] = mappings
        return 1

    def __contains__(self, pfn: int) -> bool:
        chunk = self._seen.get(pfn >> CHUNK_SHIFT)
        if chunk is None:
            return pfn in self._few.get(pfn >> CHUNK_SHIFT, ())
        return chunk[pfn >> 3 & CHUNK_BYTES - 1] >> (pfn & 7) & 1 == 1

    def mappings(self, pfn: int) -> int:
        """How many vmemmap pages this frame backs."""
        return self.shared.get(pfn, 1 if pfn in self else 0)

    def distinct_in(self, start_pfn: int, end_pfn: int) -> int:
        """Distinct mapped frames with ``start_pfn <= pfn < end_pfn``."""
        count = sum(
            start_pfn <= pfn < end_pfn for few in self._few.values() for pfn in few
        )
        for index, chunk in self._seen.items():
            first = max(start_pfn - index * CHUNK, 0)
            end = min(end_pfn - index * CHUNK, CHUNK)
            if first < end:
                bits = int.from_bytes(chunk, "little") >> first
                count += bin(bits & (1 << end - first) - 1).count("1")
        return count

    def _piece(self, pfn: int, end: int) -> tuple[bytearray, int, int]:
        """The chunk of a frame, its place there, and how many up to ``end`` fit."""
        chunk = self._to_bits(pfn >> CHUNK_SHIFT)
        first = pfn & CHUNK - 1
        return chunk, first, min(end - pfn, CHUNK - first)

    def runs(self) -> Iterator[tuple[int, int]]:
        """(first pfn, count) of runs of adjoining mapped frames, in order.

        A run ends at a chunk's border at the latest.
        """
        for chunk in sorted((*self._seen, *self._few)):
            if chunk in self._few:
                yield from _runs_of(sorted(self._few[chunk]))
                continue
            bits = int.from_bytes(self._seen[chunk], "little")
            base = chunk << CHUNK_SHIFT
            position = 0
            while bits:
                gap = (bits & -bits).bit_length() - 1
                bits >>= gap
                position += gap
                length = (~bits & bits + 1).bit_length() - 1
                yield base + position, length
                bits >>= length
                position += length


def _runs_of(pfns: list[int]) -> Iterator[tuple[int, int]]:
    """(first pfn, count) of the runs among a few frames in order."""
    first = previous = pfns[0]
    for pfn in pfns[1:]:
        if pfn != previous + 1:
            yield first, previous + 1 - first
            first = pfn
        previous = pfn
    yield first, previous + 1 - first
