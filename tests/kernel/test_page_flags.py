# SPDX-License-Identifier: LGPL-2.1-or-later
"""The flags word of struct page (3), page types, and what cannot be read."""

from __future__ import annotations

import pytest

from tests.fakes.layouts import array, struct
from tests.fakes.machine import DEVICE, DMA32, NORMAL, Machine
from tests.fakes.pools import add_folio
from vmemmap_tools.kernel.layout import LayoutError
from vmemmap_tools.kernel.page_role import hugetlb_order
from vmemmap_tools.target.base import Fault

HEAD = 0x8000


def machine(like: str = "7.3") -> Machine:
    m = Machine(like)
    m.add_section(1)
    return m


@pytest.mark.parametrize(
    ("word", "node", "zone"),
    [(0x50000000000000, 1, NORMAL), (0x27FFFFC0002000, 0, DEVICE)],
)
def test_node_and_zone_of_real_words(word: int, node: int, zone: int) -> None:
    # Words of a 7.3 kernel with 1024 nodes and five zones.
    m = machine()
    m.set_page(HEAD, flags=word)
    pages = m.kernel().pages
    page = pages.page(HEAD)
    assert (pages.node(page), pages.zone_index(page)) == (node, zone)
    assert (pages.nodes_width, pages.zones_width) == (10, 3)


@pytest.mark.parametrize(
    ("zones", "width"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3)]
)
def test_zone_bits_by_the_number_of_zones(zones: int, width: int) -> None:
    m = machine()
    m.target.enums["zone_type"]["__MAX_NR_ZONES"] = zones
    assert m.kernel().pages.zones_width == width


def test_without_numa_there_are_no_node_bits() -> None:
    m = machine()
    del m.target.variables["node_data"]
    hstate = m.target.structs["hstate"]
    m.target.structs["hstate"] = struct("hstate", hstate.size)
    m.set_page(HEAD, flags=DMA32 << 61)
    pages = m.kernel().pages
    assert pages.nodes_width == 0
    assert pages.node(pages.page(HEAD)) == 0
    assert pages.zone_index(pages.page(HEAD)) == DMA32


def test_the_number_of_nodes_is_told_by_other_arrays_as_well() -> None:
    m = machine()
    del m.target.variables["node_data"]
    m.target.vmcoreinfo["LENGTH(node_data)"] = "64"
    assert m.kernel().pages.nodes_width == 6
    del m.target.vmcoreinfo["LENGTH(node_data)"]
    m.target.structs["hstate"] = struct(
        "hstate", 64, nr_huge_pages_node=array(0, 16, 4)
    )
    assert m.kernel().pages.nodes_width == 4


def test_set_flags_are_named_and_aliases_give_way_to_the_first() -> None:
    m = machine()
    m.set_page(HEAD, flags=m.place_bits(1, 2) | 1 << 13 | 1 << 10 | 1 << 21)
    pages = m.kernel().pages
    page = pages.page(HEAD)
    assert pages.flag_names(page) == ["owner_priv_1", "reserved", "bit 21"]
    assert pages.has_flag(page, "PG_vmemmap_self_hosted")
    assert not pages.has_flag(page, "PG_head")
    assert not pages.has_flag(page, "PG_of_another_kernel")


def test_page_types_are_named() -> None:
    m = machine("6.12")
    for pfn, word in enumerate((0xF0000009, 0xFFFFFFFF, 5), HEAD):
        m.set_page(pfn, _mapcount=word)
    pages = m.kernel().pages
    names = [pages.type_name(pages.page(HEAD + i)) for i in range(3)]
    assert names == ["buddy", None, None]


def test_counts_are_signed() -> None:
    m = machine()
    m.set_page(HEAD, _refcount=-1, _mapcount=-1)
    page = m.kernel().pages.page(HEAD)
    assert (page.refcount, page.mapcount_word) == (-1, 0xFFFFFFFF)


def test_a_page_of_all_ones_was_never_initialised() -> None:
    m = machine()
    m.write_page(HEAD, 0, b"\xff" * 64)
    pages = m.kernel().pages
    assert pages.page(HEAD).is_poisoned
    assert not pages.page(HEAD + 1).is_poisoned


def test_flags_in_a_memdesc_struct_are_read_alike() -> None:
    # 6.18: memdesc_flags_t, a struct of one word.
    m = machine()
    page = m.target.structs["page"]
    flags = type(page["flags"])(0, 8, "struct", "memdesc_flags_t")
    members = {**page.members, "flags": flags, "flags.f": page["flags"]}
    m.target.structs["page"] = type(page)("page", page.size, members)
    m.set_page(HEAD, flags=0x50000000000000)
    pages = m.kernel().pages
    assert pages.node(pages.page(HEAD)) == 1


def test_a_hole_is_a_fault_and_not_zeros() -> None:
    m = machine()
    m.unmap(512)
    with pytest.raises(Fault) as error:
        m.kernel().pages.page(HEAD)
    assert error.value.kind == "unmapped"


def test_a_frame_that_the_dump_left_out_is_an_excluded_page() -> None:
    m = machine()
    m.memory.lose(m.frame(512))
    with pytest.raises(Fault) as error:
        m.kernel().pages.page(HEAD)
    assert error.value.kind == "excluded"


def test_addresses_and_pfns_belong_together() -> None:
    pages = machine().kernel().pages
    assert pages.va(HEAD) == 0xFFFFEA0000200000
    assert pages.pfn(0xFFFFEA000020003F) == HEAD
    assert pages.vmemmap_page(HEAD + 64) == 513


@pytest.mark.parametrize("member", ["flags", "_refcount", "_mapcount", "private"])
def test_a_missing_member_is_named(member: str) -> None:
    m = machine()
    page = m.target.structs["page"]
    members = {k: v for k, v in page.members.items() if k != member}
    m.target.structs["page"] = type(page)("page", page.size, members)
    with pytest.raises(LayoutError, match=f"struct page has no member {member}"):
        _ = m.kernel().pages


def test_a_kernel_without_a_compound_word_is_refused() -> None:
    m = machine()
    page = m.target.structs["page"]
    members = {k: v for k, v in page.members.items() if k != "compound_info"}
    m.target.structs["page"] = type(page)("page", page.size, members)
    with pytest.raises(LayoutError, match="neither compound_info nor compound_head"):
        _ = m.kernel().pages


def test_a_kernel_without_pg_head_or_any_order_is_refused() -> None:
    m = machine()
    del m.target.enums["pageflags"]["PG_head"]
    with pytest.raises(LayoutError, match="PG_head"):
        _ = m.kernel().pages
    m = machine()
    del m.target.structs["folio"]
    with pytest.raises(LayoutError, match="order of a folio"):
        _ = m.kernel().pages


def test_a_kernel_without_hugetlb_has_no_hugetlb_folio() -> None:
    m = machine("6.12")
    add_folio(m, HEAD, 9)
    m.target.enums.pop("pagetype")
    assert hugetlb_order(m.kernel().pages, HEAD) is None
