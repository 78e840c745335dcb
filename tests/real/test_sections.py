# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap sections` against sysfs's memory blocks, the devices and QEMU's walk."""

from __future__ import annotations

import pytest

from .compare import Compare
from .dumps import Dump
from .expect import PAGES_PER_SECTION, present_sections
from .truth import Truth
from .walk import BASE_SIZE, LARGE_SIZE, STRUCT_PAGE, QemuWalk

pytestmark = pytest.mark.rare


def _sections_per_block(truth: Truth) -> int:
    return truth.block_size // BASE_SIZE // PAGES_PER_SECTION


def test_present_sections_are_memory_blocks_and_devices(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    ours = {row["nr"] for row in dump.rows("sections") if "P" in row["state"]}
    judge = present_sections(truth)
    compare.equal(
        "sections: present = sysfs blocks, devices", ours, judge, f"{len(judge)}"
    )


def test_online_sections_are_the_online_memory_blocks(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    ours = {row["nr"] for row in dump.rows("sections") if "O" in row["state"]}
    size = _sections_per_block(truth)
    judge = {
        block.number * size + i
        for block in truth.memory_blocks
        if block.is_online
        for i in range(size)
    }
    assert judge
    compare.equal("sections: online = sysfs", ours, judge, f"{len(judge)}")


def test_memory_block_numbers_are_those_of_sysfs(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    ours = {
        row["nr"]: row["memory_block"]
        for row in dump.rows("sections")
        if row["memory_block"] is not None
    }
    size = _sections_per_block(truth)
    judge = {
        block.phys_index * size + i: block.number
        for block in truth.memory_blocks
        for i in range(size)
    }
    compare.equal("sections: memory_block = sysfs", ours, judge, f"{len(judge)} blocks")


def test_nodes_of_sections_are_those_of_their_memory_blocks(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    rows = {row["memory_block"]: row for row in dump.rows("sections")}
    blocks = [block for block in truth.memory_blocks if len(block.nodes) == 1]
    ours = {block.number: rows[block.number]["node"] for block in blocks}
    judge = {block.number: block.nodes[0] for block in blocks}
    compare.equal("sections: node = sysfs", ours, judge, f"{len(judge)} blocks")


def test_zones_of_sections_are_those_of_their_memory_blocks(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    rows = {row["memory_block"]: row for row in dump.rows("sections")}
    # A block that shares its section with a device is in one zone for sysfs only.
    mixed = {
        space.end_pfn // PAGES_PER_SECTION
        for space in truth.namespaces
        if space.end_pfn % PAGES_PER_SECTION
    }
    assert _sections_per_block(truth) == 1
    blocks = [block for block in truth.memory_blocks if block.is_online]
    ours = {block.number: rows[block.number]["zone"] for block in blocks}
    judge = {
        block.number: "mixed"
        if block.number in mixed or block.valid_zones == "none"
        else block.valid_zones
        for block in blocks
    }
    compare.equal("sections: zone = sysfs", ours, judge, f"{len(judge)} blocks")


def test_leaves_and_frames_of_sections_are_those_of_info_tlb(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    span = PAGES_PER_SECTION * STRUCT_PAGE
    assert span == LARGE_SIZE, "a section's vmemmap is one large leaf, or none"
    ours, judge = {}, {}
    by_section: dict[int, list[tuple[bool, int]]] = {}
    for leaf in walk.vmemmap:
        nr = (leaf.va - walk.vmemmap_base) // span
        by_section.setdefault(nr, []).append((leaf.large, leaf.frame_pfn))
    for row in dump.rows("sections"):
        nr = row["nr"]
        ours[nr] = (row["huge_leaves"], row["base_leaves"], row["backing_frames"])
        leaves = by_section.get(nr, [])
        huge = sum(is_large for is_large, _ in leaves)
        base = {frame for is_large, frame in leaves if not is_large}
        judge[nr] = (huge, len(leaves) - huge, huge * 512 + len(base))
    compare.equal(
        "sections: huge leaves, base leaves, frames = info tlb",
        ours,
        judge,
        f"{len(judge)} sections",
    )
