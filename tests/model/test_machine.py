# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boot, hotplug, pools: what the machine does and what it refuses."""

from __future__ import annotations

import pytest

from tests.model.kernels import GIB, small, varied
from tests.model.walk import struct_page, vmemmap_leaves, walk
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.frames import Kind, OutOfMemory
from vmemmap_tools.model.machine import Machine, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("64K", 65536), ("2M", 2 << 20), ("1.5G", 3 << 29), ("0x1000", 4096), (7, 7)],
)
def test_sizes_are_read_as_people_write_them(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "2X", "G", "-1M", "0.3"])
def test_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no"):
        parse_size(text)


def test_zones_follow_the_limits_of_the_architecture() -> None:
    nodes = {0: NodeMemory([(0, 2 * GIB), (4 * GIB, 8 * GIB)], movable=GIB)}
    rows = Machine("7.3", nodes).books()["zones"]
    spans = {r["zone"]: (r["start_pfn"], r["spanned_pages"]) for r in rows}
    assert spans["DMA"] == (0, 4096)
    # The hole at its end is part of it: the node goes on behind.
    assert spans["DMA32"] == (4096, 0x100000 - 4096)
    assert spans["Normal"] == (0x100000, 0xC0000)
    assert spans["Movable"] == (0x1C0000, 0x40000)
    assert spans["Device"] == (0, 0)


def test_early_sections_cover_their_holes() -> None:
    machine = Machine("7.3", {0: NodeMemory([(0, 200 << 20)])})
    row = machine.books()["sections"][-1]
    assert (row["first"], row["mapped_pages"]) == (1, 512)
    # 72 MiB of the section are memory, but all of it has struct pages.
    assert row["subsections"] == hex((1 << 36) - 1)
    words = struct_page(machine.image(), (201 << 20) >> 12)
    assert words[0] & 1 << machine.core.types.enumerator("PG_reserved")


def test_boot_frames_are_reserved_until_hvo_frees_them() -> None:
    machine = small("7.3")
    leaf = machine.books().leaf_of(0)
    assert leaf is not None
    assert machine.core.frames.kind(leaf.frame) is Kind.RESERVED
    machine.hugetlb_alloc("2M", 300)
    assert machine.core.frames.kind(leaf.frame) is Kind.RESERVED
    assert machine.books()["counters"]["nr_memmap_boot_pages"] == 4096 - 300 * 8


def test_managed_pages_grow_when_boot_frames_are_freed() -> None:
    def managed(machine: Machine) -> int:
        return sum(r["managed_pages"] for r in machine.books()["zones"])

    machine = small("7.3")
    before = managed(machine)
    assert managed(machine.hugetlb_alloc("2M", 10)) == before + 80


