# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing an ELF core of a sparse machine, streamed.

Memory comes in pieces, in order of address. What nobody wrote becomes a hole of the
file; a piece that comes again, the same object, is stored once and named twice; long
runs of zeros all name one hole. A terabyte of memory thus takes as much disk as it has
distinct content, and no more of this process's memory than a few pieces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Optional, Union

from vmemmap_tools.formats.elf_write import (
    ET_CORE,
    HEADER_SIZE,
    PF_R,
    PF_W,
    PF_X,
    PROGRAM_HEADER_SIZE,
    PT_LOAD,
    PT_NOTE,
    file_header,
    program_header,
)

__all__ = ["NO_ADDRESS", "Chunk", "CoreWriter", "Repeats", "pieces"]

Buffer = Union[bytes, bytearray, memoryview]
Chunk = tuple[int, Optional[Buffer]]
"""Physical address and content; None is zeros up to the next chunk's address."""

NO_ADDRESS = 0xFFFFFFFFFFFFFFFF
MAX_LOADS = 65533
"""Program headers that e_phnum can count, less the note's."""
PAGE = 4096
HOLE_BLOCK = 4 << 10
SHARED_SIZE = 64 << 10
"""Smallest piece worth a program header of its own when it comes again."""
ZERO_RUN = 1 << 30
"""Zeros from this length on all name one hole of this size."""
ZEROS = bytes(HOLE_BLOCK)


@dataclass
class _Load:
    va: int
    pa: int
    offset: int
    file_size: int
    memory_size: int
    flags: int = PF_R | PF_W | PF_X


@dataclass
class _Extent:
    """Where the bytes of ``pa .. pa+size`` are in the file."""

    pa: int
    size: int
    offset: int


class Repeats:
    """Recognises an object that came before, without keeping many alive.

    The last few are remembered, and for good those that did come again.
    """

    def __init__(self, recent: int = 16, repeated: int = 512):
        self._recent: dict[int, tuple[object, int]] = {}
        self._repeated: dict[int, tuple[object, int]] = {}
        self._limits = recent, repeated

    def find(self, thing: object) -> int | None:
        """The number that was remembered with this very object."""
        key = id(thing)
        if key in self._repeated:
            return self._repeated[key][1]
        entry = self._recent.pop(key, None)
        if entry is None:
            return None
        if len(self._repeated) < self._limits[1]:
            self._repeated[key] = entry
        return entry[1]

    def remember(self, thing: object, number: int) -> None:
        """Remember a number with an object."""
        self._recent[id(thing)] = (thing, number)
        if len(self._recent) > self._limits[0]:
            del self._recent[next(iter(self._recent))]


def pieces(
    chunks: Iterable[Chunk], end: int
) -> Iterator[tuple[int, int, Buffer | None]]:
    """(address, size, content) of chunks that reach to ``end``, zeros merged.

    Raises ValueError for chunks that overlap or are out of order.
    """
    zeros = position = None
    for pa, content in chunks:
        if position is not None and zeros is None and pa != position:
            raise ValueError(f"memory at {position:#x} goes on at {pa:#x}")
        if content is None:
            zeros = pa if zeros is None else zeros
            position = pa
            continue
        if zeros is not None and pa > zeros:
            yield zeros, pa - zeros, None
        zeros = None
        position = pa + len(content)
        yield pa, len(content), content
    if zeros is not None and end > zeros:
        yield zeros, end - zeros, None


