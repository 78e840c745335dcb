# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Memory Sections
---------------

Sections of any size of ``struct mem_section``: drgn's own ``nr_to_section()`` wants a
power of two, which newer kernels need not have. What drgn tells of a section that is at
hand (``decode_section_flags()``, ``present_section()``, ...) it tells of these too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

from drgn import NULL, FaultError, IntegerLike, Object, Program
from drgn.helpers.common.prog import takes_program_or_default

from ..analysis.placement import place_section
from ..kernel.sections import Section
from .reading import (
    kernel_address_of,
    layout_of,
    reading_of,
    require_complete,
    translated_faults,
)

__all__ = [
    "for_each_section",
    "nr_to_section",
    "pfn_to_section",
    "section_compound_order",
    "section_state",
    "section_zone",
]

ENTRY = "an entry of mem_section"


@takes_program_or_default
def for_each_section(prog: Program) -> Iterator[tuple[int, Object]]:
    """
    Iterate over all entries of ``mem_section`` that are in use.

    >>> for nr, section in for_each_section():
    ...     if not online_section(section):
    ...         print(nr, section_state(section), decode_section_flags(section))
    ...         break
    64 PM SECTION_MARKED_PRESENT|SECTION_HAS_MEM_MAP

    :return: Iterator of (section number, ``struct mem_section *``) tuples
    :raises FaultError: behind the last one, if some entries cannot be read
    """
    kernel = reading_of(prog)
    for section in kernel.sections:
        yield section.nr, Object(prog, "struct mem_section *", section.va)
    require_complete(kernel, "sections")


@takes_program_or_default
def nr_to_section(prog: Program, nr: IntegerLike) -> Object:
    """
    Find a section by its number.

    :param nr: ``unsigned long``
    :return: ``struct mem_section *`` (``NULL`` if it is not in use)
    :raises FaultError: if its entry cannot be read
    """
    return _pointer(prog, operator.index(nr))


@takes_program_or_default
def pfn_to_section(prog: Program, pfn: IntegerLike) -> Object:
    """
    Find the section that a page frame number (PFN) lies in.

    >>> section_state(pfn_to_section(0x10000))
    'PMOE'

    :param pfn: ``unsigned long``
    :return: ``struct mem_section *`` (``NULL`` if it is not in use)
    :raises FaultError: if its entry cannot be read
    """
    per_section = layout_of(prog).geometry.pages_per_section
    return _pointer(prog, operator.index(pfn) // per_section)


def section_state(section: Object) -> str:
    """
    Get the state of a section as letters.

    These are the letters of crash's ``kmem -n``: P (marked present), M (has a memory
    map), O (online), E (early: from boot), D (shares its memory with a device); and V
    (its vmemmap was initialised before the memory map: ``SECTION_IS_VMEMMAP_PREINIT``).

    :param section: ``struct mem_section *``
    :raises ValueError: if it is NULL or a user address
    :raises FaultError: if the entry cannot be read
    """
    return _entry(section).state


def section_compound_order(section: Object) -> int | None:
    """
    Get the order of the compound pages that a section's vmemmap is shared for.

    >>> {section_compound_order(section) for nr, section in for_each_section()}
    {None}

    :param section: ``struct mem_section *``
    :return: The order, 0 where nothing is shared by section, ``None`` in a kernel that
        does not record it
    :raises ValueError: if it is NULL or a user address
    :raises FaultError: if the entry cannot be read
    """
    return _entry(section).order


def section_zone(section: Object) -> Object:
    """
    Get the zone of a section's pages.

    >>> section_zone(pfn_to_section(0x10000)).name.string_()
    b'DMA32'

    :param section: ``struct mem_section *``
    :return: ``struct zone *`` (``NULL`` if its pages are in more than one, or in none)
    :raises ValueError: if it is no entry of ``mem_section`` that is in use
    :raises FaultError: if zones or its struct pages cannot be read
    """
    prog = section.prog_
    kernel = reading_of(prog)
    va = kernel_address_of(section, ENTRY)
    entry = kernel.sections.at(va)
    if entry is None:
        require_complete(kernel, "sections")
        raise ValueError(f"no section in use has its entry at {va:#x}")
    require_complete(kernel, "zone names")
    place = place_section(kernel, entry)
    if not place.is_known:
        raise FaultError("struct pages of the section cannot be read", entry.va)
    for zone in kernel.zones:
        if (zone.node, zone.name) == (place.node, place.zone):
            return Object(prog, "struct zone *", zone.va)
    return NULL(prog, "struct zone *")


def _entry(section: Object) -> Section:
    """What the entry itself says, as it now is; its number is not known."""
    kernel, va = layout_of(section.prog_), kernel_address_of(section, ENTRY)
    with translated_faults():
        data = kernel.memory.read(va, kernel.sections.struct.size)
    return kernel.sections.decode(0, data, va)


def _pointer(prog: Program, nr: int) -> Object:
    sections = reading_of(prog).sections
    section = sections.get(nr)
    if section is not None:
        return Object(prog, "struct mem_section *", section.va)
    size = sections.geometry.pages_per_section
    if nr >= 0 and sections.has_unread(nr * size, (nr + 1) * size):
        raise FaultError(f"the entry of section {nr} cannot be read", 0)
    return NULL(prog, "struct mem_section *")
