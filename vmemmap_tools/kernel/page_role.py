# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a struct page is: a single page, the head or a tail of a folio, or remains.

Mirrors ``compound_head()`` and ``page_fixed_fake_head()`` of
``include/linux/page-flags.h``, and does not believe what they believe: a head needs a
possible order, the alignment of that order, and a second struct page that is a tail
of it. A tail leads to a head only within the reach of the largest folio.
"""

from __future__ import annotations

from typing import NamedTuple

from ..target.base import Fault
from .page import Page
from .pages import Pages

__all__ = ["STALE_HEADS", "PageRole", "hugetlb_order", "role_of", "stale_kind"]

STALE_HEADS = {
    "a": "a head that says itself that it is a tail (a folio demoted after a restore)",
    "b": "a head whose second page is a tail of another head (a restored folio)",
    "c": "a head whose second page is no tail (a restored folio that was freed)",
    "d": "a hugetlb type without PG_head (a restored folio freed without page checks)",
    "e": "a head of an order that no folio at this pfn can have (damaged)",
}
"""Struct pages that look like a head but are not one, by kind."""


class PageRole(NamedTuple):
    """What a struct page is, and the folio that it belongs to.

    ``name`` is "uninitialised", "single", "head", "tail", "fake-head" (an alias of the
    head, 5.18 to 7.0) or "stale-head". ``head_pfn`` is where its words lead, None where
    they lead nowhere or to no possible head; ``order`` is that of the folio, None where
    no head there reaches this page. ``head`` holds the head's first struct pages.
    """

    name: str
    head_pfn: int | None = None
    order: int | None = None
    is_hugetlb: bool = False
    stale: str | None = None
    head: bytes = b""
    fault: Fault | None = None
    """Why the folio is unknown: struct pages of its head cannot be read."""


def role_of(pages: Pages, pfn: int) -> PageRole:
    """What the struct page of this pfn is. Raises `Fault` if it cannot be read."""
    page = pages.page(pfn)
    if page.is_poisoned or not any(page.data):
        return PageRole("uninitialised")
    if page.flags & pages.head_bit:
        return _with_head_flag(pages, page)
    is_tail = bool(page.compound_word & 1)
    if pages.type_name(page) == "hugetlb":
        found = _tail_of(pages, pfn, page.head_va) if is_tail else PageRole("")
        return found._replace(name="stale-head", stale="d")
    return _tail_of(pages, pfn, page.head_va) if is_tail else PageRole("single")


def hugetlb_order(pages: Pages, pfn: int) -> int | None:
    """Order of the hugetlb folio that has its head here, None if there is none.

    Raises `Fault`.
    """
    role = role_of(pages, pfn)
    if role.fault is not None:
        raise role.fault
    return role.order if role.name == "head" and role.is_hugetlb else None


def stale_kind(
    pages: Pages, pfn: int, flags: int, word: int, next_word: int, order: int
) -> str | None:
    """Which of `STALE_HEADS` a struct page with PG_head or a hugetlb type is.

    None for a head. ``word`` and ``next_word`` are the compound words of this struct
    page and of the one behind it, ``order`` is what the latter says.
    """
    if not flags & pages.head_bit:
        return "d"
    if word & 1:
        return "a"
    if not next_word & 1:
        return "c"
    va = pages.va(pfn)
    if pages.head_va_of_tail(va + pages.size, next_word) != va:
        return "b"
    is_possible = 0 < order <= pages.geometry.max_folio_order
    return None if is_possible and not pfn & (1 << order) - 1 else "e"


def _with_head_flag(pages: Pages, page: Page) -> PageRole:
    try:
        head = pages.read_first(page.pfn)
    except Fault as fault:
        return PageRole("head", page.pfn, fault=fault)
    kind = _stale_kind_in(pages, page.pfn, head)
    if kind is None:
        return _folio(pages, "head", page.pfn, head)
    if kind == "a":
        found = _tail_of(pages, page.pfn, page.head_va)
    elif kind == "b":
        next_word = pages.compound_word_of(head[pages.size :])
        next_va = page.va + pages.size
        found = _tail_of(pages, page.pfn, pages.head_va_of_tail(next_va, next_word))
        if page.is_fake_head and _is_alias(pages, page.pfn, found.head_pfn):
            return found._replace(name="fake-head")
    else:
        found = PageRole("")
    return found._replace(name="stale-head", stale=kind)


def _is_alias(pages: Pages, pfn: int, head_pfn: int | None) -> bool:
    """Whether a struct page lies on the frame of the head's, as fake heads do."""
    return head_pfn is not None and pages.share_a_frame(pfn, head_pfn)


def _tail_of(pages: Pages, pfn: int, head_va: int) -> PageRole:
    """A page whose words lead to this struct page."""
    offset = head_va - pages.base_va
    head_pfn, reach = offset // pages.size, 1 << pages.geometry.max_folio_order
    if offset % pages.size or not 0 < pfn - head_pfn < reach:
        return PageRole("tail")
    try:
        head = pages.read_first(head_pfn)
    except Fault as fault:
        if fault.kind == "unmapped":
            return PageRole("tail")
        return PageRole("tail", head_pfn, fault=fault)
    found = PageRole("tail", head_pfn)
    if _stale_kind_in(pages, head_pfn, head) is None:
        folio = _folio(pages, "tail", head_pfn, head)
        if folio.order is not None and pfn < head_pfn + (1 << folio.order):
            return folio
    return found


def _folio(pages: Pages, name: str, head_pfn: int, head: bytes) -> PageRole:
    order, is_hugetlb = pages.compound.order_of(head), pages.compound.is_hugetlb(head)
    return PageRole(name, head_pfn, order, is_hugetlb, head=head)


def _stale_kind_in(pages: Pages, pfn: int, data: bytes) -> str | None:
    """`stale_kind` of the first of these struct pages, which may be the last there."""
    flags, word = pages.flags_of(data), pages.compound_word_of(data)
    second = data[pages.size :]
    next_word, order = 0, 0
    if second:
        next_word = pages.compound_word_of(second)
        order = pages.compound.order_of(data)
    return stale_kind(pages, pfn, flags, word, next_word, order)
