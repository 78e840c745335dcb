# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finding victims in an image, and the small writes that faults are made of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vmemmap_tools.model.faults.registry import NotApplicable
from vmemmap_tools.model.frames import Kind

if TYPE_CHECKING:
    from vmemmap_tools.model.core import Section
    from vmemmap_tools.model.dax import Pgmap
    from vmemmap_tools.model.image import Image

__all__ = [
    "Folio",
    "choose",
    "folios",
    "free_block",
    "get_pte",
    "optimised",
    "pgmaps",
    "sections",
    "set_pte",
    "shared_pgmaps",
    "spare_frame",
    "unlink",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Folio:
    """A hugetlb folio of the image."""

    pfn: int
    order: int
    size: int
    first_page: int
    pages: int


def choose(rng: random.Random, options: Sequence[T], what: str) -> T:
    """Pick one; NotApplicable when there is none."""
    if not options:
        raise NotApplicable(f"this machine has no {what}")
    return options[rng.randrange(len(options))]


def folios(image: Image, is_optimised: bool | None = None) -> list[Folio]:
    """Up to a thousand hugetlb folios, optimised ones or others or all."""
    pools, vmemmap = image.machine.hugetlb, image.core.vmemmap
    table = pools.table
    if is_optimised is not None:
        table = table[table["optimised"] == is_optimised]
    out = []
    for row in table[:1000]:
        hstate = pools.hstates[int(row["hstate"])]
        pfn = int(row["pfn"])
        out.append(
            Folio(
                pfn,
                hstate.order,
                hstate.size,
                vmemmap.page_of(pfn),
                vmemmap.pages_per(hstate.order),
            )
        )
    return out


def optimised(image: Image, rng: random.Random) -> Folio:
    """An optimised folio."""
    return choose(rng, folios(image, True), "optimised hugetlb folio")


def sections(image: Image, rng: random.Random, early: bool | None = None) -> Section:
    """A present section; early, hot-added or any."""
    found = [
        s for s in image.core.sections.values() if early is None or s.early == early
    ]
    kind = {None: "section", True: "early section", False: "hot-added section"}[early]
    return choose(rng, found, kind)


def pgmaps(image: Image) -> list[Pgmap]:
    """All dev_pagemaps."""
    return list(image.machine.devices.pgmaps.values())


def shared_pgmaps(image: Image) -> list[Pgmap]:
    """dev_pagemaps whose compounds share vmemmap frames from their first page on."""
    out = []
    for pgmap in pgmaps(image):
        page = image.core.vmemmap.page_of(pgmap.start_pfn)
        backing = image.core.vmemmap.ledger.get(page)
        if backing is not None and backing.why == "dax" and backing.period:
            out.append(pgmap)
    return out


def get_pte(image: Image, vmemmap_page: int) -> int:
    """The entry of a PTE-mapped vmemmap page."""
    return image.read64(image.pte_pa(vmemmap_page))


def set_pte(image: Image, vmemmap_page: int, frame: int, writable: bool) -> None:
    """Point a PTE-mapped vmemmap page at a frame."""
    flags = image.tables.flags
    value = image.tables.entry(frame, flags.page if writable else flags.tail)
    image.write64(image.pte_pa(vmemmap_page), value)


def free_block(image: Image, rng: random.Random, frames: int) -> int:
    """The pfn of a run of free frames, aligned to their number."""
    found = []
    for key in sorted(image.core.frames.free):
        for start, end in image.core.frames.free[key]:
            low = -(-start // frames) * frames
            if low + frames <= end:
                found.append(low)
    return choose(rng, found, f"run of {frames} free frames")


def spare_frame(image: Image, rng: random.Random) -> int:
    """A frame that a kernel allocation got, holding nothing in particular."""
    found = [
        start
        for start, _, run in image.core.frames.states.runs()
        if run.kind in (Kind.SLAB, Kind.ANON)
    ]
    if found:
        return choose(rng, found, "allocated frame")
    return free_block(image, rng, 1)


def unlink(image: Image, pfn: int) -> None:
    """Take a folio off the list that it is on, as ``__list_del_entry()`` does."""
    page = image.page(pfn)
    after, before = page.get("lru.next"), page.get("lru.prev")
    _write_va(image, before, after)
    _write_va(image, after + 8, before)


def _write_va(image: Image, va: int, value: int) -> None:
    """Write a pointer at an address in the vmemmap or in the kernel image."""
    base = image.page_va(0)
    size = image.types.sizeof("struct page")
    if base <= va < base + image.core.placement.space.vmemmap_size:
        pfn, offset = divmod(va - base, size)
        image.write64(image.page_pa(pfn) + offset, value)
    else:
        image.write64(va - image.arch.image_map + image.phys_base, value)
