# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap dax` against the namespaces that were configured, QEMU's walk and sysfs."""

from __future__ import annotations

import pytest

from .compare import Compare
from .dumps import Dump
from .expect import dax_rows
from .truth import Truth
from .walk import QemuWalk

pytestmark = pytest.mark.rare


def test_page_maps_are_the_namespaces_that_were_configured(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    judge = dax_rows(truth)
    assert judge, "no namespace was configured"
    rows = dump.rows("dax")
    compare.equal("dax: ranges = nd devices", len(rows), len(judge))
    for row, expected in zip(rows, judge):
        ours = {key: row[key] for key in expected}
        if row["altmap"] is not None:
            ours["altmap"] = {k: row["altmap"][k] for k in expected["altmap"] or {}}
        compare.equal(
            f"dax {expected['start_pfn']:#x}-{expected['end_pfn']:#x} = configured",
            ours,
            expected,
            f"{expected['type']}, shift {expected['vmemmap_shift']}, "
            f"{'altmap, ' if expected['altmap'] else ''}"
            f"{expected['compounds']} compounds, {expected['vmemmap_pages']} vmemmap "
            f"pages on {expected['backing_frames']} frames",
        )


def test_frames_of_each_range_are_those_of_info_tlb(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    for row in dump.rows("dax"):
        start, pages = row["start_pfn"], row["end_pfn"] - row["start_pfn"]
        frames = walk.frames(start, pages)
        compare.equal(
            f"dax {start:#x}: vmemmap pages and frames = info tlb",
            (row["vmemmap_pages"], row["backing_frames"]),
            (len(frames), len(set(frames))),
        )


def test_nodes_of_ranges_are_the_configured_ones(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    nodes = {
        int(device.attributes["resource"], 0) >> 12: int(device.attributes["numa_node"])
        for device in truth.nd_devices.values()
        if device.devtype == "nd_pmem"
    }
    ours = {row["start_pfn"]: (row["node"], row["zone"]) for row in dump.rows("dax")}
    judge = {start: (nodes[start], "Device") for start in ours}
    compare.equal(
        "dax: node and zone = nd regions", ours, judge, f"{len(judge)} ranges"
    )
