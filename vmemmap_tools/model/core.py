# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state of a simulated kernel that all of its subsystems share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmemmap_tools.model.frames import Frames, Kind, OutOfMemory, ZoneKey
from vmemmap_tools.model.vmemmap import Vmemmap, frame_runs

if TYPE_CHECKING:
    from vmemmap_tools.model.arch import ArchModel, Placement
    from vmemmap_tools.model.generations import Generation
    from vmemmap_tools.model.types import TypeGraph

__all__ = ["ZONES", "Core", "Node", "Section", "SharedTail", "Zone"]

ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")
"""Zone names by index; the layouts' enum zone_type is checked against it."""

DMA, DMA32, NORMAL, MOVABLE, DEVICE = range(5)


@dataclass
class Zone:
    """A zone of a node; spans grow with hot-added memory."""

    node: int
    index: int
    start_pfn: int = 0
    end_pfn: int = 0
    present: int = 0
    reserved: int = 0
    """Present pages that the buddy allocator does not manage."""

    @property
    def name(self) -> str:
        return ZONES[self.index]

    @property
    def key(self) -> ZoneKey:
        return self.node, self.index

    @property
    def spanned(self) -> int:
        return self.end_pfn - self.start_pfn

    def grow(self, start_pfn: int, end_pfn: int) -> None:
        """Stretch the span over [start_pfn, end_pfn)."""
        if not self.spanned:
            self.start_pfn, self.end_pfn = start_pfn, end_pfn
        else:
            self.start_pfn = min(self.start_pfn, start_pfn)
            self.end_pfn = max(self.end_pfn, end_pfn)


@dataclass
class Node:
    """A NUMA node: its zones and the boot memory it came up with."""

    nid: int
    memory: list[tuple[int, int]]
    zones: list[Zone]
    online: bool = True

    @property
    def start_pfn(self) -> int:
        return min((z.start_pfn for z in self.zones if z.spanned), default=0)

    @property
    def end_pfn(self) -> int:
        return max((z.end_pfn for z in self.zones if z.spanned), default=0)


@dataclass
class Section:
    """One mem_section entry that is in use."""

    nr: int
    nid: int
    early: bool = False
    online: bool = False
    taint: bool = False
    preinit: bool = False
    subsections: int = 0
    """Bitmap, bit 0 the lowest subsection."""
    order: int = 0
    zone: ZoneKey | None = None


@dataclass(frozen=True)
class SharedTail:
    """The shared tail page of a zone for one order."""

    frame: int
    boot: bool = False
    """Made before the buddy allocator ran."""


