# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each generation does to one folio, by the tables of the kernel reference."""

from __future__ import annotations

import pytest

from tests.model.kernels import GENERATIONS, GIB, small
from tests.model.walk import Found, struct_page, vmemmap_leaves
from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine

SHARED_BY_ZONE = ("7.2", "7.3", "section-order", "section-dax", "seed")
ALIASING = ("5.18", "6.1", "6.12")
NX = 1 << 63


def folio(generation: str) -> tuple[Machine, Image, int, list[Found]]:
    """A machine with one 2M folio: its image, head pfn, and its eight leaves."""
    machine = small(generation).hugetlb_alloc("2M")
    image = machine.image()
    head = machine.hugetlb.heads(2 << 20)[0]
    found = vmemmap_leaves(image)
    return machine, image, head, [found[head // 64 + k] for k in range(8)]


def gigantic(generation: str, hvo: bool = True) -> tuple[Machine, int, list[Found]]:
    machine = Machine(
        generation,
        {0: NodeMemory([(0, GIB), (4 * GIB, 6 * GIB)])},
        boot_pages=[BootPage(0, GIB)],
        hvo=hvo,
    )
    head = machine.hugetlb.heads(GIB)[0]
    found = vmemmap_leaves(machine.image())
    return machine, head, [found[head // 64 + k] for k in range(4096)]


def test_5_14_keeps_two_pages_and_maps_the_rest_to_the_second() -> None:
    _, _, _, leaves = folio("5.14")
    frames = [leaf.frame for leaf in leaves]
    assert frames[0] != frames[1]
    assert frames[2:] == [frames[1]] * 6


@pytest.mark.parametrize("generation", ALIASING)
def test_all_pages_map_to_one_frame_before_7_1(generation: str) -> None:
    _, _, _, leaves = folio(generation)
    assert len({leaf.frame for leaf in leaves}) == 1


@pytest.mark.parametrize("generation", SHARED_BY_ZONE)
def test_tails_map_to_the_tail_page_of_their_zone_from_7_1_on(generation: str) -> None:
    machine, _, _, leaves = folio(generation)
    (tail,) = machine.books()["shared_tails"]
    assert leaves[0].frame != tail["frame_pfn"]
    assert [leaf.frame for leaf in leaves[1:]] == [tail["frame_pfn"]] * 7
    assert (tail["order"], tail["index"]) == (9, 2)


@pytest.mark.parametrize(("generation", "kept"), [("5.14", 2), ("6.1", 1), ("7.3", 1)])
def test_kept_pages_are_writable_and_tails_are_not(generation: str, kept: int) -> None:
    _, _, _, leaves = folio(generation)
    assert [leaf.writable for leaf in leaves] == [True] * kept + [False] * (8 - kept)


@pytest.mark.parametrize(
    ("generation", "saved"),
    [(g, 6 if g == "5.14" else 7) for g in GENERATIONS],
)
def test_saved_pages_of_a_2m_folio(generation: str, saved: int) -> None:
    rows = {r["name"]: r for r in folio(generation)[0].books()["hstates"]}
    assert rows["2M"]["saved_pages"] == saved


@pytest.mark.parametrize(
    ("generation", "saved"),
    [(g, 4094 if g == "5.14" else 4095) for g in GENERATIONS],
)
def test_saved_pages_of_a_1g_folio(generation: str, saved: int) -> None:
    _, _, leaves = gigantic(generation)
    assert sum(not leaf.writable for leaf in leaves) == saved


@pytest.mark.parametrize(("generation", "moves"), [("5.18", False), ("6.12", True)])
def test_the_head_moves_to_a_new_frame_from_6_3_on(
    generation: str, moves: bool
) -> None:
    plain = small(generation, hvo=False).hugetlb_alloc("2M")
    before = plain.books().leaf_of(plain.hugetlb.heads(2 << 20)[0])
    optimised, _, head, leaves = folio(generation)
    assert before is not None
    assert head == plain.hugetlb.heads(2 << 20)[0]
    assert (leaves[0].frame != before.frame) == moves
    assert optimised.books()["vmemmap"]["saved_pages_hvo"] == 7


@pytest.mark.parametrize(
    ("generation", "entry"), [("6.1", 0x161), ("6.12", 0x121), ("7.3", 0x121)]
)
def test_tail_entries_have_the_bits_of_the_real_kernel(
    generation: str, entry: int
) -> None:
    _, _, _, leaves = folio(generation)
    flags = {leaf.entry & ~(leaf.frame << 12) for leaf in leaves[1:]}
    assert flags == {entry | NX}
    assert leaves[0].entry & ~(leaves[0].frame << 12) == 0x163 | NX


def test_boot_time_tails_of_7_3_keep_the_saved_dirty_bit() -> None:
    _, _, leaves = gigantic("7.3")
    assert leaves[1].entry & ~(leaves[1].frame << 12) == 0x0400000000000121 | NX


def test_5_14_maps_the_whole_vmemmap_by_base_pages_when_hvo_is_on() -> None:
    assert small("5.14").books()["vmemmap"]["pmd_leaves"] == 0
    assert small("5.14", hvo=False).books()["vmemmap"]["pmd_leaves"] == 8


def test_a_pmd_leaf_is_split_only_where_a_folio_is() -> None:
    machine, _, _, _ = folio("7.3")
    assert machine.books()["vmemmap"]["pte_tables"] == 1
    assert machine.books()["vmemmap"]["pmd_leaves"] == 7


def test_restored_folios_stay_mapped_by_ptes() -> None:
    machine = small("7.3").hugetlb_alloc("2M", 4).hugetlb_free("2M", 4)
    found = vmemmap_leaves(machine.image())
    assert all(leaf.writable for leaf in found.values())
    assert sum(leaf.level == 1 for leaf in found.values()) == 512


@pytest.mark.parametrize("generation", ["7.2", "7.3"])
def test_7_x_marks_the_sections_of_a_gigantic_boot_page(generation: str) -> None:
    machine, head, _ = gigantic(generation)
    rows = [r for r in machine.books()["sections"] if r["preinit"]]
    assert [(r["first"], r["count"]) for r in rows] == [(head // 32768, 8)]


@pytest.mark.parametrize("generation", ["section-order", "section-dax", "seed"])
def test_section_orders_of_boot_pages_are_gone_at_run_time(generation: str) -> None:
    machine, _, _ = gigantic(generation)
    rows = machine.books()["sections"]
    assert not any(r["preinit"] or r["order"] for r in rows)


def test_policy_switched_off_makes_plain_folios() -> None:
    machine = small("7.3").set_hvo(False).hugetlb_alloc("2M", 3)
    rows = {r["name"]: r for r in machine.books()["hstates"]}
    assert (rows["2M"]["nr"], rows["2M"]["optimised"]) == (3, 0)


def test_demotion_optimises_each_small_folio_anew() -> None:
    machine, _, _ = gigantic("7.3")
    rows = {r["name"]: r for r in machine.hugetlb_demote("1G").books()["hstates"]}
    assert rows["1G"]["nr"] == 0
    assert (rows["2M"]["nr"], rows["2M"]["optimised"]) == (512, 512)
    assert rows["2M"]["saved_pages"] == 3584


def test_runtime_shared_tail_has_the_words_of_a_real_7_3() -> None:
    machine = Machine("7.3", {0: NodeMemory([(0, GIB), (4 * GIB, 5 * GIB)])})
    image = machine.hugetlb_alloc("2M").image()
    tails = {r["zone"]: r["frame_pfn"] for r in machine.books()["shared_tails"]}
    words = image.memory.read(tails["Normal"] << 12, 4096)
    expected = [0x10000000000000, 0xFFFFFFFFFFFF8001, 0, 0xDEAD000000000400]
    expected += [0, 0, 0xFFFFFFFF, 0]
    assert words == b"".join(w.to_bytes(8, "little") for w in expected) * 64


def test_tail_of_node_1_carries_its_node() -> None:
    nodes = {0: NodeMemory([(0, GIB)]), 1: NodeMemory([(4 * GIB, 5 * GIB)])}
    machine = Machine("7.3", nodes).hugetlb_alloc("2M", 1, node=1)
    (tail,) = machine.books()["shared_tails"]
    data = machine.image().memory.read(tail["frame_pfn"] << 12, 8)
    assert int.from_bytes(data, "little") == 0x50000000000000


def test_boot_tail_shows_its_defect_when_asked_to() -> None:
    machine = Machine(
        "7.3",
        {0: NodeMemory([(0, GIB)]), 1: NodeMemory([(8 * GIB, 10 * GIB)])},
        boot_pages=[BootPage(1, GIB, 0x200000)],
        defects=True,
    )
    (tail,) = machine.books()["shared_tails"]
    image = machine.image()
    data = image.memory.read(tail["frame_pfn"] << 12, 4096)
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, 4096, 8)]
    assert words[0] == 0x57FFFFC0000000
    assert words[1] == 0xFFFFFFFFFF000001
    assert {words[8 * i + 6] for i in range(64)} == {0x1FFFFFFFF}
    assert len({words[8 * i + 2] for i in range(64)}) == 64


def test_head_of_7_3_has_the_words_of_a_real_one() -> None:
    machine = Machine("7.3", {0: NodeMemory([(0, GIB), (4 * GIB, 5 * GIB)])})
    image = machine.hugetlb_alloc("2M").image()
    head = machine.hugetlb.heads(2 << 20)[0]
    words = struct_page(image, head)
    assert words[0] == 0x17FFFFC0000040
    assert words[5] == 0x18
    assert words[6] == 0xF4000000
    first = struct_page(image, head + 1)
    assert first[0] & 0xFFF == 9
    assert first[7] == 0x200


@pytest.mark.parametrize("generation", ["5.18", "6.1", "6.12"])
def test_tails_of_older_kernels_point_to_their_head(generation: str) -> None:
    _, image, head, _ = folio(generation)
    pointer = image.page_va(head) | 1
    assert struct_page(image, head + 5)[1] == pointer


@pytest.mark.parametrize(
    ("generation", "sightings"),
    [("5.14", 1), ("5.18", 8), ("6.1", 8), ("6.12", 8), ("7.3", 1), ("seed", 1)],
)
def test_a_linear_scan_sees_as_many_heads_as_the_generation_fakes(
    generation: str, sightings: int
) -> None:
    _, image, head, _ = folio(generation)
    flag = 1 << image.types.enumerator("PG_head")
    seen = [struct_page(image, pfn)[0] & flag for pfn in range(head, head + 512, 64)]
    assert sum(map(bool, seen)) == sightings


def test_6_1_says_order_and_destructor_in_page_1() -> None:
    _, image, head, _ = folio("6.1")
    assert struct_page(image, head)[0] & 1 << 16
    assert struct_page(image, head + 1)[2] & 0xFFFF == 0x0902


def test_6_1_fake_head_is_a_byte_copy_of_the_head() -> None:
    _, image, head, _ = folio("6.1")
    assert struct_page(image, head + 64) == struct_page(image, head)
