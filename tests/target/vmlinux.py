# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vmlinux of a few symbols, and nothing in it but its banner."""

from __future__ import annotations

from pathlib import Path

from vmemmap_tools.formats.elf import EM_X86_64, Elf
from vmemmap_tools.formats.elf_write import (
    Section,
    Symbol,
    build_id_note,
    write_executable,
)

__all__ = [
    "BANNER",
    "BANNER_VA",
    "BUILD_ID",
    "TEXT_VA",
    "change_section",
    "section_headers",
    "write_vmlinux",
]

TEXT_VA, BANNER_VA, DATA_VA = (0xFFFFFFFF81000000 + n * 0x1000000 for n in range(3))
BANNER = b"Linux version 7.3.0-tiny (somebody) #1\n\0"
BUILD_ID = "cd" * 20


def write_vmlinux(folder: Path, *more: Symbol, banner: bytes = BANNER) -> str:
    """Write the file with these symbols besides; returns its path."""
    path = folder / "vmlinux"
    sections = [
        Section(".text", TEXT_VA, bytes(64), flags="ax"),
        Section(".rodata", BANNER_VA, banner, flags="a"),
        Section(
            ".notes",
            BANNER_VA + 0x1000,
            build_id_note(bytes.fromhex(BUILD_ID)),
            flags="a",
            align=4,
            is_note=True,
        ),
        Section(".bss", DATA_VA, size=64, flags="wa"),
    ]
    symbols = [
        Symbol("_text", TEXT_VA, kind="notype"),
        Symbol("_stext", TEXT_VA, kind="notype"),
        Symbol("linux_banner", BANNER_VA, len(banner)),
        *more,
    ]
    with open(path, "wb") as file:
        write_executable(file, EM_X86_64, sections, symbols)
    return str(path)


FIELDS = {"offset": (24, 8), "size": (32, 8), "link": (40, 4), "entry_size": (56, 8)}
"""Place and length of a section header's fields."""


def section_headers(path: str | Path) -> dict[str, int]:
    """{name of a section: where in the file its header is}"""
    with Elf(path) as elf:
        names = [section.name for section in elf.sections()]
        start = int.from_bytes(elf.read_at(40, 8), "little")
    return {name: start + 64 * number for number, name in enumerate(names)}


def change_section(path: str | Path, name: str, **fields: int) -> None:
    """Write other values into a section's header."""
    at = section_headers(path)[name]
    with open(path, "r+b") as file:
        for field, value in fields.items():
            start, length = FIELDS[field]
            file.seek(at + start)
            file.write(value.to_bytes(length, "little"))
