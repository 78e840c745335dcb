# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device memory: how much of its vmemmap is shared, against what the kernel would do.

Device DAX compounds are known from the dev_pagemap alone (range and vmemmap_shift);
whether each is deduplicated is read from the page tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..kernel.compound import CompoundBacking, classify
from ..kernel.kernel import Kernel
from ..kernel.pgmap import DeviceRange, Pgmap
from ..kernel.vmemmap import Extent
from ..target.base import Fault

__all__ = ["DaxRange", "compounds_of", "measure", "placement", "vmemmap_spans"]

KEPT_BEFORE_GENERALISED = 2
KEPT_GENERALISED = 1
PLACES = 16
"""Struct pages of a range that are tried for its node and zone."""


@dataclass(frozen=True)
class DaxRange:
    """One range of a dev_pagemap, measured. Page counts are vmemmap pages.

    None where sections, page tables or zones that decide could not be read; ``node``
    and ``zone_index`` also where the struct page that has them is not initialised. It
    could not be read where ``is_placed`` is False.
    """

    pgmap: Pgmap
    start_pfn: int
    end_pfn: int
    node: int | None
    zone_index: int | None
    is_placed: bool
    zone: str | None
    compounds: int | None
    optimised: int | None
    saved_pages: int | None
    expected_saved_pages: int | None
    generalised_extra_pages: int | None
    extent: Extent | None

    @property
    def savable_pages(self) -> int | None:
        """Vmemmap pages that this kernel would share, but does not."""
        if self.expected_saved_pages is None or self.saved_pages is None:
            return None
        return max(0, self.expected_saved_pages - self.saved_pages)


def measure(kernel: Kernel) -> Iterator[DaxRange]:
    """Every range of every dev_pagemap."""
    for pgmap in kernel.pgmaps:
        for one in pgmap.device_ranges():
            yield _measure_range(kernel, one)


def _measure_range(kernel: Kernel, one: DeviceRange) -> DaxRange:
    pgmap, start, end = one.pgmap, one.start, one.end
    compounds = optimised = saved = expected = extra = 0
    knows_sections = not kernel.sections.has_unread(start, end)
    # Without compound pages there is nothing to find in sections.
    knows_backing = knows_compounds = knows_sections or not pgmap.compound_order
    for head, backing in compounds_of(kernel, pgmap, one.first_pfn, end):
        compounds += 1
        knows_backing = knows_backing and backing.is_known
        saved += backing.saved_pages
        if backing.is_optimised:
            optimised += 1
            extra += max(0, backing.kept - KEPT_GENERALISED)
        expected += expected_saving(kernel, pgmap, start, end, head)
    g = kernel.geometry
    place = placement(kernel, pgmap, start, end)
    node, zone_index = place or (None, None)
    spans = list(vmemmap_spans(kernel, start, end))
    knows_tables = knows_sections and not any(
        kernel.vmemmap.is_absent(*span) for span in spans
    )
    return DaxRange(
        pgmap=pgmap,
        start_pfn=start,
        end_pfn=end,
        node=node,
        zone_index=zone_index,
        is_placed=place is not None,
        zone=None if zone_index is None else kernel.zone_name(zone_index),
        compounds=compounds if knows_compounds else None,
        optimised=optimised if knows_backing else None,
        saved_pages=saved if knows_backing else None,
        expected_saved_pages=expected if knows_compounds else None,
        generalised_extra_pages=None
        if not knows_backing
        else extra
        if g.struct_page_size_is_power_of_two
        else 0,
        extent=kernel.vmemmap.extent(spans) if knows_tables else None,
    )


def compounds_of(
    kernel: Kernel, pgmap: Pgmap, start: int, end: int
) -> Iterator[tuple[int, CompoundBacking]]:
    """(head pfn, backing) of the whole compounds of a range that sections know.

    ``start`` is the range's `DeviceRange.first_pfn`.

    Nothing when the map has no compound pages. Going by sections bounds the walk: the
    range itself comes from the dump.
    """
    pages = kernel.geometry.vmemmap_pages(pgmap.compound_order)
    if not pgmap.compound_order or not pages:
        return
    step = 1 << pgmap.compound_order
    last = end - step
    per_section = kernel.geometry.pages_per_section
    for section in kernel.sections.between(start, end):
        first = max(0, -(-(section.start_pfn - start) // step)) * step + start
        for head in range(first, min(section.start_pfn + per_section, last + 1), step):
            number = kernel.pages.vmemmap_page(head)
            yield head, classify(kernel.vmemmap, number, pages, kernel.tail_frames)


def vmemmap_spans(kernel: Kernel, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(first vmemmap page, count) of the parts of a pfn range that sections know."""
    pages, per_section = kernel.pages, kernel.geometry.pages_per_section
    for section in kernel.sections.between(start, end):
        low = max(start, section.start_pfn)
        high = min(end, section.start_pfn + per_section)
        first = pages.vmemmap_page(low)
        yield first, kernel.vmemmap.page_number(pages.va(high) - 1) - first + 1


def expected_saving(
    kernel: Kernel,
    pgmap: Pgmap,
    start: int,
    end: int,
    head: int,
    is_generalised: bool | None = None,
) -> int:
    """Vmemmap pages that this kernel saves for a compound of this map.

    ``is_generalised`` asks what it is with sections that carry the order of device
    compounds or without; by default what the kernel's types say.

    Mirrors ``vmemmap_can_optimize()``: compound pages, no altmap, a power-of-two struct
    page, more pages than are kept; nothing where device memory was added to a section
    of boot memory, whose memmap serves as it is.
    """
    g = kernel.geometry
    pages = g.vmemmap_pages(pgmap.compound_order)
    section = kernel.sections.of_pfn(head)
    if (
        not kernel.has("dax-dedup")
        or pgmap.altmap is not None
        or not g.struct_page_size_is_power_of_two
        or section is None
        or section.is_early
    ):
        return 0
    if is_generalised is None:
        is_generalised = kernel.sections.order_member == "compound_page_order"
    if not is_generalised:
        return max(0, pages - KEPT_BEFORE_GENERALISED)
    # The generalised framework shares only in sections that the range fills.
    first = section.start_pfn
    last = max(head + (1 << pgmap.compound_order), first + g.pages_per_section)
    return max(0, pages - KEPT_GENERALISED) if start <= first and last <= end else 0


def placement(
    kernel: Kernel, pgmap: Pgmap, start: int, end: int
) -> tuple[int | None, int | None] | None:
    """Node and zone index of a range, from its last compound's head.

    Not from the first: the struct pages of an altmap's reserve are never initialised.
    Where that head cannot be read, a few before it are asked; None if none can be read.
    """
    step = max(1 << pgmap.compound_order, (end - start) // PLACES)
    is_lost = False
    for pfn in range(max(start, end - (1 << pgmap.compound_order)), start - 1, -step):
        try:
            page = kernel.pages.page(pfn)
        except Fault as fault:
            if not is_lost:
                kernel.missing.record(fault, "struct pages of device memory")
            is_lost = True
            continue
        if not page.is_poisoned and page.flags:
            return kernel.pages.node(page), kernel.pages.zone_index(page)
        if not is_lost:
            return None, None
    return None
