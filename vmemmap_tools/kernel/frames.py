# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often each frame is mapped: distinct frames and shared ones, in bounded memory.

A terabyte of base-page vmemmap has four million entries. Frames seen are bits, in
chunks that exist only where frames do (32 MiB per TiB of RAM at the very most); only
frames that are mapped more than once get a counter of their own.
Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["FrameCounts"]

CHUNK_SHIFT = 15
CHUNK = 1 << CHUNK_SHIFT
CHUNK_BYTES = CHUNK // 8


class FrameCounts:
    """Counts mappings per frame. ``shared`` holds {pfn: mappings}, for two and more."""

    def __init__(self) -> None:
        self._seen: dict[int, bytearray] = {}
        self.distinct = 0
        self.shared: dict[int, int] = {}

    def add_each(self, pfns: Iterable[int]) -> None:
        """Frames that are mapped once more each: `add_times` without the times."""
        seen, shared = self._seen, self.shared
        fresh = 0
        for pfn in pfns:
            try:
                chunk = seen[pfn >> CHUNK_SHIFT]
            except KeyError:
                chunk = seen[pfn >> CHUNK_SHIFT] = bytearray(CHUNK_BYTES)
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
            try:
                chunk = seen[pfn >> CHUNK_SHIFT]
            except KeyError:
                chunk = seen[pfn >> CHUNK_SHIFT] = bytearray(CHUNK_BYTES)
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

    def __contains__(self, pfn: int) -> bool:
        chunk = self._seen.get(pfn >> CHUNK_SHIFT)
        return (
            chunk is not None
            and chunk[pfn >> 3 & CHUNK_BYTES - 1] >> (pfn & 7) & 1 == 1
        )

    def mappings(self, pfn: int) -> int:
        """How many vmemmap pages this frame backs."""
        return self.shared.get(pfn, 1 if pfn in self else 0)

    def distinct_in(self, start_pfn: int, end_pfn: int) -> int:
        """Distinct mapped frames with ``start_pfn <= pfn < end_pfn``."""
        count = 0
        for index, chunk in self._seen.items():
            first = max(start_pfn - index * CHUNK, 0)
            end = min(end_pfn - index * CHUNK, CHUNK)
            if first < end:
                bits = int.from_bytes(chunk, "little") >> first
                count += bin(bits & (1 << end - first) - 1).count("1")
        return count

    def _piece(self, pfn: int, end: int) -> tuple[bytearray, int, int]:
        """The chunk of a frame, its place there, and how many up to ``end`` fit."""
        chunk = self._seen.setdefault(pfn >> CHUNK_SHIFT, bytearray(CHUNK_BYTES))
        first = pfn & CHUNK - 1
        return chunk, first, min(end - pfn, CHUNK - first)

    def runs(self) -> Iterator[tuple[int, int]]:
        """(first pfn, count) of runs of adjoining mapped frames, in order.

        A run ends at a chunk's border at the latest.
        """
        for chunk in sorted(self._seen):
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
