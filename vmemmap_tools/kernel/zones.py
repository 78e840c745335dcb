# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nodes and zones, and the shared tail pages that zones hold (7.1 and later).

Mirrors ``struct pglist_data`` and ``struct zone`` of ``include/linux/mmzone.h``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..target.base import Fault, Target
from .bare import NO_TYPES
from .bit_numbers import bit_number
from .layout import Geometry, require_struct
from .memory import Memory, Record

__all__ = ["TailPage", "Zone", "Zones"]

NODES = ("node_data", "contig_page_data")
"""Variables that lead to nodes: of kernels with NUMA, and without."""
MAX_NODES = 1 << 16
MAX_FOLIO_ORDERS = 64


@dataclass(frozen=True)
class TailPage:
    """One entry of ``zone->vmemmap_tails``: a struct page for one folio order."""

    order: int
    page_va: int


@dataclass(frozen=True)
class Zone:
    """One struct zone. Page counts as in /proc/zoneinfo.

    ``name`` and ``tails`` are None where they could not be read.
    """

    node: int
    index: int
    name: str | None
    va: int
    start_pfn: int
    spanned: int
    present: int
    managed: int
    tails: tuple[TailPage, ...] | None = ()

    @property
    def end_pfn(self) -> int:
        return self.start_pfn + self.spanned

    def spans(self, pfn: int) -> bool:
        return self.start_pfn <= pfn < self.end_pfn


