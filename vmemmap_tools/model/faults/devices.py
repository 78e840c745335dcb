# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of device memory: rules P1 to P9."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from vmemmap_tools.model.faults.find import (
    choose,
    free_block,
    pgmaps,
    set_pte,
    shared_pgmaps,
    spare_frame,
)
from vmemmap_tools.model.faults.registry import NotApplicable, Place, fault
from vmemmap_tools.model.image.sections import pageblock_width

if TYPE_CHECKING:
    from vmemmap_tools.model.dax import Pgmap
    from vmemmap_tools.model.image import Image

__all__: list[str] = []


def _shared(image: Image, rng: random.Random) -> Pgmap:
    return choose(rng, shared_pgmaps(image), "device with shared vmemmap")


@fault(
    "dax-compound-private",
    "P1",
    "a compound populated page by page",
    # The private frames come from free memory: the model leaves them free.
    implied="F12 C1 P5",
)
def compound_private(image: Image, rng: random.Random) -> Place:
    """One compound of an optimised device has a frame behind every vmemmap page."""
    pgmap = _shared(image, rng)
    vmemmap = image.core.vmemmap
    start = vmemmap.page_of(pgmap.start_pfn)
    pages = min(vmemmap.pages_per(pgmap.shift), 512)
    block = free_block(image, rng, pages)
    for index in range(2, pages):
        source = image.frame_of(start + index) << image.arch.page_shift
        content = image.memory.read(source, image.arch.page_size)
        image.memory.store(block + index, bytearray(content))
        set_pte(image, start + index, block + index, writable=True)
    return {"name": pgmap.name, "page": start, "pages": pages}


@fault(
    "dax-tails-on-head",
    "P1",
    "a compound populated as an optimised hugetlb folio of older kernels",
    # Frames that backed tails have no user now.
    implied="C1 P5",
)
def tails_on_head(image: Image, rng: random.Random) -> Place:
    """All vmemmap pages of a device compound have the frame of its head."""
    pgmap = _shared(image, rng)
    start = image.core.vmemmap.page_of(pgmap.start_pfn)
    pages = image.core.vmemmap.pages_per(pgmap.shift)
    frame = image.frame_of(start)
    for page in range(start + 1, start + pages):
        set_pte(image, page, frame, writable=True)
    return {"name": pgmap.name, "page": start, "pages": pages, "frame_pfn": frame}


@fault(
    "dax-uninitialised", "P2", "mm/mm_init: uninitialized struct pages of ZONE_DEVICE"
)
def uninitialised(image: Image, rng: random.Random) -> Place:
    """A device in an early section has private struct pages, but only the first 128 of
    a compound were initialised."""
    vmemmap = image.core.vmemmap
    found = [
        p
        for p in pgmaps(image)
        if image.core.sections[image.core.sections_of(p.start_pfn, p.end_pfn)[0]].early
    ]
    pgmap = choose(rng, found, "device in an early section")
    start = vmemmap.page_of(pgmap.data_pfn)
    frames = [image.frame_of(start + i) for i in range(2, vmemmap.pages_per(9))]
    for frame in frames:
        image.memory.store(frame, bytearray(image.arch.page_size))
    return {"name": pgmap.name, "page": start + 2, "pages": len(frames)}


@fault("dax-wrong-pgmap", "P2", "a head that points to a pgmap that went away")
def wrong_pgmap(image: Image, rng: random.Random) -> Place:
    """The first head page of a device points to another dev_pagemap."""
    pgmap = choose(rng, pgmaps(image), "device")
    if pgmap.altmap is not None and not _is_dumped(image, pgmap):
        raise NotApplicable("the device's struct pages are not in the dump")
    page = image.page(pgmap.data_pfn)
    path = "folio.pgmap" if image.types.has("folio.pgmap") else "page.pgmap"
    image.write64(page.pa + image.types.offsetof(path), image.direct(0x321))
    return {"name": pgmap.name, "pfn": pgmap.data_pfn}


def _is_dumped(image: Image, pgmap: Pgmap) -> bool:
    pa = pgmap.start_pfn << image.arch.page_shift
    return any(start <= pa < end for start, end in image.memory.ranges)


