# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device memory: dev_pagemap ranges, altmaps, and the compound layouts D0, D1 and D2.

Mirrors mm/memremap.c ``memremap_pages``, mm/sparse-vmemmap.c
``vmemmap_populate_compound_pages`` and, for the layout of namespaces,
drivers/nvdimm/pfn_devs.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vmemmap_tools.model import populate
from vmemmap_tools.model.core import DEVICE, Core, Section
from vmemmap_tools.model.frames import Kind, PageRun
from vmemmap_tools.model.vmemmap import Backing

__all__ = ["Altmap", "Devices", "Pgmap", "Refcounts"]

_INFO_PAGES = 2
"""The info block of a namespace, in front of an altmap (vmem_altmap.reserve)."""
_MAX_STRUCT_PAGE_SIZE = 64
"""What ``nd_pfn_init()`` takes a struct page for, be it smaller."""


@dataclass
class Altmap:
    """struct vmem_altmap."""

    base_pfn: int
    reserve: int
    free: int
    align: int = 0
    alloc: int = 0

    def take(self, count: int, align: int) -> int:
        """Allocate ``count`` frames in a row, aligned: the first of them."""
        following = self.base_pfn + self.reserve + self.alloc + self.align
        gap = -following % align
        if self.alloc + self.align + gap + count > self.free:
            raise ValueError("the altmap has no room for the vmemmap of its device")
        self.align += gap
        self.alloc += count
        return following + gap


@dataclass(frozen=True)
class Refcounts:
    """Frames start, start + step, ... (``count`` of them) whose refcount is not 1."""

    start: int
    step: int
    count: int
    value: int


@dataclass
class Pgmap:
    """A dev_pagemap with its one range, and the dax device or disk on it."""

    ident: int
    name: str
    fsdax: bool
    start_pfn: int
    end_pfn: int
    data_pfn: int
    """First pfn of the device's own range, behind info block and altmap."""
    node: int
    align: int
    shift: int
    """vmemmap_shift; 0 where the kernel has none."""
    altmap: Altmap | None
    refcounts: list[Refcounts] = field(default_factory=list)


