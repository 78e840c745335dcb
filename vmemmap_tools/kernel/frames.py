# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often each frame is mapped: distinct frames and shared ones, in bounded memory.

A terabyte of base-page vmemmap has four million entries. Frames seen are bits, 4096 to
an integer; only frames that are mapped more than once get a counter of their own.
Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["FrameCounts"]

CHUNK_SHIFT = 12
CHUNK = 1 << CHUNK_SHIFT


class FrameCounts:
    """Counts mappings per frame. ``shared`` holds {pfn: mappings}, for two and more."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self.distinct = 0
        self.shared: dict[int, int] = {}

    def add(self, pfn: int, mappings: int = 1) -> None:
        """One frame, mapped this many times more."""
        chunk, bit = pfn >> CHUNK_SHIFT, 1 << (pfn & CHUNK - 1)
        seen = self._seen.get(chunk, 0)
        if seen & bit:
            self.shared[pfn] = self.shared.get(pfn, 1) + mappings
            return
        self._seen[chunk] = seen | bit
        self.distinct += 1
        if mappings > 1:
            self.shared[pfn] = mappings

    def add_each(self, pfns: Iterable[int]) -> None:
        """Frames that are mapped once more each."""
        seen, shared = self._seen, self.shared
        fresh = 0
        for pfn in pfns:
            chunk, bit = pfn >> CHUNK_SHIFT, 1 << (pfn & CHUNK - 1)
            bits = seen.get(chunk, 0)
            if bits & bit:
                shared[pfn] = shared.get(pfn, 1) + 1
            else:
                seen[chunk] = bits | bit
                fresh += 1
        self.distinct += fresh

    def add_range(self, pfn: int, count: int) -> None:
        """``count`` adjoining frames, mapped once more each."""
        end = pfn + count
        while pfn < end:
            chunk, first = pfn >> CHUNK_SHIFT, pfn & CHUNK - 1
            number = min(end - pfn, CHUNK - first)
            bits = (1 << number) - 1 << first
            seen = self._seen.get(chunk, 0)
            if seen & bits:
                self.add_each(range(pfn, pfn + number))
            else:
                self._seen[chunk] = seen | bits
                self.distinct += number
            pfn += number

    def __contains__(self, pfn: int) -> bool:
        return bool(self._seen.get(pfn >> CHUNK_SHIFT, 0) >> (pfn & CHUNK - 1) & 1)

    def mappings(self, pfn: int) -> int:
        """How many vmemmap pages this frame backs."""
        return self.shared.get(pfn, 1 if pfn in self else 0)

    def distinct_in(self, start_pfn: int, end_pfn: int) -> int:
        """Distinct mapped frames with ``start_pfn <= pfn < end_pfn``."""
        count = 0
        while start_pfn < end_pfn:
            chunk, first = start_pfn >> CHUNK_SHIFT, start_pfn & CHUNK - 1
            number = min(end_pfn - start_pfn, CHUNK - first)
            bits = self._seen.get(chunk, 0) >> first & (1 << number) - 1
            count += bin(bits).count("1")
            start_pfn += number
        return count