@dataclass
class Core:
    """Memory, vmemmap, sections, zones and counters of one simulated kernel."""

    generation: Generation
    types: TypeGraph
    arch: ArchModel
    placement: Placement
    hvo: bool
    frames: Frames
    vmemmap: Vmemmap
    nodes: dict[int, Node] = field(default_factory=dict)
    sections: dict[int, Section] = field(default_factory=dict)
    tails: dict[tuple[int, int, int], SharedTail] = field(default_factory=dict)
    """(node, zone index, order) -> shared tail page"""
    tail_refs: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """References that PTEs hold on a shared tail page (G5b's DAX)."""
    migratetypes: dict[int, int] = field(default_factory=dict)
    """Pageblock number -> migrate type, where it is not MOVABLE."""
    nr_memmap: int = 0
    nr_memmap_boot: int = 0
    page_ext_pages: int = 0

    @property
    def min_order(self) -> int:
        """Smallest order with a shared tail page: log2(2 * page size / struct page)."""
        return self.vmemmap.spp.bit_length()

    def kernel_zones(self, nid: int) -> list[ZoneKey]:
        """Zones for a kernel allocation, nearest first."""
        nodes = [nid, *(n for n in self.nodes if n != nid)]
        return [(n, z) for n in nodes for z in (NORMAL, DMA32, DMA)]

    def huge_zones(self, nid: int) -> list[ZoneKey]:
        """Zones of one node for a movable huge page."""
        return [(nid, z) for z in (MOVABLE, NORMAL, DMA32)]

    def take_frames(
        self, nid: int, count: int, kind: Kind = Kind.ALLOCATED
    ) -> list[tuple[int, int]]:
        """Allocate frames for the kernel's own use: (start, length) runs."""
        return self.frames.take_frames(self.kernel_zones(nid), count, kind)

    def free_vmemmap(self, runs: list[tuple[int, int]]) -> None:
        """Free vmemmap frames and debit the counter each of them was credited to."""
        for pages, run in self.frames.release_many(runs):
            if run.kind is Kind.RESERVED:
                self.nr_memmap_boot -= pages
                self.nodes[run.node].zones[run.zone].reserved -= pages
            else:
                self.nr_memmap -= pages

    def take_boot(self, nid: int, count: int) -> list[tuple[int, int]]:
        """Allocate frames from memblock: reserved for good."""
        runs = self.take_frames(nid, count, Kind.RESERVED)
        for start, length in runs:
            self.count_reserved(start, start + length)
        return runs

    def count_reserved(self, start: int, end: int) -> None:
        """Note that the buddy allocator will not manage [start, end)."""
        for s, e, run in self.frames.states.runs(start, end):
            self.nodes[run.node].zones[run.zone].reserved += e - s

    def ensure_tables(self, start: int, end: int, nid: int, boot: bool = False) -> None:
        """Split the PMD leaves (or add PTE tables) under vmemmap pages [start, end)."""
        missing = [
            b for b in self.vmemmap.blocks(start, end) if b not in self.vmemmap.tables
        ]
        if not missing:
            return
        n = len(missing)
        runs = self.take_boot(nid, n) if boot else self.take_frames(nid, n, Kind.TABLE)
        frames = [f for s, n in runs for f in range(s, s + n)]
        self.vmemmap.tables.update(zip(missing, frames))

    def drop_empty_tables(self, start: int, end: int) -> None:
        """Free PTE tables that map nothing any more."""
        for block in self.vmemmap.blocks(start, end):
            first = block * self.vmemmap.entries
            if not self.vmemmap.mapped(first, first + self.vmemmap.entries):
                table = self.vmemmap.tables.pop(block, None)
                if table is not None:
                    self.frames.release(table, table + 1)

    def shared_tail(self, key: tuple[int, int, int], boot: bool = False) -> SharedTail:
        """The shared tail page of (node, zone, order), made on first use."""
        if key not in self.tails:
            take = self.take_boot if boot else self.take_frames
            runs = take(key[0], 1)
            self.tails[key] = SharedTail(runs[0][0], boot)
        return self.tails[key]

    def section_range(self, nr: int) -> tuple[int, int]:
        """The pfns [start, end) of a section."""
        pages = self.arch.pages_per_section
        return nr * pages, (nr + 1) * pages

    def sections_of(self, start_pfn: int, end_pfn: int) -> range:
        """Numbers of the sections that [start_pfn, end_pfn) touches."""
        pages = self.arch.pages_per_section
        return range(start_pfn // pages, -(-end_pfn // pages))

    def subsection_mask(self, nr: int, start_pfn: int, end_pfn: int) -> int:
        """Bits of the subsections of section ``nr`` inside [start_pfn, end_pfn)."""
        first, last = self.section_range(nr)
        size = self.arch.pages_per_subsection
        low = (max(start_pfn, first) - first) // size
        high = -(-(min(end_pfn, last) - first) // size)
        return ((1 << high) - 1) & ~((1 << low) - 1)

    def is_self_hosted(self, start: int, end: int) -> bool:
        """Whether frames behind the vmemmap pages lie in the block they describe."""
        return any(
            self.frames.count(s, e, Kind.SELF_HOSTED)
            for s, e in self.vmemmap.private_frames(start, end)
        )


__all__ += ["DEVICE", "DMA", "DMA32", "MOVABLE", "NORMAL", "OutOfMemory", "frame_runs"]