class Zones:
    """All zones of the online nodes, read once."""

    def __init__(self, target: Target, memory: Memory, geometry: Geometry):
        self._target = target
        self._memory = memory
        self._geometry = geometry
        self._zones: list[Zone] = []
        if target.struct("zone") is not None:
            self._pgdat = require_struct(target, "pglist_data", "node_zones")
            self._zone = require_struct(
                target, "zone", "zone_start_pfn", "spanned_pages"
            )
            self._zones = list(self._read())
        self._by_va = {z.va: z for z in self._zones}
        self._by_index = {(z.node, z.index): z for z in self._zones}

    @property
    def unknown(self) -> str | None:
        """What is not known without which no node is found; None if nodes are."""
        if self._target.struct("zone") is None:
            return NO_TYPES
        if any(self._target.variable(name) for name in NODES):
            return None
        return f"no variable {' or '.join(NODES)}"

    def __iter__(self) -> Iterator[Zone]:
        """All zones, by node and index; unpopulated ones too."""
        return iter(self._zones)

    def get(self, node: int, index: int) -> Zone | None:
        return self._by_index.get((node, index))

    def at(self, va: int) -> Zone | None:
        """The zone whose struct zone lies at this address."""
        return self._by_va.get(va)

    @cached_property
    def names(self) -> dict[int, str]:
        """Zone names by index, those that could be read."""
        return {z.index: z.name for z in self._zones if z.name is not None}

    def spanning(self, pfn: int) -> list[Zone]:
        """The zones whose span has this pfn: spans of zones may overlap."""
        return [z for z in self._zones if z.spans(pfn)]

    def _read(self) -> Iterator[Zone]:
        online, is_lost = self._online_nodes()
        for node, va in self._node_addresses():
            if online is not None and node not in online:
                continue
            try:
                pgdat = self._memory.record(self._pgdat, va)
            except Fault as fault:
                self._memory.missing.record(fault, "nodes")
                continue
            zones = list(self._read_node(node, pgdat))
            # Nodes that were never online have no memory.
            if not is_lost or any(zone.spanned for zone in zones):
                yield from zones

    def _read_node(self, node: int, pgdat: Record) -> Iterator[Zone]:
        member = self._pgdat["node_zones"]
        for index in range(member.length or 0):
            start = member.offset + index * self._zone.size
            record = Record(
                self._zone,
                pgdat.address + start,
                pgdat.data[start : start + self._zone.size],
                self._target.byteorder,
            )
            yield Zone(
                node=node,
                index=index,
                name=self._name(record, index),
                va=record.address,
                start_pfn=record["zone_start_pfn"],
                spanned=record["spanned_pages"],
                present=record.get("present_pages") or 0,
                managed=record.get("managed_pages") or 0,
                tails=self._tails(record),
            )

    def _name(self, record: Record, index: int) -> str | None:
        try:
            name_va = record.get("name")
            name = self._memory.string(name_va) if name_va else ""
        except Fault as fault:
            self._memory.missing.record(fault, "zone names")
            return None
        return name or f"zone {index}"

    def _tails(self, record: Record) -> tuple[TailPage, ...] | None:
        """Shared tail pages in use, by order (``VMEMMAP_TAIL_MIN_ORDER`` first)."""
        if "vmemmap_tails" not in record:
            return ()
        first = self._geometry.min_optimisable_order
        pointers = self._tail_pointers(record)
        if pointers is None:
            return None
        return tuple(TailPage(first + i, va) for i, va in enumerate(pointers) if va)

    def _tail_pointers(self, record: Record) -> list[int] | None:
        member = self._zone["vmemmap_tails"]
        if member.kind == "array":
            return record.array("vmemmap_tails")
        # A dynamic array has no length in the debug info: orders up to
        # MAX_FOLIO_ORDER, and only pointers into the vmemmap count.
        va = record["vmemmap_tails"]
        if not va:
            return []
        g = self._geometry
        count = self._max_folio_order - g.min_optimisable_order + 1
        try:
            data = self._memory.read(va, 8 * count)
        except Fault as fault:
            self._memory.missing.record(fault, "arrays of shared tail pages")
            return None
        start, end = g.vmemmap_window
        pointers = [
            int.from_bytes(data[i : i + 8], self._target.byteorder)
            for i in range(0, len(data), 8)
        ]
        return [p if start <= p < end else 0 for p in pointers]

    @property
    def _max_folio_order(self) -> int:
        """``MAX_FOLIO_ORDER``: PUD_ORDER where there are no hugetlb folios."""
        g, hstate = self._geometry, self._target.struct("hstate")
        # Without CONFIG_HUGETLB_PAGE there is none, or an empty one.
        if hstate is not None and hstate.members:
            return g.max_folio_order
        return min(g.max_folio_order, g.table_format.shift(3) - g.page_shift)

    def _node_addresses(self) -> Iterator[tuple[int, int]]:
        """(node, address of its pglist_data): node_data[], or the only one there is."""
        single = self._target.variable("contig_page_data")
        node_data = self._target.variable("node_data")
        if node_data is None:
            if single is not None:
                yield 0, single.address
            return
        length = min(node_data.type.length or 0, MAX_NODES)
        # By pages: nodes beyond the last are zeros, which dumps may leave out.
        page_size = self._geometry.page_size
        node = 0
        while node < length:
            address = node_data.address + 8 * node
            number = min((page_size - address % page_size) // 8, length - node)
            try:
                data = self._memory.read(address, 8 * number)
            except Fault as fault:
                self._memory.missing.record(fault, "pages of node_data")
                data = b""
            for i in range(0, len(data), 8):
                va = int.from_bytes(data[i : i + 8], self._target.byteorder)
                if va:
                    yield node + i // 8, va
            node += max(1, number)

    def _online_nodes(self) -> tuple[set[int] | None, bool]:
        """(``node_states[N_ONLINE]`` or None, whether it could not be read)."""
        states = self._target.variable("node_states")
        online = bit_number(self._target, "N_ONLINE")
        mask = self._target.struct("nodemask_t")
        if states is None or online is None or mask is None:
            return None, False
        try:
            data = self._memory.read(states.address + online * mask.size, mask.size)
        except Fault as fault:
            self._memory.missing.record(fault, "node states")
            return None, True
        bits = int.from_bytes(data, self._target.byteorder)
        return {n for n in range(8 * mask.size) if bits >> n & 1}, False
