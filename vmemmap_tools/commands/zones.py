# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap zones"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.unavailable import nothing, refuse_unknown
from ..kernel.kernel import Kernel
from ..kernel.zones import Zone
from ..render import Column, Report
from .options import is_filtered, node_option, zone_option
from .session import Session

COLUMNS = (
    Column("node", "NODE", "int"),
    Column("zone", "ZONE"),
    Column("start_pfn", "START_PFN", "pfn"),
    Column("spanned", "SPANNED", "int"),
    Column("present", "PRESENT", "int"),
    Column("managed", "MANAGED", "int"),
    Column("tails.order", "TAIL ORDER", "int"),
    Column("tails.page_va", "TAIL PAGE"),
    Column("tails.pfn", "TAIL PFN", "pfn"),
    Column("tails.mapped_by", "MAPPED BY", "int"),
)


def _row(kernel: Kernel, zone: Zone) -> dict[str, Any]:
    frames = kernel.vmemmap.frames
    knows_mappings = kernel.is_complete("page tables")
    return {
        "node": zone.node,
        "zone": zone.name,
        "start_pfn": zone.start_pfn,
        "spanned": zone.spanned,
        "present": zone.present,
        "managed": zone.managed,
        "tails": None
        if zone.tails is None
        else [
            {
                "order": tail.order,
                "page_va": f"{tail.page_va:#x}",
                "pfn": kernel.pages.pfn(tail.page_va),
                "mapped_by": frames.mappings(kernel.pages.pfn(tail.page_va))
                if knows_mappings
                else None,
            }
            for tail in zone.tails
        ],
    }


@click.command()
@node_option
@zone_option
@click.option("--all", "everything", is_flag=True, help="Zones without pages as well.")
@click.pass_obj
def command(
    session: Session, node: int | None, zone: str | None, everything: bool
) -> None:
    """Zones and the shared tail pages they hold.

    A shared tail page (kernel 7.1 and later) stands behind the tails of every optimised
    folio of one order in its zone. MAPPED BY counts the page-table entries that lead to
    its frame. The total is of the zones shown.
    """
    kernel = session.open_kernel()
    refuse_unknown("--zone", zone, kernel.unknown("zones"))
    parts = ("zones",) if zone is None else ("zone names",)
    tails: set[int] = set()

    def rows() -> Iterator[dict[str, Any]]:
        for found in kernel.zones:
            if (
                (everything or found.spanned)
                and (node is None or found.node == node)
                and (zone is None or found.name == zone)
            ):
                row = _row(kernel, found)
                tails.update(tail["pfn"] for tail in row["tails"] or ())
                yield row

    session.emit(
        Report(
            verb="zones",
            kernel=kernel.describe(),
            rows=rows(),
            columns=COLUMNS,
            totals=lambda: {
                "shared_tail_pages": len(tails) if kernel.is_complete(*parts) else None
            },
            totals_columns=(
                Column("shared_tail_pages", "shared tail pages", "int", needs_all=True),
            ),
            missing=kernel.missing.as_dict,
            empty=lambda: nothing(
                kernel, "no zone has pages", *parts, filtered=is_filtered(node, zone)
            ),
        )
    )
