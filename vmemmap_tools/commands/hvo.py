# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap hvo"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.hvo import OPTIMISED_FLAG, UNKNOWN, PoolNode, pools_by_node
from ..analysis.steady import read_steadily, restless
from ..analysis.summary import add
from ..analysis.unavailable import nothing, refuse_unknown, warning
from ..kernel.hugetlb import Folio
from ..kernel.kernel import Kernel
from ..kernel.vmemmap import HOLE
from ..render import Column, Report
from .options import (
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
OF_BACKING = ("optimised", "unoptimised", "reason", "reasons")
"""Those that come from the page tables."""
BYTES = ("saved_bytes", "savable_bytes")


def _pool_row(kernel: Kernel, row: PoolNode) -> dict[str, Any]:
    """A pool on a node; what its folios say is null where not all could be read."""
    known = _pool(kernel, row)
    if not kernel.is_complete("folios"):
        return {**known, **dict.fromkeys((*OF_FOLIOS, *BYTES))}
    if row.unknown:
        return {**known, **dict.fromkeys((*OF_BACKING, *BYTES))}
    if UNKNOWN in row.reasons:
        return {**known, "reason": None, "reasons": None}
    return known


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
    is_known = backing.is_known
    return {
        "pfn": folio.pfn,
        "order": folio.order,
        "node": folio.node,
        "zone": kernel.zone_name(folio.zone_index),
        "free": hugetlb.has_flag(folio, "freed"),
        "optimised": backing.is_optimised if is_known else None,
        "flagged": hugetlb.has_flag(folio, OPTIMISED_FLAG),
        "hwpoison": folio.hwpoison,
        "layout": backing.layout,
        "head_frame_pfn": None if backing.head_frame == HOLE else backing.head_frame,
        "tail_frame_pfn": backing.tail_frame
        if is_known and backing.tail_frame != HOLE
        else None,
        "tail_readonly": backing.tail_readonly,
        "saved_bytes": backing.saved_pages * kernel.geometry.page_size
        if is_known
        else None,
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
    why = session.open_kernel().unknown("zones") if zone is not None else None
    refuse_unknown("--zone", zone, why)
    reading = read_steadily(
        session.open_kernel(), _read_folios if folios else _read_pools
    )
    kernel = reading.kernel
    sums: dict[str, int | None]
    sums = dict.fromkeys(("folios", "optimised", "saved_bytes"), 0)

    def count(folios: int | None, optimised: int | None, saved: int | None) -> None:
        sums["folios"] = add((sums["folios"], folios))
        sums["optimised"] = add((sums["optimised"], optimised))
        sums["saved_bytes"] = add((sums["saved_bytes"], saved))

    def folio_rows() -> Iterator[dict[str, Any]]:
        for folio in kernel.hugetlb.for_each_folio():
            row = _folio_row(kernel, folio)
            if (zone is not None and row["zone"] is None) or (
                optimised is not None and row["optimised"] is None
            ):
                count(None, None, None)
            if (
                (node is None or folio.node == node)
                and (zone is None or row["zone"] == zone)
                and (order is None or folio.order == order)
                and (pfn is None or folio.pfn in pfn)
                and (optimised is None or row["optimised"] == optimised)
            ):
                count(1, row["optimised"], row["saved_bytes"])
                yield row

    def pool_rows() -> Iterator[dict[str, Any]]:
        for pool in reading.answer:
            if (node is None or pool.node == node) and (
                order is None or pool.order == order
            ):
                row = _pool_row(kernel, pool)
                count(row["found"], row["optimised"], row["saved_bytes"])
                yield row

    def knows_pools() -> bool:
        """Whether no pool is without a row."""
        return folios or kernel.is_complete("hstates", "zones")

    none = "no hugetlb folio" if folios else "no hugetlb pool"
    session.emit(
        Report(
            verb="hvo",
            kernel=kernel.describe(),
            rows=folio_rows() if folios else pool_rows(),
            columns=FOLIO_COLUMNS if folios else COLUMNS,
            totals=lambda: {
                **(
                    sums
                    if kernel.is_complete("folios") and knows_pools()
                    else dict.fromkeys(sums)
                ),
                "policy": _policy(kernel),
                **reading.totals(),
            },
            totals_columns=TOTALS,
            missing=kernel.missing.as_dict,
            notes=lambda: [*warning(kernel), *restless(reading)],
            empty=lambda: nothing(
                kernel,
                none,
                *(("folios",) if folios else ("hstates", "zones")),
                filtered=is_filtered(node, zone, order, pfn, optimised),
                undecided=sums["folios"] is None,
            ),
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
