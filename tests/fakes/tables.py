# SPDX-License-Identifier: LGPL-2.1-or-later
"""x86-64 page tables, made entry by entry (kernel-reference.md 7.1)."""

from __future__ import annotations

from typing import Callable

from .memory import SparseMemory

__all__ = ["PS", "RW", "P", "PageTables"]

P, RW, PS = 1 << 0, 1 << 1, 1 << 7
TABLE = P | RW


class PageTables:
    """Page tables below one root; ``allocate`` returns the address of a free page."""

    def __init__(self, memory: SparseMemory, allocate: Callable[[], int], levels: int):
        self._memory = memory
        self._allocate = allocate
        self.levels = levels
        self.root_pa = allocate()

    def entry_pa(self, va: int, level: int) -> int:
        """Where the entry of this level for ``va`` lies; tables above are made."""
        table = self.root_pa
        for upper in range(self.levels, level, -1):
            at = table + 8 * (va >> 12 + 9 * (upper - 1) & 511)
            entry = int.from_bytes(self._memory.read(at, 8), "little")
            if not entry & P:
                entry = self._allocate() | TABLE
                self._memory.write_u64(at, entry)
            table = entry & 0xFFFFFFFFFF000
        return table + 8 * (va >> 12 + 9 * (level - 1) & 511)

    def set(self, va: int, level: int, entry: int) -> None:
        """Write one raw entry."""
        self._memory.write_u64(self.entry_pa(va, level), entry)

    def map(self, va: int, pa: int, flags: int = P | RW) -> None:
        """A base page."""
        self.set(va, 1, pa | flags)

    def map_huge(self, va: int, pa: int, flags: int = P | RW, level: int = 2) -> None:
        """A 2 MiB leaf, or at level 3 one of 1 GiB."""
        self.set(va, level, pa | flags | PS)
