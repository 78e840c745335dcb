# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a folio keeps its order, and how a hugetlb folio is told, newest form first.

May import ``target`` and ``kernel.layout``. Mirrors ``include/linux/mm_types.h`` and
``page-flags.h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ..target.base import Target
from .bit_numbers import bit_numbers
from .layout import Geometry, LayoutError

__all__ = ["ORDER_IN_FLAGS", "CompoundLayout", "find_compound_layout"]

ORDER_IN_FLAGS = "folio._flags_1"


@dataclass(frozen=True)
class CompoundLayout:
    """Where a folio keeps its order, and how a hugetlb folio is told.

    Both read the bytes of a head's first struct pages.
    """

    order_of: Callable[[bytes], int]
    order_source: str
    is_hugetlb: Callable[[bytes], bool]
    hugetlb_source: str


def find_compound_layout(target: Target, geometry: Geometry) -> CompoundLayout:
    """Order and hugetlb test, newest form first. Raises `LayoutError`."""
    order_at, order_source = _order_location(target, geometry)
    is_hugetlb, hugetlb_source = _hugetlb_test(target, geometry)
    return CompoundLayout(
        lambda data: data[order_at], order_source, is_hugetlb, hugetlb_source
    )


def _order_location(target: Target, geometry: Geometry) -> tuple[int, str]:
    page, folio = target.struct("page"), target.struct("folio")
    if folio is not None and "_folio_order" in folio:
        return folio.offset("_folio_order"), "folio._folio_order"
    if page is not None and "compound_order" in page:
        at = geometry.struct_page_size + page.offset("compound_order")
        return at, "page[1].compound_order"
    if folio is not None and "_flags_1" in folio:
        at = folio.offset("_flags_1")
        # The low byte of the word (ebcab4e3b3a0, in 6.6).
        return at if target.byteorder == "little" else at + 7, ORDER_IN_FLAGS
    raise LayoutError(
        "no member tells the order of a folio (folio._flags_1, folio._folio_order, "
        "page.compound_order)"
    )


def _hugetlb_test(
    target: Target, geometry: Geometry
) -> tuple[Callable[[bytes], bool], str]:
    page, folio = target.struct("page"), target.struct("folio")
    assert page is not None
    size, order = geometry.struct_page_size, target.byteorder
    type_at = page.offset("_mapcount")

    def page_type(data: bytes) -> int:
        return int.from_bytes(data[type_at : type_at + 4], order)

    pgty = target.enumerator("PGTY_hugetlb")
    if pgty is not None:
        top_byte = type_at + 3 if order == "little" else type_at
        return lambda data: data[top_byte] == pgty, "enumerator PGTY_hugetlb"
    text = target.vmcoreinfo.get("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)")
    if text is not None:
        # 6.9 to 6.11: a type is a cleared bit in a word that else has its top bits set.
        cleared = ~int(text, 0) & 0xFFFFFFFF
        return (
            lambda data: page_type(data) & (0xF0000000 | cleared) == 0xF0000000,
            "VMCOREINFO NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)",
        )
    flag = bit_numbers(target, "pageflags").get("PG_hugetlb")
    if flag is not None and folio is not None and "_flags_1" in folio:
        flags_at = folio.offset("_flags_1")
        return (
            lambda data: bool(
                int.from_bytes(data[flags_at : flags_at + 8], order) >> flag & 1
            ),
            "PG_hugetlb of folio._flags_1",
        )
    dtor = target.enumerator("HUGETLB_PAGE_DTOR")
    if dtor is not None:
        if folio is not None and "_folio_dtor" in folio:
            at, source = folio.offset("_folio_dtor"), "folio._folio_dtor"
        elif "compound_dtor" in page:
            at, source = size + page.offset("compound_dtor"), "page[1].compound_dtor"
        else:
            return _no_hugetlb, "no member compound_dtor"
        return lambda data: data[at] == dtor, source
    return _no_hugetlb, "this kernel has no hugetlb pages"


def _no_hugetlb(data: bytes) -> bool:
    return False
