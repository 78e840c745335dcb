# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap map"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.runs import Run, Runs
from ..analysis.unavailable import nothing, warning
from ..kernel.kernel import Kernel
from ..render import Column, Report
from .options import (
    address_range,
    is_filtered,
    optimised_option,
    pfn_option,
    section_option,
)
from .session import Session

MISSING = "missing"
"""How options and tables name a backing that cannot be determined: null in JSON."""

BACKINGS = (
    "huge",
    "private",
    "page1-shared",
    "self-shared",
    "zone-shared",
    "shared",
    "hole",
    MISSING,
)

COLUMNS = (
    Column("start_va", "START"),
    Column("end_va", "END"),
    Column("start_pfn", "PFN", "pfn"),
    Column("end_pfn", "END PFN", "pfn"),
    Column("backing", "BACKING"),
    Column("frames", "FRAMES", "int"),
    Column("first_frame_pfn", "FRAME", "pfn"),
    Column("readonly", "RO", "bool"),
    Column("owner.kind", "OWNER"),
    Column("owner.pfn", "HEAD", "pfn"),
    Column("owner.order", "ORDER", "int"),
)

LEAF_COLUMNS = (
    Column("va", "VA"),
    Column("size", "SIZE", "bytes"),
    Column("frame_pfn", "FRAME", "pfn"),
    Column("readonly", "RO", "bool"),
    Column("entry", "ENTRY"),
)


def _row(kernel: Kernel, run: Run) -> dict[str, Any]:
    start, end = kernel.vmemmap.page_va(run.first), kernel.vmemmap.page_va(run.end)
    owner = run.owner
    return {
        "start_va": f"{start:#x}",
        "end_va": f"{end:#x}",
        "start_pfn": kernel.pages.pfn(start),
        "end_pfn": kernel.pages.pfn(end),
        "backing": run.backing,
        "frames": run.frames,
        "first_frame_pfn": run.first_frame,
        "readonly": run.readonly,
        "owner": {"kind": owner.kind, "pfn": owner.pfn, "order": owner.order}
        if owner
        else None,
    }


def _span(
    kernel: Kernel, va: range | None, pfn: range | None, section: range | None
) -> tuple[int, int] | None:
    """Vmemmap pages from first to before end, or None for all. Raises UsageError."""
    g, vmemmap = kernel.geometry, kernel.vmemmap
    if sum(given is not None for given in (va, pfn, section)) > 1:
        raise click.UsageError("give only one of RANGE, --pfn and --section")
    if section is not None:
        size = g.pages_per_section
        pfn = range(section.start * size, section.stop * size)
    if pfn is not None:
        va = range(kernel.pages.va(pfn.start), kernel.pages.va(pfn.stop))
    if va is None:
        return None
    start, end = max(va.start, vmemmap.start_va), min(va.stop, vmemmap.end_va)
    if start >= end:
        raise click.UsageError(
            f"that is not within the vmemmap "
            f"({vmemmap.start_va:#x}-{vmemmap.end_va:#x})"
        )
    return vmemmap.page_number(start), vmemmap.page_number(end - 1) + 1


def _leaves(kernel: Kernel, span: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
    for leaf in kernel.vmemmap.leaves():
        number = kernel.vmemmap.page_number(leaf.va)
        pages = leaf.size >> kernel.geometry.page_shift
        if span is None or (number < span[1] and number + pages > span[0]):
            yield {
                "va": f"{leaf.va:#x}",
                "size": leaf.size,
                "frame_pfn": leaf.frame_pfn,
                "readonly": leaf.is_readonly,
                "entry": f"{leaf.entry:#x}",
            }


@click.command()
@click.argument("va", metavar="[RANGE]", type=address_range, required=False)
@pfn_option
@section_option
@optimised_option
@click.option(
    "--backing", type=click.Choice(BACKINGS), multiple=True, help="Only such runs."
)
@click.option("--leaves", is_flag=True, help="Every page-table leaf instead of runs.")
@click.pass_obj
def command(
    session: Session,
    va: range | None,
    pfn: range | None,
    section: range | None,
    optimised: bool | None,
    backing: tuple[str, ...],
    leaves: bool,
) -> None:
    """Runs of vmemmap that are backed alike.

    RANGE is A-B or A+SIZE in the vmemmap. BACKING: huge (a huge leaf), private (a frame
    for each page), page1-shared, self-shared, zone-shared (tails of an optimised
    compound, on the frame of its page 1, its head, or its zone's tail page), shared
    (sharing that nothing explains), hole, missing (cannot be determined, because a page
    table, or what tells the owner of shared pages, could not be read; null in JSON).
    """
    if leaves and (backing or optimised is not None):
        raise click.UsageError(
            "--leaves lists leaves by address alone: leave out --backing and "
            "--optimised, or --leaves"
        )
    kernel = session.open_kernel()
    span = _span(kernel, va, pfn, section)

    def runs() -> Iterator[dict[str, Any]]:
        cut = Runs(kernel)
        for run in cut.between(*span) if span else cut.everything():
            is_shared = (run.backing or "").endswith("shared")
            if (not backing or (run.backing or MISSING) in backing) and (
                optimised is None or is_shared == optimised
            ):
                yield _row(kernel, run)

    session.emit(
        Report(
            verb="map",
            kernel=kernel.describe(),
            rows=_leaves(kernel, span) if leaves else runs(),
            columns=LEAF_COLUMNS if leaves else COLUMNS,
            missing=kernel.missing.as_dict,
            notes=lambda: warning(kernel),
            empty=lambda: nothing(
                kernel,
                "no vmemmap is mapped",
                "page tables",
                filtered=bool(backing) or is_filtered(va, pfn, section, optimised),
            ),
        )
    )
