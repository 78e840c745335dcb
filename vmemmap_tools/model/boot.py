# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boot: zones and sections from the memory map, the kernel image, the first vmemmap.

Mirrors what mm/mm_init.c, mm/sparse.c and ``hugetlb_bootmem_alloc`` do, in the order
in which memory is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vmemmap_tools.model import populate
from vmemmap_tools.model.core import (
    DEVICE,
    DMA,
    DMA32,
    MOVABLE,
    NORMAL,
    Core,
    Node,
    Section,
    Zone,
)
from vmemmap_tools.model.frames import Kind, PageRun
from vmemmap_tools.model.vmemmap import Backing

__all__ = ["BootPage", "NodeMemory", "boot"]

IMAGE_BYTES = 8 << 20
"""Memory the kernel image takes, from its first byte on."""


@dataclass(frozen=True)
class NodeMemory:
    """The boot memory of one node: physical (start, end) in bytes."""

    memory: Sequence[tuple[int, int]]
    movable: int = 0
    """Bytes at the end of the node that form ZONE_MOVABLE."""


@dataclass(frozen=True)
class BootPage:
    """A gigantic page taken from memblock: where, or None for the first fit."""

    node: int
    size: int
    pfn: int | None = None


@dataclass
class BootResult:
    """What boot hands to the rest of the machine."""

    heap: tuple[int, int]
    """Reserved pfns for the kernel's own objects."""
    image: tuple[int, int]
    gigantic: list[tuple[int, int, int, bool]] = field(default_factory=list)
    """(head pfn, order, node, populated in optimised form)"""


def boot(
    core: Core, nodes: dict[int, NodeMemory], pages: list[BootPage], heap_pages: int
) -> BootResult:
    """Bring up memory; gigantic pages are returned, for their pools to adopt."""
    for nid, memory in sorted(nodes.items()):
        _add_node(core, nid, memory)
    _add_sections(core)
    image = _reserve_image(core)
    heap = _reserve_heap(core, heap_pages)
    result = BootResult(heap, image)
    preinit: set[int] = set()
    for page in pages:
        result.gigantic.append(_take_gigantic(core, page, preinit))
    for nid in core.nodes:
        numbers = sorted(
            s.nr for s in core.sections.values() if s.nid == nid and s.nr not in preinit
        )
        populate.populate_boot(core, numbers, nid)
    for pfn, order, nid, populated in result.gigantic:
        if populated:
            _populate_preinit(core, pfn, order, nid)
    return result


def _add_node(core: Core, nid: int, memory: NodeMemory) -> None:
    shift = core.arch.page_shift
    limits = core.arch.zone_limits
    ranges = sorted((s >> shift, e >> shift) for s, e in memory.memory)
    node = Node(nid, ranges, [Zone(nid, index) for index in range(5)])
    core.nodes[nid] = node
    if not ranges:
        return
    first, last = ranges[0][0], ranges[-1][1]
    movable = _movable_start(ranges, memory.movable >> shift)
    borders = [
        (DMA, 0, limits["DMA"] >> shift),
        (DMA32, limits["DMA"] >> shift, limits["DMA32"] >> shift),
        (NORMAL, limits["DMA32"] >> shift, movable),
        (MOVABLE, movable, last),
    ]
    for index, low, high in borders:
        start, end = max(first, low), min(last, high, movable if index < 3 else last)
        if start >= end:
            continue
        zone = node.zones[index]
        # A zone spans the node's part of it, holes at its ends included.
        zone.grow(start, end)
        for s, e in ranges:
            inner = range(max(s, start), min(e, end))
            if inner:
                zone.present += len(inner)
                run = PageRun(Kind.FREE, nid, index)
                core.frames.declare(inner.start, inner.stop, run)


def _movable_start(ranges: list[tuple[int, int]], pages: int) -> int:
    """First pfn of the last ``pages`` pages of a node's memory."""
    for start, end in reversed(ranges):
        if pages <= end - start:
            return end - pages
        pages -= end - start
    raise ValueError("the node is smaller than its movable zone")


