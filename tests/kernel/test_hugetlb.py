# SPDX-License-Identifier: LGPL-2.1-or-later
"""HugeTLB pools and folios (kernel-reference.md 5)."""

from __future__ import annotations

import pytest

from tests.fakes.facts import PAGE_FLAGS
from tests.fakes.machine import MOVABLE, NORMAL, Machine
from tests.fakes.memory import PAGE
from tests.fakes.pools import (
    FREED,
    OPTIMIZED,
    add_folio,
    add_pool,
    add_tail_page,
)
from tests.fakes.target import FakeTarget
from vmemmap_tools.kernel.layout import LayoutError

HEAD = 0x8000
LIKES = ["5.15", "5.18", "6.1", "6.7", "6.10", "6.12", "7.3", "G5b"]


def machine(like: str = "7.3", sections: int = 1, pages: int = 4) -> Machine:
    m = Machine(like)
    m.add_sections(range(1, 1 + sections))
    add_pool(m, 9, [pages, 0], free=2)
    return m


def test_a_pool_has_the_numbers_of_its_hstate() -> None:
    m = machine()
    add_pool(m, 18, [1, 3])
    small, large = m.kernel().hugetlb.hstates
    assert (small.order, small.total, small.free) == (9, 4, 2)
    assert (small.index, small.name) == (0, "hugepages-2048kB")
    assert (large.order, large.total) == (18, 4)
    assert large.total_by_node == (1, 3, 0, 0)
    assert large.name == "hugepages-1048576kB"


def test_a_kernel_without_hugetlb_has_no_pools_and_no_folios() -> None:
    hugetlb = Machine("7.3").kernel().hugetlb
    assert hugetlb.hstates == [] and hugetlb.folios() == []


def test_without_numa_counts_belong_to_node_0() -> None:
    m = machine()
    hstate = m.target.structs["hstate"]
    members = {k: v for k, v in hstate.members.items() if not k.endswith("_node")}
    m.target.structs["hstate"] = type(hstate)("hstate", hstate.size, members)
    (pool,) = m.kernel().hugetlb.hstates
    assert (pool.total_by_node, pool.free_by_node) == ((4,), (2,))


def test_an_unreadable_pool_is_missing() -> None:
    m = machine()
    m.memory.lose(m.pools[0] - m.target.direct_map >> 12)
    kernel = m.kernel()
    m.target.unsigned = lambda name: 1 if name == "hugetlb_max_hstate" else None  # type: ignore[method-assign]
    assert kernel.hugetlb.hstates == []
    assert kernel.missing.as_dict() == {"excluded": {"hstates": 1}}


@pytest.mark.parametrize("name", ["order", "nr_huge_pages", "resv_huge_pages"])
def test_a_pool_whose_members_are_unknown_is_refused(name: str) -> None:
    m = machine()
    m.forget_member(f"hstate.{name}")
    with pytest.raises(LayoutError, match=f"hstate has no member {name}"):
        _ = m.kernel().hugetlb.hstates


@pytest.mark.parametrize("like", LIKES)
def test_folios_of_every_kernel_are_found(like: str) -> None:
    m = machine(like)
    for pfn in (HEAD, HEAD + 512, HEAD + 0x7E00):
        add_folio(m, pfn)
    folios = m.kernel().hugetlb.folios()
    assert [(f.pfn, f.order) for f in folios] == [
        (HEAD, 9),
        (HEAD + 512, 9),
        (HEAD + 0x7E00, 9),
    ]


@pytest.mark.parametrize("like", ["5.18", "6.1", "6.12"])
def test_aliases_of_a_self_shared_folio_are_no_folios(like: str) -> None:
    # 1.5: a linear scan sees 8 heads of each such folio.
    m = machine(like)
    add_pool(m, 7, [9])
    add_folio(m, HEAD, 9, "self")
    assert [f.pfn for f in m.kernel().hugetlb.folios()] == [HEAD]


