# SPDX-License-Identifier: LGPL-2.1-or-later
"""ELF files as far as dumps and vmlinux need them: headers, segments, notes.

A dump's program headers are the only place that tells *filtered* memory (``p_filesz``
< ``p_memsz``) from memory that was zero, and a cut file from a whole one: readers such
as drgn and gdb return zeros for both without a word.
"""

from __future__ import annotations

import bisect
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import add, le
from typing import BinaryIO

__all__ = [
    "EM_AARCH64",
    "EM_RISCV",
    "EM_X86_64",
    "ET_CORE",
    "ET_REL",
    "NO_ADDRESS",
    "Elf",
    "ElfCutShort",
    "ElfError",
    "Note",
    "PhysicalExtent",
    "Section",
    "Segment",
    "SegmentMap",
]

ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
EM_X86_64, EM_AARCH64, EM_RISCV = 62, 183, 243
PT_LOAD, PT_NOTE = 1, 4
SHT_NOTE, SHT_NOBITS = 7, 8
PN_XNUM = 0xFFFF
PROGRAM_HEADER_SIZE = 56
NO_ADDRESS = 0xFFFFFFFFFFFFFFFF
"""``p_paddr`` of a segment that has no physical address."""

NT_GNU_BUILD_ID = 3
PRESENT, CUT, EXCLUDED = "present", "cut", "excluded"
MAX_NOTE_BYTES = 64 << 20
"""No kernel writes more notes than this (a note per CPU); a larger size is damage."""
MAX_SECTIONS = 1 << 20
MAX_SEGMENTS = 1 << 20
"""A capsule of 1 TiB has half as many; dumps of whole machines have some hundred."""
MAX_SECTION_BYTES = 1 << 28
"""The largest section that is read whole, a symbol table, has a tenth of it."""
DUMP_ELF_INCOMPLETE = 1
"""In ``e_flags``: makedumpfile could not write all, mostly for want of space."""


class ElfError(ValueError):
    """The file is no ELF file, or one whose headers contradict themselves."""


class ElfCutShort(ElfError):
    """The file ends before what its headers name."""


@dataclass(frozen=True)
class Segment:
    """One program header. ``present_size`` is what the file really holds of it.

    ``file_size`` is ``p_filesz``; a file that was cut short has less.
    """

    type: int
    flags: int
    offset: int
    va: int
    pa: int
    file_size: int
    memory_size: int
    present_size: int

    def parts(self) -> Iterator[tuple[int, int, str]]:
        """The segment in parts: start, end (bytes from its start) and state.

        The state is "present", "cut" (the file ends before) or "excluded" (left out).
        """
        start = 0
        for end, state in (
            (self.present_size, PRESENT),
            (self.file_size, CUT),
            (self.memory_size, EXCLUDED),
        ):
            if min(end, self.memory_size) > start:
                yield start, min(end, self.memory_size), state
                start = end


@dataclass(frozen=True)
class Section:
    """One section header."""

    name: str
    type: int
    flags: int
    va: int
    offset: int
    size: int
    link: int
    entry_size: int


@dataclass(frozen=True)
class Note:
    """One ELF note, e.g. name "VMCOREINFO", type 0."""

    name: str
    type: int
    description: bytes


@dataclass(frozen=True)
class PhysicalExtent:
    """Physical addresses ``start <= pa < end``, in the file or not (``present``).

    ``is_cut``: not present because the file ends before them.
    """

    start: int
    end: int
    present: bool
    is_cut: bool = False


