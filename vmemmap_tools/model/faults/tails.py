# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of shared tail pages: rules Z1 to Z7."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from vmemmap_tools.model.faults.find import (
    choose,
    folios,
    optimised,
    set_pte,
    spare_frame,
)
from vmemmap_tools.model.faults.registry import NotApplicable, Place, fault
from vmemmap_tools.model.templates import Templates, page_type

if TYPE_CHECKING:
    from vmemmap_tools.model.image import Image

__all__: list[str] = []

Key = tuple[int, int, int]


def _tail(image: Image, rng: random.Random) -> tuple[Key, int]:
    """A zone's shared tail page: its key and frame."""
    key = choose(rng, sorted(image.core.tails), "shared tail page")
    return key, image.core.tails[key].frame


def _place(image: Image, key: Key) -> Place:
    zone = image.core.nodes[key[0]].zones[key[1]].name
    return {"node": key[0], "zone": zone, "order": key[2]}


def _slot(image: Image, key: Key) -> int:
    """Physical address of the pointer to a shared tail page."""
    zone = image.zones[key[:2]]
    index = key[2] - image.core.min_order
    if image.types.is_array("zone.vmemmap_tails"):
        return zone.pa + image.types.offsetof(f"zone.vmemmap_tails[{index}]")
    return zone.get("vmemmap_tails") - image.heap.offset + 8 * index


@fault(
    "tail-pointer-wild",
    "Z1",
    "memory corruption in struct zone",
    # Without the pointer no tail page is known for those folios.
    implied="C1 F4 F11",
)
def pointer_wild(image: Image, rng: random.Random) -> Place:
    """The pointer to a zone's shared tail page leads outside the vmemmap."""
    key, _ = _tail(image, rng)
    image.write64(_slot(image, key), image.direct(0x1234))
    return _place(image, key)


@fault("tail-zeroed", "Z2 F5", "boot tail pages used before they are initialised")
def zeroed(image: Image, rng: random.Random) -> Place:
    """A shared tail page reads as zeros."""
    key, frame = _tail(image, rng)
    image.memory.store(frame, bytearray(image.arch.page_size))
    return _place(image, key)


@fault("tail-scribbled", "Z2 F5", "a stray write before the page was write-protected")
def scribbled(image: Image, rng: random.Random) -> Place:
    """One struct page of a shared tail page was overwritten."""
    key, frame = _tail(image, rng)
    index = rng.randrange(image.core.vmemmap.spp)
    size = image.types.sizeof("struct page")
    at = frame * image.arch.page_size + index * size
    image.memory.write(at, bytes([0x6B]) * size)
    return {**_place(image, key), "index": index}


@fault("tail-of-other-order", "Z2 F5", "a shared tail page filled for the wrong order")
def of_other_order(image: Image, rng: random.Random) -> Place:
    """A shared tail page holds tails of another order."""
    key, frame = _tail(image, rng)
    other = key[2] + 1
    words = Templates(image.core).tail(key[0], key[1], other, True, False)
    content = np.tile(words, (image.core.vmemmap.spp, 1))
    image.memory.store(frame, bytearray(content.tobytes()))
    return {**_place(image, key), "holds_order": other}


