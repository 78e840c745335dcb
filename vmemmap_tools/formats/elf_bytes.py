# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bytes of an ELF dump by address, physical or virtual, read from the file itself.

What a header names and the file does not hold is `Absent`, never zeros. Of segments
that cover one address, one that is in the file goes before one that is not, and a later
before an earlier one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
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


class _Pieces:
    """Disjoint ranges of addresses in order, in arrays: there may be half a million.

    ``absent`` has the state of those that are not in the file, by their number.
    """

    def __init__(self) -> None:
        self.starts, self.ends, self.offsets = array("Q"), array("Q"), array("Q")
        self.absent: dict[int, str] = {}

    def add(self, start: int, end: int, offset: int, state: str = PRESENT) -> None:
        if start >= NO_ADDRESS:
            return
        if state != PRESENT:
            self.absent[len(self.starts)] = state
        self.starts.append(start)
        self.ends.append(min(end, NO_ADDRESS))
        self.offsets.append(offset if state == PRESENT else 0)


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

    @classmethod
    def of_ranges(
        cls, ranges: Iterable[tuple[int, int, int]], read_at: ReadAt
    ) -> AddressedBytes | None:
        """Of (address, size, file offset) in order of address, all in the file.

        None where they are in no order, or two give an address different bytes.
        """
        found = cls((), lambda segment: segment.pa, read_at)
        pieces, start_before, end_before, slide = found._pieces, 0, 0, -1
        for start, size, offset in ranges:
            if start < start_before or start + size > NO_ADDRESS:
                return None
            if start < end_before and offset - start != slide:
                return None
            if start <= end_before and offset - start == slide:
                pieces.ends[-1] = max(end_before, start + size)
            elif size:
                pieces.add(start, start + size, offset)
                slide = offset - start
            start_before, end_before = start, max(end_before, start + size)
        return found

    def __bool__(self) -> bool:
        return bool(self._pieces.starts)

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``; they may span segments. Raises `Absent`."""
        pieces, parts = self._pieces, []
        position, end = address, address + size
        while position < end:
            index = bisect_right(pieces.starts, position) - 1
            if index < 0 or pieces.ends[index] <= position:
                raise Absent(position, "outside")
            if index in pieces.absent:
                raise Absent(position, pieces.absent[index])
            length = min(end, pieces.ends[index]) - position
            offset = pieces.offsets[index] + position - pieces.starts[index]
            data = self._read_at(offset, length)
            if len(data) != length:
                raise Absent(position + len(data), "outside")
            parts.append(data)
            position += length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_strided(self, address: int, size: int, step: int, count: int) -> bytes:
        """``count`` pieces of ``size`` bytes, ``step`` bytes apart, zeros between them.

        Only where each is a range by itself and they lie side by side in the file: one
        read then. Raises `Absent` for others.
        """
        pieces = self._pieces
        first = bisect_right(pieces.starts, address) - 1
        offset = pieces.offsets[first] if first >= 0 else 0
        for column, start, distance in (
            (pieces.starts, address, step),
            (pieces.ends, address + size, step),
            (pieces.offsets, offset, size),
        ):
            wanted = array("Q", range(start, start + distance * count, distance))
            if first < 0 or column[first : first + count] != wanted:
                raise Absent(address, "outside")
        data = self._read_at(offset, size * count)
        if len(data) != size * count:
            raise Absent(address + len(data) // size * step, "outside")
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        return b"".join([part.ljust(step, b"\0") for part in parts[:-1]] + parts[-1:])

    def extents(self) -> list[PhysicalExtent]:
        """What is in the file and what is left out of it; neighbours are joined."""
        extents: list[PhysicalExtent] = []
        pieces = self._pieces
        for i, (start, end) in enumerate(zip(pieces.starts, pieces.ends)):
            state = pieces.absent.get(i, PRESENT)
            kind = state == PRESENT, state == CUT
            before = extents[-1] if extents else None
            if before and (before.end, before.present, before.is_cut) == (start, *kind):
                extents[-1] = PhysicalExtent(before.start, end, *kind)
            else:
                extents.append(PhysicalExtent(start, end, *kind))
        return extents


def _disjoint(segments: Sequence[Segment], key: Callable[[Segment], int]) -> _Pieces:
    """Sorted pieces that do not overlap; the surest segment wins each address."""
    spans: list[tuple[int, int, tuple[bool, int], int, str]] = []
    for rank, segment in enumerate(segments):
        at = key(segment)
        for start, end, state in segment.parts():
            surety = state == PRESENT, rank
            spans.append((at + start, at + end, surety, segment.offset, state))
    spans.sort()
    edges = sorted({edge for span in spans for edge in span[:2]})
    pieces = _Pieces()
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
        pieces.add(start, end, offset + start - first, state)
    return pieces
