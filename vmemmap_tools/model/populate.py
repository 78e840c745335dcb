# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sections come and go: activation, plain population, and their undoing.

Mirrors mm/sparse-vmemmap.c: ``section_activate``, ``section_deactivate`` and the
population of ranges without a compound layout.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmemmap_tools.model.core import NORMAL, Core, Section
from vmemmap_tools.model.frames import Kind

__all__ = ["activate", "deactivate", "populate_boot", "populate_plain", "slices"]


def slices(core: Core, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Cut [start, end) at section borders: (section, start pfn, end pfn)."""
    for nr in core.sections_of(start, end):
        first, last = core.section_range(nr)
        yield nr, max(start, first), min(end, last)


def activate(core: Core, nr: int, nid: int, start: int, end: int) -> Section:
    """Make section ``nr`` present and set the subsections of [start, end)."""
    section = core.sections.get(nr)
    if section is None:
        section = core.sections[nr] = Section(nr, nid)
    section.subsections |= core.subsection_mask(nr, start, end)
    return section


def deactivate(core: Core, nr: int, start: int, end: int) -> None:
    """Clear the subsections of [start, end); an empty hot-added section goes."""
    section = core.sections[nr]
    section.subsections &= ~core.subsection_mask(nr, start, end)
    if section.early:
        return
    unpopulate(core, start, end)
    if not section.subsections:
        del core.sections[nr]


def unpopulate(core: Core, start: int, end: int) -> None:
    """Unmap the struct pages of [start, end) and free the frames behind them."""
    vmemmap = core.vmemmap
    first, last = vmemmap.page_of(start), vmemmap.page_of(end)
    for s, e, backing in list(vmemmap.runs(first, last)):
        private = vmemmap.private_frames(s, e)
        if backing.why in ("altmap", "self-hosted"):
            core.nr_memmap -= sum(b - a for a, b in private)
        else:
            core.free_vmemmap(private)
        vmemmap.ledger.set(s, e, None)
    core.drop_empty_tables(first, last)


def uses_base_pages(core: Core) -> bool:
    """Whether HVO forces the whole vmemmap to base pages (5.14)."""
    return core.hvo and not core.generation.splits


def populate_plain(
    core: Core, start: int, end: int, nid: int, why: str = "hot-added"
) -> None:
    """Back [start, end) of one section, one frame a page; by a PMD leaf if whole."""
    vmemmap = core.vmemmap
    first, last = vmemmap.page_of(start), vmemmap.page_of(end)
    whole = last - first == vmemmap.entries and not uses_base_pages(core)
    block = []
    if whole:
        zones = core.kernel_zones(nid)
        taken = core.frames.take_blocks(zones, vmemmap.entries, 1, Kind.ALLOCATED)
        block = [(s, vmemmap.entries) for s, _ in taken]
    if not block:
        block = core.take_frames(nid, last - first)
        core.ensure_tables(first, last, nid)
    vmemmap.map_linear(first, block, why)
    core.nr_memmap += last - first


def populate_boot(core: Core, numbers: list[int], nid: int) -> None:
    """Back whole early sections from one memblock buffer at the top of the node."""
    if not numbers:
        return
    vmemmap, frames = core.vmemmap, core.frames
    pages = vmemmap.entries
    buffer: list[int] = []
    zones = [(nid, z) for z in range(NORMAL, -1, -1)]
    zones += [z for z in core.kernel_zones(nid) if z not in zones]
    for key in zones:
        free = frames.free.get(key)
        while free is not None and len(buffer) < len(numbers):
            want = len(numbers) - len(buffer)
            start = free.find_high(want * pages, pages)
            if start is None:
                want = 1
                start = free.find_high(pages, pages)
            if start is None:
                break
            frames.take(start, start + want * pages, Kind.RESERVED)
            core.count_reserved(start, start + want * pages)
            buffer += range(start, start + want * pages, pages)
    if len(buffer) < len(numbers):
        raise ValueError(f"node {nid} has no memory for its own vmemmap")
    for nr, frame in zip(numbers, buffer):
        first = vmemmap.page_of(core.section_range(nr)[0])
        if uses_base_pages(core):
            core.ensure_tables(first, first + pages, nid, boot=True)
        vmemmap.map_linear(first, [(frame, pages)], "boot")
    core.nr_memmap_boot += len(numbers) * pages
