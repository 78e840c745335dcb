# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tiny ELF vmcore by hand: page tables, three pages of memory, and a note.

Virtual addresses from `VA` on map the pages at `PA`: the first is in the file, the
second is left out (p_filesz < p_memsz), the third is there again, the fourth is memory
that no header names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.fakes.elf import Load, elf, note
from tests.fakes.facts import KERNEL_MAP
from tests.fakes.memory import PAGE, SparseMemory
from tests.fakes.tables import PageTables

__all__ = ["BUILD_ID", "PA", "RELEASE", "VA", "core", "vmcoreinfo", "write_core"]

VA, PA = 0xFFFF888000000000, 0x100000
TABLES = 0x200000
RELEASE = "7.3.0-fake"
BUILD_ID = "ab" * 20
FIRST, THIRD = b"\x11" * PAGE, b"\x33" * PAGE


def core(
    changes: Mapping[str, str | None] | None = None,
    *,
    has_note: bool = True,
    has_hole: bool = True,
) -> bytes:
    """The bytes of the dump; ``changes`` to keys of the note, None takes one away."""
    memory = SparseMemory()
    free = iter(range(TABLES, TABLES + (64 << 12), PAGE))
    tables = PageTables(memory, lambda: next(free), 4)
    for i in range(4):
        tables.map(VA + i * PAGE, PA + i * PAGE)
    data = FIRST if has_hole else FIRST + bytes(PAGE)
    loads = [Load(PA, data, 2 * PAGE), Load(PA + 2 * PAGE, THIRD)]
    loads += [Load(pa, page) for pa, page in memory.pages()]
    text = vmcoreinfo(tables.root_pa, changes)
    return elf(loads, note("VMCOREINFO", text.encode()) if has_note else b"")


def vmcoreinfo(root_pa: int, changes: Mapping[str, str | None] | None = None) -> str:
    keys: dict[str, str | None] = {
        "OSRELEASE": RELEASE,
        "BUILD-ID": BUILD_ID,
        "PAGESIZE": "4096",
        "SYMBOL(swapper_pg_dir)": f"{KERNEL_MAP + root_pa:x}",
        "NUMBER(phys_base)": "0",
        "LENGTH(mem_section)": "2048",
        "KERNELOFFSET": "0",
        **(changes or {}),
    }
    return "".join(f"{k}={v}\n" for k, v in keys.items() if v is not None)


def write_core(folder: Path, data: bytes | None = None, name: str = "vmcore") -> str:
    """Write a dump; returns its path."""
    path = folder / name
    path.write_bytes(core() if data is None else data)
    return str(path)
