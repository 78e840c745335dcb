# SPDX-License-Identifier: LGPL-2.1-or-later
"""Struct pages as words: what each kind of page looks like, field by field.

Values that depend on the page itself (links, pointers to its own address) are filled
in by `pages`; everything else is decided here from the type graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vmemmap_tools.model.core import Core
from vmemmap_tools.model.frames import Kind, PageRun
from vmemmap_tools.model.vmemmap import Array

__all__ = ["StructPage", "Templates", "page_type"]

_OLD_PAGE_TYPES = {"buddy": 0x80, "offline": 0x100, "table": 0x200, "guard": 0x400}
"""Before PGTY_*: page_type is all ones with one bit taken away."""

NO_MAPCOUNT = 0xFFFFFFFF


def page_type(core: Core, name: str) -> int | None:
    """The page_type word of a typed page; None if the kernel has no such type."""
    types = core.types
    if types.has_enumerator(f"PGTY_{name}"):
        return types.enumerator(f"PGTY_{name}") << 24
    if name in _OLD_PAGE_TYPES and not types.has_enumerator("PGTY_buddy"):
        return NO_MAPCOUNT & ~_OLD_PAGE_TYPES[name]
    return None


class StructPage:
    """One struct page under construction."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.data = bytearray(core.types.sizeof("struct page"))

    def set(self, member: str, value: int) -> StructPage:
        """Set a member of struct page, or of struct folio relative to its page."""
        types = self.core.types
        path = member if member.startswith("folio.") else f"page.{member}"
        m = types.member(path)
        offset = m.offset % len(self.data)
        mask = (1 << (8 * m.size)) - 1
        self.data[offset : offset + m.size] = (value & mask).to_bytes(m.size, "little")
        return self

    def words(self) -> Array:
        return np.frombuffer(bytes(self.data), dtype="<u8")


@dataclass(frozen=True)
class Compound:
    """The distinct struct pages at the front of a compound page, and its tail."""

    first: Array
    """Pages 0 to 3."""
    tail: Array


