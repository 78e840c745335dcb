# SPDX-License-Identifier: LGPL-2.1-or-later
"""Page tables in model memory: upper levels, big leaves, and lazily made PTE tables.

The vmemmap's PTE tables are not stored: `TableSource` makes them from the ledger while
the dump is streamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vmemmap_tools.model.arch import ArchModel, PteFlags
from vmemmap_tools.model.memory import Buffer, PhysicalMemory
from vmemmap_tools.model.vmemmap import Array, Vmemmap

__all__ = ["PageTables", "TableSource", "pte_entries"]


class PageTables:
    """One top-level table and what hangs below it."""

    def __init__(
        self,
        memory: PhysicalMemory,
        arch: ArchModel,
        flags: PteFlags,
        levels: int,
        root_pfn: int,
        take_page: Callable[[], int],
        encryption: int = 0,
    ) -> None:
        self.memory = memory
        self.arch = arch
        self.flags = flags
        self.levels = levels
        self.root_pfn = root_pfn
        self.encryption = encryption
        self._take_page = take_page
        self.tables: dict[tuple[int, int], int] = {}
        """(level, virtual address >> span of the table) -> pfn of the table"""

    def table(self, level: int, va: int) -> int:
        """The pfn of the level's table for ``va``, made on the way down if missing."""
        if level == self.levels:
            return self.root_pfn
        key = level, va >> self.arch.level_shift(level + 1)
        if key not in self.tables:
            pfn = self._take_page()
            self.tables[key] = pfn
            self.write(level + 1, va, self.entry(pfn, self.flags.table))
        return self.tables[key]

    def attach(self, level: int, va: int, pfn: int) -> None:
        """Hang an existing table into the tree."""
        self.tables[level, va >> self.arch.level_shift(level + 1)] = pfn
        self.write(level + 1, va, self.entry(pfn, self.flags.table))

    def entry(self, pfn: int, flags: int) -> int:
        """An entry's value."""
        return pfn << self.arch.entry_pfn_shift | flags | self.encryption

    def address(self, level: int, va: int) -> int:
        """Physical address of the entry that describes ``va`` in a level's table."""
        index = va >> self.arch.level_shift(level) & (self.arch.table_entries - 1)
        return (self.table(level, va) << self.arch.page_shift) + 8 * index

    def write(self, level: int, va: int, entry: int) -> None:
        """Write one entry."""
        self.memory.write(self.address(level, va), entry.to_bytes(8, "little"))

    def read(self, level: int, va: int) -> int:
        """Read one entry; 0 where a table is missing."""
        if level < self.levels:
            key = level, va >> self.arch.level_shift(level + 1)
            if key not in self.tables:
                return 0
        return int.from_bytes(self.memory.read(self.address(level, va), 8), "little")

    def map_huge(self, level: int, va: int, pfn: int) -> None:
        """Map one leaf above PTE level."""
        self.write(level, va, self.entry(pfn, self.flags.huge))

    def map_range(self, va: int, pa: int, size: int) -> None:
        """Map a range, rounded outwards to level-2 leaves, by the largest leaves."""
        small = 1 << self.arch.level_shift(2)
        big = 1 << self.arch.level_shift(3)
        end = -(-(va + size) // small) * small
        pa -= va % small
        va -= va % small
        while va < end:
            whole = va % big == 0 and pa % big == 0 and end - va >= big
            level, step = (3, big) if whole else (2, small)
            self.map_huge(level, va, pa >> self.arch.page_shift)
            va += step
            pa += step


def pte_entries(
    vmemmap: Vmemmap, arch: ArchModel, flags: PteFlags, block: int, encryption: int
) -> Array:
    """The entries of the PTE table of one block of the vmemmap."""
    first = block * vmemmap.entries
    out = np.zeros(vmemmap.entries, dtype=np.uint64)
    for start, end, backing in vmemmap.runs(first, first + vmemmap.entries):
        frames, tails = backing.frames(np.arange(start, end))
        tail = {"rw": flags.page, "ro": flags.tail, "boot-ro": flags.boot_tail}
        attributes = np.where(
            tails, np.uint64(tail[backing.tails]), np.uint64(flags.page)
        )
        entries = frames.astype(np.uint64) << np.uint64(arch.entry_pfn_shift)
        out[start - first : end - first] = entries | attributes | np.uint64(encryption)
    return out


@dataclass(frozen=True)
class TableSource:
    """Content of the PTE tables in consecutive frames."""

    vmemmap: Vmemmap
    arch: ArchModel
    flags: PteFlags
    encryption: int
    first_frame: int
    blocks: tuple[int, ...]

    def render(self, start_pfn: int, end_pfn: int) -> Buffer | None:
        """The tables themselves."""
        chosen = self.blocks[start_pfn - self.first_frame : end_pfn - self.first_frame]
        return b"".join(
            pte_entries(
                self.vmemmap, self.arch, self.flags, block, self.encryption
            ).tobytes()
            for block in chosen
        )
