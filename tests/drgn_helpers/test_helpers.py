# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the helpers say of modelled machines, against the books of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import drgn
import pytest
from drgn import Object
from drgn.helpers.linux.mm import page_to_pfn, pfn_to_page

from tests.samples import Sample
from vmemmap_tools.drgn_helpers import (
    folio_backing,
    folio_vmemmap_optimized,
    for_each_hugetlb_folio,
    for_each_pgmap,
    for_each_section,
    for_each_vmemmap_leaf,
    for_each_vmemmap_page_of_frame,
    for_each_vmemmap_saving,
    for_each_zone,
    get_dev_pagemap,
    hugetlb_why_not_optimized,
    nr_to_section,
    page_to_nid,
    page_vmemmap_frame,
    page_zone,
    page_zonenum,
    pfn_to_section,
    pgmap_altmap,
    pgmap_ranges,
    pgmap_vmemmap_shift,
    section_compound_order,
    section_state,
    section_zone,
    vmemmap_frame_mappings,
    vmemmap_savings,
    walk_page_table,
    zone_vmemmap_tails,
)
from vmemmap_tools.model.books import Books

GENERATIONS = ("5.14", "6.1", "7.3", "section-order", "section-dax", "seed")
FLAGS = {"online": "O", "early": "E", "taint_zone_device": "D", "preinit": "V"}
PAGE = 4096
STRUCT_PAGE = 64


@dataclass(frozen=True)
class Machine:
    generation: str
    books: Books
    prog: drgn.Program

    def page(self, pfn: int) -> Object:
        return pfn_to_page(self.prog, pfn)

    def vmemmap_va(self, number: int) -> int:
        return int(self.books["vmemmap_base_va"], 16) + number * PAGE


@pytest.fixture(scope="module", params=GENERATIONS)
def machine(request: pytest.FixtureRequest, sample: Callable[[str], Sample]) -> Machine:
    dump = sample(f"gen-{request.param}")
    return Machine(request.param, dump.books, dump.program())


def pfn_of(page: Object) -> int:
    return int(page_to_pfn(page).value_())


def test_sections_are_those_of_the_books(machine: Machine) -> None:
    found = {
        nr: (section_state(section), section_compound_order(section) or 0)
        for nr, section in for_each_section(machine.prog)
    }
    expected = {
        nr: (
            "PM" + "".join(c for flag, c in FLAGS.items() if row[flag]),
            row["order"] or 0,
        )
        for row in machine.books["sections"]
        for nr in range(row["first"], row["first"] + row["count"])
    }
    order = "PMOEDV".index
    assert {nr: (sorted(s, key=order), o) for nr, (s, o) in found.items()} == {
        nr: (sorted(s, key=order), o) for nr, (s, o) in expected.items()
    }


def test_a_section_is_found_by_number_and_pfn(machine: Machine) -> None:
    nr, section = next(for_each_section(machine.prog))
    assert nr_to_section(machine.prog, nr) == section
    assert pfn_to_section(machine.prog, (nr << 15) + 4711) == section
    assert not nr_to_section(machine.prog, 1 << 18)
    stray = Object(machine.prog, "struct mem_section *", section.value_() + 1)
    with pytest.raises(ValueError, match="no section in use"):
        section_zone(stray)


def test_node_and_zone_of_pages(machine: Machine) -> None:
    """Of the first and last page of every stretch of online sections."""
    zones = sorted(
        (row["start_pfn"], row["index"], row["node"], row["zone"])
        for row in machine.books["zones"]
        if row["present_pages"]
    )
    seen = set()
    for row in machine.books["sections"]:
        if not row["online"]:
            continue
        for pfn in (row["first"] << 15, (row["first"] + row["count"] << 15) - 1):
            _, index, node, name = max(zone for zone in zones if zone[0] <= pfn)
            page = machine.page(pfn)
            assert page_to_nid(page) == node
            assert page_zonenum(page) == index
            assert page_zone(page).name.string_().decode() == name
            assert page_zone(page) in list(for_each_zone(machine.prog))
            seen.add(name)
    assert seen == {"DMA", "DMA32", "Normal"}


def test_the_zone_of_a_section(machine: Machine) -> None:
    for row in machine.books["zones"]:
        first = -(-row["start_pfn"] >> 15)
        if row["present_pages"] >> 15 and row["start_pfn"] % (1 << 15) == 0:
            section = nr_to_section(machine.prog, first)
            assert section_zone(section).name.string_().decode() == row["zone"]
    # Section 0 holds pages of DMA and of DMA32.
    assert not section_zone(nr_to_section(machine.prog, 0))


