# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory blocks: the units in which system memory goes on- and offline.

Mirrors drivers/base/memory.c and x86's ``probe_memory_block_size``. Sections of
devices belong to no block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmemmap_tools.model.core import DEVICE, Section
from vmemmap_tools.model.frames import Kind
from vmemmap_tools.model.image.xarray import write_xarray

if TYPE_CHECKING:
    from vmemmap_tools.model.image.base import Image

__all__ = ["sections_per_block", "write_blocks"]

LARGE_MACHINE = 64 << 30
LARGEST_BLOCK = 2 << 30


def sections_per_block(image: Image) -> int:
    """Sections of a memory block: one, or 2 GiB on large, well aligned machines."""
    section = 1 << image.arch.section_size_bits
    ranges = [r for node in image.core.nodes.values() for r in node.memory]
    pages = sum(end - start for start, end in ranges)
    if pages << image.arch.page_shift < LARGE_MACHINE:
        return 1
    end = max(end for _, end in ranges) << image.arch.page_shift
    size = LARGEST_BLOCK
    while size > section and end % size:
        size //= 2
    return size // section


def write_blocks(image: Image) -> None:
    """Write a memory_block for every block with system memory, and their xarray."""
    per_block = sections_per_block(image)
    image.layout.variable("sections_per_block", "int", per_block, static=True)
    array = image.layout.place("memory_blocks", "struct xarray", static=True)
    if not image.types.has_type("struct memory_block"):
        return
    first: dict[int, Section] = {}
    for nr, section in sorted(image.core.sections.items()):
        if _is_system(image, section):
            first.setdefault(nr // per_block, section)
    entries = [
        (number, number, _write_block(image, section, number * per_block))
        for number, section in first.items()
    ]
    write_xarray(image.heap, array, entries)


def _is_system(image: Image, section: Section) -> bool:
    if section.early:
        return True
    state = image.core.frames.states.get(image.core.section_range(section.nr)[0])
    return state is not None and state.zone != DEVICE


def _write_block(image: Image, section: Section, start: int) -> int:
    types = image.types
    block = image.heap.object("memory_block")
    block.set("start_section_nr", start)
    name = "MEM_ONLINE" if section.online else "MEM_OFFLINE"
    if types.has_enumerator(name):
        state = types.enumerator(name)
    else:
        # Macros of earlier kernels: one bit for each state.
        state = 1 if section.online else 1 << 2
    block.set("state", state)
    block.set("nid", section.nid)
    low, high = image.core.section_range(section.nr)
    zones = {r.zone_key for _, _, r in image.core.frames.states.runs(low, high)}
    # A block of several zones, or with a device in it, names none.
    if section.online and len(zones) == 1:
        block.set_if("zone", image.zones[zones.pop()].va)
    hosted = image.core.frames.count(low, high, Kind.SELF_HOSTED)
    if hosted:
        block.set_if("nr_vmemmap_pages", hosted)
        if block.has("altmap"):
            altmap = image.heap.object("vmem_altmap")
            altmap.set("base_pfn", low)
            altmap.set("free", hosted)
            altmap.set("alloc", hosted)
            block.set("altmap", altmap.va)
    return block.va
