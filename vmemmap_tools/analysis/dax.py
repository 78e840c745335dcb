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


@dataclass(frozen=True)
class DaxRange:
    """One range of a dev_pagemap, measured. Page counts are vmemmap pages."""

    pgmap: Pgmap
    start_pfn: int
    end_pfn: int
    node: int | None
    zone: str | None
    compounds: int
    optimised: int
    saved_pages: int
    expected_saved_pages: int
    generalised_extra_pages: int
    extent: Extent

    @property
    def savable_pages(self) -> int:
        """Vmemmap pages that this kernel would share, but does not."""
        return max(0, self.expected_saved_pages - self.saved_pages)


def measure(kernel: Kernel) -> Iterator[DaxRange]:
    """Every range of every dev_pagemap."""
    for pgmap in kernel.pgmaps:
        for one in pgmap.device_ranges():
            yield _measure_range(kernel, one)


def _measure_range(kernel: Kernel, one: DeviceRange) -> DaxRange:
    pgmap, start, end = one.pgmap, one.start, one.end
    compounds = optimised = saved = expected = extra = 0
    for head, backing in compounds_of(kernel, pgmap, one.first_pfn, end):
        compounds += 1
        saved += backing.saved_pages
        if backing.is_optimised:
            optimised += 1
            extra += max(0, backing.kept - KEPT_GENERALISED)
        expected += expected_saving(kernel, pgmap, start, end, head)
    g = kernel.geometry
    node, zone = placement(kernel, pgmap, start, end)
    return DaxRange(
        pgmap=pgmap,
        start_pfn=start,
        end_pfn=end,
        node=node,
        zone=zone,
        compounds=compounds,
        optimised=optimised,
        saved_pages=saved,
        expected_saved_pages=expected,
        generalised_extra_pages=extra if g.struct_page_size_is_power_of_two else 0,
        extent=kernel.vmemmap.extent(vmemmap_spans(kernel, start, end)),
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
) -> tuple[int | None, str | None]:
    """Node and zone of a range, from its last compound's head.

    Not from the first: the struct pages of an altmap's reserve are never initialised.
    """
    pfn = max(start, end - (1 << pgmap.compound_order))
    try:
        page = kernel.pages.page(pfn)
    except Fault as fault:
        kernel.missing.record(fault, "struct pages of device memory")
        return None, None
    if page.is_poisoned or not page.flags:
        return None, None
    index = kernel.pages.zone_index(page)
    return kernel.pages.node(page), kernel.zone_name(index)
