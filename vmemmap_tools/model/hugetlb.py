# SPDX-License-Identifier: LGPL-2.1-or-later
"""HugeTLB pools: hstates, their folios, and the operations that move them.

Mirrors mm/hugetlb.c: ``alloc_pool_huge_folio``, ``remove_pool_hugetlb_folio``,
``demote_pool_huge_page``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vmemmap_tools.model import hvo
from vmemmap_tools.model.core import Core, OutOfMemory
from vmemmap_tools.model.frames import Kind
from vmemmap_tools.model.vmemmap import Array

__all__ = ["ACTIVE", "FREE", "ISOLATED", "HState", "Pools", "folio_name"]

FREE, ACTIVE, ISOLATED = range(3)
"""Where a folio hangs: a node's free list, the active list, or nowhere."""

_COLUMNS = np.dtype(
    [
        ("pfn", "i8"),
        ("hstate", "i1"),
        ("node", "i2"),
        ("optimised", "?"),
        ("surplus", "?"),
        ("list", "i1"),
        ("seq", "i8"),
    ]
)


def folio_name(size: int) -> str:
    """A size in bytes as a spec writes it: 2M, 1G."""
    for shift, letter in ((30, "G"), (20, "M"), (10, "K")):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift}{letter}"
    return str(size)


@dataclass
class HState:
    """The parts of a struct hstate that folios do not determine."""

    index: int
    order: int
    size: int
    overcommit: int = 0
    resv: int = 0