class Templates:
    """Templates of struct pages for one machine."""

    def __init__(self, core: Core) -> None:
        self.core = core
        types = core.types
        self.nodes_shift = (
            types.array_length("hstate.nr_huge_pages_node") - 1
        ).bit_length()
        zones = types.enumerator("__MAX_NR_ZONES")
        self.zones_width = (zones - 1).bit_length()
        self.compound_word = (
            "compound_info" if types.has("page.compound_info") else "compound_head"
        )
        self._plain: dict[PageRun, Array] = {}

    def flag(self, name: str) -> int:
        return 1 << self.core.types.enumerator(name)

    def location(self, node: int, zone: int, cpupid: bool = True) -> int:
        """The node, zone and last_cpupid part of page.flags."""
        zone_shift = 64 - self.nodes_shift - self.zones_width
        flags = node << (64 - self.nodes_shift) | zone << zone_shift
        width = self.core.arch.last_cpupid_width
        if cpupid:
            flags |= ((1 << width) - 1) << (zone_shift - width)
        return flags

    def mask(self, order: int) -> int:
        """The compound word of a tail in mask form."""
        size = self.core.types.sizeof("struct page")
        shift = order + size.bit_length() - 1
        return ((1 << 64) - (1 << shift)) | 1

    def _base(self, run: PageRun, refcount: int) -> StructPage:
        poison = self.core.arch.poison
        page = StructPage(self.core)
        page.set("flags", self.location(run.node, run.zone))
        page.set("lru.next", poison + 0x100)
        page.set("lru.prev", poison + 0x122)
        page.set("_mapcount", NO_MAPCOUNT)
        page.set("_refcount", refcount)
        return page

    def plain(self, run: PageRun) -> Array:
        """Words of an order-0 page; links to itself are left to the caller."""
        if run not in self._plain:
            self._plain[run] = self._make_plain(run)
        return self._plain[run]

    def _make_plain(self, run: PageRun) -> Array:
        kind = run.kind
        if kind in (Kind.UNINIT, Kind.OFFLINE):
            return StructPage(self.core).words()
        if kind is Kind.POISON:
            return ~StructPage(self.core).words()
        free = kind in (Kind.FREE, Kind.PCP)
        page = self._base(run, 0 if free else 1)
        flags = self.location(run.node, run.zone)
        if kind in (Kind.RESERVED, Kind.HOLE, Kind.DEVICE_META):
            page.set("flags", flags | self.flag("PG_reserved"))
        elif kind is Kind.SELF_HOSTED:
            if self.core.types.has_enumerator("PG_vmemmap_self_hosted"):
                flags |= self.flag("PG_vmemmap_self_hosted")
            page.set("flags", flags)
        elif kind is Kind.ANON:
            names = ("PG_uptodate", "PG_lru", "PG_swapbacked")
            page.set("flags", flags | sum(self.flag(n) for n in names))
            page.set("mapping", self.core.placement.page_offset + (1 << 20) + 1)
            page.set("_mapcount", 0)
        elif kind in (Kind.TABLE, Kind.SLAB):
            value = page_type(self.core, kind.value)
            if value is not None:
                page.set("page_type", value)
            elif kind is Kind.SLAB:
                page.set("flags", flags | self.flag("PG_slab"))
        return page.words()

    def tail(
        self, node: int, zone: int, order: int, shared: bool, reserved: bool
    ) -> Array:
        """A tail page; in pointer form its compound word is left to the caller."""
        poison = self.core.arch.poison
        page = StructPage(self.core)
        flags = self.location(node, zone, cpupid=not shared)
        page.set("flags", flags | (self.flag("PG_reserved") if reserved else 0))
        if self.core.generation.mask:
            page.set(self.compound_word, self.mask(order))
        page.set("mapping", poison + 0x400)
        page.set("_mapcount", NO_MAPCOUNT)
        return page.words()

    def compound(
        self, run: PageRun, order: int, hugetlb: bool, shared: bool
    ) -> Compound:
        """Front and tail of a compound page of the zone of ``run``."""
        types = self.core.types
        device = run.kind is Kind.DEVICE
        tail = self.tail(run.node, run.zone, order, shared, device)
        head = self._base(run, 0 if hugetlb else 1)
        flags = self.location(run.node, run.zone) | self.flag("PG_head")
        head.set("flags", flags | (self.flag("PG_reserved") if device else 0))
        value = page_type(self.core, "hugetlb") if hugetlb else None
        if value is not None:
            head.set("page_type", value)
        pages = [head]
        for index in range(1, 4):
            page = StructPage(self.core)
            page.data[:] = self.tail(run.node, run.zone, order, False, device).tobytes()
            if index == 1:
                self._order_fields(page, order, hugetlb)
            for name in ("subpool", "cgroup", "cgroup_rsvd", "hwpoison"):
                member = f"folio._hugetlb_{name}"
                if hugetlb and types.has(member) and self._page_of(member) == index:
                    page.set(member, 0)
            pages.append(page)
        return Compound(np.stack([p.words() for p in pages]), tail)

    def _page_of(self, member: str) -> int:
        """Which struct page of a folio has a member of struct folio."""
        types = self.core.types
        return types.offsetof(member) // types.sizeof("struct page")

    def _order_fields(self, page: StructPage, order: int, hugetlb: bool) -> None:
        """What page 1 says of its compound page."""
        types = self.core.types
        dtor = "HUGETLB_PAGE_DTOR" if hugetlb else "COMPOUND_PAGE_DTOR"
        values = {"_mapcount_1": -1, "_nr_pages": 1 << order}
        values.update({"_large_mapcount": -1, "_nr_pages_mapped": 0})
        values.update({"_entire_mapcount": -1, "_pincount": 0})
        values.update({"_folio_nr_pages": 1 << order, "_folio_order": order})
        for name, value in values.items():
            if types.has(f"folio.{name}"):
                page.set(f"folio.{name}", value)
        if types.has_enumerator(dtor):
            old = {"compound_dtor": types.enumerator(dtor), "compound_order": order}
            old.update({"compound_mapcount": -1, "compound_nr": 1 << order})
            old.update({"compound_pincount": 0})
            for name, value in old.items():
                if types.has(f"page.{name}"):
                    page.set(name, value)
        else:
            flags = int.from_bytes(page.data[:8], "little")
            page.set("flags", (flags & ~0xFF) | order)
