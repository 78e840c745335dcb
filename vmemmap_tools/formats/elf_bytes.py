# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bytes of an ELF dump by address, physical or virtual, read from the file itself.

What a header names and the file does not hold is `Absent`, never zeros. Of segments
that cover one address, one that is in the file goes before one that is not, and a later
before an earlier one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from .elf import CUT, NO_ADDRESS, PRESENT, PT_LOAD, PhysicalExtent, Segment

__all__ = ["Absent", "AddressedBytes", "physical_segments", "virtual_segments"]

ReadAt = Callable[[int, int], bytes]
"""(file offset, size) to bytes."""


class Absent(Exception):
    """Bytes that are not in the file.

    ``reason`` is "excluded" (a header names them), "cut" (the file ends before them) or
    "outside" (no header names them).
    """

    def __init__(self, address: int, reason: str):
        super().__init__(f"{reason}: {address:#x}")
        self.address = address
        self.reason = reason


@dataclass(frozen=True)
class _Piece:
    """Addresses that one segment answers for; ``offset`` None is not in the file."""

    start: int
    end: int
    offset: int | None
    state: str


def physical_segments(segments: Sequence[Segment]) -> list[Segment]:
    """The loadable segments whose physical addresses mean something.

    Where a writer knew none it put zeros or all ones (/proc/kcore before 4.19).
    """
    loads = [s for s in segments if s.type == PT_LOAD and s.memory_size]
    known = [s for s in loads if s.pa != NO_ADDRESS]
    if len(known) > 1 and not any(s.pa for s in known):
        return []
    return known


def virtual_segments(segments: Sequence[Segment]) -> list[Segment]:
    """The loadable segments, unless all give physical addresses for virtual ones."""
    loads = [s for s in segments if s.type == PT_LOAD and s.memory_size]
    return [] if all(s.va in (s.pa, 0) for s in loads) else loads


class AddressedBytes:
    """A file's bytes by one kind of address: ``key`` takes it from a segment."""

    def __init__(
        self,
        segments: Sequence[Segment],
        key: Callable[[Segment], int],
        read_at: ReadAt,
    ):
        self._read_at = read_at
        self._pieces = _disjoint(segments, key)
        self._starts = [piece.start for piece in self._pieces]

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``; they may span segments. Raises `Absent`."""
        parts = []
        position, end = address, address + size
        while position < end:
            index = bisect_right(self._starts, position) - 1
            piece = self._pieces[index] if index >= 0 else None
            if piece is None or piece.end <= position:
                raise Absent(position, "outside")
            if piece.offset is None:
                raise Absent(position, piece.state)
            length = min(end, piece.end) - position
            data = self._read_at(piece.offset + position - piece.start, length)
            if len(data) != length:
                raise Absent(position + len(data), "outside")
            parts.append(data)
            position += length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def extents(self) -> list[PhysicalExtent]:
        """What is in the file and what is left out of it; neighbours are joined."""
        extents: list[PhysicalExtent] = []
        for piece in self._pieces:
            kind = piece.state == PRESENT, piece.state == CUT
            start = piece.start
            before = extents[-1] if extents else None
            if before and (before.end, before.present, before.is_cut) == (start, *kind):
                start = extents.pop().start
            extents.append(PhysicalExtent(start, piece.end, *kind))
        return extents


def _disjoint(
    segments: Sequence[Segment], key: Callable[[Segment], int]
) -> list[_Piece]:
    """Sorted pieces that do not overlap; the surest segment wins each address."""
    spans: list[tuple[int, int, tuple[bool, int], int, str]] = []
    for rank, segment in enumerate(segments):
        at = key(segment)
        for start, end, state in segment.parts():
            surety = state == PRESENT, rank
            spans.append((at + start, at + end, surety, segment.offset, state))
    spans.sort()
    edges = sorted({edge for span in spans for edge in span[:2]})
    pieces: list[_Piece] = []
    active: list[tuple[int, int, tuple[bool, int], int, str]] = []
    upcoming = 0
    for start, end in zip(edges, edges[1:]):
        while upcoming < len(spans) and spans[upcoming][0] <= start:
            active.append(spans[upcoming])
            upcoming += 1
        active = [span for span in active if span[1] > start]
        if not active:
            continue
        first, _, _, offset, state = max(active, key=lambda span: span[2])
        place = offset + start - first if state == PRESENT else None
        pieces.append(_Piece(start, end, place, state))
    return pieces
