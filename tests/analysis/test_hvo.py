# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pools by node, and why folios are not optimised (kernel-reference.md 5)."""

from __future__ import annotations

import pytest

from tests.fakes.machine import Machine
from tests.fakes.pools import OPTIMIZED, add_folio, add_pool, add_tail_page
from vmemmap_tools.analysis.hvo import PoolNode, pools_by_node, why_not
from vmemmap_tools.analysis.info import facts
from vmemmap_tools.analysis.unavailable import unavailable

from .machines import busy


def pools(m: Machine) -> list[PoolNode]:
    return list(pools_by_node(m.kernel()))


def test_a_pool_has_a_row_for_every_online_node() -> None:
    m = busy()
    add_pool(m, 18, [0, 1])
    rows = [(r.order, r.node, r.total, r.free) for r in pools(m)]
    assert rows == [(9, 0, 3, 1), (9, 1, 0, 0), (18, 0, 0, 0), (18, 1, 1, 0)]


def test_folios_are_counted_by_their_tables_and_by_their_flag() -> None:
    row = pools(busy())[0]
    assert (row.found, row.optimised, row.flagged) == (3, 2, 2)
    assert (row.saved_pages, row.savable_pages) == (14, 7)
    assert dict(row.reasons) == {"eligible": 1}


def test_a_flag_without_sharing_is_counted_as_flagged_only() -> None:
    m = Machine("7.3")
    m.add_section(1)
    add_pool(m, 9, [2])
    add_folio(m, 0x8000, private=OPTIMIZED)
    tail = add_tail_page(m)
    add_folio(m, 0x8200, 9, "zone", tail_frame=tail, private=0)
    row = pools(m)[0]
    assert (row.found, row.optimised, row.flagged) == (2, 1, 1)


def test_folios_belong_to_the_node_of_their_head() -> None:
    m = Machine("7.3")
    m.add_section(1)
    add_pool(m, 9, [0, 1])
    add_folio(m, 0x8000, node=1)
    assert [r.found for r in pools(m)] == [0, 1]


def test_folios_of_no_online_node_are_in_no_row() -> None:
    m = Machine("7.3")
    m.add_section(1)
    add_pool(m, 9, [1])
    add_folio(m, 0x8000, node=700)
    assert [r.found for r in pools(m)] == [0, 0]


@pytest.mark.parametrize(
    ("like", "order", "reason"),
    [
        ("5.10", 9, "no-hvo"),
        ("7.3", 9, "eligible"),
        ("7.3", 6, "too-small"),
        ("7.3", 7, "eligible"),
        ("5.15", 7, "too-small"),  # keeps two pages of two
        ("5.15", 9, "eligible"),
    ],
)
def test_the_reason_follows_from_kernel_and_size(
    like: str, order: int, reason: str
) -> None:
    m = Machine(like)
    m.add_section(1)
    add_pool(m, order, [1])
    add_folio(m, 0x8000, order)
    kernel = m.kernel()
    (folio,) = kernel.hugetlb.folios()
    assert why_not(kernel, folio) == reason


def test_a_struct_page_that_is_no_power_of_two_is_a_reason() -> None:
    m = Machine("6.12", page_struct=80)
    for page in range(640, 2 * 640):
        m.map(page, m.frames())
    m.add_section(1, leaf=None)
    add_pool(m, 9, [1])
    add_folio(m, 0x8000)
    assert dict(pools(m)[0].reasons) == {"struct-page-size": 1}


def test_self_hosted_vmemmap_is_a_reason() -> None:
    m = Machine("7.3")
    m.add_section(1, "PMO", leaf=None)
    for page in range(512):
        m.map(512 + page, 0x8000 + page)
    for pfn in range(0x8000, 0x8200):
        m.set_page(pfn, flags=1 << 10)
    add_pool(m, 9, [1])
    add_folio(m, 0x8200)
    row = pools(m)[0]
    assert dict(row.reasons) == {"self-hosted": 1}
    assert row.savable_pages == 0


# vmemmap info


def test_info_says_where_every_base_came_from() -> None:
    found = {f.subject: f for f in facts(busy().kernel())}
    assert found["page-table levels"].value == "4"
    assert found["vmemmap window"].value == "0xffffea0000000000-0xffffeb0000000000"
    assert found["vmemmap window"].source == "VMCOREINFO SYMBOL(vmemmap)"
    assert found["node and zone bits"].value == "10 and 3"
    assert found["struct mem_section"].value == "16 bytes, 256 a root"
    assert found["compound-mask"].value == "yes"
    assert found["fake-heads"].value == "no"
    assert found["struct page of pfn 0"].source == "all sections agree"


def test_info_names_the_moved_kernel_and_the_direct_map() -> None:
    m = busy()
    m.target.vmcoreinfo["KERNELOFFSET"] = "1e000000"
    m.target.define_int("page_offset_base", 0xFFFF888000000000)
    found = {f.subject: f.value for f in facts(m.kernel())}
    assert found["KASLR offset"] == "0x1e000000"
    assert found["direct map"] == "0xffff888000000000"


def test_info_says_what_is_lost() -> None:
    m = Machine("7.3")
    for name in ("node_states", "pgmap_array", "hstates"):
        del m.target.variables[name]
    sentences = unavailable(m.kernel())
    assert [s.split(";")[0] for s in sentences] == [
        "the hstates are unknown: no variable hstates",
        "the device maps are unknown: no variable pgmap_array",
        "no variable memory_blocks",
    ]
