# SPDX-License-Identifier: LGPL-2.1-or-later
"""The section array: roots, entries, usage maps, and the content of shared tails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vmemmap_tools.model.core import DEVICE, Section
from vmemmap_tools.model.frames import Kind, PageRun
from vmemmap_tools.model.objects import Object
from vmemmap_tools.model.vmemmap import Array

if TYPE_CHECKING:
    from vmemmap_tools.model.image.base import Image
    from vmemmap_tools.model.templates import Templates

__all__ = [
    "mark_slabs",
    "pageblock_width",
    "section_bit",
    "section_flags",
    "write_sections",
]

_MACROS = {
    "SECTION_MARKED_PRESENT": 0,
    "SECTION_HAS_MEM_MAP": 1,
    "SECTION_IS_ONLINE": 2,
    "SECTION_IS_EARLY": 3,
    "SECTION_TAINT_ZONE_DEVICE": 4,
}
"""Bits of kernels before 6.0, where they are macros and debug info has no enum."""


def section_bit(image: Image, name: str) -> int:
    if image.types.has_enumerator(f"{name}_BIT"):
        return 1 << image.types.enumerator(f"{name}_BIT")
    return 1 << _MACROS[name]


def section_flags(image: Image, section: Section) -> int:
    """The low bits of section_mem_map."""
    flags = section_bit(image, "SECTION_MARKED_PRESENT") | section_bit(
        image, "SECTION_HAS_MEM_MAP"
    )
    for on, name in (
        (section.online, "SECTION_IS_ONLINE"),
        (section.early, "SECTION_IS_EARLY"),
        (section.taint, "SECTION_TAINT_ZONE_DEVICE"),
        (section.preinit, "SECTION_IS_VMEMMAP_PREINIT"),
    ):
        if on:
            flags |= section_bit(image, name)
    return flags


def write_sections(image: Image, templates: Templates) -> None:
    """Write mem_section and what it points to."""
    core, types, layout = image.core, image.types, image.layout
    size = types.sizeof("struct mem_section")
    page = image.arch.page_size
    per_root = page // size
    bits = core.placement.space.max_physmem_bits - image.arch.section_size_bits
    roots = -(-(1 << bits) // per_root)
    array = image.heap.take(8 * roots, page)
    layout.variable("mem_section", "struct mem_section **", array + image.heap.offset)
    image.facts["mem_section"] = array + image.heap.offset
    highest = max(core.sections, default=0)
    name = "__highest_present_section_nr"
    image.variables[name] = layout.variable(name, "unsigned long", highest)
    pages: dict[int, int] = {}
    for nr in sorted(core.sections):
        root, slot = divmod(nr, per_root)
        if root not in pages:
            pages[root] = image.heap.take(page, page)
            image.write64(array + 8 * root, pages[root] + image.heap.offset)
        pa = pages[root] + slot * size
        entry = Object(image.memory, types, "mem_section", pa, pa + image.heap.offset)
        image.sections[nr] = entry
        _write_section(image, entry, core.sections[nr])
    _write_shared_tails(image, templates)


def _write_section(image: Image, entry: Object, section: Section) -> None:
    core, types = image.core, image.types
    entry.set(
        "section_mem_map",
        core.placement.vmemmap_base | section_flags(image, section),
    )
    usage = _write_usage(image, section)
    entry.set("usage", usage.va)
    for name in ("order", "compound_page_order"):
        entry.set_if(name, section.order)
    if entry.has("zone"):
        key = section.zone or _zone_of(image, section)
        if types.sizeof("mem_section.zone") == 8:
            entry.set("zone", image.zones[key].va)
        else:
            entry.set("zone", key[1])
    if entry.has("page_ext"):
        pages = _page_ext_pages(image)
        entry.set("page_ext", image.direct(image.machine.page_ext_frame))
        image.facts["page_ext_pages_per_section"] = pages


def _page_ext_pages(image: Image) -> int:
    size = image.types.sizeof("struct page_ext") * image.arch.pages_per_section
    return -(-size // image.arch.page_size)


def _zone_of(image: Image, section: Section) -> tuple[int, int]:
    start, end = image.core.section_range(section.nr)
    for _, _, run in image.core.frames.states.runs(start, end):
        return run.zone_key
    return section.nid, 0


def _write_usage(image: Image, section: Section) -> Object:
    """Subsection map and pageblock flags; every block is MOVABLE unless noted."""
    core, types = image.core, image.types
    order = image.arch.pageblock_order
    blocks = image.arch.pages_per_section >> order
    width = pageblock_width(image)
    size = types.sizeof("struct mem_section_usage")
    size += blocks * width // 8
    if section.early:
        # sparse_init_nid() lays those of a node side by side.
        pa = image.heap.take(size, 8)
        va = pa + image.heap.offset
        usage = Object(image.memory, types, "mem_section_usage", pa, va)
    else:
        usage = _kmalloc(image, "mem_section_usage", size)
    image.usages[section.nr] = usage
    bits = types.sizeof("mem_section_usage.subsection_map") * 8
    words = -(-bits // 64)
    for word in range(words):
        usage.set(f"subsection_map[{word}]", section.subsections >> (64 * word))
    movable = types.enumerator("MIGRATE_MOVABLE")
    value = 0
    start = core.section_range(section.nr)[0] >> order
    for block in range(blocks):
        kind = core.migratetypes.get(start + block, movable)
        value |= kind << (block * width)
    flags = usage.pa + types.offsetof("mem_section_usage.pageblock_flags")
    image.memory.write(flags, value.to_bytes(blocks * width // 8, "little"))
    return usage


def _kmalloc(image: Image, tag: str, size: int) -> Object:
    """A struct in a page of the heap that shall be a slab's."""
    page = image.arch.page_size
    if not image.slabs or image.slab_used + size > page:
        image.slabs.append(image.heap.page())
        image.slab_used = 0
    pa = image.slabs[-1] * page + image.slab_used
    image.slab_used += -(-size // 64) * 64
    return Object(image.memory, image.types, tag, pa, pa + image.heap.offset)


def mark_slabs(image: Image, templates: Templates) -> None:
    """Let the struct pages of such pages say so; once the vmemmap is there."""
    for frame in image.slabs:
        state = image.core.frames.states.get(frame)
        assert state is not None
        run = PageRun(Kind.SLAB, state.node, state.zone)
        words = templates.plain(run)
        image.memory.write(image.page_pa(frame), words.tobytes())


def pageblock_width(image: Image) -> int:
    """Bits per pageblock: the number of flags, rounded up to a power of two."""
    for name in ("__NR_PAGEBLOCK_BITS", "NR_PAGEBLOCK_BITS"):
        if image.types.has_enumerator(name):
            return 1 << (image.types.enumerator(name) - 1).bit_length()
    return 4


def _write_shared_tails(image: Image, templates: Templates) -> None:
    """Fill the shared tail page of every zone and order."""
    core = image.core
    for (nid, zone, order), tail in core.tails.items():
        words = templates.tail(nid, zone, order, True, zone == DEVICE)
        content = np.tile(words, (core.vmemmap.spp, 1))
        if tail.boot and image.machine.defects and core.generation.boot_tail_refcount:
            _spoil(image, content, nid, zone, order)
        image.memory.store(tail.frame, bytearray(content.tobytes()))


def _spoil(image: Image, content: Array, nid: int, zone: int, order: int) -> None:
    """What memmap_init leaves behind when the folio opens its zone (8.6b)."""
    core, types = image.core, image.types
    first = core.nodes[nid].zones[zone].start_pfn
    heads = [p for p, o, n, done in image.machine.boot.gigantic if done and o == order]
    if first not in heads:
        return
    last = first + core.arch.pages_per_section - core.vmemmap.spp
    lru = types.offsetof("page.lru")
    size = types.sizeof("struct page")
    start = image.page_va(last) + lru
    content[:, lru // 8 + 1] = start + np.arange(
        len(content), dtype=np.uint64
    ) * np.uint64(size)
    shift = 64 - types.array_length("hstate.nr_huge_pages_node").bit_length() + 1 - 3
    width = core.arch.last_cpupid_width
    content[:, 0] |= np.uint64(((1 << width) - 1) << (shift - width))
    content.view(np.uint32)[:, types.offsetof("page._refcount") // 4] = 1
