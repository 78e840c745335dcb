# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap dax"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from ..analysis.dax import DaxRange, measure
from ..analysis.summary import add
from ..analysis.unavailable import nothing
from ..kernel.kernel import Kernel
from ..render import Column, Report
from .options import (
    is_filtered,
    node_option,
    optimised_option,
    order_option,
    pfn_option,
)
from .session import Session

TOTALS = ("ranges", "saved_bytes", "expected_saved_bytes")

COLUMNS = (
    Column("start_pfn", "START_PFN", "pfn"),
    Column("end_pfn", "END_PFN", "pfn"),
    Column("type", "TYPE"),
    Column("node", "NODE", "int"),
    Column("vmemmap_shift", "SHIFT", "int"),
    Column("altmap.base_pfn", "ALTMAP", "pfn"),
    Column("compounds", "COMPOUNDS", "int"),
    Column("optimised_compounds", "OPTIMISED", "int"),
    Column("vmemmap_pages", "PAGES", "int"),
    Column("backing_frames", "FRAMES", "int"),
    Column("saved_bytes", "SAVED", "bytes"),
    Column("expected_saved_bytes", "EXPECTED", "bytes"),
    Column("generalised_extra_bytes", "GENERALISED", "bytes"),
)


def _row(kernel: Kernel, dax: DaxRange) -> dict[str, Any]:
    page, altmap = kernel.geometry.page_size, dax.pgmap.altmap
    return {
        "start_pfn": dax.start_pfn,
        "end_pfn": dax.end_pfn,
        "pgmap_va": f"{dax.pgmap.va:#x}",
        "type": dax.pgmap.type_name,
        "node": dax.node,
        "zone": dax.zone,
        "vmemmap_shift": dax.pgmap.vmemmap_shift,
        "align_bytes": page << dax.pgmap.compound_order,
        "altmap": asdict(altmap) if altmap else None,
        "compounds": dax.compounds,
        "optimised_compounds": dax.optimised,
        "vmemmap_pages": dax.extent.mapped_pages if dax.extent else None,
        "backing_frames": dax.extent.frames if dax.extent else None,
        "saved_bytes": _bytes(dax.saved_pages, page),
        "expected_saved_bytes": _bytes(dax.expected_saved_pages, page),
        "generalised_extra_bytes": _bytes(dax.generalised_extra_pages, page),
    }


def _bytes(pages: int | None, page_size: int) -> int | None:
    return None if pages is None else pages * page_size


@click.command()
@node_option
@order_option
@pfn_option
@optimised_option
@click.pass_obj
def command(
    session: Session,
    node: int | None,
    order: int | None,
    pfn: range | None,
    optimised: bool | None,
) -> None:
    """Device memory (dev_pagemap): how much of its vmemmap is shared.

    EXPECTED is what this kernel ought to share: compound pages without an altmap, in
    sections of their own. GENERALISED is what keeping one page of each compound instead
    of two would save on top. The totals are of the rows shown.
    """
    kernel = session.open_kernel()
    shown: list[DaxRange] = []
    undecided = False

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal undecided
        for dax in measure(kernel):
            undecided |= (node is not None and not dax.is_placed) or (
                optimised is not None and dax.optimised is None
            )
            if (
                (node is None or dax.node == node)
                and (order is None or dax.pgmap.vmemmap_shift == order)
                and (
                    pfn is None
                    or (dax.start_pfn < pfn.stop and pfn.start < dax.end_pfn)
                )
                and (
                    optimised is None
                    or (dax.optimised is not None and bool(dax.optimised) == optimised)
                )
            ):
                shown.append(dax)
                yield _row(kernel, dax)

    def totals() -> dict[str, Any]:
        if undecided or not kernel.is_complete("device maps"):
            return dict.fromkeys(TOTALS)
        page = kernel.geometry.page_size
        saved = add(d.saved_pages for d in shown)
        expected = add(d.expected_saved_pages for d in shown)
        return {
            "ranges": len(shown),
            "saved_bytes": _bytes(saved, page),
            "expected_saved_bytes": _bytes(expected, page),
        }

    session.emit(
        Report(
            verb="dax",
            kernel=kernel.describe(),
            rows=rows(),
            columns=COLUMNS,
            totals=totals,
            totals_columns=(
                Column("ranges", "Ranges", "int", needs_all=True),
                Column("saved_bytes", "Saved", "bytes", needs_all=True),
                Column("expected_saved_bytes", "Expected", "bytes", needs_all=True),
            ),
            missing=kernel.missing.as_dict,
            empty=lambda: nothing(
                kernel,
                "no device memory with struct pages",
                "device maps",
                filtered=is_filtered(node, order, pfn, optimised),
                undecided=undecided,
            ),
        )
    )
