# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap hvo"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.hvo import OPTIMISED_FLAG, PoolNode, pools_by_node
from ..analysis.losses import refuse_lost, warning
from ..analysis.parts import is_whole
from ..analysis.steady import read_steadily, restless
from ..kernel.hugetlb import Folio
from ..kernel.kernel import Kernel
from ..kernel.vmemmap import HOLE
from ..render import Column, Report
from .options import (
    NOTHING_MATCHES,
    is_filtered,
    node_option,
    optimised_option,
    order_option,
    pfn_option,
    zone_option,
)
from .session import Session

COLUMNS = (
    Column("size_bytes", "SIZE", "bytes"),
    Column("node", "NODE", "int"),
    Column("total", "TOTAL", "int"),
    Column("free", "FREE", "int"),
    Column("reserved", "RESERVED", "int"),
    Column("surplus", "SURPLUS", "int"),
    Column("optimised", "OPTIMISED", "int"),
    Column("flagged", "FLAGGED", "int"),
    Column("unoptimised", "UNOPTIMISED", "int"),
    Column("reason", "REASON"),
    Column("saved_bytes", "SAVED", "bytes"),
    Column("savable_bytes", "SAVABLE", "bytes"),
)

FOLIO_COLUMNS = (
    Column("pfn", "PFN", "pfn"),
    Column("order", "ORDER", "int"),
    Column("node", "NODE", "int"),
    Column("zone", "ZONE"),
    Column("free", "FREE", "bool"),
    Column("optimised", "OPTIMISED", "bool"),
    Column("flagged", "FLAGGED", "bool"),
    Column("hwpoison", "HWPOISON", "bool"),
    Column("layout", "LAYOUT"),
    Column("head_frame_pfn", "HEAD FRAME", "pfn"),
    Column("tail_frame_pfn", "TAIL FRAME", "pfn"),
    Column("tail_readonly", "TAIL RO", "bool"),
    Column("flags", "FLAGS"),
)


OF_FOLIOS = ("found", "optimised", "flagged", "unoptimised", "reason", "reasons")
"""Fields of a pool's row that come from its folios, and the bytes they save."""


def _pool_row(kernel: Kernel, row: PoolNode) -> dict[str, Any]:
    """A pool on a node. Of folios that cannot be read nothing is counted."""
    known = _pool(kernel, row)
    if row.found == row.total or is_whole(kernel, "folios", "zones"):
        return known
    return {**known, **dict.fromkeys((*OF_FOLIOS, "saved_bytes", "savable_bytes"))}


def _pool(kernel: Kernel, row: PoolNode) -> dict[str, Any]:
    page, order = kernel.geometry.page_size, row.order
    return {
        "order": order,
        # An order that no folio can have is damage, not a size.
        "size_bytes": page << order
        if order <= kernel.geometry.max_folio_order
        else None,
        "node": row.node,
        "total": row.total,
        "free": row.free,
        "reserved": row.hstate.reserved if row.hstate else None,
        "surplus": row.surplus,
        "overcommit": row.hstate.overcommit if row.hstate else None,
        "found": row.found,
        "optimised": row.optimised,
        "flagged": row.flagged,
        "unoptimised": row.found - row.optimised,
        "reason": ", ".join(sorted(row.reasons)) or None,
        "reasons": dict(row.reasons),
        "saved_bytes": row.saved_pages * page,
        "savable_bytes": None
        if row.savable_pages is None
        else row.savable_pages * page,
    }


def _folio_row(kernel: Kernel, folio: Folio) -> dict[str, Any]:
    hugetlb, backing = kernel.hugetlb, folio.backing
    return {
        "pfn": folio.pfn,
        "order": folio.order,
        "node": folio.node,
        "zone": kernel.zone_name(folio.zone_index),
        "free": hugetlb.has_flag(folio, "freed"),
        "optimised": backing.is_optimised,
        "flagged": hugetlb.has_flag(folio, OPTIMISED_FLAG),
        "hwpoison": folio.hwpoison,
        "layout": backing.layout,
        "head_frame_pfn": None if backing.head_frame == HOLE else backing.head_frame,
        "tail_frame_pfn": None if backing.tail_frame == HOLE else backing.tail_frame,
        "tail_readonly": backing.tail_readonly,
        "saved_bytes": backing.saved_pages * kernel.geometry.page_size,
        "flags": hugetlb.flag_names(folio),
    }


