# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nodes, zones and their shared tail pages (kernel-reference.md 4)."""

from __future__ import annotations

import pytest

from tests.fakes.machine import DEVICE, DMA32, MOVABLE, NORMAL, Machine
from tests.fakes.pools import add_tail_page
from vmemmap_tools.kernel.layout import Geometry
from vmemmap_tools.target.base import Struct, Variable

VMEMMAP = 0xFFFFEA0000000000


def test_every_node_has_its_zones_in_the_order_of_node_zones() -> None:
    m = Machine("7.3", nodes=2)
    zones = list(m.kernel().zones)
    names = ["DMA", "DMA32", "Normal", "Movable", "Device"]
    assert [(z.node, z.index, z.name) for z in zones] == [
        (node, i, name) for node in range(2) for i, name in enumerate(names)
    ]


def test_a_zone_whose_name_is_unknown_is_called_by_its_index() -> None:
    m = Machine("7.3")
    m.forget_member("zone.name")
    assert [z.name for z in m.kernel().zones][:2] == ["zone 0", "zone 1"]


def test_the_fields_are_those_of_the_zone() -> None:
    m = Machine("7.3")
    m.set_zone(1, NORMAL, 0x100000, 0x40000)
    zone = m.kernel().zones.get(1, NORMAL)
    assert zone is not None
    assert (zone.start_pfn, zone.spanned, zone.end_pfn) == (0x100000, 0x40000, 0x140000)
    assert (zone.present, zone.managed) == (0x40000, 0x40000)
    assert zone.spans(0x13FFFF) and not zone.spans(0x140000)


def test_device_memory_is_spanned_but_neither_present_nor_managed() -> None:
    m = Machine("7.3")
    m.set_zone(0, DEVICE, 0x200000, 0x8000)
    zone = m.kernel().zones.get(0, DEVICE)
    assert zone is not None
    assert (zone.spanned, zone.present, zone.managed) == (0x8000, 0, 0)


def test_zones_are_found_by_their_address_and_by_pfn() -> None:
    m = Machine("7.3")
    m.set_zone(0, NORMAL, 0x1000, 0x9000)
    m.set_zone(1, MOVABLE, 0x8000, 0x1000)
    zones = m.kernel().zones
    at = zones.at(m.zone_va(1, MOVABLE))
    assert at is not None and (at.node, at.index) == (1, MOVABLE)
    assert [(z.node, z.index) for z in zones.spanning(0x8000)] == [
        (0, NORMAL),
        (1, MOVABLE),
    ]
    assert zones.at(0x1234) is None


def test_nodes_that_are_not_online_are_left_out() -> None:
    m = Machine("7.3", nodes=2)
    states = m.target.variables["node_states"].address
    m.target.write(states + 128, b"\x02")  # N_ONLINE: the second mask of 1024 bits
    assert {z.node for z in m.kernel().zones} == {1}


def test_without_node_states_all_of_node_data_counts() -> None:
    m = Machine("7.3", nodes=2)
    del m.target.variables["node_states"]
    assert {z.node for z in m.kernel().zones} == {0, 1}


def test_a_kernel_without_numa_has_one_node() -> None:
    m = Machine("7.3", nodes=1)
    m.target.define("contig_page_data", m.target.variables["node_data"].type)
    variable = m.target.variables["contig_page_data"]
    m.target.variables["contig_page_data"] = Variable(
        "contig_page_data", m.pgdats[0], variable.type
    )
    del m.target.variables["node_data"]
    assert len(list(m.kernel().zones)) == 5


def test_without_any_node_there_are_no_zones() -> None:
    m = Machine("7.3")
    del m.target.variables["node_data"]
    assert list(m.kernel().zones) == []


def test_a_zone_has_a_number_without_a_name_and_none_if_it_cannot_be_read() -> None:
    m = Machine("7.3")
    m.target.record("zone", m.zone_va(0, NORMAL), name=0xDEAD)
    m.target.record("zone", m.zone_va(0, MOVABLE), name=0)
    kernel = m.kernel()
    assert kernel.zones.names[NORMAL] == "Normal"  # node 1 tells it
    names = [z.name for z in kernel.zones if z.node == 0]
    assert names == ["DMA", "DMA32", None, "zone 3", "Device"]
    assert kernel.missing.as_dict() == {"unmapped": {"zone names": 1}}


def test_control_characters_in_a_name_are_escaped() -> None:
    m = Machine("7.3")
    name = m.target.put(b"\x1b[31mNormal\n\0")
    m.target.record("zone", m.zone_va(0, NORMAL), name=name)
    zone = m.kernel().zones.get(0, NORMAL)
    assert zone is not None and zone.name == "\\x1b[31mNormal\\x0a"


def test_a_node_that_cannot_be_read_is_missing() -> None:
    m = Machine("7.3", nodes=2)
    data = m.target.variables["node_data"].address
    m.target.write(data, (0xFFFF000000000000).to_bytes(8, "little"))
    kernel = m.kernel()
    assert {z.node for z in kernel.zones} == {1}
    assert kernel.missing.as_dict() == {"unmapped": {"nodes": 1}}