class Elf:
    """A 64-bit ELF file's headers. Reads what it is asked for, never the whole file.

    Raises `ElfError` for a file that is not ELF or whose headers are damaged.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO):
        if isinstance(source, (str, os.PathLike)):
            self._file: BinaryIO = open(source, "rb")  # noqa: SIM115 - kept open
        else:
            self._file = source
        self.file_size = self._file.seek(0, os.SEEK_END)
        self._read_header()
        self._programs = self._read_programs()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Elf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes at a file offset. Raises `ElfError` when the file ends before."""
        if size < 0 or offset < 0 or offset + size > self.file_size:
            raise ElfCutShort(
                f"file ends at {self.file_size} bytes, "
                f"but {size} bytes are needed at offset {offset}"
            )
        self._file.seek(offset)
        return self._file.read(size)

    @property
    def is_incomplete(self) -> bool:
        """Whether makedumpfile marked the file incomplete (its DUMP_ELF_INCOMPLETE)."""
        return bool(self.flags & DUMP_ELF_INCOMPLETE)

    @property
    def are_notes_cut(self) -> bool:
        """Whether notes lie beyond the end of the file."""
        found = [i for i, kind in enumerate(self._kinds) if kind == PT_NOTE]
        return any(s.present_size < s.file_size for s in map(self._segment, found))

    @property
    def is_truncated(self) -> bool:
        """Whether some loadable segment's bytes lie beyond the end of the file."""
        return self.expected_size > self.file_size

    @property
    def expected_size(self) -> int:
        """The file size that the loadable segments ask for, in bytes."""
        ends = zip(self._kinds, map(add, self._column(1), self._column(4)))
        return max((end for kind, end in ends if kind == PT_LOAD), default=0)

    def loads(self) -> list[Segment]:
        """The PT_LOAD segments, in file order."""
        return [s for s in self.segments if s.type == PT_LOAD]

    def notes(self) -> Iterator[Note]:
        """All notes of the PT_NOTE segments, else of the note sections."""
        areas = self.note_areas() or [
            (s.offset, s.size) for s in self.sections() if s.type == SHT_NOTE
        ]
        for offset, size in areas:
            if size > MAX_NOTE_BYTES:
                raise ElfError(f"{size} bytes of notes cannot be right")
            yield from self._parse_notes(self.read_at(offset, size))

    def note_areas(self) -> list[tuple[int, int]]:
        """(offset, size in the file) of the PT_NOTE segments."""
        found = [i for i, kind in enumerate(self._kinds) if kind == PT_NOTE]
        return [(s.offset, s.present_size) for s in map(self._segment, found)]

    def physical_map(self) -> SegmentMap:
        """What the loadable segments hold of physical memory."""
        columns = [self._column(at) for at in (1, 3, 4, 5)]
        is_whole = all(
            kind != PT_LOAD
            or (pa + size <= NO_ADDRESS and 0 < memory <= size <= self.file_size - at)
            for kind, at, pa, size, memory in zip(self._kinds, *columns)
        )
        if not is_whole:
            return SegmentMap(self.loads())
        rows, starts = zip(self._kinds, columns[1], columns[3]), columns[1]
        ranges = ((pa, pa + size) for kind, pa, size in rows if kind == PT_LOAD)
        is_sorted = all(map(le, starts, starts[1:]))
        return SegmentMap.of_present(ranges if is_sorted else sorted(ranges))

    def present_loads(self) -> Iterator[tuple[int, int, int]]:
        """(physical address, size, file offset) of the PT_LOAD segments in the file.

        In order of address; what is left out or cut off is not among them.
        """
        columns = [self._column(at) for at in (3, 4, 1, 5)]
        rows: Iterable[tuple[int, ...]] = zip(*columns, self._kinds)
        if not all(map(le, columns[0], columns[0][1:])):
            rows = sorted(rows)
        for pa, size, offset, memory, kind in rows:
            if kind == PT_LOAD and offset < self.file_size:
                yield pa, min(size, memory, self.file_size - offset), offset

    def note(self, name: str) -> bytes | None:
        """The description of the first note of this name."""
        return next((n.description for n in self.notes() if n.name == name), None)

    def build_id(self) -> bytes | None:
        """The GNU build-id, from notes of segments or of sections."""
        for note in self.notes():
            if note.name == "GNU" and note.type == NT_GNU_BUILD_ID:
                return note.description
        for section in self.sections():
            if section.type == SHT_NOTE:
                data = self._content(section.offset, section.size)
                for note in self._parse_notes(data):
                    if note.name == "GNU" and note.type == NT_GNU_BUILD_ID:
                        return note.description
        return None

    def sections(self) -> list[Section]:
        """All section headers with their names; empty when the file has none."""
        if not self._shoff or not self._shnum:
            return []
        if self._shentsize != 64 or self._shnum > MAX_SECTIONS:
            raise ElfError("section header table is damaged")
        table = self.read_at(self._shoff, 64 * self._shnum)
        raw = list(struct.iter_unpack(self._order + "IIQQQQIIQQ", table))
        if self._shstrndx >= len(raw):
            raise ElfError("section name table is missing")
        strings = self._content(raw[self._shstrndx][4], raw[self._shstrndx][5])
        return [
            Section(_c_string(strings, h[0]), h[1], h[2], h[3], h[4], h[5], h[6], h[9])
            for h in raw
        ]

    def section_bytes(self, name: str) -> bytes | None:
        """The content of the named section, None when the file lacks it."""
        for section in self.sections():
            if section.name == name and section.type != SHT_NOBITS:
                return self._content(section.offset, section.size)
        return None

    def _content(self, offset: int, size: int) -> bytes:
        """The bytes of a section."""
        if size > MAX_SECTION_BYTES:
            raise ElfError(f"a section of {size} bytes cannot be right")
        return self.read_at(offset, size)

    def _read_header(self) -> None:
        ident = self.read_at(0, 16) if self.file_size >= 64 else b""
        if ident[:4] != b"\x7fELF":
            raise ElfError("not an ELF file")
        if ident[4] != 2 or ident[5] not in (1, 2):
            raise ElfError("not a 64-bit ELF file")
        self.byteorder = "little" if ident[5] == 1 else "big"
        self._order = "<" if ident[5] == 1 else ">"
        header = struct.unpack(self._order + "HHIQQQIHHHHHH", self.read_at(16, 48))
        self.type, self.machine = header[0], header[1]
        self._phoff, self._shoff, self.flags = header[4:7]
        self._phentsize, self._phnum = header[8], header[9]
        self._shentsize, self._shnum, self._shstrndx = header[10:13]
        if self._shoff and (self._phnum == PN_XNUM or not self._shnum):
            # Counts that do not fit into 16 bits stand in section header 0.
            if self._shoff + 64 > self.file_size:
                raise ElfCutShort("section header 0 lies beyond the end of the file")
            first = struct.unpack(
                self._order + "IIQQQQIIQQ", self.read_at(self._shoff, 64)
            )
            if self._phnum == PN_XNUM:
                self._phnum = first[7]
            if not self._shnum:
                self._shnum = first[5]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """All program headers."""
        return tuple(map(self._segment, range(self._phnum)))

    def _read_programs(self) -> array[int]:
        """The program header table as 64-bit words; there may be half a million."""
        words = array("Q")
        if self._phnum:
            if self._phentsize != PROGRAM_HEADER_SIZE:
                raise ElfError("program header table is damaged")
            if self._phnum > MAX_SEGMENTS:
                raise ElfError(
                    f"it has {self._phnum} program headers, more than {MAX_SEGMENTS}"
                )
            size = PROGRAM_HEADER_SIZE * self._phnum
            words.frombytes(self.read_at(self._phoff, size))
            if self.byteorder != sys.byteorder:
                words.byteswap()
        return words

    def _column(self, at: int) -> array[int]:
        """One word of each program header: 1 is p_offset, 6 is p_align."""
        return self._programs[at :: PROGRAM_HEADER_SIZE // 8]

    @cached_property
    def _kinds(self) -> array[int]:
        """``p_type`` of each program header."""
        shift, mask = (0, 0xFFFFFFFF) if self.byteorder == "little" else (32, ~0)
        return array("I", (word >> shift & mask for word in self._column(0)))

    def _segment(self, number: int) -> Segment:
        start = number * PROGRAM_HEADER_SIZE // 8
        first, offset, va, pa, filesz, memsz = self._programs[start : start + 6]
        low, high = first & 0xFFFFFFFF, first >> 32
        kind, flags = (low, high) if self.byteorder == "little" else (high, low)
        present = max(0, min(filesz, self.file_size - offset))
        return Segment(kind, flags, offset, va, pa, filesz, memsz, present)

    def _parse_notes(self, data: bytes) -> Iterator[Note]:
        position = 0
        while position + 12 <= len(data):
            name_size, size, kind = struct.unpack_from(
                self._order + "III", data, position
            )
            start = position + 12 + (name_size + 3 & ~3)
            if start + size > len(data):
                return  # padding behind the last note, or a cut note area
            name = data[position + 12 : position + 12 + name_size]
            yield Note(_c_string(name, 0), kind, data[start : start + size])
            position = start + (size + 3 & ~3)


def _c_string(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset)
    return data[offset : end if end >= 0 else len(data)].decode("utf-8", "replace")


class SegmentMap:
    """Which physical addresses an ELF dump holds, and which it names but left out.

    Later segments win where two cover one address, as in drgn.
    """

    def __init__(self, segments: Sequence[Segment] = ()):
        extents = _flatten(segments)
        self._starts: Sequence[int] = [e.start for e in extents]
        self._ends: Sequence[int] = [e.end for e in extents]
        self._absent = {
            e.start: CUT if e.is_cut else EXCLUDED for e in extents if not e.present
        }

    @classmethod
    def of_present(cls, ranges: Iterable[tuple[int, int]]) -> SegmentMap:
        """(start, end) ranges that a file holds, in order of their starts.

        Those that do not end below 2^64 are left out.
        """
        found = cls()
        starts, ends, last = array("Q"), array("Q"), -1
        for start, end in ranges:
            if not 0 <= start < end < 1 << 64:
                continue
            if start > last:
                if starts:
                    ends.append(last)
                starts.append(start)
            last = max(last, end)
        if starts:
            ends.append(last)
        found._starts, found._ends = starts, ends
        return found

    @property
    def has_holes(self) -> bool:
        """Whether a header names bytes that the file does not hold."""
        return bool(self._absent)

    @property
    def extents(self) -> list[PhysicalExtent]:
        """Sorted, none overlapping another."""
        return [
            PhysicalExtent(
                start,
                end,
                start not in self._absent,
                self._absent.get(start) == CUT,
            )
            for start, end in zip(self._starts, self._ends)
        ]

    def first_absent(self, pa: int, size: int) -> tuple[int, str] | None:
        """The first address of ``pa .. pa+size`` that the dump lacks, and why.

        The reason is "excluded" (named by a header, left out of the file), "cut" (the
        file ends before it) or "outside". None when everything is there.
        """
        position, end = pa, pa + size
        while position < end:
            index = bisect.bisect_right(self._starts, position) - 1
            if index < 0 or self._ends[index] <= position:
                return position, "outside"
            state = self._absent.get(self._starts[index]) if self._absent else None
            if state is not None:
                return position, state
            position = self._ends[index]
        return None


def _flatten(segments: Sequence[Segment]) -> list[PhysicalExtent]:
    """Disjoint sorted extents; of overlapping segments the later one wins."""
    pieces: list[tuple[int, int, int, str]] = []
    for rank, s in enumerate(segments):
        if s.type != PT_LOAD or s.pa == NO_ADDRESS or not s.memory_size:
            continue
        for start, end, state in s.parts():
            pieces.append((s.pa + start, s.pa + end, rank, state))
    edges = sorted({edge for p in pieces for edge in p[:2]})
    pieces.sort()
    extents: list[PhysicalExtent] = []
    active: list[tuple[int, int, int, str]] = []
    upcoming = 0
    for start, end in zip(edges, edges[1:]):
        while upcoming < len(pieces) and pieces[upcoming][0] <= start:
            active.append(pieces[upcoming])
            upcoming += 1
        active = [p for p in active if p[1] > start]
        if not active:
            continue
        state = max(active, key=lambda p: p[2])[3]
        extent = PhysicalExtent(start, end, state == PRESENT, state == CUT)
        before = extents[-1] if extents else None
        if (
            before
            and before.end == start
            and replace(before, end=end) == replace(extent, start=before.start)
        ):
            extents.pop()
            extent = replace(extent, start=before.start)
        extents.append(extent)
    return extents
