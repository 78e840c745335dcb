# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes by physical address, each range once, with the kind that it was read as."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..target.words import WORD, Words

__all__ = ["PAGE", "PAGE_SHIFT", "STRUCT_PAGES", "Store"]

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
STRUCT_PAGES = "struct pages"


class Store:
    """Byte ranges of frames. What came first stays: a store is one look at memory.

    Beside them there are words of struct pages: as ranges of a file they would take
    seven times their size.
    """

    def __init__(self) -> None:
        self._pieces: dict[int, list[tuple[int, bytes]]] = {}
        self._kinds: dict[int, frozenset[str]] = {}
        self._sets: dict[tuple[frozenset[str], str], frozenset[str]] = {}
        self.words = Words()

    def put(self, pa: int, data: bytes, kind: str) -> None:
        """Keep bytes; those that are there already are not altered."""
        at = 0
        while at < len(data):
            pfn, offset = (pa + at) >> PAGE_SHIFT, (pa + at) % PAGE
            part = data[at : at + PAGE - offset]
            self._put(pfn, offset, part)
            self._add_kind(pfn, kind)
            at += len(part)

    def _add_kind(self, pfn: int, kind: str) -> None:
        # The sets are few and shared: a terabyte has a million frames in here.
        before = self._kinds.get(pfn, frozenset())
        if kind in before:
            return
        after = self._sets.get((before, kind))
        if after is None:
            after = self._sets[before, kind] = before | {kind}
        self._kinds[pfn] = after

    def _put(self, pfn: int, offset: int, data: bytes) -> None:
        pieces = self._pieces.get(pfn)
        end = offset + len(data)
        if pieces is None:
            self._pieces[pfn] = [(offset, data)]
            return
        touched = [p for p in pieces if p[0] <= end and offset <= p[0] + len(p[1])]
        if any(p[0] <= offset and end <= p[0] + len(p[1]) for p in touched):
            return
        start = min([offset, *(p[0] for p in touched)])
        stop = max([end, *(p[0] + len(p[1]) for p in touched)])
        merged = bytearray(stop - start)
        for at, content in [(offset, data), *touched]:
            merged[at - start : at - start + len(content)] = content
        rest = [p for p in pieces if p not in touched]
        self._pieces[pfn] = sorted([*rest, (start, bytes(merged))])

    def get(self, pa: int, size: int) -> bytes | None:
        """Bytes that are all there, else None."""
        parts, at = [], pa
        while at < pa + size:
            pfn, offset = at >> PAGE_SHIFT, at % PAGE
            length = min(pa + size - at, PAGE - offset)
            for start, data in self._pieces.get(pfn, ()):
                if start <= offset and offset + length <= start + len(data):
                    parts.append(data[offset - start : offset - start + length])
                    break
            else:
                return None
            at += length
        return b"".join(parts)

    def drop(self, frames: Collection[int]) -> None:
        """Forget frames."""
        for pfn in frames:
            self._pieces.pop(pfn, None)
            self._kinds.pop(pfn, None)
        if frames:
            self.words = self.words.without(frames)

    def drop_struct_pages(self) -> None:
        """Forget the frames that hold them."""
        self.drop({pfn for pfn in self._kinds if STRUCT_PAGES in self.kinds(pfn)})
        self.words = Words()

    def frames(self) -> list[int]:
        """The frames of which there are bytes, in ascending order."""
        return sorted(self._pieces)

    def kinds(self, pfn: int) -> frozenset[str]:
        """What a frame's content was read as."""
        return self._kinds.get(pfn, frozenset({STRUCT_PAGES}))

    def pieces(self, pfn: int) -> list[tuple[int, bytes]]:
        """(offset, bytes) of a frame, in order."""
        return self._pieces.get(pfn, [])

    def ranges(self) -> Iterator[tuple[int, bytes]]:
        """(physical address, bytes), neighbours joined, in order."""
        start, end = 0, -1
        parts: list[bytes] = []
        for pfn in self.frames():
            for offset, data in self._pieces[pfn]:
                pa = (pfn << PAGE_SHIFT) + offset
                if pa != end:
                    if parts:
                        yield start, b"".join(parts)
                    start, parts = pa, []
                parts.append(data)
                end = pa + len(data)
        if parts:
            yield start, b"".join(parts)

    @property
    def size(self) -> int:
        """Bytes in all."""
        ranges = sum(len(d) for pieces in self._pieces.values() for _, d in pieces)
        return ranges + WORD * len(self.words)