class Devices:
    """All dev_pagemaps of the machine."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.pgmaps: dict[str, Pgmap] = {}
        self._next = 1

    def add(
        self,
        name: str,
        start: int,
        end: int,
        *,
        node: int,
        align: int,
        altmap: bool = False,
        fsdax: bool = False,
        namespace: bool = True,
    ) -> Pgmap:
        """Attach the device memory [start, end), in bytes, as one pgmap."""
        core = self.core
        shift = core.arch.page_shift
        sub = 1 << core.arch.subsection_shift
        if name in self.pgmaps:
            raise ValueError(f"there is a device {name!r} already")
        if start % sub or end % sub or start >= end:
            raise ValueError(f"device {name!r} must consist of whole subsections")
        first, last = start >> shift, end >> shift
        for s, e, run in core.frames.states.runs(first, last):
            if run.kind is not Kind.HOLE:
                raise ValueError(f"pfn {s:#x}-{e:#x} of {name!r} is {run.kind.value}")
        pages = last - first
        compound = align >> shift
        data, area = first, None
        if altmap or namespace:
            metadata = self._memmap_pages(pages - _INFO_PAGES) if altmap else 0
            unit = max(compound, core.arch.pages_per_subsection)
            data = -(-(first + _INFO_PAGES + metadata) // unit) * unit
        if altmap:
            area = Altmap(first, _INFO_PAGES, data - first - _INFO_PAGES)
        has_shift = core.types.has("dev_pagemap.vmemmap_shift")
        pgmap = Pgmap(
            ident=self._next,
            name=name,
            fsdax=fsdax,
            start_pfn=first,
            end_pfn=last,
            data_pfn=data,
            node=node,
            align=align,
            shift=compound.bit_length() - 1 if has_shift and not fsdax else 0,
            altmap=area,
        )
        self._next += 1
        self.pgmaps[name] = pgmap
        for nr, a, b in populate.slices(core, first, last):
            self._add_slice(pgmap, nr, a, b)
        self._declare(pgmap)
        core.nodes[node].zones[DEVICE].grow(first, last)
        return pgmap

    def _memmap_pages(self, pages: int) -> int:
        """Pages that ``nd_pfn_init()`` sets aside for the struct pages of so many."""
        size = max(_MAX_STRUCT_PAGE_SIZE, self.core.types.sizeof("struct page"))
        return -(-(pages * size) >> self.core.arch.page_shift)

    def remove(self, name: str) -> Pgmap:
        """Detach a device; its sections and their vmemmap go, early ones stay."""
        core = self.core
        pgmap = self.pgmaps.pop(name)
        key = (pgmap.node, DEVICE, pgmap.shift)
        for nr, a, b in populate.slices(core, pgmap.start_pfn, pgmap.end_pfn):
            section = core.sections[nr]
            if section.order and key in core.tail_refs:
                core.tail_refs[key] -= self._shared(a, b, pgmap.shift)
            populate.deactivate(core, nr, a, b)
            if section.early:
                core.frames.declare(
                    a, b, PageRun(Kind.HOLE, section.nid, self._early_zone(section))
                )
            else:
                core.frames.forget(a, b)
        zone = core.nodes[pgmap.node].zones[DEVICE]
        zone.start_pfn = zone.end_pfn = 0
        for other in self.pgmaps.values():
            if other.node == pgmap.node:
                zone.grow(other.start_pfn, other.end_pfn)
        return pgmap

    def _early_zone(self, section: Section) -> int:
        start, end = self.core.section_range(section.nr)
        for _, _, run in self.core.frames.states.runs(start, end):
            if run.zone != DEVICE:
                return run.zone
        return 0

    def _declare(self, pgmap: Pgmap) -> None:
        """Say what the struct pages of a new device are."""
        frames, first = self.core.frames, pgmap.start_pfn
        run = PageRun(Kind.DEVICE, pgmap.node, DEVICE, pgmap.ident)
        if pgmap.altmap is None:
            frames.declare(first, pgmap.end_pfn, run)
            return
        meta = first + pgmap.altmap.reserve
        frames.declare(first, meta, PageRun(Kind.UNINIT, pgmap.node, DEVICE))
        frames.declare(
            meta, pgmap.data_pfn, PageRun(Kind.DEVICE_META, pgmap.node, DEVICE)
        )
        frames.declare(pgmap.data_pfn, pgmap.end_pfn, run)

    def _add_slice(self, pgmap: Pgmap, nr: int, a: int, b: int) -> None:
        core = self.core
        old = core.sections.get(nr)
        if old is not None and old.order:
            raise ValueError(f"section {nr:#x} has an order: no part can be added")
        section = populate.activate(core, nr, pgmap.node, a, b)
        if section.online:
            section.taint = True
        if section.early:
            return
        if pgmap.altmap is not None:
            self._populate_altmap(pgmap.altmap, a, b)
        elif self._is_d1(pgmap):
            self._populate_d1(pgmap, a, b)
        elif self._is_d2(pgmap, a, b):
            section.order = pgmap.shift
            section.zone = (pgmap.node, DEVICE)
            self._populate_d2(pgmap, a, b)
        else:
            populate.populate_plain(core, a, b, pgmap.node, "dax")

    def _is_d1(self, pgmap: Pgmap) -> bool:
        pages = self.core.vmemmap.pages_per(pgmap.shift)
        return self.core.generation.dax == "D1" and pages > 2

    def _is_d2(self, pgmap: Pgmap, a: int, b: int) -> bool:
        core = self.core
        return (
            core.generation.dax == "D2"
            and core.min_order <= pgmap.shift <= core.arch.max_folio_order
            and b - a == core.arch.pages_per_section
        )

    def _populate_altmap(self, altmap: Altmap, a: int, b: int) -> None:
        core, vmemmap = self.core, self.core.vmemmap
        first, last = vmemmap.page_of(a), vmemmap.page_of(b)
        whole = last - first == vmemmap.entries and not populate.uses_base_pages(core)
        frame = altmap.take(last - first, vmemmap.entries if whole else 1)
        if not whole:
            core.ensure_tables(
                first, last, core.sections[core.sections_of(a, b)[0]].nid
            )
        vmemmap.map_linear(first, [(frame, last - first)], "altmap")
        core.nr_memmap += last - first

    def _populate_d1(self, pgmap: Pgmap, a: int, b: int) -> None:
        """Page 0 and 1 of each compound are private, the rest maps page 1's frame."""
        core, vmemmap = self.core, self.core.vmemmap
        compound = 1 << pgmap.shift
        first, last = vmemmap.page_of(a), vmemmap.page_of(b)
        core.ensure_tables(first, last, pgmap.node)
        if compound > core.arch.pages_per_section and (a - pgmap.start_pfn) % compound:
            below = vmemmap.ledger.get(first - 1)
            assert below is not None
            shared = below.shared if below.shared >= 0 else below.frame + 1
            self._continue(pgmap, first, last, shared)
            return
        pages = min(vmemmap.pages_per(pgmap.shift), last - first)
        count = (last - first) // pages
        total = min(compound, pgmap.end_pfn - a) // vmemmap.spp
        zones = core.kernel_zones(pgmap.node)
        at = first
        for frame, length in core.frames.take_frames(
            zones, 2 * count, Kind.ALLOCATED, multiple=2
        ):
            end = at + length // 2 * pages
            backing = Backing("dax", at, frame, period=pages, kept=2, stride=2)
            self._map(pgmap, at, end, backing)
            refs = Refcounts(frame + 1, 2, length // 2, total - 1)
            pgmap.refcounts.append(refs)
            at = end
        core.nr_memmap += 2 * count

    def _map(self, pgmap: Pgmap, first: int, last: int, backing: Backing) -> None:
        generation = self.core.generation
        read_only = generation.dax == "D2" and not generation.dax_tails_writable
        self.core.vmemmap.map(
            first,
            last,
            replace(
                backing,
                tails="ro" if read_only else "rw",
                order=pgmap.shift,
                owner=pgmap.ident,
            ),
        )

    def _continue(self, pgmap: Pgmap, first: int, last: int, shared: int) -> None:
        """A section inside a compound: nothing but tails."""
        backing = Backing("dax", first, shared, last - first, kept=0, shared=shared)
        self._map(pgmap, first, last, backing)

    def _populate_d2(self, pgmap: Pgmap, a: int, b: int) -> None:
        """Page 0 of each compound is private, the rest maps the zone's shared tail."""
        core, vmemmap = self.core, self.core.vmemmap
        key = (pgmap.node, DEVICE, pgmap.shift)
        shared = core.shared_tail(key).frame
        first, last = vmemmap.page_of(a), vmemmap.page_of(b)
        core.ensure_tables(first, last, pgmap.node)
        if core.generation.dax_tail_pageref:
            refs = self._shared(a, b, pgmap.shift)
            core.tail_refs[key] = core.tail_refs.get(key, 0) + refs
        if a % (1 << pgmap.shift):
            self._continue(pgmap, first, last, shared)
            return
        pages = min(vmemmap.pages_per(pgmap.shift), last - first)
        at = first
        for frame, length in core.take_frames(pgmap.node, (last - first) // pages):
            end = at + length * pages
            self._map(pgmap, at, end, Backing("dax", at, frame, pages, shared=shared))
            at = end
        core.nr_memmap += (last - first) // pages

    def _shared(self, a: int, b: int, order: int) -> int:
        """PTEs of a section that map the shared tail page."""
        pages = self.core.vmemmap.page_of(b - a)
        heads = len(range(-(-a // (1 << order)), -(-b // (1 << order))))
        return pages - heads
