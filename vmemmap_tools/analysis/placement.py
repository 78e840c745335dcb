# SPDX-License-Identifier: LGPL-2.1-or-later
"""Node and zone of a section, from its struct pages where spans do not decide."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernel.kernel import Kernel
from ..kernel.sections import Section
from ..target.base import Fault

__all__ = ["MIXED", "Placement", "place_section", "section_zone_name"]

MIXED = "mixed"


@dataclass(frozen=True)
class Placement:
    """``node`` is None when unknown or more than one; ``zone`` may be "mixed".

    ``is_known`` is False where a struct page that decides could not be read.
    """

    node: int | None
    zone: str | None
    is_known: bool = True


def place_section(kernel: Kernel, section: Section) -> Placement:
    """Node and zone of a section's pages, a sample from every subsection."""
    if not section.has_mem_map:
        return Placement(None, None)
    g = kernel.geometry
    start, end = section.start_pfn, section.start_pfn + g.pages_per_section
    touching = [z for z in kernel.zones if z.spanned and z.start_pfn < end <= 1 << 64]
    touching = [z for z in touching if z.end_pfn > start]
    # A zone that is missing may lie within the span of one that is not.
    is_alone = len(touching) == 1 and kernel.is_complete("zones")
    if is_alone and touching[0].spans(start) and touching[0].spans(end - 1):
        return Placement(touching[0].node, touching[0].name)
    return _sample(kernel, section)


def _sample(kernel: Kernel, section: Section) -> Placement:
    """Node and zone by a struct page of each subsection, as far as they were read."""
    g, pages = kernel.geometry, kernel.pages
    places: set[tuple[int, int]] = set()
    is_whole, valid = True, None
    try:
        valid = None if section.is_early else kernel.sections.subsection_map(section)
    except Fault as fault:
        kernel.missing.record(fault, "mem_section_usage")
        is_whole = False
    step = min(g.pages_per_subsection, g.pages_per_section)
    for i in range(g.pages_per_section // step):
        if valid is not None and not valid >> i & 1:
            continue
        try:
            page = pages.page(section.start_pfn + i * step)
        except Fault as fault:
            # Which subsections are populated may be unknown: then holes are normal.
            if fault.kind != "unmapped" or (is_whole and kernel.types_are_known):
                kernel.missing.record(fault, "struct pages")
                is_whole = False
            continue
        # All zeros or all ones: never initialised (the memmap of an altmap itself).
        if any(page.data) and not page.is_poisoned:
            places.add((pages.node(page), pages.zone_index(page)))
    nodes = {node for node, _ in places}
    zones = {zone for _, zone in places}
    if len(zones) > 1:
        zone: str | None = MIXED
    else:
        zone = kernel.zone_name(zones.pop()) if zones and is_whole else None
    node = nodes.pop() if len(nodes) == 1 and is_whole else None
    return Placement(node, zone, is_whole or len(zones) > 1)


def section_zone_name(kernel: Kernel, section: Section) -> str | None:
    """The zone that mem_section itself names, in kernels with such a member."""
    word, member = section.zone_word, kernel.sections.zone_member
    if word is None or member is None:
        return None
    if kernel.sections.struct[member].kind == "pointer":
        zone = kernel.zones.at(word)
        if zone is not None or not kernel.is_complete("zones"):
            return None if zone is None else zone.name
        return f"{word:#x}" if word else None
    return kernel.zone_name(word)
