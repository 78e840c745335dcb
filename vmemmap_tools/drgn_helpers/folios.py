# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Folios and Their Vmemmap
------------------------

HugeTLB folios, and for any folio: is its vmemmap optimised, how, and what that saves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drgn import FaultError, Object, Program
from drgn.helpers.common.prog import takes_program_or_default

from ..analysis.hvo import UNKNOWN, why_not
from ..kernel.compound import CompoundBacking, classify
from ..kernel.folio_scan import Folio
from ..kernel.kernel import Kernel
from ..kernel.page_role import PageRole, role_of
from ..kernel.vmemmap import HOLE
from .reading import (
    layout_of,
    reading_of,
    require_complete,
    struct_page_of,
    translated_faults,
)

__all__ = [
    "FolioBacking",
    "folio_backing",
    "folio_vmemmap_optimized",
    "for_each_hugetlb_folio",
    "hugetlb_why_not_optimized",
]


class FolioBacking(NamedTuple):
    """What backs the vmemmap of a folio."""

    head: Object
    """``struct page *``: the true head."""
    order: int
    layout: str
    """
    ``"private"`` (nothing is shared), ``"huge-leaf"`` (nothing, and mapped huge),
    ``"self-shared"`` (all on the head's frame: Linux 5.18 to 7.0), ``"page1-shared"``
    (two frames kept: device DAX, and HugeTLB before 5.18), ``"zone-shared"`` (tails on
    the zone's page: 7.1 and later), ``"mixed"`` or ``"hole"``.
    """
    vmemmap_pages: int
    """Pages of the vmemmap that hold its struct pages."""
    kept_frames: int
    """Frames of its own behind them."""
    head_frame: int | None
    """PFN behind the first vmemmap page, ``None`` if it is not mapped."""
    tail_frame: int | None
    """PFN behind the second one, where it is shared."""
    tail_readonly: bool | None
    """Whether the shared pages are mapped read-only, ``None`` if nothing is shared."""
    saved_bytes: int
    is_optimized: bool
    """Whether anything is saved."""


@takes_program_or_default
def for_each_hugetlb_folio(prog: Program) -> Iterator[Object]:
    """
    Iterate over all HugeTLB folios, free ones and those in use, by PFN.

    They are found by looking at the struct pages, not through the pools' lists.

    >>> for page in for_each_hugetlb_folio():
    ...     backing = folio_backing(page)
    ...     print(backing.order, backing.layout, backing.saved_bytes)
    ...     break
    18 zone-shared 16773120

    :return: Iterator of ``struct page *`` objects: the heads
    :raises FaultError: behind the last one, if there may be more that cannot be read
    """
    kernel = reading_of(prog)
    for folio in kernel.hugetlb.folios():
        yield Object(prog, "struct page *", kernel.pages.va(folio.pfn))
    require_complete(kernel, "folios")


def folio_backing(page: Object) -> FolioBacking:
    """
    Get what backs the vmemmap of the folio that a page belongs to.

    This goes by the page tables alone, for HugeTLB folios as well as for device DAX.

    :param page: ``struct page *``: any page of the folio
    :raises ValueError: if it is not a struct page, was never initialized, belongs to
        no compound page, or to one whose struct pages do not fill a page
    :raises FaultError: if its struct pages, or the page tables that map them, cannot be
        read
    """
    kernel = reading_of(page.prog_)
    head, order, _, backing = _backing(kernel, page)
    assert backing.layout is not None
    return FolioBacking(
        head=Object(page.prog_, "struct page *", kernel.pages.va(head)),
        order=order,
        layout=backing.layout,
        vmemmap_pages=backing.pages,
        kept_frames=backing.kept,
        head_frame=_frame(backing.head_frame),
        tail_frame=_frame(backing.tail_frame),
        tail_readonly=backing.tail_readonly,
        saved_bytes=backing.saved_pages * kernel.geometry.page_size,
        is_optimized=backing.is_optimised,
    )


def folio_vmemmap_optimized(page: Object) -> bool:
    """
    Return whether the vmemmap of a page's folio is shared, so that memory is saved.

    The kernel's ``folio_test_hugetlb_vmemmap_optimized()`` tells what its flag says;
    this tells what the page tables say.

    >>> sum(folio_vmemmap_optimized(page) for page in for_each_hugetlb_folio())
    21

    :param page: ``struct page *``: any page of the folio
    :raises ValueError: if it is not a struct page
    :raises FaultError: if its struct pages cannot be read
    """
    struct_page_of(layout_of(page.prog_), page)
    try:
        return folio_backing(page).is_optimized
    except ValueError:
        return False


def hugetlb_why_not_optimized(page: Object) -> str | None:
    """
    Get the reason why a HugeTLB folio is not optimised, as far as it can be told.

    >>> {hugetlb_why_not_optimized(page) for page in for_each_hugetlb_folio()}
    {None}

    :param page: ``struct page *``: any page of the folio
    :return: ``"too-small"``, ``"struct-page-size"`` (it is no power of two),
        ``"self-hosted"`` (its vmemmap lies in the memory that it describes),
        ``"no-hvo"`` (the kernel cannot), or ``"eligible"`` (nothing stands against it:
        made while the policy was off or memory short, or restored); ``None`` if it is
        optimised
    :raises ValueError: if the page belongs to no HugeTLB folio
    :raises FaultError: if its struct pages cannot be read
    """
    kernel = reading_of(page.prog_)
    head, order, role, backing = _backing(kernel, page)
    if not role.is_hugetlb:
        raise ValueError(f"the folio at pfn {head:#x} is no HugeTLB folio")
    if backing.is_optimised:
        return None
    pages = kernel.pages
    flags, private = pages.flags_of(role.head), pages.private_of(role.head)
    node, zone_index = pages.node_of(flags), pages.zone_index_of(flags)
    folio = Folio(head, order, node, zone_index, private, backing)
    reason = why_not(kernel, folio)
    if reason == UNKNOWN:
        raise FaultError("what decides cannot be read", pages.va(head))
    return reason


def _backing(
    kernel: Kernel, page: Object
) -> tuple[int, int, PageRole, CompoundBacking]:
    """(pfn of the head, order, what the page is, backing) of a page's folio."""
    pages, geometry = kernel.pages, kernel.geometry
    pfn = pages.pfn(struct_page_of(kernel, page))
    with translated_faults():
        role = role_of(pages, pfn)
        if role.fault is not None:
            raise role.fault
    if role.name == "uninitialised":
        raise ValueError(f"the struct page of pfn {pfn:#x} was never initialized")
    head, order = role.head_pfn, role.order
    if head is None or order is None:
        raise ValueError(f"the page at pfn {pfn:#x} belongs to no compound page")
    count = geometry.vmemmap_pages(order)
    if not count:
        raise ValueError(f"the folio at pfn {head:#x} (order {order}) fills no page")
    number = pages.vmemmap_page(head)
    backing = classify(kernel.vmemmap, number, count, kernel.tail_frames)
    if not backing.is_known:
        why = kernel.gap("page tables", "zones") or "a page table is missing"
        raise FaultError(f"the backing of pfn {head:#x}: {why}", pages.va(head))
    return head, order, role, backing


def _frame(pfn: int) -> int | None:
    return None if pfn == HOLE else pfn
