# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing ELF: an executable with symbols and debug sections, as a vmlinux is.

Cores are written by formats.core_write, which streams.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

__all__ = [
    "ET_CORE",
    "PT_LOAD",
    "PT_NOTE",
    "Section",
    "Symbol",
    "build_id_note",
    "file_header",
    "note",
    "program_header",
    "write_executable",
]

ET_EXEC, ET_CORE = 2, 4
PT_LOAD, PT_NOTE = 1, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS = 1, 2, 3, 7, 8
SHF_WRITE, SHF_ALLOC, SHF_EXEC = 1, 2, 4
SHN_ABS = 0xFFF1
PF_X, PF_W, PF_R = 1, 2, 4
NT_GNU_BUILD_ID = 3
STB_GLOBAL = 1
SYMBOL_TYPES = {"notype": 0, "object": 1, "func": 2}
HEADER_SIZE, PROGRAM_HEADER_SIZE, SECTION_HEADER_SIZE = 64, 56, 64
PAGE = 4096


@dataclass(frozen=True)
class Section:
    """A section: ``data`` as it is in the file, or ``size`` zero bytes without any.

    ``flags`` are of "wax" (write, allocated, executable); ``is_note`` makes a note.
    """

    name: str
    address: int = 0
    data: bytes | None = None
    size: int = 0
    flags: str = ""
    align: int = 1
    is_note: bool = False

    @property
    def length(self) -> int:
        return self.size if self.data is None else len(self.data)


@dataclass(frozen=True)
class Symbol:
    """A symbol; ``kind`` is "object", "func" or "notype"."""

    name: str
    address: int
    size: int = 0
    kind: str = "object"
    is_static: bool = False


def note(name: str, kind: int, description: bytes) -> bytes:
    """One note, padded to 4 bytes."""
    text = name.encode() + b"\0"
    header = struct.pack("<III", len(text), len(description), kind)
    return header + _padded(text, 4) + _padded(description, 4)


def build_id_note(build_id: bytes) -> bytes:
    """The note that names a build."""
    return note("GNU", NT_GNU_BUILD_ID, build_id)


def file_header(
    kind: int,
    machine: int,
    programs: int,
    section_table: int = 0,
    sections: int = 0,
    entry: int = 0,
) -> bytes:
    """A little-endian 64-bit ELF header; program headers follow it at once."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return ident + struct.pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        entry,
        HEADER_SIZE if programs else 0,
        section_table,
        0,
        HEADER_SIZE,
        PROGRAM_HEADER_SIZE if programs else 0,
        programs,
        SECTION_HEADER_SIZE if sections else 0,
        sections,
        sections - 1 if sections else 0,
    )


def program_header(
    kind: int,
    flags: int,
    offset: int,
    va: int,
    pa: int,
    file_size: int,
    memory_size: int,
    align: int,
) -> bytes:
    """One program header."""
    return struct.pack(
        "<IIQQQQQQ", kind, flags, offset, va, pa, file_size, memory_size, align
    )


def write_executable(
    file: BinaryIO,
    machine: int,
    sections: Sequence[Section],
    symbols: Iterable[Symbol],
    physical: int = 0,
) -> None:
    """Write an ET_EXEC file.

    Allocated sections must be given in ascending order of address, none overlapping
    another (ValueError). Each gets a PT_LOAD of its own whose physical address is its
    virtual one minus ``physical``; notes get a PT_NOTE as well.
    """
    _check(sections)
    allocated = [s for s in sections if "a" in s.flags]
    programs = len(allocated) + sum(s.is_note for s in allocated)
    table, strings, first_global = _symbol_table(list(symbols), sections)
    names = _Names()
    body = bytearray()
    start = HEADER_SIZE + PROGRAM_HEADER_SIZE * programs
    offsets = [_place(body, start, section) for section in sections]
    headers = bytearray(SECTION_HEADER_SIZE)
    for section, offset in zip(sections, offsets):
        headers += _section_header(names, section, offset)
    linked = len(sections) + 2  # the string table's number, behind the symbol table's
    extra = [
        (".symtab", SHT_SYMTAB, table, linked, first_global, 24),
        (".strtab", SHT_STRTAB, strings, 0, 0, 0),
    ]
    for name, kind, data, link, info, entry_size in extra:
        offset = _append(body, start, data, 8)
        headers += _raw_header(
            names(name), kind, 0, 0, offset, len(data), link, info, 8, entry_size
        )
    own_name = names(".shstrtab")
    offset = _append(body, start, bytes(names.data), 1)
    headers += _raw_header(
        own_name, SHT_STRTAB, 0, 0, offset, len(names.data), 0, 0, 1, 0
    )
    section_table = _append(body, start, bytes(headers), 8)
    count = len(sections) + 4
    file.write(file_header(ET_EXEC, machine, programs, section_table, count))
    for section, offset in zip(sections, offsets):
        for kind in _segments(section):
            flags = _segment_flags(section)
            stored = len(section.data) if section.data is not None else 0
            align = PAGE if kind == PT_LOAD else section.align
            file.write(
                program_header(
                    kind,
                    flags,
                    offset,
                    section.address,
                    section.address - physical,
                    stored,
                    section.length,
                    align,
                )
            )
    file.write(body)


class _Names:
    """A string table that gives offsets."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")

    def __call__(self, name: str) -> int:
        offset = len(self.data)
        self.data += name.encode() + b"\0"
        return offset


