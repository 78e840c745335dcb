# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device memory: layouts D0 to D2, reference counts, early sections, removal."""

from __future__ import annotations

import pytest

from tests.model.kernels import GIB, small
from tests.model.walk import struct_page, vmemmap_leaves
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.machine import Machine

D1 = ("6.1", "6.12", "7.2", "7.3", "section-order")
D2 = ("section-dax", "seed")


def device(generation: str, align: str, size: str = "1G") -> Machine:
    machine = small(generation)
    return machine.dax_add("dax0", "8G", size, align=align, namespace=False)


def saved(machine: Machine) -> int:
    return int(machine.books()["vmemmap"]["saved_pages_dax"])


@pytest.mark.parametrize("generation", ["5.14", "5.18"])
@pytest.mark.parametrize("align", ["2M", "1G"])
def test_d0_saves_nothing(generation: str, align: str) -> None:
    assert saved(device(generation, align)) == 0


@pytest.mark.parametrize("generation", D1)
def test_d1_saves_6_pages_of_2m_and_4094_of_1g(generation: str) -> None:
    assert saved(device(generation, "2M")) == 512 * 6
    assert saved(device(generation, "1G")) == 4094


@pytest.mark.parametrize("generation", D2)
def test_d2_saves_7_pages_of_2m_and_4095_of_1g(generation: str) -> None:
    assert saved(device(generation, "2M")) == 512 * 7
    assert saved(device(generation, "1G")) == 4095


def test_small_alignment_saves_nothing() -> None:
    assert saved(device("7.3", "4K")) == 0


def test_altmap_saves_nothing_although_compounds_exist() -> None:
    machine = small("7.3").dax_add("dax0", "8G", "256M", align="2M", altmap=True)
    (row,) = machine.books()["pgmaps"]
    assert row["vmemmap_shift"] == 9
    assert row["saved_pages"] == 0


def test_data_behind_an_altmap_begins_at_a_multiple_of_the_align() -> None:
    # nd_pfn_init(): ALIGN(start + 8 KiB + 64 bytes a page, align).
    machine = small("7.3").dax_add("d", "8320M", "2G", align="1G", altmap=True)
    (row,) = machine.books()["pgmaps"]
    assert (row["start_pfn"], row["data_pfn"]) == (0x208000, 0x240000)
    assert (row["altmap"]["reserve"], row["altmap"]["free"]) == (2, 0x37FFE)


def test_d1_gigantic_compound_has_one_tail_frame_in_all_sections() -> None:
    machine = device("7.3", "1G")
    found = vmemmap_leaves(machine.image())
    frames = [found[8 * GIB // 4096 // 64 + k].frame for k in range(4096)]
    assert len(set(frames)) == 2
    assert frames.count(frames[1]) == 4095


@pytest.mark.parametrize(("align", "count"), [("2M", 7), ("1G", 4095)])
def test_d1_tail_frame_is_referenced_once_per_pte(align: str, count: int) -> None:
    machine = device("7.3", align)
    leaf = machine.books().leaf_of(8 * GIB // 4096 + 64)
    assert leaf is not None
    assert struct_page(machine.image(), leaf.frame)[6] >> 32 == count


def test_d2_tail_frame_is_referenced_once_more_than_it_is_mapped() -> None:
    machine = device("section-dax", "1G", size="2G")
    (tail,) = machine.books()["shared_tails"]
    assert tail["mapped_by"] == 2 * 4095
    assert struct_page(machine.image(), tail["frame_pfn"])[6] >> 32 == 1 + 2 * 4095


@pytest.mark.parametrize(("generation", "writable"), [("section-dax", 8), ("seed", 1)])
def test_dax_tails_are_read_only_in_the_seed_alone(
    generation: str, writable: int
) -> None:
    found = vmemmap_leaves(device(generation, "2M").image())
    first = 8 * GIB // 4096 // 64
    assert sum(found[first + k].writable for k in range(8)) == writable


def test_d2_sections_carry_the_order_and_fragments_do_not() -> None:
    machine = device("section-dax", "2M", size="260M")
    rows = {r["first"]: r for r in machine.books()["sections"]}
    assert (rows[64]["count"], rows[64]["order"]) == (2, 9)
    assert rows[66]["order"] == 0
    # Two whole sections of 64 compounds each, and two plain compounds behind them.
    assert saved(machine) == 2 * 64 * 7


def test_d1_shares_in_fragments_too() -> None:
    assert saved(device("7.3", "2M", size="260M")) == 130 * 6


def test_fragments_are_mapped_by_base_pages_and_have_part_of_the_bitmap() -> None:
    machine = device("7.3", "4K", size="260M")
    row = machine.books()["sections"][-1]
    assert (row["leaf"], row["mapped_pages"]) == ("pte", 64 * 2 // 8 * 1)
    assert row["subsections"] == "0x3"


def mixed(generation: str) -> Machine:
    nodes = {0: NodeMemory([(0, 960 << 20)])}
    return Machine(generation, nodes)


def test_a_device_in_an_early_section_uses_the_boot_memmap() -> None:
    machine = mixed("7.3")
    before = machine.books()["vmemmap"]["distinct_frames"]
    machine.dax_add("dax0", "960M", "64M", align="2M")
    books = machine.books()
    assert books["vmemmap"]["distinct_frames"] == before
    assert books["sections"][-1]["taint_zone_device"]
    assert saved(machine) == 0


def test_counters_ignore_a_device_in_an_early_section() -> None:
    machine = mixed("7.3")
    before = machine.books()["counters"]
    assert machine.dax_add("dax0", "960M", "64M").books()["counters"] == before


@pytest.mark.parametrize("generation", ["6.12", "7.3", "section-dax", "seed"])
@pytest.mark.parametrize("align", ["4K", "2M", "1G"])
def test_removal_undoes_everything(generation: str, align: str) -> None:
    before = small(generation).books()
    after = device(generation, align).dax_remove("dax0").books()
    assert after["counters"] == before["counters"]
    assert after["vmemmap"]["pages"] == before["vmemmap"]["pages"]
    assert after["sections"] == before["sections"]


def test_device_pages_are_reserved_and_their_head_names_the_pgmap() -> None:
    machine = device("7.3", "2M")
    image = machine.image()
    pfn = 8 * GIB // 4096
    head, tail = struct_page(image, pfn), struct_page(image, pfn + 5)
    reserved = 1 << image.types.enumerator("PG_reserved")
    assert head[0] & reserved
    assert tail[0] & reserved
    assert head[1] == image.pgmaps["dax0"].va
    assert (head[6] >> 32, tail[6] >> 32) == (1, 0)


def test_every_pageblock_of_a_device_is_movable() -> None:
    image = device("7.3", "1G").image()
    usage = image.usages[64]
    offset = image.types.offsetof("mem_section_usage.pageblock_flags")
    flags = image.memory.read(usage.pa + offset, 64)
    assert set(flags) == {1}


def test_overlapping_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="is free"):
        small("7.3").dax_add("dax0", "512M", "128M")