@fault("tail-boot-refcount", "Z2", "memmap_init running over aliased boot tails (8.6b)")
def boot_refcount(image: Image, rng: random.Random) -> Place:
    """All struct pages of a shared tail page have reference count 1."""
    key, frame = _tail(image, rng)
    page = image.memory.page(frame)
    words = np.frombuffer(page, dtype="<u4").reshape(image.core.vmemmap.spp, -1)
    words[:, image.types.offsetof("page._refcount") // 4] = 1
    return _place(image, key)


@fault(
    "tail-freed",
    "Z3 F12",
    "use after free of a shared tail page",
    implied="P5",
)
def freed(image: Image, rng: random.Random) -> Place:
    """The frame of a shared tail page is a free page of the buddy allocator."""
    key, frame = _tail(image, rng)
    page = image.page(frame)
    buddy = page_type(image.core, "buddy")
    assert buddy is not None
    flags = image.types.enumerator("PG_reserved")
    page.set("flags", page.get("flags") & ~(1 << flags))
    page.set("page_type", buddy)
    page.set("private", 0)
    page.set("_refcount", 0)
    return {**_place(image, key), "frame_pfn": frame}


@fault(
    "tail-alias-order",
    "Z4 F4 F5",
    "remapping to the tail page of the wrong order",
)
def alias_order(image: Image, rng: random.Random) -> Place:
    """One vmemmap page of a folio maps a shared tail page of another order or zone."""
    folio = optimised(image, rng)
    own = image.frame_of(folio.first_page + folio.pages - 1)
    others = [t.frame for t in image.core.tails.values() if t.frame != own]
    frame = choose(rng, others, "second shared tail page")
    page = folio.first_page + folio.pages - 1
    set_pte(image, page, frame, writable=False)
    return {"head_pfn": folio.pfn, "page": page, "frame_pfn": frame}


@fault(
    "tail-of-other-zone",
    "Z4 F5",
    "gigantic boot pages that cross a zone border",
    implied="Z2",
)
def of_other_zone(image: Image, rng: random.Random) -> Place:
    """All tails of a folio map a shared tail page made for another zone."""
    folio = optimised(image, rng)
    state = image.core.frames.states.get(folio.pfn)
    assert state is not None
    key = (state.node, state.zone, folio.order)
    if key not in image.core.tails:
        raise NotApplicable("tails of this generation are not shared by a zone")
    others = [z for z in sorted(image.zones) if z != state.zone_key and z[1] < 4]
    zone = choose(rng, others, "second zone")
    _give_tail(image, zone, folio.order, image.core.tails[key].frame)
    image.write64(_slot(image, key), 0)
    return {"head_pfn": folio.pfn, "node": zone[0], "order": folio.order}


def _give_tail(image: Image, zone: tuple[int, int], order: int, frame: int) -> None:
    """Enter a shared tail page for a zone."""
    obj = image.zones[zone]
    index = order - image.core.min_order
    if not image.types.is_array("zone.vmemmap_tails"):
        if not obj.get("vmemmap_tails"):
            length = image.arch.max_folio_order - image.core.min_order + 1
            array = image.heap.take(8 * length)
            obj.set("vmemmap_tails", array + image.heap.offset)
        at = obj.get("vmemmap_tails") - image.heap.offset + 8 * index
        image.write64(at, image.page_va(frame))
        return
    obj.set(f"vmemmap_tails[{index}]", image.page_va(frame))


@fault("tail-writable", "Z5 F3", "a missing write protection after boot or remap")
def writable(image: Image, rng: random.Random) -> Place:
    """One tail vmemmap page of an optimised hugetlb folio is writable."""
    folio = optimised(image, rng)
    page = folio.first_page + rng.randrange(image.core.generation.kept, folio.pages)
    set_pte(image, page, image.frame_of(page), writable=True)
    return {"head_pfn": folio.pfn, "page": page}


@fault(
    "tail-protected-short",
    "Z5 F3",
    "mm/hugetlb_vmemmap: pages of a gigantic boot page taken for bytes",
)
def protected_short(image: Image, rng: random.Random) -> Place:
    """Of a gigantic page populated in shared form at boot the first tails alone are
    read-only: as many bytes of vmemmap as the folio has pages."""
    pages = image.arch.pages_per_section
    prepared = {nr for nr, s in image.core.sections.items() if s.preinit}
    found = [f for f in folios(image, True) if f.pfn // pages in prepared]
    folio = choose(rng, found, "gigantic page populated in shared form at boot")
    first = (1 << folio.order) >> image.arch.page_shift
    for page in range(folio.first_page + first, folio.first_page + folio.pages):
        set_pte(image, page, image.frame_of(page), writable=True)
    return {"head_pfn": folio.pfn, "page": folio.first_page + first}


@fault(
    "tail-doubled",
    "Z6",
    "double allocation of a shared tail page",
    implied="Z2 Z4",
)
def doubled(image: Image, rng: random.Random) -> Place:
    """Two orders of a zone have the same shared tail page."""
    key, frame = _tail(image, rng)
    other = key[2] + 1
    _give_tail(image, key[:2], other, frame)
    return {**_place(image, key), "also_order": other}


@fault(
    "tail-page-table",
    "Z6 F12",
    "a page table allocated on top of a tail page",
    implied="C1 F4 F11 P1 P5 Z2 Z3",
)
def page_table(image: Image, rng: random.Random) -> Place:
    """A zone's tail pointer names the frame of a vmemmap page table."""
    key, _ = _tail(image, rng)
    tables = sorted(image.core.vmemmap.tables.values())
    frame = choose(rng, tables, "page table of the vmemmap")
    image.write64(_slot(image, key), image.page_va(frame))
    return {**_place(image, key), "frame_pfn": frame}


@fault(
    "tail-pointer-stale",
    "Z1 Z2",
    "a pointer to a tail page that was freed and reused",
    implied="C1 F4 Z3",
)
def pointer_stale(image: Image, rng: random.Random) -> Place:
    """A zone's tail pointer names a frame that holds something else."""
    key, _ = _tail(image, rng)
    frame = spare_frame(image, rng)
    image.write64(_slot(image, key), image.page_va(frame))
    return {**_place(image, key), "frame_pfn": frame}
