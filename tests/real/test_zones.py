# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap zones` against /proc/zoneinfo and QEMU's walk."""

from __future__ import annotations

import pytest

from .compare import Compare
from .dumps import Dump
from .expect import device_zones
from .truth import Truth
from .walk import QemuWalk

pytestmark = pytest.mark.rare


def test_zones_are_those_of_zoneinfo(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    rows = dump.rows("zones", "--all")
    names = [(row["node"], row["zone"]) for row in rows]
    listed = [(zone.node, zone.name) for zone in truth.zones]
    compare.equal(
        "zones --all: nodes and names = zoneinfo", names, listed, f"{len(listed)}"
    )
    for row, zone in zip(rows, truth.zones):
        start = row["start_pfn"] if zone.start_pfn is not None else None
        compare.equal(
            f"zones: node {zone.node} {zone.name} (start, spanned, present, managed) "
            "= zoneinfo",
            (start, row["spanned"], row["present"], row["managed"]),
            (zone.start_pfn, zone.spanned, zone.present, zone.managed),
        )


def test_shared_tail_pages_are_the_frames_that_nobody_may_write(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    ours = {
        tail["pfn"]: tail["mapped_by"]
        for row in dump.rows("zones", "--all")
        for tail in row["tails"]
        if tail["mapped_by"]
    }
    judge = {frame: walk.mappings[frame] for frame in walk.readonly_only}
    said = ", ".join(f"{pfn:#x} by {count}" for pfn, count in judge.items()) or "none"
    compare.equal("zones: tails and mapped_by = info tlb", ours, judge, said)


def test_device_zones_span_the_devices_of_their_nodes(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    judge = device_zones(truth)
    rows = dump.rows("zones", "--zone", "Device")
    compare.equal(
        "zones: Device (node, start, spanned) = nd devices",
        [(row["node"], row["start_pfn"], row["spanned"]) for row in rows],
        judge,
        f"{len(judge)} nodes",
    )
