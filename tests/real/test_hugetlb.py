# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap hvo` against sysfs, kpageflags, the configured steps and QEMU's walk."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from .compare import Compare
from .dumps import Dump
from .expect import (
    GIANT,
    LARGE,
    folio_backing,
    has_restore_defect,
    optimised_pages,
    order_of_head,
    zone_of,
)
from .truth import Truth
from .walk import QemuWalk

pytestmark = pytest.mark.rare

NAMES = {LARGE: "2M", GIANT: "1G"}


def test_pools_of_each_node_are_those_of_sysfs(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    rows = {(row["size_bytes"], row["node"]): row for row in dump.rows("hvo")}
    pools = {(p.size, p.node): p for p in truth.hugetlb if p.node is not None}
    compare.equal(
        "hvo: sizes and nodes = sysfs", set(rows), set(pools), f"{len(pools)}"
    )
    for (size, node), pool in pools.items():
        row = rows[size, node]
        compare.equal(
            f"hvo: {NAMES[size]} pages of node {node} (total, free, surplus) = sysfs",
            (row["total"], row["free"], row["surplus"]),
            (pool.total, pool.free, pool.surplus),
        )


def test_whole_pools_are_those_of_sysfs(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    for pool in truth.hugetlb:
        if pool.node is not None:
            continue
        rows = [row for row in dump.rows("hvo") if row["size_bytes"] == pool.size]
        sums = tuple(sum(r[k] for r in rows) for k in ("total", "free", "surplus"))
        whole = {(row["reserved"], row["overcommit"]) for row in rows}
        name = NAMES[pool.size]
        compare.equal(
            f"hvo: {name} pages in all (total, free, surplus) = sysfs",
            sums,
            (pool.total, pool.free, pool.surplus),
        )
        compare.equal(
            f"hvo: {name} pages reserved and overcommit = sysfs",
            whole,
            {(pool.reserved, pool.overcommit)},
        )


def test_heads_are_those_of_kpageflags(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    ours = {row["pfn"] for row in dump.rows("hvo", "--folios")}
    judge = set(truth.hugetlb_head_pfns)
    if not has_restore_defect(truth):
        compare.equal("hvo --folios: heads = kpageflags", ours, judge, f"{len(judge)}")
        return
    # kernel-reference 8.6: clones of heads stay behind where pages were given back.
    total = sum(pool.total for pool in truth.hugetlb if pool.node is None)
    compare.equal(
        "hvo --folios: heads = pools (this kernel has the restore defect)",
        len(ours),
        total,
    )
    compare.true(
        "hvo --folios: heads are among those of kpageflags",
        ours < judge,
        f"{len(ours)} of {len(judge)}",
    )
    clones = {pfn for pfn in judge - ours if pfn % 512 and not pfn % 64}
    compare.equal(
        "kpageflags: other heads = clones within 2M pages given back",
        judge - ours,
        clones,
        f"{len(clones)} in {len({pfn // 512 for pfn in clones})} pages",
    )


def test_orders_and_nodes_of_folios_are_those_of_kpageflags_and_the_pools(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    rows = dump.rows("hvo", "--folios")
    ours = [(row["pfn"], row["order"], row["node"], row["zone"]) for row in rows]
    judge = [
        (row["pfn"], order_of_head(truth, row["pfn"]), *zone_of(truth, row["pfn"]))
        for row in rows
    ]
    compare.equal(
        "hvo --folios: order, node and zone = kpageflags, zoneinfo",
        ours,
        judge,
        f"{len(judge)} folios",
    )


def test_folios_are_optimised_as_the_steps_configured(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    rows = {(row["size_bytes"], row["node"]): row for row in dump.rows("hvo")}
    for (size, node), expected in optimised_pages(truth).items():
        row = rows[size, node]
        what = f"hvo: {NAMES[size]} pages of node {node}"
        compare.equal(
            f"{what} (optimised, not optimised) = configured",
            (row["optimised"], row["unoptimised"]),
            expected,
        )
        compare.equal(
            f"{what} with the kernel's flag = configured", row["flagged"], expected[0]
        )


def test_the_backing_of_each_folio_is_that_of_info_tlb(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    rows = dump.rows("hvo", "--folios")
    keys = ("layout", "head_frame_pfn", "tail_frame_pfn", "tail_readonly")
    ours = [{key: row[key] for key in keys} for row in rows]
    judge = [asdict(folio_backing(walk, row["pfn"], row["order"])) for row in rows]
    layouts = sorted({str(row["layout"]) for row in judge})
    compare.equal(
        "hvo --folios: layout and frames = info tlb",
        ours,
        judge,
        f"{len(judge)} folios: {', '.join(layouts)}",
    )


def test_pages_that_processes_hold_are_folios_in_use(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    held = {page.pfn for page in truth.held if not page.holder.startswith("dax")}
    rows = dump.rows("hvo", "--folios")
    in_use = {row["pfn"] for row in rows if not row["free"]}
    assert held
    compare.equal(
        "hvo --folios: in use = pagemap of processes", in_use, held, f"{len(held)}"
    )
