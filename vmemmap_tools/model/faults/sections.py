# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of mem_section entries: rules S1 to S11."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from vmemmap_tools.model.core import DEVICE
from vmemmap_tools.model.faults.find import choose, sections, spare_frame
from vmemmap_tools.model.faults.registry import NotApplicable, Place, fault
from vmemmap_tools.model.image.sections import section_bit

if TYPE_CHECKING:
    from vmemmap_tools.model.image import Image

__all__: list[str] = []


def _order_member(image: Image) -> str:
    for name in ("order", "compound_page_order"):
        if image.types.has(f"mem_section.{name}"):
            return name
    raise NotApplicable("sections of this generation have no order")


@fault("section-no-usage", "S1", "memory corruption; a half-undone section activation")
def no_usage(image: Image, rng: random.Random) -> Place:
    """A section has a memory map but no usage structure."""
    nr = sections(image, rng).nr
    image.sections[nr].set("usage", 0)
    return {"section": nr}


@fault("section-not-present", "S1", "memory corruption in the section array")
def not_present(image: Image, rng: random.Random) -> Place:
    """A section has a memory map but is not marked present."""
    nr = sections(image, rng).nr
    entry = image.sections[nr]
    word = entry.get("section_mem_map")
    entry.set("section_mem_map", word & ~section_bit(image, "SECTION_MARKED_PRESENT"))
    return {"section": nr}


@fault("section-above-highest", "S1", "an early abort of section initialisation")
def above_highest(image: Image, rng: random.Random) -> Place:
    """A present section lies above __highest_present_section_nr."""
    numbers = sorted(image.core.sections)
    if len(numbers) < 2:
        raise NotApplicable("there is only one section")
    image.variables["__highest_present_section_nr"].set_scalar(numbers[-2])
    return {"section": numbers[-1]}


@fault("section-wrong-map", "S2", "memory corruption in the section array")
def wrong_map(image: Image, rng: random.Random) -> Place:
    """The encoded memory map of one section is that of a vmemmap 4 KiB higher."""
    nr = sections(image, rng).nr
    entry = image.sections[nr]
    entry.set("section_mem_map", entry.get("section_mem_map") + image.arch.page_size)
    return {"section": nr}


@fault(
    "section-empty-bitmap",
    "S3",
    "an activation error path that clears too much",
    implied="S5",
)
def empty_bitmap(image: Image, rng: random.Random) -> Place:
    """A hot-added section with a memory map has no subsection set."""
    nr = sections(image, rng, early=False).nr
    image.usages[nr].set("subsection_map[0]", 0)
    return {"section": nr}


@fault(
    "section-stray-subsection",
    "S3 S4",
    "an activation error path leaving bits set",
)
def stray_subsection(image: Image, rng: random.Random) -> Place:
    """A subsection outside all memory and devices is set in a hot-added section."""
    width = image.arch.pages_per_section // image.arch.pages_per_subsection
    full = (1 << width) - 1
    found = [
        s for s in image.core.sections.values() if not s.early and s.subsections != full
    ]
    section = choose(rng, found, "partly populated hot-added section")
    clear = [i for i in range(width) if not section.subsections >> i & 1]
    index = choose(rng, clear, "clear subsection")
    image.usages[section.nr].set("subsection_map[0]", section.subsections | 1 << index)
    return {"section": section.nr, "subsection": index}


@fault(
    "vmemmap-hole",
    "S4",
    "x86/mm: freeing of PMD-sized vmemmap pages, or of shared ones, too early",
    implied="C1",
)
def hole(image: Image, rng: random.Random) -> Place:
    """A vmemmap page of a populated section is not mapped."""
    vmemmap = image.core.vmemmap
    section = sections(image, rng)
    first = vmemmap.page_of(image.core.section_range(section.nr)[0])
    block = first // vmemmap.entries
    if block not in vmemmap.tables:
        va = image.vmemmap_va(first)
        image.tables.write(2, va, 0)
        return {"section": section.nr, "page": first, "pages": vmemmap.entries}
    mapped = [
        page
        for start, end, _ in vmemmap.runs(first, first + vmemmap.entries)
        for page in range(start, end)
    ]
    page = choose(rng, mapped, "mapped vmemmap page")
    image.write64(image.pte_pa(page), 0)
    return {"section": section.nr, "page": page, "pages": 1}


