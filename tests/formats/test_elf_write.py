# SPDX-License-Identifier: LGPL-2.1-or-later
"""ELF executables: what is written is read again, by us and by binutils."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from tests.tools import output
from vmemmap_tools.formats.elf import ET_EXEC, Elf
from vmemmap_tools.formats.elf_write import (
    Section,
    Symbol,
    build_id_note,
    note,
    write_executable,
)

BASE = 0xFFFFFFFF81000000
SECTIONS = [
    Section(".text", BASE, b"\xcc" * 100, flags="ax", align=16),
    Section(".bss", BASE + 0x2010, None, 0x3000, flags="wa"),
    Section(".rodata", BASE + 0x5010, b"Linux version 1.2.3\0", flags="a"),
    Section(
        ".note.gnu.build-id",
        BASE + 0x6000,
        build_id_note(b"\xab" * 20),
        flags="a",
        align=4,
        is_note=True,
    ),
    Section(".debug_str", data=b"text\0"),
]
SYMBOLS = [
    Symbol("global_variable", BASE + 0x2010, 8),
    Symbol("static_variable", BASE + 0x2018, 8, is_static=True),
    Symbol("function", BASE + 0x10, 16, "func"),
    Symbol("_end", BASE + 0x10000, 0, "notype"),
]


@pytest.fixture
def data() -> bytes:
    file = io.BytesIO()
    write_executable(file, 62, SECTIONS, SYMBOLS, physical=0xFFFFFFFF80000000)
    return file.getvalue()


def test_sections_read_back(data: bytes) -> None:
    elf = Elf(io.BytesIO(data))
    assert elf.type == ET_EXEC
    found = {s.name: (s.va, s.size) for s in elf.sections()}
    for section in SECTIONS:
        assert found[section.name] == (section.address, section.length)
    assert elf.section_bytes(".rodata") == b"Linux version 1.2.3\0"
    assert elf.section_bytes(".bss") is None
    assert elf.build_id() == b"\xab" * 20


def test_each_allocated_section_can_be_mapped(data: bytes) -> None:
    loads = Elf(io.BytesIO(data)).loads()
    assert [s.va for s in loads] == [s.address for s in SECTIONS[:4]]
    assert [s.flags for s in loads] == [5, 6, 4, 4]
    for segment in loads:
        assert segment.offset % 4096 == segment.va % 4096
        assert segment.pa == segment.va - 0xFFFFFFFF80000000
    assert (loads[1].file_size, loads[1].memory_size) == (0, 0x3000)


def test_local_symbols_come_before_global_ones(data: bytes) -> None:
    elf = Elf(io.BytesIO(data))
    table = elf.section_bytes(".symtab") or b""
    names = elf.section_bytes(".strtab") or b""
    rows = list(struct.iter_unpack("<IBBHQQ", table))[1:]
    read = {
        names[row[0] : names.index(b"\0", row[0])].decode(): (row[1], row[3], *row[4:])
        for row in rows
    }
    assert list(read) == ["static_variable", "function", "global_variable", "_end"]
    assert read["function"] == (0x12, 1, BASE + 0x10, 16)
    assert read["global_variable"] == (0x11, 2, BASE + 0x2010, 8)
    assert read["static_variable"] == (0x01, 2, BASE + 0x2018, 8)
    assert read["_end"] == (0x10, 0xFFF1, BASE + 0x10000, 0)


def test_overlapping_sections_are_refused() -> None:
    wrong = [SECTIONS[0], Section(".data", BASE + 50, b"x", flags="wa")]
    with pytest.raises(ValueError, match="overlaps"):
        write_executable(io.BytesIO(), 62, wrong, [])


def test_notes_are_padded_to_four_bytes() -> None:
    assert note("VMCOREINFO", 0, b"abc") == (
        struct.pack("<III", 11, 3, 0) + b"VMCOREINFO\0\0" + b"abc\0"
    )


def test_readelf_has_nothing_to_complain_about(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(data)
    shown = output("readelf", "--wide", "--all", path)
    assert "readelf: " not in shown
    assert "Build ID: " + "ab" * 20 in shown
