# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap map` against QEMU's own walk of the page tables."""

from __future__ import annotations

import pytest

from .compare import Compare
from .dumps import Dump
from .walk import BASE_SIZE, QemuWalk

pytestmark = pytest.mark.rare


def test_leaves_are_those_of_info_tlb(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    ours = [
        (int(row["va"], 16), row["size"], row["frame_pfn"], not row["readonly"])
        for row in dump.rows("map", "--leaves")
    ]
    judge = [(x.va, x.page_size, x.frame_pfn, x.writable) for x in walk.vmemmap]
    assert judge, "the judge has no leaf of the vmemmap"
    large = sum(leaf.large for leaf in walk.vmemmap)
    compare.equal(
        "map --leaves = info tlb (va, size, frame, writable)",
        ours,
        judge,
        f"{len(judge)} leaves, {large} of 2M, {len(walk.readonly)} read-only",
    )


def test_runs_cover_the_mapped_vmemmap_and_its_holes_without_gaps(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    rows = dump.rows("map")
    ends = [int(row["end_va"], 16) for row in rows[:-1]]
    starts = [int(row["start_va"], 16) for row in rows]
    compare.equal(
        "map: each run begins where the one before ends",
        ends,
        starts[1:],
        f"{len(rows)} runs",
    )
    first, last = walk.vmemmap[0], walk.vmemmap[-1]
    mapped = sum(
        int(row["end_va"], 16) - int(row["start_va"], 16)
        for row in rows
        if row["backing"] != "hole"
    )
    compare.equal(
        "map: first address = info tlb", starts[0], first.va, f"{first.va:#x}"
    )
    compare.true(
        "map: last address = info tlb",
        int(rows[-1]["end_va"], 16) >= last.va + last.page_size,
        f"{last.va + last.page_size:#x}",
    )
    compare.equal(
        "map: bytes in runs = info tlb",
        mapped,
        sum(leaf.page_size for leaf in walk.vmemmap),
    )


def test_each_run_has_the_frames_and_permission_of_info_tlb(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    rows = [row for row in dump.rows("map") if row["backing"] != "hole"]
    ours = [
        (row["start_va"], row["frames"], row["first_frame_pfn"], row["readonly"])
        for row in rows
    ]
    judge = []
    for row in rows:
        start, end = int(row["start_va"], 16), int(row["end_va"], 16)
        found = [walk.translate(va) for va in range(start, end, BASE_SIZE)]
        frames = [mapping.pa // BASE_SIZE for mapping in found]
        (writable,) = {mapping.writable for mapping in found}
        judge.append((row["start_va"], len(set(frames)), frames[0], not writable))
    compare.equal(
        "map: frames, first frame and permission of runs = info tlb",
        ours,
        judge,
        f"{len(rows)} runs",
    )


def test_no_run_is_shared_without_an_explanation(dump: Dump, compare: Compare) -> None:
    rows = dump.rows("map")
    unexplained = [row["start_va"] for row in rows if row["backing"] == "shared"]
    compare.equal("map: runs that share without an owner = none", unexplained, [], "0")
