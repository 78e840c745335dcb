# SPDX-License-Identifier: LGPL-2.1-or-later
"""The totals and the identity that they obey."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from tests.analysis.check.overlay import Bench
from tests.fakes.devices import add_pgmap
from tests.fakes.machine import Machine
from tests.fakes.pools import add_folio, add_pool, add_tail_page
from tests.model.kernels import GIB
from vmemmap_tools.analysis.summary import Summary
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.machine import Machine as ModelMachine

from .machines import DAX_START, busy, dax


def totals(m: Machine) -> dict[str, int]:
    return {k: v for k, v in Summary(m.kernel()).totals().items() if v is not None}


def assert_identity(t: dict[str, int]) -> None:
    """What `summary.totals` promises to script writers."""
    assert t["saved_bytes"] == t["mapped_bytes"] - t["backing_frames"] * 4096
    assert t["saved_bytes"] == (
        t["saved_hugetlb_bytes"]
        + t["saved_dax_bytes"]
        + t["saved_other_bytes"]
        - t["shared_tail_bytes"]
    )


def test_everything_is_counted_once() -> None:
    t = totals(busy())
    # Four sections of 2 MiB of vmemmap; one of them a huge leaf.
    assert (t["sections"], t["mapped_bytes"]) == (4, 4 * 2097152)
    assert (t["huge_leaves"], t["base_leaves"]) == (1, 3 * 512)
    # 10.1: 28672 bytes for a 2M folio that keeps one page, 24576 in D1.
    assert t["saved_hugetlb_bytes"] == 2 * 28672
    assert t["saved_dax_bytes"] == 128 * 24576
    assert t["savable_hugetlb_bytes"] == 28672
    assert (t["savable_dax_bytes"], t["saved_other_bytes"]) == (0, 0)
    assert (t["shared_tail_bytes"], t["readonly_leaves"]) == (4096, 14)
    # One tail page, and the frame of page 1 of each of 128 compounds.
    assert t["shared_frames"] == 1 + 128
    assert (t["nr_memmap_pages"], t["nr_memmap_boot_pages"]) == (256, 1008)
    assert t["page_table_bytes"] == 3 * 4096
    assert t["net_ram_bytes"] == t["backing_frames"] * 4096 + 3 * 4096
    assert_identity(t)


@pytest.mark.parametrize(
    ("like", "layout", "saved", "tails"),
    [
        ("5.15", "page1", 24576, 0),
        ("5.18", "self", 28672, 0),
        ("6.12", "self", 28672, 0),
        ("7.3", "zone", 28672, 4096),
        ("G5b", "zone", 28672, 4096),
    ],
)
def test_every_generation_saves_what_the_table_says(
    like: str, layout: str, saved: int, tails: int
) -> None:
    # 10.1, and 1.1 for the pages kept.
    m = Machine(like)
    m.add_section(1)
    add_pool(m, 9, [1])
    frame = add_tail_page(m) if layout == "zone" else None
    add_folio(m, 0x8000, 9, layout, tail_frame=frame)
    t = totals(m)
    assert (t["saved_hugetlb_bytes"], t["shared_tail_bytes"]) == (saved, tails)
    assert t["saved_bytes"] == saved - tails
    assert t["saved_other_bytes"] == 0
    assert_identity(t)


@pytest.mark.parametrize(
    ("like", "savable"), [("5.10", 0), ("5.15", 24576), ("6.12", 28672), ("7.3", 28672)]
)
def test_what_could_be_saved_is_what_the_kernel_would_keep(
    like: str, savable: int
) -> None:
    m = Machine(like)
    m.add_section(1)
    add_pool(m, 9, [1])
    add_folio(m, 0x8000)
    assert totals(m)["savable_hugetlb_bytes"] == savable


def test_tail_pages_that_nothing_uses_save_and_cost_nothing() -> None:
    m = Machine("7.3")
    m.add_section(1)
    add_tail_page(m)
    t = totals(m)
    assert t["shared_tail_bytes"] == 0
    assert_identity(t)


def test_sharing_that_nothing_explains_is_told_apart() -> None:
    m = busy()
    m.map(512 + 300, m.frame(512 + 301))
    t = totals(m)
    assert t["saved_other_bytes"] == 4096
    assert_identity(t)


@pytest.mark.parametrize("page", [517, 32 * 512, 32 * 512 + 3])
def test_a_hole_in_a_folio_or_a_compound_keeps_the_identity(page: int) -> None:
    m = busy()
    m.unmap(page)
    t = totals(m)
    assert_identity(t)
    assert t["saved_other_bytes"] == 0


def test_an_altmap_costs_no_ram() -> None:
    m = Machine("7.3")
    m.add_section(32, "PM", leaf=None)
    for page in range(512):
        m.map(32 * 512 + page, DAX_START + 16 + page)
    add_pgmap(m, DAX_START, DAX_START + 0x8000, 9, altmap=(DAX_START, 16, 4096, 512))
    t = totals(m)
    assert t["altmap_frames"] == 512
    assert t["net_ram_bytes"] == t["page_table_bytes"] == 4096


def test_altmaps_that_overlap_count_their_frames_once() -> None:
    m = Machine("7.3")
    m.add_section(32, "PM", leaf=None)
    m.map(32 * 512, DAX_START + 20)
    altmap = (DAX_START, 16, 4096, 512)
    add_pgmap(m, DAX_START, DAX_START + 0x4000, 9, altmap=altmap)
    add_pgmap(m, DAX_START + 0x4000, DAX_START + 0x8000, 9, altmap=altmap)
    assert totals(m)["altmap_frames"] == 1


def test_self_hosted_vmemmap_costs_no_ram() -> None:
    m = Machine("7.3")
    m.add_section(1, "PMO", leaf=None)
    for page in range(512):
        m.map(512 + page, 0x8000 + page)
    for pfn in range(0x8000, 0x8200):
        m.set_page(pfn, flags=1 << 10)
    t = totals(m)
    assert t["selfhosted_frames"] == 512
    assert t["net_ram_bytes"] == 4096


def test_rows_are_by_node_zone_kind_and_order() -> None:
    rows = [astuple(g) for g in Summary(busy().kernel()).groups]
    assert rows == [
        (0, "Device", "dax", 9, 128, 128, 128 * 24576, 0),
        (0, "Normal", "hugetlb", 9, 3, 2, 2 * 28672, 28672),
    ]


def test_a_kernel_without_counters_says_null() -> None:
    assert Summary(Machine("6.1").kernel()).totals()["nr_memmap_pages"] is None


def test_an_empty_kernel_has_an_answer() -> None:
    t = totals(Machine("7.3"))
    assert t["mapped_bytes"] == 0
    assert_identity(t)


def test_fsdax_makes_no_row() -> None:
    assert Summary(dax(shift=0, form=None).kernel()).groups == []


def test_a_device_whose_node_is_not_in_the_dump_leaves_other_orders_known() -> None:
    machine = ModelMachine("7.3", {0: NodeMemory([(0, GIB)])})
    machine.dax_add("dax0", "12G", "1G", align="1G", namespace=False)
    machine.dax_add("dax1", "14G", "128M", align="2M", namespace=False)
    machine.dax_add("dax2", "15G", "128M", altmap=True)  # its struct pages are there
    groups = Summary(Bench(machine).healthy()).groups
    assert [(g.order, g.count, g.saved_bytes) for g in groups] == [
        (9, None, None),
        (18, 1, 4094 * 4096),
    ]