@click.command()
@node_option
@zone_option
@order_option
@pfn_option
@optimised_option
@click.option("--folios", is_flag=True, help="A row for every folio instead of pools.")
@click.pass_obj
def command(
    session: Session,
    node: int | None,
    zone: str | None,
    order: int | None,
    pfn: range | None,
    optimised: bool | None,
    folios: bool,
) -> None:
    """HugeTLB pools: which folios are optimised, why others are not, what is saved.

    OPTIMISED counts folios whose page-table entries share frames, FLAGGED those that
    carry the kernel's own flag. RESERVED is of the whole pool, not of the node. REASON
    says why the others are not optimised: too-small, struct-page-size, self-hosted,
    no-hvo (the kernel cannot), or eligible (nothing stands against it: made while the
    policy was off or memory short, or restored).

    --zone, --pfn and --optimised choose folios and need --folios. The totals are of the
    rows shown, but for the policy, which is the kernel's.
    """
    if not folios and any(x is not None for x in (zone, pfn, optimised)):
        raise click.UsageError("--zone, --pfn and --optimised need --folios")
    refuse_lost(session.open_kernel(), "hvo", zone=zone)
    reading = read_steadily(
        session.open_kernel(), _read_folios if folios else _read_pools
    )
    kernel = reading.kernel
    sums = dict.fromkeys(("folios", "optimised", "saved_bytes"), 0)

    def folio_rows() -> Iterator[dict[str, Any]]:
        for folio in kernel.hugetlb.for_each_folio():
            row = _folio_row(kernel, folio)
            if (
                (node is None or folio.node == node)
                and (zone is None or row["zone"] == zone)
                and (order is None or folio.order == order)
                and (pfn is None or folio.pfn in pfn)
                and (optimised is None or row["optimised"] == optimised)
            ):
                sums["folios"] += 1
                sums["optimised"] += row["optimised"]
                sums["saved_bytes"] += row["saved_bytes"]
                yield row

    def pool_rows() -> Iterator[dict[str, Any]]:
        for pool in reading.answer:
            if (node is None or pool.node == node) and (
                order is None or pool.order == order
            ):
                sums["folios"] += pool.found
                sums["optimised"] += pool.optimised
                sums["saved_bytes"] += pool.saved_pages * kernel.geometry.page_size
                yield _pool_row(kernel, pool)

    nothing = "no hugetlb folio" if folios else "no hugetlb pool"
    session.emit(
        Report(
            verb="hvo",
            kernel=kernel.describe(),
            rows=folio_rows() if folios else pool_rows(),
            columns=FOLIO_COLUMNS if folios else COLUMNS,
            totals=lambda: {
                **(
                    sums if is_whole(kernel, "folios", "zones") else dict.fromkeys(sums)
                ),
                "policy": _policy(kernel),
                **reading.totals(),
            },
            totals_columns=TOTALS,
            missing=kernel.missing.as_dict,
            notes=lambda: [*warning(kernel), *restless(reading)],
            empty=NOTHING_MATCHES
            if is_filtered(node, zone, order, pfn, optimised)
            else nothing,
        )
    )


def _read_pools(kernel: Kernel) -> list[PoolNode]:
    """The pools; their folios are counted together where they are alike."""
    return list(pools_by_node(kernel))


def _read_folios(kernel: Kernel) -> list[PoolNode]:
    """No pools: only the folios are found, and kept with the kernel."""
    kernel.hugetlb.folios()
    return []


TOTALS = (
    Column("folios", "Folios", "int", needs_all=True),
    Column("optimised", "Optimised", "int", needs_all=True),
    Column("saved_bytes", "Saved", "bytes", needs_all=True),
    Column("policy", "Policy for new folios", "bool"),
)


def _policy(kernel: Kernel) -> bool | None:
    """Whether new folios of any pool are optimised; None if unknown."""
    policy = kernel.target.unsigned("vmemmap_optimize_enabled")
    return None if policy is None else bool(policy)
