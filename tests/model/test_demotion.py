# SPDX-License-Identifier: LGPL-2.1-or-later
"""Demotion of 1G pages, and folios optimised anew after a restore, by the reference."""

from __future__ import annotations

import pytest

from tests.model.kernels import GENERATIONS, GIB, MIB
from tests.model.walk import struct_page, vmemmap_leaves
from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.core import Core
from vmemmap_tools.model.frames import Kind
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine

DEMOTING = tuple(g for g in GENERATIONS if g != "5.14")
ORDER = 9
FOLIOS = 512


def with_gigantic(generation: str, hvo: bool = True) -> Machine:
    """A node of 3 GiB that made a 1G page at boot."""
    return Machine(
        generation,
        {0: NodeMemory([(0, GIB), (4 * GIB, 6 * GIB)])},
        boot_pages=[BootPage(0, GIB)],
        hvo=hvo,
    )


def head_of(image: Image, pfn: int) -> int:
    """The head that the compound word of a tail leads to."""
    va = image.facts["vmemmap"] + 64 * pfn
    word = struct_page(image, pfn)[1]
    assert word & 1
    found = va & word if image.core.generation.mask else word - 1
    return (found - image.facts["vmemmap"]) // 64


def leave_free(core: Core, kept: list[int]) -> None:
    """Take all free frames but ``kept``, which rise."""
    for pages in list(core.frames.free.values()):
        for start, end in pages:
            spared = [pfn for pfn in kept if start <= pfn < end]
            for low, high in zip([start, *(p + 1 for p in spared)], [*spared, end]):
                core.frames.take(low, high, Kind.ALLOCATED)


@pytest.mark.parametrize("generation", DEMOTING)
def test_each_folio_of_a_demoted_page_has_a_head_and_tails(generation: str) -> None:
    machine = with_gigantic(generation)
    first = machine.hugetlb.heads(GIB)[0]
    image = machine.hugetlb_demote("1G").image()
    assert machine.hugetlb.heads(GIB) == []
    heads = range(first, first + (FOLIOS << ORDER), 1 << ORDER)
    assert machine.hugetlb.heads(2 * MIB) == list(heads)
    flag = 1 << image.types.enumerator("PG_head")
    optimised = 1 << image.types.enumerator("HPG_vmemmap_optimized")
    for head in (*heads[:2], *heads[2::37], heads[-1]):
        words = struct_page(image, head)
        assert words[0] & flag and words[5] & optimised
        for tail in (1, 63, 65, 511):
            assert head_of(image, head + tail) == head


@pytest.mark.parametrize("generation", DEMOTING)
def test_each_folio_of_a_demoted_page_saves_seven_frames(generation: str) -> None:
    machine = with_gigantic(generation)
    first = machine.hugetlb.heads(GIB)[0] // 64
    found = vmemmap_leaves(machine.hugetlb_demote("1G").image())
    leaves = [found[first + page] for page in range(8 * FOLIOS)]
    shared = {tail["frame_pfn"] for tail in machine.books()["shared_tails"]}
    heads = [leaf.frame for leaf in leaves[::8]]
    assert len(set(heads)) == FOLIOS
    assert not shared & set(heads)
    assert all(leaf.writable for leaf in leaves[::8])
    for number, head in enumerate(heads):
        tails = leaves[8 * number + 1 : 8 * number + 8]
        (frame,) = {leaf.frame for leaf in tails}
        assert frame in shared if shared else frame == head
        assert not any(leaf.writable for leaf in tails)


@pytest.mark.parametrize("generation", ["5.18", "6.1"])
def test_the_first_head_stays_in_its_frame_before_6_3(generation: str) -> None:
    machine = with_gigantic(generation)
    page = machine.hugetlb.heads(GIB)[0] // 64
    before = machine.books().leaf(page)
    after = machine.hugetlb_demote("1G").books().leaf(page)
    assert before and after and after.frame == before.frame


@pytest.mark.parametrize("generation", DEMOTING)
def test_demotion_without_hvo_leaves_all_pages_their_frames(generation: str) -> None:
    machine = with_gigantic(generation, hvo=False)
    first = machine.hugetlb.heads(GIB)[0] // 64
    found = vmemmap_leaves(machine.hugetlb_demote("1G").image())
    leaves = [found[first + page] for page in range(8 * FOLIOS)]
    assert len({leaf.frame for leaf in leaves}) == len(leaves)
    assert all(leaf.writable for leaf in leaves)


def test_a_kernel_before_demotion_refuses_it() -> None:
    """Demotion came with 5.16."""
    machine = with_gigantic("5.14")
    with pytest.raises(ValueError, match="cannot demote"):
        machine.hugetlb_demote("1G")
    assert len(machine.hugetlb.heads(GIB)) == 1


@pytest.mark.parametrize("generation", ["5.14", "5.18", "6.1"])
def test_kept_frames_may_lie_anywhere_after_a_restore(generation: str) -> None:
    machine = with_gigantic(generation)
    core = machine.core
    first = machine.hugetlb.heads(GIB)[0]
    zone = max((len(pages), key) for key, pages in core.frames.free.items())[1]
    start = core.frames.free[zone].starts[0]
    leave_free(core, list(range(start, start + 2 * 4096, 2)))
    machine.hugetlb_free("1G").hugetlb_alloc("2M", FOLIOS)
    image = machine.image()
    assert machine.hugetlb.heads(2 * MIB)[0] == first
    found = vmemmap_leaves(image)
    kept = core.generation.kept
    for page in range(first // 64, first // 64 + 8 * FOLIOS, 8):
        frames = [found[page + k].frame for k in range(8)]
        assert len(set(frames)) == kept
        assert frames[kept:] == [frames[kept - 1]] * (8 - kept)
        assert head_of(image, 64 * page + 1) == 64 * page
        assert head_of(image, 64 * page + 511) == 64 * page
        if kept == 2 and page > first // 64:
            assert frames[1] != frames[0] + 1


@pytest.mark.parametrize("generation", ["5.18", "6.1", "6.12", "7.3", "seed"])
def test_what_is_written_in_order_is_what_is_read(generation: str) -> None:
    machine = with_gigantic(generation).hugetlb_demote("1G")
    memory = machine.hugetlb_free("2M", 100).hugetlb_alloc("2M", 40).image().memory
    for start, end in memory.ranges:
        at = start
        for address, content in memory.chunks(start, end):
            assert address >= at
            at = address + (len(content) if content else 0)
            if content:
                assert memory.read(address, 4096) == bytes(content[:4096])
                assert memory.read(at - 4096, 4096) == bytes(content[-4096:])
        assert at <= end


@pytest.mark.parametrize("generation", ["6.12", "7.3"])
def test_without_memory_for_heads_folios_stay_as_they_are(generation: str) -> None:
    machine = with_gigantic(generation).hugetlb_alloc("2M", 4)
    heads = machine.hugetlb.heads(2 * MIB)
    machine.hugetlb_free("2M", 4)
    leave_free(machine.core, [p for head in heads for p in range(head, head + 512)])
    machine.hugetlb_alloc("2M", 4)
    rows = {r["name"]: r for r in machine.books()["hstates"]}
    assert (rows["2M"]["nr"], rows["2M"]["optimised"]) == (4, 0)