@pytest.mark.parametrize(
    ("like", "layout", "found"),
    [
        ("5.15", "page1", "page1-shared"),
        ("5.18", "self", "self-shared"),
        ("6.12", "self", "self-shared"),
        ("7.3", "zone", "zone-shared"),
        ("G5b", "zone", "zone-shared"),
    ],
)
def test_a_folio_knows_how_its_vmemmap_is_backed(
    like: str, layout: str, found: str
) -> None:
    m = machine(like)
    tail = add_tail_page(m) if layout == "zone" else None
    add_folio(m, HEAD, 9, layout, tail_frame=tail)
    (folio,) = m.kernel().hugetlb.folios()
    assert folio.backing.layout == found and folio.backing.is_optimised


def test_a_folio_knows_node_zone_and_flags() -> None:
    m = machine()
    add_folio(m, HEAD, node=1, zone=MOVABLE, private=FREED | OPTIMIZED)
    add_folio(m, HEAD + 512, private=0)
    hugetlb = m.kernel().hugetlb
    first, second = hugetlb.folios()
    assert (first.node, first.zone_index, second.zone_index) == (1, MOVABLE, NORMAL)
    assert hugetlb.flag_names(first) == ["freed", "vmemmap_optimized"]
    assert hugetlb.has_flag(first, "vmemmap_optimized") is True
    assert hugetlb.has_flag(second, "vmemmap_optimized") is False
    assert hugetlb.has_flag(second, "raw_hwp_unreliable") is None


def test_a_gigantic_folio_spans_sections_and_hides_what_lies_in_it() -> None:
    m = machine("7.3", 0)
    m.add_sections(range(8, 16))
    add_pool(m, 18, [1])
    tail = add_tail_page(m, order=18)
    add_folio(m, 8 * 0x8000, 18, "zone", tail_frame=tail)
    (folio,) = m.kernel().hugetlb.folios()
    assert (folio.pfn, folio.order) == (8 * 0x8000, 18)
    assert folio.backing.saved_pages == 4095  # 10.1


def test_an_order_that_no_pool_has_is_not_believed() -> None:
    m = machine()
    add_folio(m, HEAD, 9)
    m.set_page(HEAD + 1, flags=10)
    assert m.kernel().hugetlb.folios() == []


def test_a_head_that_is_not_aligned_to_its_order_is_not_believed() -> None:
    m = machine()
    add_pool(m, 18, [1])
    add_folio(m, HEAD, 9)
    m.set_page(HEAD + 1, flags=18)
    assert m.kernel().hugetlb.folios() == []


def test_pools_without_pages_are_not_searched_for() -> None:
    m = machine(pages=0)
    add_folio(m, HEAD)
    assert m.kernel().hugetlb.folios() == []


def test_device_sections_hold_no_folios() -> None:
    m = machine("7.3", 0)
    m.add_section(1, "PM")
    add_folio(m, HEAD)
    assert m.kernel().hugetlb.folios() == []


def test_struct_pages_that_the_dump_lacks_are_missing() -> None:
    m = machine()
    add_folio(m, HEAD)
    add_folio(m, HEAD + 512)
    m.memory.lose(m.frame(512))
    kernel = m.kernel()
    assert [f.pfn for f in kernel.hugetlb.folios()] == [HEAD + 512]
    assert kernel.missing.as_dict()["excluded"]["heads of huge pages"] == 1


def test_unmapped_struct_pages_are_holes_and_not_missing() -> None:
    m = machine()
    m.unmap(512)
    kernel = m.kernel()
    assert kernel.hugetlb.folios() == []
    assert not kernel.missing


@pytest.mark.parametrize("order", [23, 63, 200, 0xFFFFFFFF])
def test_a_pool_of_an_absurd_order_is_shown_and_not_searched(order: int) -> None:
    m = Machine("7.3")
    m.add_section(0)
    add_pool(m, 9, [1])
    m.target.record("hstate", m.pools[0], order=order)
    add_folio(m, 0, 9)
    m.set_page(1, flags=min(order, 255))
    hugetlb = m.kernel().hugetlb
    assert [h.order for h in hugetlb.hstates] == [order]
    assert hugetlb.folios() == []


def test_an_absurd_number_of_pools_is_bounded_by_the_array() -> None:
    m = machine()
    m.target.define_int("hugetlb_max_hstate", 1 << 31, 4)
    assert len(m.kernel().hugetlb.hstates) == 4


# memmap_on_memory: vmemmap that lies in the block it describes (5).


