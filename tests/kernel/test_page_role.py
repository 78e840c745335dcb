# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a struct page is: 1.5 (heads and tails), 8.6 (stale heads)."""

from __future__ import annotations

import pytest

from tests.fakes.facts import PAGE_FLAGS
from tests.fakes.machine import Machine
from tests.fakes.pools import add_folio
from vmemmap_tools.kernel.page_role import PageRole, role_of

HEAD = 0x8000
VMEMMAP = 0xFFFFEA0000000000
PG_HEAD = 1 << PAGE_FLAGS["PG_head"]
LAST = 0xFFFF
"""The last pfn of section 1, behind which there is nothing."""


def machine(like: str = "7.3") -> Machine:
    m = Machine(like)
    m.add_section(1)
    return m


def role(m: Machine, pfn: int) -> PageRole:
    return role_of(m.kernel().pages, pfn)


def va(pfn: int) -> int:
    return VMEMMAP + pfn * 64


@pytest.mark.parametrize("like", ["5.15", "6.1", "6.12", "7.3"])
def test_a_head_and_its_tails_have_one_folio(like: str) -> None:
    m = machine(like)
    add_folio(m, HEAD, 9)
    found = [role(m, HEAD + i)[:4] for i in (0, 1, 63)]
    assert found[0] == ("head", HEAD, 9, True)
    assert found[1:] == [("tail", HEAD, 9, True)] * 2


def test_an_alias_of_the_heads_page_is_a_fake_head() -> None:
    m = machine("6.12")
    add_folio(m, HEAD, 9, "self")
    assert role(m, HEAD + 64)[:4] == ("fake-head", HEAD, 9, True)


def test_a_copy_of_the_head_on_a_frame_of_its_own_is_a_stale_head() -> None:
    # 8.6 F6b: restored, not freed. The kernel still resolves it to its folio.
    m = machine("6.12")
    add_folio(m, HEAD, 9)
    m.set_page(HEAD + 64, flags=PG_HEAD)
    m.set_page(HEAD + 65, compound_head=va(HEAD) + 1)
    found = role(m, HEAD + 64)
    assert (found.name, found.stale) == ("stale-head", "b")
    assert (found.head_pfn, found.order) == (HEAD, 9)


def test_a_head_with_bit_0_set_is_a_stale_head_of_its_folio() -> None:
    # 8.6 F6a: demoted.
    m = machine("6.12")
    add_folio(m, HEAD, 9)
    m.set_page(HEAD + 64, flags=PG_HEAD, compound_head=va(HEAD) + 1)
    found = role(m, HEAD + 64)
    assert (found.name, found.stale, found.head_pfn) == ("stale-head", "a", HEAD)


@pytest.mark.parametrize("like", ["6.1", "7.3"])
def test_a_head_without_a_tail_is_a_stale_head(like: str) -> None:
    # 8.6 F6c: freed with page checks on.
    m = machine(like)
    m.set_page(HEAD, flags=PG_HEAD)
    assert role(m, HEAD) == PageRole("stale-head", stale="c")


def test_a_hugetlb_type_without_the_flag_is_a_stale_head() -> None:
    # 8.6 F6d: freed with page checks off.
    m = machine("6.12")
    m.set_page(HEAD, flags=1, _mapcount=0xF4FFFFFF)
    assert role(m, HEAD) == PageRole("stale-head", stale="d")


@pytest.mark.parametrize(("pfn", "order"), [(HEAD, 0), (HEAD, 23), (HEAD + 64, 9)])
def test_an_order_that_cannot_be_makes_no_head(pfn: int, order: int) -> None:
    # 4.3: MAX_FOLIO_ORDER is 22; folios are aligned to their order.
    m = machine("6.12")
    m.set_page(pfn, flags=PG_HEAD)
    m.set_page(pfn + 1, flags=order, compound_head=va(pfn) + 1)
    assert role(m, pfn) == PageRole("stale-head", stale="e")


@pytest.mark.parametrize(
    "head_va",
    [
        va(HEAD + 5),  # itself
        va(HEAD + 6),  # behind it
        va(HEAD) + 8,  # no struct page
        va(HEAD) - (64 << 22),  # farther than the largest folio
        va(0) - 64,  # in front of the vmemmap
        va(0x7FFF),  # not mapped
        0xFFFF888000000000,
    ],
)
def test_a_pointer_out_of_reach_leads_to_no_head(head_va: int) -> None:
    m = machine("6.12")
    m.set_page(HEAD + 5, flags=1, compound_head=head_va | 1)
    assert role(m, HEAD + 5) == PageRole("tail")


def test_a_mask_that_leads_out_of_the_vmemmap_leads_to_no_head() -> None:
    m = machine("7.3")
    add_folio(m, HEAD, 9)
    m.set_page(HEAD + 5, compound_info=0xFFFFBFFFFFFF8001)
    assert role(m, HEAD + 5) == PageRole("tail")


@pytest.mark.parametrize("order", [None, 2])
def test_a_tail_of_no_head_or_of_one_too_small_has_no_folio(order: int | None) -> None:
    m = machine("6.12")
    m.set_page(HEAD, flags=PG_HEAD if order else 1)
    m.set_page(HEAD + 1, flags=order or 1, compound_head=va(HEAD) + 1)
    m.set_page(HEAD + 5, flags=1, compound_head=va(HEAD) + 1)
    assert role(m, HEAD + 5) == PageRole("tail", HEAD)


# At the end of the vmemmap


@pytest.mark.parametrize("pfn", [LAST - 2, LAST - 1, LAST])
@pytest.mark.parametrize("like", ["5.15", "6.1", "7.3"])
def test_the_last_pages_before_a_hole_may_be_single(like: str, pfn: int) -> None:
    m = machine(like)
    m.set_page(pfn, flags=1)
    assert role(m, pfn) == PageRole("single")


@pytest.mark.parametrize(
    ("like", "word"),
    [
        ("5.15", va(LAST - 1) + 1),
        ("6.1", va(LAST - 1) + 1),
        ("6.12", va(LAST - 1) + 1),
        ("7.3", 0xFFFFFFFFFFFFFF81),
    ],
)
def test_the_last_two_pages_before_a_hole_may_be_a_folio(like: str, word: int) -> None:
    m = machine(like)
    m.set_page(LAST - 1, flags=PG_HEAD)
    m.set_page(LAST, flags=0, **{m.generation.word: word})
    if m.generation.order_in == "flags_1":
        m.set_page(LAST, flags=1)
    else:
        m.write_page(LAST, 17, b"\x01")
    assert role(m, LAST - 1)[:4] == ("head", LAST - 1, 1, False)
    assert role(m, LAST)[:4] == ("tail", LAST - 1, 1, False)


def test_a_head_in_the_last_struct_page_is_none() -> None:
    m = machine("7.3")
    m.set_page(LAST, flags=PG_HEAD)
    assert role(m, LAST) == PageRole("stale-head", stale="c")


def test_a_head_whose_second_struct_page_is_left_out_is_not_judged() -> None:
    m = machine("7.3")
    m.add_section(2)
    m.set_page(LAST, flags=PG_HEAD)
    m.memory.lose(m.frame((LAST + 1) // 64))
    found = role(m, LAST)
    assert (found.name, found.stale, found.order) == ("head", None, None)
    assert found.fault is not None and found.fault.kind == "excluded"
