# SPDX-License-Identifier: LGPL-2.1-or-later
"""Top-level page tables of all address spaces: x86's ``pgd_list``.

Mirrors ``arch/x86/mm/pgtable.c`` (``pgd_list_add``): the list links the struct pages
of the tables through ``ptdesc.pt_list`` (``page.lru`` before). Each maps the kernel
half on its own, so that a new top-level entry has to be copied into every one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from ..arch.pagetable import PageTable
from ..target.base import Target
from .lists import ListWalk, walk_list
from .memory import Memory
from .pages import Pages

__all__ = ["Pgds"]

MAX_PGDS = 1 << 22
"""``PID_MAX_LIMIT``: more processes there cannot be."""


class Pgds:
    """The top-level tables that ``pgd_list`` links."""

    def __init__(
        self, target: Target, memory: Memory, pages: Pages, page_table: PageTable
    ):
        self._memory = memory
        self._pages = pages
        self._page_table = page_table
        variable = target.variable("pgd_list")
        self._head_va = None if variable is None else variable.address
        ptdesc, page = target.struct("ptdesc"), target.struct("page")
        self._link_at = 8
        if ptdesc is not None and "pt_list" in ptdesc:
            self._link_at = ptdesc.offset("pt_list")
        elif page is not None and "lru" in page:
            self._link_at = page.offset("lru")

    @property
    def is_known(self) -> bool:
        """Whether this kernel has such a list."""
        return self._head_va is not None

    def walk(self) -> ListWalk:
        """The list as it stands; entries are addresses in struct pages."""
        assert self._head_va is not None
        return walk_list(self._memory, self._head_va, MAX_PGDS)

    def pfns(self, walk: ListWalk) -> Iterator[int]:
        """Frames of the tables on the list."""
        start, end = self._pages.geometry.vmemmap_window
        for link in walk.entries:
            if start <= link - self._link_at < end:
                yield self._pages.pfn(link - self._link_at)

    def read(self, pfn: int) -> array[int]:
        """The entries of the table in a frame. Raises `Fault`."""
        return self._page_table.read_table(pfn << self._pages.geometry.page_shift)

    def root(self) -> array[int]:
        """The entries of ``init_mm.pgd``. Raises `Fault`."""
        return self._page_table.read_table(self._page_table.root_pa)

    def slots(self, vas: Iterator[int]) -> list[int]:
        """The top-level slots that cover these addresses."""
        fmt, level = self._page_table.format, self._page_table.levels
        return sorted({fmt.index(va, level) for va in vas})
