# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the vmemmap of one compound page is classified: the rule at the end of 1.3."""

from __future__ import annotations

import pytest

from tests.fakes.machine import Machine
from tests.fakes.pools import add_folio, add_tail_page
from vmemmap_tools.kernel.compound import CompoundBacking, classify
from vmemmap_tools.kernel.vmemmap import HOLE

HEAD = 0x8000
FIRST = 512
"""Section 1, and the vmemmap page of its first struct page."""


@pytest.fixture
def m() -> Machine:
    machine = Machine("7.3")
    machine.add_section(1)
    return machine


def backing(m: Machine, pages: int = 8, first: int = FIRST) -> CompoundBacking:
    kernel = m.kernel()
    return classify(kernel.vmemmap, first, pages, kernel.tail_frames)


def test_a_frame_for_each_page_is_private(m: Machine) -> None:
    found = backing(m)
    assert (found.layout, found.kept, found.saved_pages) == ("private", 8, 0)
    assert found.head_frame == m.frame(FIRST)
    assert not found.is_optimised and found.tail_readonly is None


def test_a_huge_leaf_behind_all_of_it_is_told_apart() -> None:
    m = Machine("7.3")
    m.add_section(1, leaf="huge")
    found = backing(m)
    assert (found.layout, found.saved_pages) == ("huge-leaf", 0)


def test_a_gigantic_folio_on_huge_leaves_is_private_to_the_last_page() -> None:
    m = Machine("7.3")
    for nr in range(8):
        m.add_section(nr, leaf="huge")
    found = backing(m, 4096, 0)
    assert (found.layout, found.kept) == ("huge-leaf", 4096)


# Saved pages of the layouts: 1.1, and 10.1 for 4K pages and 64-byte struct pages.


@pytest.mark.parametrize(("order", "pages", "saved"), [(9, 8, 7), (18, 4096, 4095)])
def test_tails_on_the_heads_frame_are_self_shared(
    order: int, pages: int, saved: int
) -> None:
    m = Machine("6.1")
    m.add_sections(range(8, 16))
    add_folio(m, 8 * 0x8000, order, "self")
    found = backing(m, pages, 8 * 512)
    assert (found.layout, found.kept, found.saved_pages) == ("self-shared", 1, saved)
    assert found.head_frame == found.tail_frame
    assert found.tail_readonly is True


@pytest.mark.parametrize(("order", "pages", "saved"), [(9, 8, 6), (18, 4096, 4094)])
def test_tails_on_the_frame_of_page_1_keep_two_pages(
    order: int, pages: int, saved: int
) -> None:
    m = Machine("5.15")
    m.add_sections(range(8, 16))
    add_folio(m, 8 * 0x8000, order, "page1")
    found = backing(m, pages, 8 * 512)
    assert (found.layout, found.kept, found.saved_pages) == ("page1-shared", 2, saved)
    assert found.tail_frame == m.frame(8 * 512 + 1)
    # G1 maps the aliases read-only, page 1 itself is writable.
    assert found.tail_readonly is True


@pytest.mark.parametrize(("order", "pages", "saved"), [(9, 8, 7), (18, 4096, 4095)])
def test_tails_on_the_zones_page_keep_one(order: int, pages: int, saved: int) -> None:
    m = Machine("7.3")
    m.add_sections(range(8, 16))
    tail = add_tail_page(m, order=order)
    add_folio(m, 8 * 0x8000, order, "zone", tail_frame=tail)
    found = backing(m, pages, 8 * 512)
    assert (found.layout, found.kept, found.saved_pages) == ("zone-shared", 1, saved)
    assert (found.tail_frame, found.tail_readonly) == (tail, True)


def test_order_7_is_the_smallest_that_saves_a_page(m: Machine) -> None:
    # 10.1: at the smallest order N = 2, and keeping one page saves one.
    add_folio(m, HEAD, 7, "zone", tail_frame=add_tail_page(m, order=7))
    assert backing(m, 2).saved_pages == 1
    assert backing(m, 2).layout == "zone-shared"


def test_writable_shared_tails_are_said_to_be_so(m: Machine) -> None:
    # Device DAX maps them so in D1 and D2.
    tail = add_tail_page(m)
    add_folio(m, HEAD, 9, "zone", tail_frame=tail, is_readonly=False)
    assert backing(m).tail_readonly is False


def test_a_mixture_of_permissions_has_no_one_answer(m: Machine) -> None:
    tail = add_tail_page(m)
    add_folio(m, HEAD, 9, "zone", tail_frame=tail)
    m.map(FIRST + 5, tail)
    assert backing(m).layout == "zone-shared"
    assert backing(m).tail_readonly is None


def test_one_tail_on_another_frame_is_mixed(m: Machine) -> None:
    tail = add_tail_page(m)
    add_folio(m, HEAD, 9, "zone", tail_frame=tail)
    m.map(FIRST + 7, m.frames())
    found = backing(m)
    assert (found.layout, found.kept, found.saved_pages) == ("mixed", 2, 6)
    assert found.is_optimised


def test_half_a_folio_shared_is_mixed(m: Machine) -> None:
    # Legal in flight on arm64 (1.4): shared read-only and private writable tails.
    tail = add_tail_page(m)
    for page in range(FIRST + 4, FIRST + 8):
        m.map(page, tail, is_writable=False)
    found = backing(m)
    assert (found.layout, found.saved_pages) == ("mixed", 4)


def test_a_head_on_the_zones_page_is_mixed(m: Machine) -> None:
    tail = add_tail_page(m)
    for page in range(FIRST, FIRST + 8):
        m.map(page, tail, is_writable=False)
    found = backing(m)
    assert (found.layout, found.kept) == ("mixed", 0)


def test_a_page_that_is_not_mapped_is_mixed_and_saves_nothing(m: Machine) -> None:
    m.unmap(FIRST + 3)
    found = backing(m)
    assert (found.layout, found.mapped, found.saved_pages) == ("mixed", 7, 0)


def test_an_entry_that_is_not_present_maps_nothing_whatever_it_holds(
    m: Machine,
) -> None:
    at = m.vmemmap + (FIRST + 3) * 4096
    m.tables.set(at, 1, 0x123456789A << 12)
    found = backing(m)
    assert (found.mapped, found.kept, found.saved_pages) == (7, 7, 0)


def test_an_unmapped_head_is_a_hole_in_a_mixture(m: Machine) -> None:
    m.unmap(FIRST)
    found = backing(m)
    assert (found.layout, found.head_frame) == ("mixed", HOLE)


def test_nothing_mapped_is_a_hole(m: Machine) -> None:
    found = backing(m, first=4 * 512)
    assert (found.layout, found.mapped, found.kept) == ("hole", 0, 0)
    assert (found.head_frame, found.tail_frame) == (HOLE, HOLE)


def test_the_zones_page_of_another_order_counts_as_the_zones(m: Machine) -> None:
    # Wrong (Z4), but sharing all the same: check says so, not the classification.
    add_folio(m, HEAD, 9, "zone", tail_frame=add_tail_page(m, order=18))
    assert backing(m).layout == "zone-shared"


def test_a_folio_on_two_slots_of_which_one_is_huge_is_private() -> None:
    m = Machine("7.3")
    m.add_section(0, leaf="huge")
    m.add_section(1)
    assert backing(m, 1024, 0).layout == "private"