class CoreWriter:
    """Writes one core to a seekable file opened for writing.

    Call `load` for each range of memory, `alias` for more views of what was loaded,
    then `finish`. There will be room for ``capacity`` PT_LOADs; when they run short,
    memory is stored instead of shared. ``notes`` are raw.
    """

    def __init__(self, file: BinaryIO, machine: int, notes: bytes, capacity: int):
        self._file = file
        self._machine = machine
        self._capacity = min(MAX_LOADS, capacity)
        self._loads: list[_Load] = []
        self._extents: list[_Extent] = []
        self._repeats = Repeats()
        self._zero_hole: int | None = None
        self._notes_at = HEADER_SIZE + PROGRAM_HEADER_SIZE * (1 + self._capacity)
        self._notes_size = len(notes)
        file.seek(self._notes_at)
        file.write(notes)
        self._end = _aligned(self._notes_at + len(notes))

    @property
    def load_count(self) -> int:
        """PT_LOADs so far."""
        return len(self._loads)

    def load(
        self, va: int, pa: int, size: int, chunks: Iterable[Chunk], absent: int = 0
    ) -> None:
        """Memory at ``pa``, seen at ``va``; ``absent`` more bytes are only named.

        All sizes and addresses are multiples of the page size.
        """
        slide = va - pa
        current: _Load | None = None
        for at, length, content in pieces(chunks, pa + size):
            if content is None and length >= ZERO_RUN and self._has_room:
                self._zero_loads(at + slide, at, length)
                current = None
                continue
            known = self._known(content)
            if known is not None:
                self._add(_Load(at + slide, at, known, length, length))
                current = None
                continue
            if current is None:
                current = _Load(at + slide, at, self._end, 0, 0)
                self._loads.append(current)
            self._note_extent(at, length, self._end)
            self._store(length, content)
            current.file_size += length
            current.memory_size += length
        if absent:
            if current is None:
                current = _Load(va + size, pa + size, self._end, 0, 0)
                self._loads.append(current)
            current.memory_size += absent

    def alias(self, va: int, pa: int, size: int, has_pa: bool = True) -> None:
        """One more view of memory that was loaded, at another virtual address.

        Without ``has_pa`` the headers say that they know no physical address. Raises
        ValueError when some of it was not loaded.
        """
        self._extents.sort(key=lambda e: e.pa)
        starts = [e.pa for e in self._extents]
        last: _Load | None = None
        while size:
            index = bisect_right(starts, pa) - 1
            extent = self._extents[index] if index >= 0 else None
            if extent is None or pa >= extent.pa + extent.size:
                raise ValueError(f"physical address {pa:#x} is not in the core")
            length = min(size, extent.pa + extent.size - pa)
            offset = extent.offset + pa - extent.pa
            if last is not None and last.offset + last.file_size == offset:
                last.file_size += length
                last.memory_size += length
            else:
                shown = pa if has_pa else NO_ADDRESS
                last = _Load(va, shown, offset, length, length)
                self._loads.append(last)
            va, pa, size = va + length, pa + length, size - length

    def finish(self) -> None:
        """Write the headers. Raises ValueError when there are too many."""
        if len(self._loads) > self._capacity:
            raise ValueError(
                f"{len(self._loads)} segments; this core has room for {self._capacity}"
            )
        self._file.truncate(self._end)
        self._file.seek(0)
        header = file_header(ET_CORE, self._machine, 1 + len(self._loads))
        note = program_header(
            PT_NOTE, 0, self._notes_at, 0, 0, self._notes_size, self._notes_size, 4
        )
        self._file.write(header + note)
        for load in self._loads:
            self._file.write(
                program_header(
                    PT_LOAD,
                    load.flags,
                    load.offset,
                    load.va,
                    load.pa,
                    load.file_size,
                    load.memory_size,
                    PAGE,
                )
            )

    @property
    def _has_room(self) -> bool:
        """Whether more headers may be spent on saving bytes; some are kept back."""
        return len(self._loads) < self._capacity - 128

    def _known(self, content: Buffer | None) -> int | None:
        if content is None or len(content) < SHARED_SIZE or not self._has_room:
            return None
        return self._repeats.find(content)

    def _zero_loads(self, va: int, pa: int, size: int) -> None:
        if self._zero_hole is None:
            self._zero_hole = self._end
            self._end += ZERO_RUN
        done = 0
        while done < size:
            length = min(ZERO_RUN, size - done)
            self._add(_Load(va + done, pa + done, self._zero_hole, length, length))
            done += length

    def _add(self, load: _Load) -> None:
        self._loads.append(load)
        self._note_extent(load.pa, load.file_size, load.offset)

    def _note_extent(self, pa: int, size: int, offset: int) -> None:
        last = self._extents[-1] if self._extents else None
        if last and (last.pa + last.size, last.offset + last.size) == (pa, offset):
            last.size += size
        else:
            self._extents.append(_Extent(pa, size, offset))

    def _store(self, length: int, content: Buffer | None) -> None:
        start = self._end
        self._end += length
        if content is None:
            return
        if length >= SHARED_SIZE:
            self._repeats.remember(content, start)
        for at, block in _runs(memoryview(content).cast("B")):
            self._file.seek(start + at)
            self._file.write(block)


def _runs(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The parts that are not zero, in whole blocks: (offset, bytes)."""
    start = None
    for at in range(0, len(view), HOLE_BLOCK):
        block = view[at : at + HOLE_BLOCK]
        # memoryviews compare item by item, bytes at once.
        if bytes(block) == ZEROS[: len(block)]:
            if start is not None:
                yield start, view[start:at]
            start = None
        elif start is None:
            start = at
    if start is not None:
        yield start, view[start:]


def _aligned(offset: int) -> int:
    return -(-offset // PAGE) * PAGE
