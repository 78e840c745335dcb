# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pages and Zones
---------------

Node and zone of a page, and the struct pages that a zone shares among the vmemmaps of
its folios.
"""

from __future__ import annotations

from collections.abc import Iterator

from drgn import FaultError, Object, Program
from drgn.helpers.common.prog import takes_program_or_default
from drgn.helpers.linux.mm import page_flags
from drgn.helpers.linux.mmzone import NODE_DATA

from .reading import (
    address_of,
    kernel_address_of,
    layout_of,
    reading_of,
    require_complete,
    struct_page_of,
    translated_faults,
)

__all__ = [
    "for_each_zone",
    "page_to_nid",
    "page_zone",
    "page_zonenum",
    "zone_vmemmap_tails",
]

POISON = (1 << 64) - 1
"""The flags of a struct page filled with 0xff (``PAGE_POISON_PATTERN``)."""


def page_to_nid(page: Object) -> int:
    """
    Get the NUMA node of a page.

    >>> page_to_nid(pfn_to_page(0x1000))
    0

    :param page: ``struct page *``
    :raises ValueError: if it is not a struct page, or was never initialized
    """
    return layout_of(page.prog_).pages.node_of(_flags(page))


def page_zonenum(page: Object) -> int:
    """
    Get the number of a page's zone within its node.

    :param page: ``struct page *``
    :return: ``enum zone_type``
    :raises ValueError: if it is not a struct page, or was never initialized
    """
    return layout_of(page.prog_).pages.zone_index_of(_flags(page))


def page_zone(page: Object) -> Object:
    """
    Get the zone of a page.

    >>> page_zone(pfn_to_page(0x1000)).name.string_()
    b'DMA32'

    :param page: ``struct page *``
    :return: ``struct zone *``
    :raises ValueError: if it is not a struct page, was never initialized, or names a
        node or zone that does not exist
    """
    prog = page.prog_
    node, index = page_to_nid(page), page_zonenum(page)
    nodes = prog["node_data"].type_.length if "node_data" in prog else 1
    if nodes is None or node < nodes:
        pgdat = NODE_DATA(prog, node)
        if pgdat and 0 <= index < (pgdat.node_zones.type_.length or 0):
            return pgdat.node_zones[index].address_of_()
    raise ValueError(
        f"the struct page at {address_of(page):#x} names zone {index} of node {node}, "
        "which does not exist"
    )


@takes_program_or_default
def for_each_zone(prog: Program) -> Iterator[Object]:
    """
    Iterate over all zones of the online nodes, those without pages as well.

    >>> [zone.name.string_() for zone in for_each_zone()][:3]
    [b'DMA', b'DMA32', b'Normal']

    :return: Iterator of ``struct zone *`` objects
    :raises FaultError: behind the last one, if a node cannot be read
    """
    kernel = reading_of(prog)
    for zone in kernel.zones:
        yield Object(prog, "struct zone *", zone.va)
    require_complete(kernel, "zones")


def zone_vmemmap_tails(zone: Object) -> Iterator[tuple[int, Object]]:
    """
    Iterate over the shared tail pages of a zone.

    Since Linux kernel 7.1 the tail struct pages of all optimised folios of one order
    and zone lie on one frame, which ``zone->vmemmap_tails`` knows by its struct page.

    >>> for zone in for_each_zone():
    ...     for order, page in zone_vmemmap_tails(zone):
    ...         print(zone.name.string_().decode(), order, page_to_nid(page))
    Normal 9 0
    Normal 18 0

    :param zone: ``struct zone *`` or ``struct zone``
    :return: Iterator of (order, ``struct page *``) tuples; empty in older kernels
    :raises ValueError: if it is not a zone of an online node
    :raises FaultError: if its node, or its array of tail pages, cannot be read
    """
    kernel = reading_of(zone.prog_)
    va = kernel_address_of(zone, "a struct zone")
    found = kernel.zones.at(va)
    if found is None or found.tails is None:
        require_complete(kernel, "zones")
        raise ValueError(f"no zone of an online node lies at {va:#x}")
    for tail in found.tails:
        yield tail.order, Object(zone.prog_, "struct page *", tail.page_va)


def _flags(page: Object) -> int:
    """``page->flags``. Raises ValueError for what is not an initialized struct page."""
    prog = page.prog_
    address = struct_page_of(layout_of(prog), page)
    flags: int
    try:
        flags = page_flags(page).value_()
    except FaultError:
        # A capsule may hold this word where drgn does not find it.
        pages = reading_of(prog).pages
        with translated_faults():
            flags = pages.page(pages.pfn(address)).flags
    if flags == POISON:
        raise ValueError(f"the struct page at {address:#x} was never initialized")
    return flags