def _check(sections: Sequence[Section]) -> None:
    end = 0
    for section in sections:
        if "a" in section.flags:
            if section.address < end:
                raise ValueError(f"section {section.name} overlaps the one before it")
            end = section.address + section.length


def _place(body: bytearray, start: int, section: Section) -> int:
    """Append a section's bytes; gives the file offset, even of a section without any.

    An allocated section's offset is congruent to its address, so that it can be mapped.
    """
    if "a" in section.flags:
        gap = (section.address - start - len(body)) % PAGE
        if section.data is None:
            return start + len(body) + gap
        body += bytes(gap)
        body += section.data
        return start + len(body) - len(section.data)
    return _append(body, start, section.data or b"", section.align)


def _append(body: bytearray, start: int, data: bytes, align: int) -> int:
    body += bytes(-(start + len(body)) % align)
    offset = start + len(body)
    body += data
    return offset


def _section_header(names: _Names, section: Section, offset: int) -> bytes:
    kind = SHT_NOTE if section.is_note else SHT_PROGBITS
    if section.data is None:
        kind = SHT_NOBITS
    bits = {"w": SHF_WRITE, "a": SHF_ALLOC, "x": SHF_EXEC}
    flags = sum(bits[letter] for letter in section.flags)
    return _raw_header(
        names(section.name),
        kind,
        flags,
        section.address,
        offset,
        section.length,
        0,
        0,
        section.align,
        0,
    )


def _raw_header(*fields: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", *fields)


def _segments(section: Section) -> list[int]:
    if "a" not in section.flags:
        return []
    return [PT_LOAD, PT_NOTE] if section.is_note else [PT_LOAD]


def _segment_flags(section: Section) -> int:
    flags = PF_R
    if "w" in section.flags:
        flags |= PF_W
    if "x" in section.flags:
        flags |= PF_X
    return flags


def _symbol_table(
    symbols: list[Symbol], sections: Sequence[Section]
) -> tuple[bytes, bytes, int]:
    """The table, its strings, and the number of the first global symbol."""
    names = _Names()
    table = bytearray(24)
    ordered = sorted(symbols, key=lambda s: (not s.is_static, s.address, s.name))
    for symbol in ordered:
        bind = 0 if symbol.is_static else STB_GLOBAL
        table += struct.pack(
            "<IBBHQQ",
            names(symbol.name),
            bind << 4 | SYMBOL_TYPES[symbol.kind],
            0,
            _section_of(symbol.address, sections),
            symbol.address,
            symbol.size,
        )
    first_global = 1 + sum(symbol.is_static for symbol in symbols)
    return bytes(table), bytes(names.data), first_global


def _section_of(address: int, sections: Sequence[Section]) -> int:
    """The number of the section around an address; none: an absolute symbol."""
    for number, section in enumerate(sections, 1):
        inside = section.address <= address < section.address + section.length
        if "a" in section.flags and inside:
            return number
    return SHN_ABS


def _padded(data: bytes, align: int) -> bytes:
    return data + bytes(-len(data) % align)
