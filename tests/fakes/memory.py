# SPDX-License-Identifier: LGPL-2.1-or-later
"""Physical memory as a dict of pages. Pages never written are zeros."""

from __future__ import annotations

from collections.abc import Iterator

from vmemmap_tools.target.base import Fault

__all__ = ["PAGE", "SparseMemory"]

PAGE = 4096


class SparseMemory:
    """Memory from 0 to ``end``; reading beyond is a Fault, as is reading lost pages."""

    def __init__(self, end: int = 1 << 40):
        self.end = end
        self._pages: dict[int, bytearray] = {}
        self._lost: dict[int, str] = {}

    def read(self, pa: int, size: int) -> bytes:
        return b"".join(
            bytes(self._pages.get(pfn, bytes(PAGE))[at : at + length])
            for pfn, at, length in self._pieces(pa, size)
        )

    def write(self, pa: int, data: bytes) -> None:
        for pfn, at, length in self._pieces(pa, len(data)):
            page = self._pages.setdefault(pfn, bytearray(PAGE))
            page[at : at + length], data = data[:length], data[length:]

    def lose(self, pfn: int, kind: str = "excluded") -> None:
        """Make a page unreadable, as a filter or a broken disk does."""
        self._lost[pfn] = kind

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """(physical address, content) of every page that was written."""
        for pfn in sorted(self._pages):
            yield pfn * PAGE, bytes(self._pages[pfn])

    def write_u64(self, pa: int, value: int) -> None:
        self.write(pa, value.to_bytes(8, "little"))

    def _pieces(self, pa: int, size: int) -> Iterator[tuple[int, int, int]]:
        """(pfn, offset, length) of the parts of a range. Raises Fault."""
        whole = (pa, size)
        while size:
            pfn, at = divmod(pa, PAGE)
            if pa < 0 or pa >= self.end:
                raise Fault(*whole, "outside", physical=True)
            if pfn in self._lost:
                raise Fault(*whole, self._lost[pfn], physical=True)
            length = min(size, PAGE - at)
            yield pfn, at, length
            pa, size = pa + length, size - length
