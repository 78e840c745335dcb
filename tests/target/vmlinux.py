# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vmlinux of a few symbols, and nothing in it but its banner."""

from __future__ import annotations

from pathlib import Path

from vmemmap_tools.formats.elf import EM_X86_64
from vmemmap_tools.formats.elf_write import (
    Section,
    Symbol,
    build_id_note,
    write_executable,
)

__all__ = ["BANNER", "BANNER_VA", "BUILD_ID", "TEXT_VA", "write_vmlinux"]

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