def test_self_hosted_vmemmap_lies_in_its_own_block() -> None:
    machine = small("7.3").memory_add("4G", "128M", self_hosted=True)
    found = vmemmap_leaves(machine.image())
    first = 4 * GIB // 4096
    frames = [found[first // 64 + k].frame for k in range(512)]
    assert frames == list(range(first, first + 512))


def test_hvo_refuses_folios_with_a_self_hosted_vmemmap() -> None:
    machine = Machine("7.3", {0: NodeMemory([(0, GIB)])})
    machine.memory_add("4G", "256M", node=1, zone="Movable", self_hosted=True)
    machine.hugetlb_alloc("2M", 8, node=1)
    rows = {r["name"]: r for r in machine.books()["hstates"]}
    assert (rows["2M"]["nr"], rows["2M"]["optimised"]) == (8, 0)


def test_kernels_before_6_0_ignore_self_hosting_when_hvo_is_on() -> None:
    machine = small("5.18").memory_add("4G", "128M", self_hosted=True)
    assert machine.books()["vmemmap"]["self_hosted_pages"] == 0


@pytest.mark.parametrize("self_hosted", [False, True])
def test_hot_removal_undoes_hot_add(self_hosted: bool) -> None:
    before = small("7.3").books()
    machine = small("7.3").memory_add("4G", "256M", self_hosted=self_hosted)
    after = machine.memory_remove("4G", "256M").books()
    for key in ("sections", "zones", "counters", "vmemmap"):
        assert after[key] == before[key], key


def test_hot_added_sections_are_not_early() -> None:
    row = small("7.3").memory_add("4G", "128M").books()["sections"][-1]
    assert (row["online"], row["early"]) == (True, False)


def test_offline_memory_is_in_no_zone() -> None:
    machine = small("7.3").memory_add("4G", "128M", online=False)
    zones = {r["zone"]: r for r in machine.books()["zones"]}
    assert zones["Normal"]["present_pages"] == 0
    machine.memory_online("4G", "128M")
    zones = {r["zone"]: r for r in machine.books()["zones"]}
    assert zones["Normal"]["present_pages"] == 32768


def test_memory_in_use_is_not_removed() -> None:
    machine = small("7.3").memory_add("4G", "128M", node=1, zone="Movable")
    machine.hugetlb_alloc("2M", 1, node=1)
    with pytest.raises(OutOfMemory, match="hugetlb"):
        machine.memory_remove("4G", "128M")


def test_a_pool_cannot_outgrow_its_node() -> None:
    with pytest.raises(OutOfMemory, match="folios of 1G"):
        small("7.3").hugetlb_alloc("1G", 2)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="2M, 1G"):
        small("7.3").hugetlb_alloc("4M")


def test_unknown_generation_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"7\.3"):
        Machine("4.19")


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("kaslr", [None, 1, 2, 3])
def test_variables_read_the_same_through_page_tables(
    levels: int, kaslr: int | None
) -> None:
    image = small("7.3", levels=levels, kaslr=kaslr).image()
    symbol = image.symbols["vmemmap_base"]
    va = symbol.address + image.kaslr_offset
    found = walk(image, va & ~0xFFF)
    assert found is not None
    data = image.memory.read((found.frame << 12) + va % 4096, 8)
    assert int.from_bytes(data, "little") == image.facts["vmemmap"]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("levels", [4, 5])
def test_kaslr_keeps_bases_apart_and_aligned(levels: int, seed: int) -> None:
    place = small("7.3", levels=levels, kaslr=seed).core.placement
    bases = (place.page_offset, place.vmalloc_base, place.vmemmap_base)
    assert list(bases) == sorted(bases)
    assert all(base % GIB == 0 for base in bases)
    assert place.kaslr_offset % (2 << 20) == 0
    assert place.vmemmap_base + place.space.vmemmap_size < 0xFFFFFE0000000000


def test_encryption_bit_is_in_every_entry() -> None:
    machine = small("7.3", sme=True).hugetlb_alloc("2M")
    image = machine.image()
    assert image.facts["sme_mask"] == 1 << 47
    assert all(leaf.entry & 1 << 47 for leaf in vmemmap_leaves(image).values())


def test_other_mms_share_the_kernel_half_of_the_top_level() -> None:
    image = small("7.3", mms=3).image()
    half = image.memory.read((image.tables.root_pfn << 12) + 2048, 2048)
    assert len(image.pgds) == 3
    for pfn in image.pgds:
        assert image.memory.read((pfn << 12) + 2048, 2048) == half


def test_page_ext_is_counted_with_boot_pages() -> None:
    machine = small("7.3", extras=["page-ext"])
    counters = machine.books()["counters"]
    # 8 sections of 32768 pages with 8 bytes each.
    assert counters["page_ext_pages"] == 512
    assert counters["nr_memmap_boot_pages"] == 4096 + 512


def test_two_images_of_one_machine_are_equal() -> None:
    machine = varied("7.3")
    first, second = machine.image(), machine.image()
    for start, end in first.memory.ranges:
        for pa in range(start, end, 64 << 20):
            assert first.memory.read(pa, 4096) == second.memory.read(pa, 4096)
