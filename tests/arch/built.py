# SPDX-License-Identifier: LGPL-2.1-or-later
"""x86-64 page tables by hand, and the walker over them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.memory import SparseMemory
from tests.fakes.tables import PageTables
from vmemmap_tools.arch.pagetable import PageTable
from vmemmap_tools.arch.x86_64 import FORMAT
from vmemmap_tools.target.base import Fault

VA = {4: 0xFFFFEA0000000000, 5: 0xFFD4000000000000}
MIB2, GIB = 1 << 21, 1 << 30
NX, SAVED_DIRTY, PAT_HUGE = 1 << 63, 1 << 58, 1 << 12


class Built:
    """Tables in memory, and the walker over them."""

    def __init__(self, levels: int = 4, address_mask: int = FORMAT.address_mask):
        self.memory = SparseMemory()
        self._next = 0x100000
        self.tables = PageTables(self.memory, self.allocate, levels)
        self.reads: list[int] = []
        self.walker = PageTable(
            self.read,
            replace(FORMAT, address_mask=address_mask),
            levels,
            self.tables.root_pa,
            absent_errors=(Fault,),
        )

    def allocate(self) -> int:
        self._next += 4096
        return self._next

    def read(self, pa: int, size: int) -> bytes:
        self.reads.append(pa)
        return self.memory.read(pa, size)


both_levels = pytest.mark.parametrize("levels", [4, 5])