def _tail(image: Image, rng: random.Random, altmap: bool) -> Place:
    """A tail of a compound, on a page that no other compound shares."""
    if altmap:
        found = [p for p in pgmaps(image) if p.altmap is not None and p.shift]
        pgmap = choose(rng, found, "device with compounds behind an altmap")
        if not _is_dumped(image, pgmap):
            raise NotApplicable("the device's struct pages are not in the dump")
        own = 1 << pgmap.shift
    else:
        pgmap = _shared(image, rng)
        own = image.core.vmemmap.spp * (2 if image.core.generation.dax == "D1" else 1)
    first = pgmap.start_pfn if pgmap.altmap is None else pgmap.data_pfn
    head = first + (rng.randrange(pgmap.end_pfn - first >> pgmap.shift) << pgmap.shift)
    pfn = head + rng.randrange(1, own)
    return {"name": pgmap.name, "head_pfn": head, "pfn": pfn}


def _set_compound_word(image: Image, pfn: int, value: int) -> None:
    masked = image.types.has("page.compound_info")
    image.page(pfn).set("compound_info" if masked else "compound_head", value)


ASTRAY = 0xFFFFBFFFFFFF8001
"""A mask of order 9 with bit 46 lost: it leads out of the vmemmap."""


@fault("dax-tail-astray", "P9", "a stray write to a struct page of a shared compound")
def tail_astray(image: Image, rng: random.Random) -> Place:
    """The compound word of a tail of a compound that shares vmemmap is garbage."""
    where = _tail(image, rng, altmap=False)
    _set_compound_word(image, where["pfn"], ASTRAY)
    return where


@fault("dax-tail-cleared", "P9", "struct pages of a device reset one by one")
def tail_cleared(image: Image, rng: random.Random) -> Place:
    """The compound word of a tail of a compound that shares vmemmap is 0."""
    where = _tail(image, rng, altmap=False)
    _set_compound_word(image, where["pfn"], 0)
    return where


@fault("altmap-tail-astray", "P9", "a stray write to a struct page on a device")
def altmap_tail_astray(image: Image, rng: random.Random) -> Place:
    """The compound word of a tail of a compound behind an altmap is garbage."""
    where = _tail(image, rng, altmap=True)
    _set_compound_word(image, where["pfn"], ASTRAY)
    return where


@fault("altmap-tail-cleared", "P9", "struct pages of a device reset one by one")
def altmap_tail_cleared(image: Image, rng: random.Random) -> Place:
    """The compound word of a tail of a compound behind an altmap is 0."""
    where = _tail(image, rng, altmap=True)
    _set_compound_word(image, where["pfn"], 0)
    return where


@fault(
    "dax-pageblock-unmovable",
    "P3",
    "mm/mm_init: pageblock migratetype of ZONE_DEVICE compounds (c4386bd8ee3a)",
)
def pageblock_unmovable(image: Image, rng: random.Random) -> Place:
    """Only the first pageblock of each gigantic compound is MOVABLE."""
    found = [p for p in pgmaps(image) if 1 << p.shift >= image.arch.pages_per_section]
    pgmap = choose(rng, found, "device with gigantic compounds")
    offset = image.types.offsetof("mem_section_usage.pageblock_flags")
    first = True
    for nr in image.core.sections_of(pgmap.start_pfn, pgmap.end_pfn):
        usage = image.usages[nr]
        blocks = image.arch.pages_per_section >> image.arch.pageblock_order
        length = blocks * pageblock_width(image) // 8
        keep = image.memory.read(usage.pa + offset, 1)[0] & 0x7 if first else 0
        image.memory.write(usage.pa + offset, bytes([keep]) + bytes(length - 1))
        first = (nr + 1) * image.arch.pages_per_section % (1 << pgmap.shift) == 0
    return {"name": pgmap.name}


@fault(
    "pgd-not-synced",
    "P4",
    "missing architecture-specific page table sync for HVO DAX",
)
def not_synced(image: Image, rng: random.Random) -> Place:
    """An mm lacks a top-level entry for populated vmemmap."""
    index = choose(rng, range(len(image.pgds)), "other mm")
    va = image.vmemmap_va(max(e for _, e, _ in image.core.vmemmap.runs()) - 1)
    level = image.tables.levels
    slot = va >> image.arch.level_shift(level) & (image.arch.table_entries - 1)
    pgd = image.pgds[index]
    image.write64((pgd << image.arch.page_shift) + 8 * slot, 0)
    return {"pgd_pfn": pgd, "slot": slot}


