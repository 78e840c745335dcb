# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every verb on a live kernel against the guest's /proc and /sys and QEMU's walk.

The comparisons are those of the dumps, word for word; the guest holds still meanwhile.
"""

from __future__ import annotations

from ..compare import Compare
from ..comparisons import comparisons
from ..test_check import expected_errors, findings
from ..truth import Truth
from .doors import Door

globals().update(comparisons())

ALSO = ("trixie",)
"""6.12: looked at here and not changed, since pages that it gives back are damaged."""

ON_THE_DEVICE = frozenset({"kcore"})
"""/proc/kcore has System RAM, so that what an altmap put on a device is missing."""

CLOSED = {
    name: ON_THE_DEVICE
    for name in (
        "test_nodes_of_ranges_are_the_configured_ones",
        "test_pages_of_devices_are_those_configured",
        "test_struct_pages_of_an_altmaps_reserve_were_never_initialised",
        "test_nothing_is_missing_from_a_whole_dump",
        "test_rows_add_up_to_the_totals",
    )
}


def test_what_lies_on_a_device_is_missing_from_kcore(
    doors: dict[str, Door], truth: Truth, compare: Compare
) -> None:
    kcore = doors["kcore"]
    (space,) = [s for s in truth.namespaces if s.has_altmap]
    missing = dict(kcore.ask("summary")["missing"])
    compare.equal("summary on kcore: kinds of missing", set(missing), {"outside"})
    # The node of those compounds is there: they may belong to any row of their order.
    orders = {row["vmemmap_shift"] for row in kcore.rows("dax") if row["altmap"]}
    for row in kcore.rows("summary"):
        is_unknown = row["kind"] == "dax" and row["order"] in orders
        place = f"{row['kind']} of order {row['order']} on node {row['node']}"
        label = f"summary on kcore: {place} unknown = as its altmap"
        compare.equal(label, row["saved_bytes"] is None, is_unknown)
    compare.true(
        "summary on kcore: what is missing is counted",
        bool(missing["outside"]),
        str(missing),
    )
    (row,) = [r for r in kcore.rows("dax") if r["start_pfn"] == space.start_pfn]
    compare.equal(
        "dax on kcore: node and zone on the device = unknown",
        (row["node"], row["zone"]),
        (None, None),
    )
    others = [r for r in kcore.rows("dax") if r["start_pfn"] != space.start_pfn]
    compare.equal(
        "dax on kcore: zone of device memory whose vmemmap kcore does not cover",
        {r["zone"] for r in others},
        {"Device"},
        f"{len(others)} ranges",
    )


def test_check_tells_the_defects_that_this_kernel_has_and_no_other(
    dump: Door, truth: Truth, compare: Compare
) -> None:
    answer = dict(dump.ask("check"))
    expected = expected_errors(dump, truth)  # type: ignore[arg-type]
    compare.equal("check: errors = known defects", findings(answer, "E"), expected)
