# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Page Tables of the Vmemmap
--------------------------

What the kernel's own page tables say: level by level for one address, leaf by leaf for
a range of the vmemmap, and the other way round for a frame.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import NamedTuple

from drgn import FaultError, IntegerLike, Object, Program
from drgn.helpers.common.prog import takes_program_or_default

from ..kernel.vmemmap import HOLE
from .reading import (
    address_of,
    reading_of,
    require_complete,
    struct_page_of,
    translated_faults,
)

__all__ = [
    "PageTableStep",
    "VmemmapLeaf",
    "for_each_vmemmap_leaf",
    "for_each_vmemmap_page_of_frame",
    "page_vmemmap_frame",
    "vmemmap_frame_mappings",
    "walk_page_table",
]


class PageTableStep(NamedTuple):
    """One level of a page-table walk."""

    level: int
    """1 is the last level (PTE)."""
    name: str
    """``"PGD"``, ``"P4D"``, ``"PUD"``, ``"PMD"`` or ``"PTE"``."""
    entry_pa: int
    """Physical address of the entry."""
    entry: int
    """The entry itself."""
    flags: str
    """Its flags, such as ``"PRESENT|RW|ACCESSED"``; empty if it is not present."""
    is_leaf: bool
    """Whether it maps memory."""


class VmemmapLeaf(NamedTuple):
    """One leaf of the vmemmap's page tables."""

    address: int
    """Virtual address of its first byte."""
    size: int
    """Bytes that it maps."""
    pfn: int
    """Frame behind its first byte."""
    is_readonly: bool
    entry: int


@takes_program_or_default
def walk_page_table(
    prog: Program, address: Object | IntegerLike
) -> Iterator[PageTableStep]:
    """
    Walk the kernel's page tables for an address, from the root to a leaf or a hole.

    >>> for step in walk_page_table(pfn_to_page(0x10000)):
    ...     print(step.level, step.name, step.flags)
    4 PGD PRESENT|RW|USER|ACCESSED|DIRTY
    3 PUD PRESENT|RW|USER|ACCESSED|DIRTY
    2 PMD PRESENT|RW|ACCESSED|DIRTY|PSE|GLOBAL|NX

    :param address: ``void *``, or a number
    :raises ValueError: if the processor does not take it for an address
    :raises FaultError: if a page table cannot be read
    """
    kernel = reading_of(prog)
    fmt = kernel.geometry.table_format
    va = address_of(address)
    if not kernel.page_table.is_address(va):
        raise ValueError(f"{va:#x} is not a canonical address")
    with translated_faults():
        steps = kernel.page_table.walk(va)
    for step in steps:
        flags = fmt.decode_flags(step.entry, step.level, step.is_leaf)
        yield PageTableStep(
            step.level,
            step.name,
            step.table_pa + 8 * step.index,
            step.entry,
            "|".join(flags) if step.is_present else "",
            step.is_leaf,
        )


@takes_program_or_default
def for_each_vmemmap_leaf(
    prog: Program,
    start: Object | IntegerLike | None = None,
    end: Object | IntegerLike | None = None,
) -> Iterator[VmemmapLeaf]:
    """
    Iterate over the leaves that map a range of the vmemmap, in order.

    >>> sum(leaf.size for leaf in for_each_vmemmap_leaf() if leaf.is_readonly) >> 20
    16

    :param start: ``void *`` or a number; the whole vmemmap by default
    :param end: First address that is not meant
    :raises FaultError: behind the last one, if a page table of the range is missing
    """
    vmemmap = reading_of(prog).vmemmap
    first = vmemmap.start_va if start is None else address_of(start)
    last = vmemmap.end_va if end is None else address_of(end)
    first, last = max(first, vmemmap.start_va), min(last, vmemmap.end_va)
    if first >= last:
        return
    pages = vmemmap.page_number(first), vmemmap.page_number(last - 1) + 1
    for leaf in vmemmap.leaves(*pages):
        if leaf.va < last and first < leaf.va + leaf.size:
            yield VmemmapLeaf(
                leaf.va, leaf.size, leaf.frame_pfn, leaf.is_readonly, leaf.entry
            )
    if vmemmap.is_absent(pages[0], pages[1] - pages[0]):
        raise FaultError("a page table of this range cannot be read", first)


def page_vmemmap_frame(page: Object) -> int | None:
    """
    Get the frame behind a struct page, by the vmemmap's page tables.

    :param page: ``struct page *``
    :return: The frame's PFN, ``None`` if the struct page is not mapped
    :raises ValueError: if it is not a struct page
    :raises FaultError: if the page table that maps it cannot be read
    """
    kernel = reading_of(page.prog_)
    vmemmap, va = kernel.vmemmap, struct_page_of(kernel, page)
    number = vmemmap.page_number(va)
    if vmemmap.is_absent(number):
        raise FaultError("the page table of this address cannot be read", va)
    frame = vmemmap.frame(number)
    return None if frame == HOLE else frame


@takes_program_or_default
def vmemmap_frame_mappings(prog: Program, pfn: IntegerLike) -> int:
    """
    Get the number of vmemmap pages that a frame stands behind.

    >>> [vmemmap_frame_mappings(page_to_pfn(page)) for zone in for_each_zone()
    ...     for order, page in zone_vmemmap_tails(zone)]
    [140, 4095]

    :param pfn: PFN of the frame
    :raises FaultError: if a page table of the vmemmap cannot be read
    """
    kernel = reading_of(prog)
    require_complete(kernel, "page tables")
    return kernel.vmemmap.frames.mappings(operator.index(pfn))


@takes_program_or_default
def for_each_vmemmap_page_of_frame(prog: Program, pfn: IntegerLike) -> Iterator[Object]:
    """
    Iterate over the vmemmap pages that a frame stands behind.

    >>> page = pfn_to_page(0x1000)
    >>> page in for_each_vmemmap_page_of_frame(page_vmemmap_frame(page))
    True

    :param pfn: PFN of the frame
    :return: Iterator of ``struct page *`` objects: the first struct page that begins on
        each of these vmemmap pages
    :raises FaultError: behind the last one, if a page table cannot be read
    """
    kernel = reading_of(prog)
    pages = kernel.pages
    for number in kernel.vmemmap.pages_of_frame(operator.index(pfn)):
        va = kernel.vmemmap.page_va(number)
        first = pages.va(-(-(va - pages.base_va) // pages.size))
        yield Object(prog, "struct page *", first)
    require_complete(kernel, "page tables")
