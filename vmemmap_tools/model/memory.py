# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sparse physical memory: pages somebody wrote, and content made when it is asked for.

A terabyte machine needs neither terabytes nor gigabytes: a page of memory is either
stored (kernel objects, page tables, whatever a fault changed), or rendered by a
*source* from compact records while the dump is streamed, or zero.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Protocol, Union

__all__ = ["Buffer", "PhysicalMemory", "Source"]

Buffer = Union[bytes, bytearray, memoryview]

PIECE = 2 << 20
"""Largest and natural alignment of a piece that a source is asked for, in bytes."""


class Source(Protocol):
    """Renders the content of page frames that nobody stored."""

    def render(self, start_pfn: int, end_pfn: int) -> Buffer | None:
        """Content of the frames [start_pfn, end_pfn); None means zeros.

        Pieces with the same content may be the same object: a writer stores an
        object it has seen only once.
        """


class Scattered(Source, Protocol):
    """A source with content in some of its frames only; others may lie in between."""

    def scattered(self, start_pfn: int, end_pfn: int) -> Iterator[tuple[int, Buffer]]:
        """Yield (first frame, content) of what there is in [start_pfn, end_pfn)."""


class PhysicalMemory:
    """Byte-addressed physical memory of a simulated machine."""

    def __init__(self, ranges: list[tuple[int, int]], page_shift: int = 12) -> None:
        self.ranges = sorted(ranges)
        self.page_shift = page_shift
        self.page_size = 1 << page_shift
        self._pages: dict[int, bytearray] = {}
        self._borrowed: set[int] = set()
        self._starts: list[int] = []
        self._sources: list[tuple[int, int, Source]] = []
        self._scattered: list[tuple[int, int, Scattered]] = []

    def add_sources(self, sources: list[tuple[int, int, Source]]) -> None:
        """Add many sources at once."""
        self._sources = sorted([*self._sources, *sources], key=lambda item: item[0])
        self._starts = [start for start, _, _ in self._sources]
        for before, after in zip(self._sources, self._sources[1:]):
            if before[1] > after[0]:
                raise ValueError(
                    f"frames {after[0]:#x}-{before[1]:#x} have two sources"
                )

    def add_scattered(self, sources: list[tuple[int, int, Scattered]]) -> None:
        """Add sources that give way to all others where they overlap."""
        self._scattered = sorted([*self._scattered, *sources], key=lambda s: s[0])

    def fork(self) -> PhysicalMemory:
        """Return a copy that shares every page until it is written."""
        copy = PhysicalMemory(self.ranges, self.page_shift)
        copy._pages = dict(self._pages)
        copy._borrowed = set(self._pages)
        self._borrowed = set(self._pages)
        copy._starts = list(self._starts)
        copy._sources = list(self._sources)
        copy._scattered = list(self._scattered)
        return copy

    def page(self, pfn: int) -> bytearray:
        """Return the writable content of a frame, stored from now on."""
        page = self._pages.get(pfn)
        if page is None:
            content = self._render(pfn)
            page = bytearray(self.page_size if content is None else content)
            self._pages[pfn] = page
        elif pfn in self._borrowed:
            page = self._pages[pfn] = bytearray(page)
            self._borrowed.discard(pfn)
        return page

    def store(self, pfn: int, page: bytearray) -> None:
        """Make ``page`` the content of a frame."""
        self._pages[pfn] = page
        self._borrowed.discard(pfn)

    def read(self, pa: int, size: int) -> bytes:
        """Read bytes; what nobody wrote reads as zeros."""
        out = bytearray()
        while size:
            pfn, offset = divmod(pa, self.page_size)
            n = min(size, self.page_size - offset)
            page: Buffer | None = self._pages.get(pfn)
            if page is None:
                page = self._render(pfn)
            out += bytes(n) if page is None else page[offset : offset + n]
            pa += n
            size -= n
        return bytes(out)

    def write(self, pa: int, data: Buffer) -> None:
        """Write bytes, page by page."""
        done = 0
        while done < len(data):
            pfn, offset = divmod(pa + done, self.page_size)
            n = min(len(data) - done, self.page_size - offset)
            self.page(pfn)[offset : offset + n] = data[done : done + n]
            done += n

    def chunks(self, start: int, end: int) -> Iterator[tuple[int, Buffer | None]]:
        """Yield (address, content) over [start, end) in order, without gaps.

        A chunk reaches up to the address of the next one; None is untouched zeros.
        """
        shift = self.page_shift
        pfn, last = start >> shift, end >> shift
        stored = sorted(p for p in self._pages if pfn <= p < last)
        index = 0
        while pfn < last:
            while index < len(stored) and stored[index] < pfn:
                index += 1
            next_stored = stored[index] if index < len(stored) else last
            if pfn == next_stored:
                stop = pfn + 1
                index += 1
                limit = self._piece_end(pfn, last)
                while index < len(stored) and stored[index] == stop and stop < limit:
                    stop += 1
                    index += 1
                yield pfn << shift, b"".join(self._pages[p] for p in range(pfn, stop))
                pfn = stop
                continue
            source, until = self._source_at(pfn)
            stop = min(next_stored, until, last)
            if source is None:
                yield from self._between(pfn, stop)
                pfn = stop
                continue
            while pfn < stop:
                piece = self._piece_end(pfn, stop)
                yield pfn << shift, source.render(pfn, piece)
                pfn = piece

    def _between(self, start: int, end: int) -> Iterator[tuple[int, Buffer | None]]:
        """Chunks of frames that have no source but scattered ones, if any."""
        shift = self.page_shift
        near = [s for s in self._scattered if s[0] < end and s[1] > start]
        at = low = start
        while near:
            low = max(low, min(first for first, _, _ in near))
            piece = self._piece_end(low, end)
            for pfn, content in sorted(_rendered(near, low, piece), key=_by_frame):
                if at < pfn:
                    yield at << shift, None
                yield pfn << shift, content
                at = pfn + len(content) // self.page_size
            low = piece
            near = [s for s in near if s[1] > low and low < end]
        if at < end:
            yield at << shift, None

    def _piece_end(self, pfn: int, limit: int) -> int:
        pages = PIECE >> self.page_shift
        return min((pfn // pages + 1) * pages, limit)

    def _source_at(self, pfn: int) -> tuple[Source | None, int]:
        """The source of a frame, and the first frame that may have another one."""
        index = bisect_right(self._starts, pfn)
        if index:
            _, end, source = self._sources[index - 1]
            if pfn < end:
                return source, end
        if index < len(self._sources):
            return None, self._sources[index][0]
        return None, 1 << 64

    def _render(self, pfn: int) -> Buffer | None:
        source, _ = self._source_at(pfn)
        if source is not None:
            return source.render(pfn, pfn + 1)
        for first, last, scattered in self._scattered:
            if first <= pfn < last:
                for _, content in scattered.scattered(pfn, pfn + 1):
                    return content
        return None


def _rendered(
    sources: list[tuple[int, int, Scattered]], start: int, end: int
) -> Iterator[tuple[int, Buffer]]:
    """What several scattered sources have in [start, end), one after the other."""
    for first, last, source in sources:
        low, high = max(first, start), min(last, end)
        if low < high:
            yield from source.scattered(low, high)


def _by_frame(chunk: tuple[int, Buffer]) -> int:
    return chunk[0]
