# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decoding struct page: heads and tails (1.5), orders and hugetlb (1.6)."""

from __future__ import annotations

import pytest

from tests.fakes.machine import Machine
from tests.fakes.pools import add_folio, add_tail_page
from vmemmap_tools.kernel.page_role import hugetlb_order, role_of

HEAD = 0x8000
VMEMMAP = 0xFFFFEA0000000000


def machine(like: str = "7.3", sections: int = 1) -> Machine:
    m = Machine(like)
    m.add_sections(range(1, 1 + sections))
    return m


# 1.5, compound_info with a mask. Words are those of the table.


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (9, 0xFFFFFFFFFFFF8001),
        (18, 0xFFFFFFFFFF000001),
        (22, 0xFFFFFFFFF0000001),
    ],
)
def test_a_mask_leads_every_tail_to_its_head(order: int, word: int) -> None:
    m = Machine("7.3")
    head = 1 << order
    tails = (head + 1, head + 63, head + (1 << order) - 1)
    for nr in {pfn // 0x8000 for pfn in (head, *tails)}:
        m.add_section(nr)
    m.set_page(head, flags=1 << 6)
    for tail in tails:
        m.set_page(tail, compound_info=word)
    pages = m.kernel().pages
    assert [pages.head_pfn(tail) for tail in tails] == [head] * 3
    assert pages.page(tails[0]).is_tail
    assert not pages.page(head).is_tail


def test_a_mask_word_without_bit_0_is_no_tail() -> None:
    m = machine()
    m.set_page(HEAD + 5, compound_info=0xFFFFFFFFFFFF8000)
    assert m.kernel().pages.head_pfn(HEAD + 5) == HEAD + 5


def test_one_shared_tail_leads_each_folio_to_its_own_head() -> None:
    m = machine()
    tail = add_tail_page(m)
    for pfn in (HEAD, HEAD + 512):
        add_folio(m, pfn, 9, "zone", tail_frame=tail)
    pages = m.kernel().pages
    assert pages.head_pfn(HEAD + 511) == HEAD
    assert pages.head_pfn(HEAD + 512 + 511) == HEAD + 512
    assert pages.read(HEAD + 511) == pages.read(HEAD + 1023)


def test_a_pointer_word_names_the_head() -> None:
    m = machine("5.10")
    m.set_page(HEAD + 3, compound_head=VMEMMAP + HEAD * 64 + 1)
    page = m.kernel().pages.page(HEAD + 3)
    assert page.is_tail and page.head_va == VMEMMAP + HEAD * 64


def test_compound_info_without_zone_tails_is_a_pointer() -> None:
    # 1.3 row 6: the mask needs zone.vmemmap_tails and a power-of-two size as well.
    m = machine()
    zone = m.target.structs["zone"]
    members = {k: v for k, v in zone.members.items() if k != "vmemmap_tails"}
    m.target.structs["zone"] = type(zone)("zone", zone.size, members)
    m.set_page(HEAD + 3, compound_info=VMEMMAP + HEAD * 64 + 1)
    pages = m.kernel().pages
    assert not pages.has_mask
    assert pages.head_pfn(HEAD + 3) == HEAD


def test_compound_info_of_a_page_of_80_bytes_is_a_pointer() -> None:
    m = Machine("7.3", page_struct=80)
    for page in range(640 * 2):
        m.map(page, m.frames())
    m.add_section(0, leaf=None)
    m.set_page(67, compound_info=VMEMMAP + 64 * 80 + 1)
    pages = m.kernel().pages
    assert not pages.has_mask and pages.head_pfn(67) == 64


# 1.5, G2 and G3: aliases of the head's page look like heads.


def test_every_alias_of_the_heads_page_is_a_fake_head() -> None:
    # 1.5: N sightings of PG_head for an order-9 folio, 1 real and 7 fake.
    m = machine("6.1")
    add_folio(m, HEAD, 9, "self")
    pages = m.kernel().pages
    seen = [pages.page(HEAD + i) for i in range(512)]
    with_head = [p.pfn - HEAD for p in seen if p.flags & pages.head_bit]
    assert with_head == [0, 64, 128, 192, 256, 320, 384, 448]
    assert [p.pfn - HEAD for p in seen if p.is_fake_head] == with_head[1:]
    assert {p.head_va for p in seen} == {VMEMMAP + HEAD * 64}


def test_a_true_head_at_a_page_border_stays_one() -> None:
    m = machine("6.12")
    add_folio(m, HEAD + 512, 9, "private")
    page = m.kernel().pages.page(HEAD + 512)
    assert not page.is_fake_head and not page.is_tail


def test_a_head_inside_a_page_is_never_taken_for_a_fake() -> None:
    m = machine("6.12")
    m.set_page(HEAD + 4, flags=1 << 6)
    m.set_page(HEAD + 5, compound_head=VMEMMAP + HEAD * 64 + 1)
    assert not m.kernel().pages.page(HEAD + 4).is_fake_head


def test_a_zone_shared_folio_has_one_head_flag() -> None:
    m = machine("7.3")
    add_folio(m, HEAD, 9, "zone", tail_frame=add_tail_page(m))
    pages = m.kernel().pages
    flags = [pages.page(HEAD + i).flags & pages.head_bit for i in range(512)]
    assert sum(map(bool, flags)) == 1


# 1.5 and 1.6: order and hugetlb test of every kernel.


@pytest.mark.parametrize(
    ("like", "order_source", "hugetlb_source"),
    [
        ("5.15", "page[1].compound_order", "page[1].compound_dtor"),
        ("6.1", "folio._folio_order", "folio._folio_dtor"),
        ("6.7", "folio._flags_1", "PG_hugetlb of folio._flags_1"),
        ("6.10", "folio._flags_1", "VMCOREINFO NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)"),
        ("6.12", "folio._flags_1", "enumerator PGTY_hugetlb"),
        ("7.3", "folio._flags_1", "enumerator PGTY_hugetlb"),
    ],
)
def test_order_and_hugetlb_are_found_where_each_kernel_keeps_them(
    like: str, order_source: str, hugetlb_source: str
) -> None:
    m = machine(like)
    add_folio(m, HEAD, 9)
    m.set_page(HEAD + 512, flags=1 << 6)  # a head of no hugetlb folio
    pages = m.kernel().pages
    assert pages.compound.order_source == order_source
    assert pages.compound.hugetlb_source == hugetlb_source
    assert role_of(pages, HEAD).order == 9
    assert hugetlb_order(pages, HEAD) == 9
    assert hugetlb_order(pages, HEAD + 512) is None
    assert role_of(pages, HEAD + 1024).order is None


def test_neighbouring_page_types_are_not_hugetlb() -> None:
    # 1.6: buddy 0xf0, slab 0xf5, zsmalloc 0xf6 in the top byte.
    m = machine("6.12")
    add_folio(m, HEAD, 9)
    for kind in (0xF0, 0xF5, 0xF6, 0xFF):
        m.set_page(HEAD, _mapcount=kind << 24)
        assert hugetlb_order(m.kernel().pages, HEAD) is None


def test_another_cleared_type_bit_is_not_hugetlb() -> None:
    m = machine("6.10")
    add_folio(m, HEAD, 9)
    m.set_page(HEAD, _mapcount=0xFFFFFF7F)  # PG_buddy: bit 7
    assert hugetlb_order(m.kernel().pages, HEAD) is None
    m.set_page(HEAD, _mapcount=3)  # mapped four times
    assert hugetlb_order(m.kernel().pages, HEAD) is None


def test_a_hugetlb_type_without_a_tail_that_agrees_is_a_remnant() -> None:
    # 8.6: a copy of a head that was left where a tail had been.
    m = machine("6.12")
    add_folio(m, HEAD, 9)
    m.set_page(HEAD + 1, compound_head=VMEMMAP + (HEAD + 64) * 64 + 1)
    assert hugetlb_order(m.kernel().pages, HEAD) is None