def _add_sections(core: Core) -> None:
    """Every section that boot memory touches is early, present and whole."""
    full = (1 << (core.arch.pages_per_section // core.arch.pages_per_subsection)) - 1
    for node in core.nodes.values():
        for start, end in node.memory:
            for nr in core.sections_of(start, end):
                section = core.sections.setdefault(nr, Section(nr, node.nid))
                section.early = section.online = True
                mask = core.subsection_mask(nr, start, end)
                section.subsections = (section.subsections | mask) & full
    for nr, section in core.sections.items():
        start, end = core.section_range(nr)
        runs = list(core.frames.states.runs(start, end))
        at = start
        zone = runs[0][2].zone
        for s, e, run in [*runs, (end, end, runs[-1][2])]:
            core.frames.declare(at, s, PageRun(Kind.HOLE, section.nid, zone))
            at, zone = e, run.zone


def _reserve(core: Core, start: int, end: int) -> None:
    core.frames.take(start, end, Kind.RESERVED)
    core.count_reserved(start, end)


def _reserve_image(core: Core) -> tuple[int, int]:
    """The kernel image, and the first megabyte if there is one."""
    shift = core.arch.page_shift
    low = (1 << 20) >> shift
    if core.frames.kind(0) is Kind.FREE:
        _reserve(core, 0, low)
    start = (core.arch.image_pa + core.placement.phys_slide) >> shift
    end = start + (IMAGE_BYTES >> shift)
    _reserve(core, start, end)
    return start, end


def _reserve_heap(core: Core, pages: int) -> tuple[int, int]:
    """A run of reserved frames for the objects that boot and drivers allocate."""
    align = core.arch.pages_per_subsection
    pages = -(-pages // align) * align
    for index in (NORMAL, DMA32):
        for node in core.nodes.values():
            free = core.frames.free.get((node.nid, index))
            start = free.find_high(pages, align) if free is not None else None
            if start is not None:
                _reserve(core, start, start + pages)
                return start, start + pages
    raise ValueError("no boot memory for the kernel's own objects")


def _take_gigantic(
    core: Core, page: BootPage, preinit: set[int]
) -> tuple[int, int, int, bool]:
    """Take one gigantic page from memblock; note the sections it populates itself."""
    order = (page.size >> core.arch.page_shift).bit_length() - 1
    pages = 1 << order
    pfn = page.pfn
    if pfn is None:
        for zone in (NORMAL, DMA32, MOVABLE):
            free = core.frames.free.get((page.node, zone))
            place = free.find_low(pages, pages) if free is not None else None
            if place is not None:
                pfn = place[0]
                break
    if pfn is None:
        raise ValueError(f"node {page.node} has no room for a boot page of {page.size}")
    core.frames.take(pfn, pfn + pages, Kind.HUGETLB)
    populated = (
        core.hvo
        and core.generation.preinit
        and pfn % core.arch.pages_per_section == 0
        and pages % core.arch.pages_per_section == 0
    )
    if populated:
        numbers = core.sections_of(pfn, pfn + pages)
        preinit.update(numbers)
        for nr in numbers:
            core.sections[nr].preinit = core.generation.preinit_flag
    return pfn, order, page.node, populated


def _populate_preinit(core: Core, pfn: int, order: int, nid: int) -> None:
    """Populate a gigantic page's vmemmap in optimised form: one frame and the tail."""
    vmemmap = core.vmemmap
    first = vmemmap.page_of(pfn)
    pages = vmemmap.pages_per(order)
    state = core.frames.states.get(pfn)
    assert state is not None
    shared = core.shared_tail((state.node, state.zone, order), boot=True).frame
    core.ensure_tables(first, first + pages, nid, boot=True)
    head = core.take_boot(nid, 1)[0][0]
    vmemmap.map(
        first,
        first + pages,
        Backing(
            "pre-hvo",
            first,
            head,
            period=pages,
            shared=shared,
            tails="boot-ro" if core.generation.preinit_flag else "ro",
            order=order,
        ),
    )
    core.nr_memmap_boot += 1


__all__ += ["DEVICE", "BootResult"]