def test_leaves_are_those_of_the_books(machine: Machine) -> None:
    leaves = list(for_each_vmemmap_leaf(machine.prog))
    account = machine.books["vmemmap"]
    assert sum(leaf.size for leaf in leaves) == account["pages"] * PAGE
    assert sum(leaf.size > PAGE for leaf in leaves) == account["pmd_leaves"]
    readonly = sum(leaf.size for leaf in leaves if leaf.is_readonly)
    assert readonly == account["read_only_pages"] * PAGE
    base = machine.vmemmap_va(0)
    for leaf in leaves[:: max(1, len(leaves) // 200)]:
        expected = machine.books.leaf((leaf.address - base) // PAGE)
        assert expected is not None
        assert leaf.pfn == expected.frame
        assert leaf.is_readonly is not expected.writable


def test_leaves_of_a_range_are_those_that_touch_it(machine: Machine) -> None:
    every = list(for_each_vmemmap_leaf(machine.prog))
    head = machine.books["folios"][-1]["head_pfn"]
    start = machine.page(head)
    end = start.value_() + (STRUCT_PAGE << 9)
    expected = [
        leaf
        for leaf in every
        if leaf.address < end and leaf.address + leaf.size > start.value_()
    ]
    assert list(for_each_vmemmap_leaf(machine.prog, start, end)) == expected
    assert 0 < len(expected) <= 8
    inside = expected[0].address + 8
    assert list(for_each_vmemmap_leaf(machine.prog, inside, inside + 1)) == expected[:1]
    assert not list(for_each_vmemmap_leaf(machine.prog, end, start))


def test_a_walk_ends_at_the_leaf_of_the_books(machine: Machine) -> None:
    for row in machine.books["backing"]:
        page = Object(machine.prog, "void *", machine.vmemmap_va(row["page"]))
        steps = list(walk_page_table(page))
        expected = machine.books.leaf(row["page"])
        assert expected is not None
        assert [step.level for step in steps] == list(range(4, expected.level - 1, -1))
        assert steps[-1].is_leaf
        assert ("RW" in steps[-1].flags.split("|")) is expected.writable
        for step in steps:
            raw = machine.prog.read_u64(step.entry_pa, True)
            assert raw == step.entry
    *_, hole = walk_page_table(machine.prog, machine.vmemmap_va(1 << 27))
    assert not hole.is_leaf
    assert hole.flags == ""


def test_shared_tails_of_zones(machine: Machine) -> None:
    found = {
        (order, page.value_(), vmemmap_frame_mappings(page_to_pfn(page)))
        for zone in for_each_zone(machine.prog)
        for order, page in zone_vmemmap_tails(zone)
    }
    assert found == {
        (row["order"], int(row["struct_page_va"], 16), row["mapped_by"])
        for row in machine.books["shared_tails"]
    }


def test_who_maps_a_frame(machine: Machine) -> None:
    head = machine.books["folios"][-1]["head_pfn"]
    frame = page_vmemmap_frame(machine.page(head + 128))
    leaf = machine.books.leaf_of(head + 128)
    assert leaf is not None
    assert frame == leaf.frame
    users = [
        pfn_of(page) for page in for_each_vmemmap_page_of_frame(machine.prog, frame)
    ]
    expected = [
        number * PAGE // STRUCT_PAGE
        for number in _mapped_numbers(machine.books)
        if (found := machine.books.leaf(number)) and found.frame == frame
    ]
    assert users == expected
    assert len(users) == vmemmap_frame_mappings(machine.prog, frame)


def _mapped_numbers(books: Books) -> list[int]:
    """The vmemmap pages of hugetlb folios: all that a folio's frame can back."""
    return [
        (row["head_pfn"] + (i << row["order"])) * STRUCT_PAGE // PAGE + j
        for row in books["folios"]
        for i in range(row["count"])
        for j in range((STRUCT_PAGE << row["order"]) // PAGE)
    ]


def test_folios_and_their_backing(machine: Machine) -> None:
    expected = {
        row["head_pfn"] + (i << row["order"]): (row["order"], row["optimised"])
        for row in machine.books["folios"]
        for i in range(row["count"])
    }
    found = {}
    saved = 0
    for page in for_each_hugetlb_folio(machine.prog):
        backing = folio_backing(page)
        found[pfn_of(page)] = (backing.order, backing.is_optimized)
        saved += backing.saved_bytes
        leaf = machine.books.leaf_of(pfn_of(page))
        assert leaf is not None and backing.head_frame == leaf.frame
    assert found == expected
    assert saved == machine.books["vmemmap"]["saved_pages_hvo"] * PAGE


@pytest.mark.parametrize("index", [1, 63, 64, 65, 511])
def test_any_page_of_a_folio_will_do(machine: Machine, index: int) -> None:
    head = machine.books["folios"][-1]["head_pfn"]
    backing = folio_backing(machine.page(head + index))
    assert pfn_of(backing.head) == head
    assert folio_vmemmap_optimized(machine.page(head + index)) is backing.is_optimized


def test_layouts_name_the_generations(machine: Machine) -> None:
    layouts = {
        folio_backing(page).layout for page in for_each_hugetlb_folio(machine.prog)
    }
    assert layouts == {
        {"5.14": "page1-shared", "6.1": "self-shared"}.get(
            machine.generation, "zone-shared"
        )
    }


def test_a_single_page_has_no_backing_to_share(machine: Machine) -> None:
    page = machine.page(16)
    with pytest.raises(ValueError, match="belongs to no compound page"):
        folio_backing(page)
    assert folio_vmemmap_optimized(page) is False


def test_pgmaps(machine: Machine) -> None:
    rows = {row["start_pfn"]: row for row in machine.books["pgmaps"]}
    pgmaps = list(for_each_pgmap(machine.prog))
    assert len(pgmaps) == len(rows)
    for pgmap in pgmaps:
        ((start, end),) = pgmap_ranges(pgmap)
        row = rows[start]
        assert end == row["end_pfn"]
        assert pgmap_vmemmap_shift(pgmap) == (row["vmemmap_shift"] or 0)
        altmap = pgmap_altmap(pgmap)
        assert bool(altmap) is (row["altmap"] is not None)
        if altmap:
            assert altmap.base_pfn == row["altmap"]["base_pfn"]
        for pfn in (start, end - 1):
            assert get_dev_pagemap(machine.prog, pfn) == pgmap
        if row["vmemmap_shift"]:
            backing = folio_backing(machine.page(row["data_pfn"] + 5))
            assert backing.order == row["vmemmap_shift"]
            with pytest.raises(ValueError, match="no HugeTLB folio"):
                hugetlb_why_not_optimized(machine.page(row["data_pfn"]))
    assert not get_dev_pagemap(machine.prog, 0x10000)


def test_savings(machine: Machine) -> None:
    account = machine.books["vmemmap"]
    savings = vmemmap_savings(machine.prog)
    assert savings.mapped == account["pages"] * PAGE
    assert savings.backing == account["distinct_frames"] * PAGE
    assert savings.saved_hugetlb == account["saved_pages_hvo"] * PAGE
    assert savings.saved_dax == account["saved_pages_dax"] * PAGE
    assert savings.shared_tails == account["shared_tail_pages"] * PAGE
    rows = list(for_each_vmemmap_saving(machine.prog))
    for row in machine.books["hstates"]:
        of_order = [r for r in rows if (r.kind, r.order) == ("hugetlb", row["order"])]
        assert sum(r.compounds or 0 for r in of_order) == row["nr"]
        assert sum(r.optimized or 0 for r in of_order) == row["optimised"]
        assert sum(r.saved_bytes or 0 for r in of_order) == row["saved_pages"] * PAGE


HOLE = 2 << 30 >> 12
"""The first pfn of the hole between the node's two parts of memory."""


def overlay(prog: drgn.Program, frame: int, content: bytes) -> None:
    """Lay other contents over a frame of a dump."""

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        return content[offset : offset + count]

    prog.add_memory_segment(frame * PAGE, PAGE, read, True)


def test_the_last_pages_before_a_hole_are_judged_without_those_behind(
    sample: Callable[[str], Sample],
) -> None:
    prog = sample("gen-7.3").program()
    for pfn in range(HOLE - 3, HOLE):
        page = pfn_to_page(prog, pfn)
        assert folio_vmemmap_optimized(page) is False
        with pytest.raises(ValueError, match="belongs to no compound page"):
            folio_backing(page)


def test_the_last_two_pages_before_a_hole_may_be_a_folio(
    sample: Callable[[str], Sample],
) -> None:
    prog = sample("gen-7.3").program()
    frame = page_vmemmap_frame(pfn_to_page(prog, HOLE - 1))
    assert frame is not None
    content = bytearray(prog.read(frame * PAGE, PAGE, True))
    head, tail = len(content) - 2 * STRUCT_PAGE, len(content) - STRUCT_PAGE
    content[head] |= 1 << 6  # PG_head
    content[tail] = 1  # the order
    content[tail + 8 : tail + 16] = 0xFFFFFFFFFFFFFF81.to_bytes(8, "little")
    overlay(prog, frame, bytes(content))
    for pfn in HOLE - 2, HOLE - 1:
        assert folio_vmemmap_optimized(pfn_to_page(prog, pfn)) is False
        with pytest.raises(ValueError, match=r"pfn 0x7fffe \(order 1\) fills no page"):
            folio_backing(pfn_to_page(prog, pfn))
