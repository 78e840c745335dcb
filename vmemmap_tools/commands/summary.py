# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap summary"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ..analysis.steady import read_steadily, restless
from ..analysis.summary import Summary, add
from ..analysis.unavailable import nothing, refuse_unknown, warning
from ..kernel.kernel import Kernel
from ..render import Column, Report
from .options import (
    is_filtered,
    node_option,
    order_option,
    zone_option,
)
from .session import Session

COLUMNS = (
    Column("node", "NODE", "int"),
    Column("zone", "ZONE"),
    Column("kind", "KIND"),
    Column("order", "ORDER", "int"),
    Column("count", "COUNT", "int"),
    Column("optimised", "OPTIMISED", "int"),
    Column("saved_bytes", "SAVED", "bytes"),
    Column("savable_bytes", "SAVABLE", "bytes"),
)


def _total(key: str, title: str, kind: str) -> Column:
    return Column(key, title, kind, needs_all=True)


TOTALS = (
    _total("sections", "Sections present", "int"),
    _total("mapped_bytes", "Vmemmap mapped", "bytes"),
    _total("backing_frames", "Frames behind it", "int"),
    _total("huge_leaves", "Huge leaves", "int"),
    _total("base_leaves", "Base-page leaves", "int"),
    _total("readonly_leaves", "Read-only leaves", "int"),
    _total("shared_frames", "Frames mapped more than once", "int"),
    _total("saved_bytes", "Saved in all", "bytes"),
    _total("saved_hugetlb_bytes", "  by HugeTLB (HVO)", "bytes"),
    _total("saved_dax_bytes", "  by device DAX", "bytes"),
    _total("saved_other_bytes", "  unexplained sharing", "bytes"),
    _total("shared_tail_bytes", "  less shared tail pages", "bytes"),
    _total("savable_hugetlb_bytes", "Still to save by HugeTLB", "bytes"),
    _total("savable_dax_bytes", "Still to save by device DAX", "bytes"),
    _total("altmap_frames", "Frames on devices (altmap)", "int"),
    _total("selfhosted_frames", "Frames hosted by hot-added memory", "int"),
    _total("page_table_bytes", "Page tables of base pages", "bytes"),
    _total("net_ram_bytes", "System RAM it costs", "bytes"),
    Column("nr_memmap_pages", "nr_memmap_pages", "int"),
    Column("nr_memmap_boot_pages", "nr_memmap_boot_pages", "int"),
)

PARTS = {"hugetlb": "folios", "dax": "device maps"}
"""Kind of compound -> the part of the kernel that has all of them."""
KINDS = tuple(PARTS)
CHOSEN = ("count", "optimised", "saved_bytes", "savable_bytes")
"""Fields that are summed over the rows that options choose."""
OF_THE_WHOLE = "the totals are of the whole kernel, not of the rows alone"


@click.command()
@node_option
@zone_option
@order_option
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="Only HugeTLB folios, or only device DAX compounds.",
)
@click.pass_obj
def command(
    session: Session,
    node: int | None,
    zone: str | None,
    order: int | None,
    kind: str | None,
) -> None:
    """Size of the vmemmap, what backs it, what is saved and what could be.

    One row for every node, zone, kind and order of compound pages whose vmemmap can be
    shared. The totals below are always those of the whole kernel, whatever rows are
    chosen; in JSON, "chosen" among them has the sums of the rows.
    """
    why = session.open_kernel().unknown("zones") if zone is not None else None
    refuse_unknown("--zone", zone, why)
    reading = read_steadily(session.open_kernel(), _summarise)
    kernel, (summary, totals) = reading.kernel, reading.answer
    kinds = [kind] if kind else KINDS
    parts = [part for k, part in PARTS.items() if k in kinds]
    wanted = {"node": node, "zone": zone, "order": order, "kind": kind}
    filtered = is_filtered(*wanted.values())
    rows = [
        row
        for row in map(asdict, summary.groups)
        if all(value is None or row[key] == value for key, value in wanted.items())
    ]

    def is_decided() -> bool:
        """Whether the rows are all that the options choose."""
        unnamed = any(
            (node is not None and g.node is None)
            or (zone is not None and g.zone is None)
            for g in summary.groups
            if g.kind in kinds
        )
        return kernel.is_complete(*parts) and not unnamed

    session.emit(
        Report(
            verb="summary",
            kernel=kernel.describe(),
            rows=rows,
            columns=COLUMNS,
            totals=lambda: {
                **totals,
                "chosen": _chosen(rows) if is_decided() else None,
                **reading.totals(),
            },
            totals_columns=TOTALS,
            missing=kernel.missing.as_dict,
            notes=lambda: [
                *([OF_THE_WHOLE] if filtered else []),
                *summary.gaps(),
                *warning(kernel),
                *restless(reading),
            ],
            empty=lambda: nothing(
                kernel,
                "no hugetlb folios and no device DAX compounds",
                *parts,
                filtered=filtered,
                undecided=not is_decided(),
            ),
        )
    )


def _summarise(kernel: Kernel) -> tuple[Summary, dict[str, int | None]]:
    """All rows and totals of one reading."""
    summary = Summary(kernel)
    return summary, summary.totals()


def _chosen(rows: list[dict[str, Any]]) -> dict[str, int | None]:
    """Sums of the rows."""
    return {key: add(row[key] for row in rows) for key in CHOSEN}