@fault(
    "vmemmap-leak",
    "S5",
    "memory_hotplug: error path that frees with the wrong altmap or pgmap",
    implied="F12 C1",
)
def leak(image: Image, rng: random.Random) -> Place:
    """The vmemmap of a section that is not present is still mapped."""
    vmemmap = image.core.vmemmap
    present = image.core.sections
    absent = [nr + 1 for nr in present if nr + 1 not in present]
    nr = choose(rng, absent, "absent section")
    block = vmemmap.page_of(image.core.section_range(nr)[0]) // vmemmap.entries
    page = block * vmemmap.entries
    frame = spare_frame(image, rng)
    flags = image.tables.flags
    entry = image.tables.entry(frame, flags.page)
    image.tables.write(1, image.vmemmap_va(page), entry)
    return {"section": nr, "page": page, "frame_pfn": frame}


@fault("section-bad-order", "S6", "memory corruption in the section array")
def bad_order(image: Image, rng: random.Random) -> Place:
    """A section's order lies outside the orders that can be optimised."""
    name = _order_member(image)
    nr = sections(image, rng).nr
    order = rng.choice([1, image.core.min_order - 1, image.arch.max_folio_order + 1])
    image.sections[nr].set(name, order)
    return {"section": nr, "order": order}


@fault(
    "section-stale-order",
    "S7 S8",
    "an order that outlives boot-time gathering",
)
def stale_order(image: Image, rng: random.Random) -> Place:
    """An early section of RAM still carries the order of a gigantic boot page."""
    name = _order_member(image)
    nr = sections(image, rng, early=True).nr
    image.sections[nr].set(name, 18)
    return {"section": nr, "order": 18}


@fault(
    "section-order-huge-leaf",
    "S8 P1",
    "the populate path choosing a huge page",
    implied="C1 F12 P5",
)
def order_huge_leaf(image: Image, rng: random.Random) -> Place:
    """A section with an order is mapped by one PMD leaf."""
    _order_member(image)
    found = [s for s in image.core.sections.values() if s.order]
    section = choose(rng, found, "section with an order")
    vmemmap = image.core.vmemmap
    page = vmemmap.page_of(image.core.section_range(section.nr)[0])
    frame = spare_frame(image, rng) // vmemmap.entries * vmemmap.entries
    image.tables.map_huge(2, image.vmemmap_va(page), frame)
    return {"section": section.nr, "page": page}


@fault("section-order-differs", "S9 S7", "partial activation of a gigantic compound")
def order_differs(image: Image, rng: random.Random) -> Place:
    """One section of a compound page larger than a section has no order."""
    name = _order_member(image)
    pages = image.arch.pages_per_section
    found = [s for s in image.core.sections.values() if 1 << s.order > pages]
    section = choose(rng, found, "section inside a larger compound page")
    image.sections[section.nr].set(name, 0)
    return {"section": section.nr}


@fault("section-missing-taint", "S10", "a missing taint: pfn_to_online_page is wrong")
def missing_taint(image: Image, rng: random.Random) -> Place:
    """An online section with device memory lacks the taint flag."""
    found = [s for s in image.core.sections.values() if s.taint]
    section = choose(rng, found, "tainted section")
    entry = image.sections[section.nr]
    word = entry.get("section_mem_map")
    entry.set(
        "section_mem_map", word & ~section_bit(image, "SECTION_TAINT_ZONE_DEVICE")
    )
    return {"section": section.nr}


@fault("section-stale-preinit", "S11", "a flag set for a section nobody pre-populated")
def stale_preinit(image: Image, rng: random.Random) -> Place:
    """An ordinary section claims to have been populated in optimised form."""
    if not image.types.has_enumerator("SECTION_IS_VMEMMAP_PREINIT_BIT"):
        raise NotApplicable("sections of this generation have no such flag")
    found = [s for s in image.core.sections.values() if s.early and not s.preinit]
    section = choose(rng, found, "early section without the flag")
    entry = image.sections[section.nr]
    word = entry.get("section_mem_map")
    entry.set(
        "section_mem_map", word | section_bit(image, "SECTION_IS_VMEMMAP_PREINIT")
    )
    return {"section": section.nr}


@fault("section-wrong-zone", "S9", "activation with the zone of another node or type")
def wrong_zone(image: Image, rng: random.Random) -> Place:
    """A section records a zone that its pages do not lie in."""
    if not image.types.has("mem_section.zone"):
        raise NotApplicable("sections of this generation record no zone")
    section = sections(image, rng)
    entry = image.sections[section.nr]
    if image.types.sizeof("mem_section.zone") == 8:
        wrong = image.zones[section.nid, DEVICE - 1].va
    else:
        wrong = DEVICE - 1
    entry.set("zone", wrong)
    return {"section": section.nr}