def test_an_unreadable_node_data_is_missing() -> None:
    m = Machine("7.3")
    type_ = m.target.variables["node_data"].type
    m.target.variables["node_data"] = Variable("node_data", 0x10, type_)
    kernel = m.kernel()
    assert list(kernel.zones) == []
    assert kernel.missing.as_dict() == {"unmapped": {"pages of node_data": 3}}


# 4.2 and 4.3: tail pages.


@pytest.mark.parametrize("like", ["7.3", "G5b"])
def test_tails_are_found_in_an_array_and_behind_a_pointer(like: str) -> None:
    m = Machine(like)
    frame = add_tail_page(m, 1, DMA32, 9)
    kernel = m.kernel()
    zone = kernel.zones.get(1, DMA32)
    assert zone is not None
    (tail,) = zone.tails or ()
    # Index 2 is order 9, 11 is order 18 (4.3).
    assert (tail.order, tail.page_va) == (9, VMEMMAP + frame * 64)
    assert kernel.tail_frames == {frame: (1, DMA32, 9)}


@pytest.mark.parametrize("like", ["7.3", "G5b"])
def test_the_first_tail_is_order_7_the_last_order_22(like: str) -> None:
    m = Machine(like)
    for order in (7, 18, 22):
        m.set_tail(0, NORMAL, order, VMEMMAP + order * 4096)
    zone = m.kernel().zones.get(0, NORMAL)
    assert zone is not None
    assert [t.order for t in zone.tails or ()] == [7, 18, 22]


@pytest.mark.parametrize("is_declared", [False, True])
def test_without_hugetlb_the_last_tail_is_order_18(is_declared: bool) -> None:
    # What lies behind a pointer to so short an array is another's (4.3).
    m = Machine("G5b")
    for order in 9, 18, 19, 22:
        m.set_tail(0, NORMAL, order, m.page_va(order))
    zone = m.kernel().zones.get(0, NORMAL)
    assert zone is not None
    assert [tail.order for tail in zone.tails or ()] == [9, 18, 19, 22]
    for name in "hstate", "hstates", "hugetlb_max_hstate":
        m.target.structs.pop(name, None)
        m.target.variables.pop(name, None)
    if is_declared:
        m.target.structs["hstate"] = Struct("hstate", 0, {})
    zone = m.kernel().zones.get(0, NORMAL)
    assert zone is not None
    assert [tail.order for tail in zone.tails or ()] == [9, 18]


def test_a_null_pointer_to_tails_means_none() -> None:
    m = Machine("G5b")
    assert all(z.tails == () for z in m.kernel().zones)


def test_words_behind_the_pointer_that_are_no_struct_pages_are_no_tails() -> None:
    # The length of the dynamic array is in no type.
    m = Machine("G5b")
    m.set_tail(0, NORMAL, 9, VMEMMAP + 4096)
    m.set_tail(0, NORMAL, 22, 0xFFFF888000001000)
    zone = m.kernel().zones.get(0, NORMAL)
    assert zone is not None and [t.order for t in zone.tails or ()] == [9]


def test_an_unreadable_array_of_tails_is_missing() -> None:
    m = Machine("G5b")
    m.target.record("zone", m.zone_va(0, NORMAL), vmemmap_tails=0x10)
    kernel = m.kernel()
    assert kernel.tail_frames == {}
    assert kernel.missing.as_dict() == {"unmapped": {"arrays of shared tail pages": 1}}


def test_a_kernel_without_tails_has_none() -> None:
    assert Machine("6.12").kernel().tail_frames == {}


@pytest.mark.parametrize(
    ("page_shift", "struct_page", "order"),
    [(12, 64, 7), (14, 64, 9), (16, 64, 11), (12, 32, 8), (12, 128, 6)],
)
def test_the_smallest_order_is_that_of_the_table(
    page_shift: int, struct_page: int, order: int
) -> None:
    g = geometry(page_shift, struct_page)
    assert g.min_optimisable_order == order


@pytest.mark.parametrize(
    ("page_shift", "struct_page", "order", "pages"),
    [
        (12, 64, 9, 8),
        (12, 64, 13, 128),
        (12, 64, 18, 4096),
        (12, 64, 22, 65536),
        (12, 32, 9, 4),
        (12, 128, 9, 16),
        (14, 64, 7, 0),
        (14, 64, 11, 8),
        (14, 64, 16, 256),
        (16, 64, 5, 0),
        (16, 64, 13, 8),
        (16, 64, 14, 16),
    ],
)
def test_a_folio_has_the_vmemmap_pages_of_the_table(
    page_shift: int, struct_page: int, order: int, pages: int
) -> None:
    # 10.1, column N.
    assert geometry(page_shift, struct_page).vmemmap_pages(order) == pages


@pytest.mark.parametrize(("page_shift", "order"), [(12, 22), (14, 20), (16, 18)])
def test_no_folio_is_larger_than_16_gib(page_shift: int, order: int) -> None:
    # 4.3, column MAX_FOLIO_ORDER.
    assert geometry(page_shift, 64).max_folio_order == order


def geometry(page_shift: int, struct_page: int) -> Geometry:
    g = Machine("7.3").kernel().geometry
    return Geometry(
        **{**g.__dict__, "page_shift": page_shift, "struct_page_size": struct_page}
    )
