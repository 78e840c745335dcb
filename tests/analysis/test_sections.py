# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows of `sections`, and where a section's pages are placed."""

from __future__ import annotations

import pytest

from tests.fakes.layouts import section_struct
from tests.fakes.machine import DEVICE, DMA32, MOVABLE, NORMAL, Machine
from vmemmap_tools.analysis.sections import (
    SectionRow,
    describe_sections,
)

from .machines import DAX_START, busy, dax


def row(m: Machine, nr: int) -> SectionRow:
    (only,) = describe_sections(m.kernel(), [range(nr, nr + 1)])
    return only


def test_a_section_of_boot_memory_on_a_huge_leaf() -> None:
    found = row(busy(), 0)
    assert (found.state, found.start_pfn, found.pages) == ("PMOE", 0, 32768)
    assert (found.node, found.zone, found.order) == (0, "Normal", None)
    assert (found.huge_leaves, found.base_leaves) == (1, 0)
    assert (found.mapped_pages, found.backing_frames) == (512, 512)
    assert (found.subsections_set, found.subsections) == (64, 64)
    assert found.memmap_va == "0xffffea0000000000"
    assert not found.is_shared and not found.self_hosted


def test_sharing_shows_in_the_frames_of_a_section() -> None:
    found = row(busy(), 1)
    # Two folios with seven tail pages on one frame.
    assert (found.mapped_pages, found.backing_frames) == (512, 512 - 14 + 1)
    assert found.is_shared


def test_a_section_without_a_mem_map_has_no_memmap() -> None:
    m = busy()
    m.add_section(5, "P", leaf=None)
    found = row(m, 5)
    assert (found.memmap_va, found.node, found.zone) == (None, None, None)


def test_sections_are_chosen_by_number_and_by_pfn() -> None:
    kernel = busy().kernel()

    def chosen(*numbers: range, pfns: range | None = None) -> list[int]:
        return [r.nr for r in describe_sections(kernel, numbers, pfns)]

    assert chosen() == [0, 1, 32, 33]
    assert chosen(range(1, 33)) == [1, 32]
    assert chosen(range(33, 34), range(0, 1)) == [33, 0]
    assert chosen(pfns=range(0x7FFF, 0x8001)) == [0, 1]
    assert chosen(range(1, 33), pfns=range(DAX_START, DAX_START + 1)) == [32]
    assert chosen(range(1, 2), pfns=range(DAX_START, DAX_START + 1)) == []


def test_an_unreadable_bitmap_is_missing_and_the_row_is_there() -> None:
    m = busy()
    m.sections[32]["usage"] = 0x10
    kernel = m.kernel()
    (found,) = describe_sections(kernel, [range(32, 33)])
    assert found.subsections_set is None
    assert "mem_section_usage" in kernel.missing.as_dict()["unmapped"]


# Placement: zones' spans where one covers the section, its struct pages elsewhere.


def test_spans_that_overlap_are_decided_by_the_struct_pages() -> None:
    m = Machine("7.3")
    m.add_section(1)
    m.set_zone(0, NORMAL, 0, 1 << 20)
    m.set_zone(1, MOVABLE, 0x8000, 0x8000)
    for pfn in range(0x8000, 0x10000, 512):
        m.set_page(pfn, flags=m.place_bits(1, MOVABLE))
    assert (row(m, 1).node, row(m, 1).zone) == (1, "Movable")


def test_a_section_with_pages_of_two_zones_is_mixed() -> None:
    m = Machine("7.3")
    m.add_section(1)
    m.set_page(0x8000, flags=m.place_bits(0, DMA32))
    m.set_page(0x8200, flags=m.place_bits(0, NORMAL))
    assert (row(m, 1).node, row(m, 1).zone) == (0, "mixed")


def test_pages_of_two_nodes_have_no_one_node() -> None:
    m = Machine("7.3")
    m.add_section(1)
    m.set_page(0x8000, flags=m.place_bits(0, NORMAL))
    m.set_page(0x8200, flags=m.place_bits(1, NORMAL))
    assert (row(m, 1).node, row(m, 1).zone) == (None, "Normal")


def test_subsections_that_are_not_populated_are_not_asked() -> None:
    m = Machine("7.3")
    m.add_section(1, "PM", subsections=0b10)
    m.set_page(0x8000, flags=m.place_bits(0, NORMAL))
    m.set_page(0x8200, flags=m.place_bits(1, DEVICE))
    assert (row(m, 1).node, row(m, 1).zone) == (1, "Device")


def test_pages_never_initialised_or_lost_place_nothing() -> None:
    m = Machine("7.3")
    m.add_section(1)
    m.write_page(0x8200, 0, b"\xff" * 64)
    m.memory.lose(m.frame(512))
    assert (row(m, 1).node, row(m, 1).zone) == (None, None)


# Order and zone that the section itself records (2.1).


def test_the_sections_own_order_is_shown() -> None:
    assert row(dax("G5b", form="D2", compound_page_order=9), 32).order == 9
    assert row(dax("G5b", form=None), 32).order == 0


@pytest.mark.parametrize("kind", ["pointer", "index"])
def test_the_sections_own_zone_is_shown_in_both_forms(kind: str) -> None:
    m = Machine("G6")
    m.target.structs["mem_section"] = section_struct(m.generation, 32, kind)
    word = m.zone_va(1, DEVICE) if kind == "pointer" else DEVICE
    m.add_section(1, zone=word)
    assert row(m, 1).section_zone == "Device"


def test_a_zone_pointer_to_no_zone_is_shown_as_it_is() -> None:
    m = Machine("G6")
    m.add_section(1, zone=0xFFFF888012345678)
    m.add_section(2, zone=0)
    assert row(m, 1).section_zone == "0xffff888012345678"
    assert row(m, 2).section_zone is None


def test_an_index_of_no_zone_has_a_number() -> None:
    m = Machine("G6")
    m.target.structs["mem_section"] = section_struct(m.generation, 32, "index")
    m.add_section(1, zone=77)
    assert row(m, 1).section_zone == "zone 77"


def test_kernels_without_the_members_say_null() -> None:
    assert (row(busy(), 1).order, row(busy(), 1).section_zone) == (None, None)