class Pools:
    """All hugetlb folios of the machine as one table, sorted by head pfn."""

    def __init__(self, core: Core) -> None:
        self.core = core
        page = core.arch.page_size
        self.hstates = [
            HState(i, order, page << order)
            for i, order in enumerate(core.arch.hugetlb_orders)
        ]
        self.table = np.zeros(0, dtype=_COLUMNS)
        self._seq = 0

    def hstate(self, size: int) -> HState:
        """The pool of folios of ``size`` bytes; ValueError if there is none."""
        for hstate in self.hstates:
            if hstate.size == size:
                return hstate
        sizes = ", ".join(folio_name(h.size) for h in self.hstates)
        raise ValueError(f"no huge pages of {size} bytes; this machine has {sizes}")

    def rows(
        self, size: int, node: int | None = None, where: int | None = None
    ) -> Array:
        """Rows of the table of one pool, by node and list, in order of pfn."""
        mask = self.table["hstate"] == self.hstate(size).index
        if node is not None:
            mask &= self.table["node"] == node
        if where is not None:
            mask &= self.table["list"] == where
        rows: Array = np.nonzero(mask)[0]
        return rows

    def heads(self, size: int, node: int | None = None) -> list[int]:
        """Head pfns of the folios of one pool."""
        return [int(p) for p in self.table["pfn"][self.rows(size, node)]]

    def optimised_count(self) -> int:
        """Number of optimised folios of all sizes."""
        return int(self.table["optimised"].sum())

    def alloc(self, size: int, count: int, node: int | None, surplus: bool) -> None:
        """Grow a pool by ``count`` free folios, over all nodes in turn or on one."""
        hstate = self.hstate(size)
        if node is not None:
            self._alloc_on(hstate, count, node, surplus)
            return
        nodes = [n for n in self.core.nodes if self.core.nodes[n].online]
        share, rest = divmod(count, len(nodes))
        for i, nid in enumerate(nodes):
            self._alloc_on(hstate, share + (i < rest), nid, surplus)

    def _alloc_on(self, hstate: HState, count: int, node: int, surplus: bool) -> None:
        pages = 1 << hstate.order
        zones = self.core.huge_zones(node)
        left = count
        for start, blocks in self.core.frames.take_blocks(
            zones, pages, count, Kind.HUGETLB
        ):
            left -= blocks
            self.adopt(hstate, start, blocks, node, surplus)
        if left:
            name = folio_name(hstate.size)
            raise OutOfMemory(
                f"node {node} has memory for {count - left} of {count} folios of {name}"
            )

    def adopt(
        self,
        hstate: HState,
        start: int,
        count: int,
        node: int,
        surplus: bool = False,
        populated: bool = False,
    ) -> None:
        """Put neighbouring folios into a pool; optimise them if the policy says so.

        ``populated`` folios came from boot with an optimised vmemmap already.
        """
        pages = 1 << hstate.order
        optimised = np.full(count, populated)
        wanted = self.core.hvo and hvo.is_optimisable(self.core, hstate.order)
        if wanted and not populated and not self._optimise(start, count, hstate.order):
            # Some vmemmap is self-hosted: find out folio by folio.
            for i in range(count if count > 1 else 0):
                optimised[i] = self._optimise(start + i * pages, 1, hstate.order)
        elif wanted and not populated:
            optimised[:] = True
        rows = np.zeros(count, dtype=_COLUMNS)
        rows["pfn"] = start + np.arange(count) * pages
        rows["hstate"] = hstate.index
        rows["node"] = node
        rows["optimised"] = optimised
        rows["surplus"] = surplus
        rows["list"] = FREE
        rows["seq"] = self._seq + np.arange(count)
        self._seq += count
        table = np.concatenate([self.table, rows])
        self.table = table[np.argsort(table["pfn"], kind="stable")]

    def _optimise(self, start: int, count: int, order: int) -> bool:
        return hvo.optimise(self.core, start, count, order)

    def pick(
        self, size: int, count: int, node: int | None, where: int = FREE
    ) -> list[int]:
        """Head pfns of the ``count`` folios most recently put on a list."""
        rows = self.rows(size, node, where)
        if len(rows) < count:
            place = "any node" if node is None else f"node {node}"
            raise OutOfMemory(
                f"{place} has {len(rows)} of {count} folios of {folio_name(size)}"
            )
        order = np.argsort(self.table["seq"][rows], kind="stable")[::-1][:count]
        return [int(p) for p in self.table["pfn"][rows[order]]]

    def row(self, pfn: int) -> int:
        """Row of the folio with head ``pfn``; ValueError if it is no head."""
        row = int(np.searchsorted(self.table["pfn"], pfn))
        if row >= len(self.table) or self.table["pfn"][row] != pfn:
            raise ValueError(f"no hugetlb folio starts at pfn {pfn:#x}")
        return row

    def move(self, heads: Iterable[int], where: int) -> None:
        """Hang folios on another list, at its front."""
        for pfn in heads:
            row = self.row(pfn)
            self.table["list"][row] = where
            self.table["seq"][row] = self._seq
            self._seq += 1

    def remove(self, heads: list[int]) -> None:
        """Take folios out of their pool, restored; their memory stays allocated."""
        for pfn in heads:
            self.restore(pfn)
        gone = np.isin(self.table["pfn"], np.asarray(heads, dtype=np.int64))
        self.table = self.table[~gone]

    def restore(self, pfn: int) -> None:
        """Restore the vmemmap of a folio that stays in its pool."""
        row = self.row(pfn)
        if self.table["optimised"][row]:
            hstate = self.hstates[int(self.table["hstate"][row])]
            hvo.restore(self.core, pfn, hstate.order)
            self.table["optimised"][row] = False

    def free(self, size: int, count: int, node: int | None) -> None:
        """Shrink a pool: restore, and give the memory to the buddy allocator."""
        order = self.hstate(size).order
        heads = self.pick(size, count, node)
        self.remove(heads)
        for pfn in heads:
            self.core.frames.release(pfn, pfn + (1 << order))

    def demote(self, size: int, count: int, node: int | None, to: int) -> None:
        """Split free folios into smaller ones of size ``to``.

        ValueError from a kernel that has no demotion.
        """
        if not self.core.types.has("hstate.demote_order"):
            raise ValueError("this kernel cannot demote huge pages")
        big, small = self.hstate(size), self.hstate(to)
        if small.order >= big.order:
            raise ValueError("demotion goes to a smaller size")
        heads = self.pick(size, count, node)
        nodes = [int(self.table["node"][self.row(p)]) for p in heads]
        self.remove(heads)
        for pfn, nid in zip(heads, nodes):
            self.adopt(small, pfn, 1 << (big.order - small.order), nid)
