# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lists on which a hugetlb pool keeps its folios.

Mirrors ``struct hstate``: ``hugepage_freelists[nid]`` and ``hugepage_activelist``, both
linked through ``folio.lru`` (``page.lru``). A folio may be on neither for a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..target.base import Fault, Target
from .hugetlb import Hstate
from .lists import ListWalk, walk_list
from .memory import Memory
from .pages import Pages
from .vmemmap import HOLE, Vmemmap

__all__ = ["HugetlbLists", "PoolList"]


@dataclass(frozen=True)
class PoolList:
    """One list of one pool. ``node`` is None for the list of folios in use.

    ``pfns`` are those of the entries that lie in the vmemmap, ``strays`` the addresses
    of those that do not.
    """

    hstate: Hstate
    node: int | None
    head_va: int
    walk: ListWalk
    pfns: tuple[int, ...]
    strays: tuple[int, ...]


class HugetlbLists:
    """Free and active lists of all pools."""

    def __init__(self, target: Target, memory: Memory, pages: Pages, vmemmap: Vmemmap):
        self._memory = memory
        self._pages = pages
        self._vmemmap = vmemmap
        self._struct_pages = vmemmap.mapped_bytes // pages.size
        self._hstate = target.struct("hstate")
        page = target.struct("page")
        self._lru_at = page.offset("lru") if page is not None and "lru" in page else 8

    @property
    def are_known(self) -> bool:
        """Whether this kernel's hstates have both kinds of list."""
        h = self._hstate
        return (
            h is not None and "hugepage_freelists" in h and "hugepage_activelist" in h
        )

    def of_pool(self, hstate: Hstate, nodes: list[int]) -> Iterator[PoolList]:
        """The free list of each node, then the active list."""
        assert self._hstate is not None
        limit = self._most(hstate)
        free = self._hstate["hugepage_freelists"]
        element = free.element_size or 16
        for node in nodes:
            if node < (free.length or 0):
                head = hstate.va + free.offset + node * element
                yield self._walk(hstate, node, head, limit)
        active = hstate.va + self._hstate.offset("hugepage_activelist")
        yield self._walk(hstate, None, active, limit)

    def _most(self, hstate: Hstate) -> int:
        """Folios that there is room for: mapped struct pages bound it, not a count."""
        return (self._struct_pages >> min(hstate.order, 63)) + 1

    def _read(self, va: int, size: int) -> bytes:
        """Most entries lie in struct pages, whose frames the one pass has noted."""
        vmemmap, page_size = self._vmemmap, self._memory.page_size
        if vmemmap.start_va <= va < vmemmap.end_va and va % page_size + size <= (
            page_size
        ):
            number = vmemmap.page_number(va)
            frame = vmemmap.frame(number)
            if frame == HOLE:
                if vmemmap.is_absent(number):
                    # Its page table is not here: the walk says why.
                    return self._memory.read(va, size)
                raise Fault(va, size, "unmapped")
            return self._memory.read_physical(frame * page_size + va % page_size, size)
        return self._memory.read(va, size)

    def _walk(
        self, hstate: Hstate, node: int | None, head: int, limit: int
    ) -> PoolList:
        walk = walk_list(self._memory, head, limit, self._read)
        if walk.fault is not None:
            self._memory.missing.record(walk.fault, "hugetlb lists")
        start, end = self._pages.geometry.vmemmap_window
        pfns: list[int] = []
        strays: list[int] = []
        for link in walk.entries:
            va = link - self._lru_at
            is_page = start <= va < end and not (va - self._pages.base_va) % (
                self._pages.size
            )
            if is_page:
                pfns.append(self._pages.pfn(va))
            else:
                strays.append(va)
        return PoolList(hstate, node, head, walk, tuple(pfns), tuple(strays))