def self_hosted() -> Machine:
    m = machine("7.3", 0)
    m.add_section(1, "PMO", leaf=None)
    for page in range(512):
        m.map(512 + page, HEAD + page)
    for pfn in range(HEAD, HEAD + 512):
        m.set_page(pfn, flags=1 << 10)
    return m


def test_a_section_that_hosts_its_own_vmemmap_is_told() -> None:
    m = self_hosted()
    m.add_section(2, "PMO")
    m.add_section(3, "PMOE")
    kernel = m.kernel()
    hosting = kernel.self_hosting
    found = {s.nr: hosting.is_self_hosted(s) for s in kernel.sections}
    assert found == {1: True, 2: False, 3: False}
    assert hosting.count_frames(kernel.sections) == 512


def test_the_flag_alone_does_not_make_boot_memory_self_hosted() -> None:
    # PG_vmemmap_self_hosted aliases PG_owner_priv_1 (3).
    m = self_hosted()
    word = m.sections[1]["section_mem_map"]
    m.sections[1]["section_mem_map"] = word | 1 << 3  # early
    kernel = m.kernel()
    assert kernel.self_hosting.count_frames(kernel.sections) == 0
    assert not kernel.self_hosting.is_self_hosted_frame(HEAD)


def test_a_frame_without_a_struct_page_is_not_self_hosted() -> None:
    m = self_hosted()
    m.memory.lose(HEAD)
    kernel = m.kernel()
    assert not kernel.self_hosting.is_self_hosted_frame(HEAD)
    assert not kernel.self_hosting.is_self_hosted_frame(-1)
    assert not kernel.self_hosting.is_self_hosted_frame(1 << 30)
    assert kernel.missing.as_dict() == {
        "excluded": {"struct pages of vmemmap frames": 1}
    }


# nr_memmap counters (4.4).


def test_both_counters_are_signed() -> None:
    # C2: an underflow reads as a value near 2^64 in /proc/vmstat.
    m = Machine("6.12")
    m.add_counters(-6, 262144)
    counters = m.kernel().counters
    assert (counters.runtime, counters.boot) == (-6, 262144)


def test_a_kernel_without_counters_has_none() -> None:
    counters = Machine("6.1").kernel().counters
    assert (counters.runtime, counters.boot) == (None, None)


def test_an_unreadable_counter_is_missing() -> None:
    m = Machine("6.12")
    m.target.allocate(PAGE, PAGE)
    m.add_counters(1, 2)
    target: FakeTarget = m.target
    va = target.variables["nr_memmap_pages"].address
    kernel = m.kernel()
    m.memory.lose(va - target.direct_map >> 12)
    assert kernel.counters.runtime is None
    assert kernel.missing.as_dict()["excluded"]["memmap counters"] >= 1


@pytest.mark.parametrize("like", LIKES)
def test_a_folio_knows_whether_its_memory_is_hwpoisoned(like: str) -> None:
    m = machine(like)
    for i in range(4):
        add_folio(m, HEAD + 512 * i, 9)
    bits = 1 << PAGE_FLAGS["PG_head"] | 1 << PAGE_FLAGS["PG_hwpoison"]
    m.set_page(HEAD + 512, flags=m.place_bits(0, NORMAL) | bits)
    kernel = m.kernel()
    found = [folio.hwpoison for folio in kernel.hugetlb.folios()]
    assert found == [False, True, False, False]


def test_folios_counted_together_have_the_same_hwpoison() -> None:
    m = machine()
    tail = add_tail_page(m)
    for i in range(4):
        add_folio(m, HEAD + 512 * i, 9, "zone", tail_frame=tail)
    bits = 1 << PAGE_FLAGS["PG_head"] | 1 << PAGE_FLAGS["PG_hwpoison"]
    m.set_page(HEAD + 512, flags=m.place_bits(0, NORMAL) | bits)
    kinds = list(m.kernel().hugetlb.for_each_kind())
    assert sum(count for folio, count in kinds if folio.hwpoison) == 1
    assert sum(count for _, count in kinds) == 4


def test_without_memory_failure_no_folio_is_hwpoisoned() -> None:
    m = machine()
    add_folio(m, HEAD, 9)
    del m.target.enums["pageflags"]["PG_hwpoison"]
    assert [folio.hwpoison for folio in m.kernel().hugetlb.folios()] == [False]