@fault("dax-refcount", "P5", "removal with the wrong pgmap: a leak or an early free")
def refcount(image: Image, rng: random.Random) -> Place:
    """The frame that a compound's tails share has a wrong reference count."""
    generation = image.core.generation
    if generation.dax != "D1" and not generation.dax_tail_pageref:
        raise NotApplicable("shared DAX tails of this generation hold no references")
    pgmap = _shared(image, rng)
    page = image.core.vmemmap.page_of(pgmap.start_pfn)
    frame = image.frame_of(page + 2)
    victim = image.page(frame)
    victim.set("_refcount", victim.get("_refcount") - 1)
    return {"name": pgmap.name, "frame_pfn": frame}


@fault(
    "altmap-outside",
    "P6",
    "memory_hotplug: altmap error path",
    implied="P2 P8 P9",
)
def altmap_outside(image: Image, rng: random.Random) -> Place:
    """The altmap of a device does not hold the frames that back its vmemmap."""
    found = [p for p in pgmaps(image) if p.altmap is not None]
    pgmap = choose(rng, found, "device with an altmap")
    obj = image.pgmaps[pgmap.name]
    obj.set("altmap.free", obj.get("altmap.alloc") // 2)
    return {"name": pgmap.name}


@fault("altmap-count", "P6", "altmap frames freed to, or taken from, somewhere else")
def altmap_count(image: Image, rng: random.Random) -> Place:
    """An altmap counts fewer allocated frames than back the vmemmap."""
    found = [p for p in pgmaps(image) if p.altmap is not None]
    pgmap = choose(rng, found, "device with an altmap")
    obj = image.pgmaps[pgmap.name]
    obj.set("altmap.alloc", obj.get("altmap.alloc") - 512)
    return {"name": pgmap.name}


@fault(
    "dax-continuation-split",
    "P7 P1",
    "populate retried in a different order",
    implied="F12 C1 P5",
)
def continuation_split(image: Image, rng: random.Random) -> Place:
    """A later section of a gigantic compound does not hold the one shared frame."""
    pages = image.arch.pages_per_section
    found = [p for p in shared_pgmaps(image) if 1 << p.shift > pages]
    pgmap = choose(rng, found, "device with compounds larger than a section")
    page = image.core.vmemmap.page_of(pgmap.start_pfn + pages)
    frame = spare_frame(image, rng)
    set_pte(image, page, frame, writable=True)
    return {"name": pgmap.name, "page": page, "frame_pfn": frame}


@fault(
    "pgmap-range-wrong",
    "P8",
    "a driver that changes its range after the fact",
    # Compounds at the range's end lose their map.
    implied="S3 F10 F11 Z4",
)
def range_wrong(image: Image, rng: random.Random) -> Place:
    """The range of a dev_pagemap ends 2 MiB before its entry in pgmap_array."""
    pgmap = choose(rng, pgmaps(image), "device")
    obj = image.pgmaps[pgmap.name]
    obj.set("range.end", obj.get("range.end") - (2 << 20))
    return {"name": pgmap.name}


@fault("dax-device-shrunk", "P8", "a device resized while it is bound to its driver")
def device_shrunk(image: Image, rng: random.Random) -> Place:
    """The range of a dev_dax ends 2 MiB before that of its map."""
    name = choose(rng, sorted(image.dax_ranges), "dax device")
    obj = image.dax_ranges[name]
    obj.set("range.end", obj.get("range.end") - (2 << 20))
    return {"name": name}


@fault("dax-device-misaligned", "P8", "an align changed while the device is bound")
def device_misaligned(image: Image, rng: random.Random) -> Place:
    """A dev_dax has another align than the compound pages of its map."""
    names = [p.name for p in pgmaps(image) if p.shift and p.name in image.dax_devices]
    name = choose(rng, names, "dax device with compound pages")
    obj = image.dax_devices[name]
    obj.set("align", obj.get("align") << 1)
    return {"name": name}


@fault("dax-tail-writable-mix", "P1", "a compound remapped read-only in part")
def writable_mix(image: Image, rng: random.Random) -> Place:
    """Tails of one compound are mapped read-only and writable side by side."""
    pgmap = _shared(image, rng)
    page = image.core.vmemmap.page_of(pgmap.start_pfn) + 3
    writable = not image.core.generation.dax_tails_writable
    set_pte(image, page, image.frame_of(page), writable=writable)
    return {"name": pgmap.name, "page": page}
