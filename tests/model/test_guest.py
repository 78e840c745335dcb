# SPDX-License-Identifier: LGPL-2.1-or-later
"""The model against real guests: what the same configuration gave there.

All numbers were read from dumps, or from /proc of the guests, of 6.1, 6.12, 7.2, 7.3.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.model.kernels import guest
from tests.model.walk import vmemmap_leaves

NEW = ("7.2", "7.3")
ALL = ("6.1", "6.12", *NEW)


def counters(**options: object) -> tuple[int, int]:
    books = guest(**options).books()  # type: ignore[arg-type]
    return (
        books["counters"]["nr_memmap_pages"],
        books["counters"]["nr_memmap_boot_pages"],
    )


@pytest.mark.parametrize("generation", NEW)
def test_counters_of_7_x_are_those_of_the_guest(generation: str) -> None:
    assert counters(generation=generation) == (1676, 16769)


@pytest.mark.parametrize("generation", NEW)
def test_counters_without_the_1g_page_are_those_of_the_guest(generation: str) -> None:
    assert counters(generation=generation, gigantic=False) == (1676, 20864)


@pytest.mark.parametrize("generation", NEW)
def test_counters_without_hvo_are_those_of_the_guest(generation: str) -> None:
    got = counters(generation=generation, gigantic=False, hvo=False)
    assert got == (1540, 21504)


def test_counters_with_kmem_are_those_of_the_guest() -> None:
    assert counters(generation="7.3", kmem=True) == (2700, 16769)


def test_counters_of_6_12_are_those_of_the_guest() -> None:
    assert counters(generation="6.12") == (1677, 16768)


def test_counters_of_6_12_with_kmem_are_those_of_the_guest() -> None:
    assert counters(generation="6.12", gigantic=False, kmem=True) == (2700, 20864)


@pytest.mark.parametrize("generation", ALL)
@pytest.mark.parametrize(("gigantic", "expected"), [(True, 4599), (False, 504)])
def test_read_only_leaves_are_as_many_as_in_the_guest(
    generation: str, gigantic: bool, expected: int
) -> None:
    found = vmemmap_leaves(guest(generation, gigantic=gigantic).image())
    assert sum(not leaf.writable for leaf in found.values()) == expected


@pytest.mark.parametrize("generation", NEW)
def test_without_hvo_no_leaf_is_read_only(generation: str) -> None:
    found = vmemmap_leaves(guest(generation, gigantic=False, hvo=False).image())
    assert all(leaf.writable for leaf in found.values())


@pytest.mark.parametrize("generation", ["6.1", "6.12"])
def test_static_key_counts_the_optimised_folios_of_the_guest(generation: str) -> None:
    assert guest(generation).books()["static_key"]["value"] == 73


SECTIONS_7 = {0xF: 33, 0x3: 22, 0x1F: 1, 0x2F: 8}
SECTIONS_6 = {0xF: 41, 0x3: 22, 0x1F: 1}


@pytest.mark.parametrize(
    ("generation", "kmem", "expected"),
    [
        ("6.1", False, SECTIONS_6),
        ("6.12", False, SECTIONS_6),
        ("7.2", False, SECTIONS_7),
        ("7.3", False, SECTIONS_7),
        ("7.3", True, {0xF: 33, 0x3: 18, 0x7: 3, 0x1F: 1, 0x2F: 8}),
    ],
)
def test_section_flags_are_those_of_the_guest(
    generation: str, kmem: bool, expected: dict[int, int]
) -> None:
    image = guest(generation, kmem=kmem).image()
    words = [entry.get("section_mem_map") & 0x7F for entry in image.sections.values()]
    assert dict(Counter(words)) == expected


def test_subsection_maps_of_the_guest_are_full() -> None:
    image = guest("7.3").image()
    maps = {usage.get("subsection_map[0]") for usage in image.usages.values()}
    assert maps == {(1 << 64) - 1}


RANGES = {
    # first pfn, end pfn: vmemmap pages, distinct frames
    "dax0, first 1G": (0x100000, 0x140000, 4096, 2),
    "dax0, second 1G": (0x140000, 0x180000, 4096, 2),
    "dax1, info block": (0x180000, 0x180200, 8, 2),
    "dax1": (0x180200, 0x1A0000, 2040, 510),
    "dax2, altmap area": (0x1A0000, 0x1A0600, 24, 24),
    "dax2": (0x1A0600, 0x1B0000, 1000, 1000),
    "pmem3": (0x1B0000, 0x1B6000, 384, 384),
}


@pytest.mark.parametrize("generation", ALL)
def test_device_memory_has_the_frames_of_the_guest(generation: str) -> None:
    found = vmemmap_leaves(guest(generation).image())
    for name, (start, end, pages, distinct) in RANGES.items():
        mapped = [found[page] for page in range(start // 64, end // 64)]
        assert len(mapped) == pages, name
        assert len({leaf.frame for leaf in mapped}) == distinct, name
        assert all(leaf.writable for leaf in mapped), name


def test_altmap_is_that_of_the_guest() -> None:
    rows = {row["name"]: row for row in guest("7.3").books()["pgmaps"]}
    altmap = rows["region2"]["altmap"]
    assert (altmap["base_pfn"], altmap["reserve"]) == (0x1A0000, 2)
    assert (altmap["align"], altmap["alloc"]) == (510, 1024)
    assert guest("7.3").books().leaf_of(0x1A0000).frame == 0x1A0200  # type: ignore[union-attr]


def test_dax_ranges_begin_where_they_do_in_the_guest() -> None:
    rows = {row["name"]: row["data_pfn"] for row in guest("7.3").books()["pgmaps"]}
    assert rows["region0"] == 0x140000
    assert rows["region1"] == 0x180200
    assert rows["region2"] == 0x1A0600


def test_kmem_leaves_the_first_section_of_the_device_without_vmemmap() -> None:
    found = vmemmap_leaves(guest("7.3", kmem=True).image())
    assert not any(page in found for page in range(0x180000 // 64, 0x188000 // 64))
    kmem = [found[page] for page in range(0x188000 // 64, 0x1A0000 // 64)]
    assert len({leaf.frame for leaf in kmem}) == 1536
    assert {leaf.level for leaf in kmem} == {2}


def test_shared_tails_have_the_slots_of_the_guest() -> None:
    rows = guest("7.3").books()["shared_tails"]
    slots = {(row["node"], row["zone"], row["index"]): row["mapped_by"] for row in rows}
    # 24 and 48 folios of seven tails, and one of 4095.
    assert slots == {
        (0, "Normal", 2): 168,
        (1, "Normal", 2): 336,
        (1, "Normal", 11): 4095,
    }
