# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap sections"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.sections import SectionRow, describe_sections
from ..analysis.unavailable import nothing, refuse_unknown, warning
from ..kernel.sections import STATE_LETTERS
from ..render import Column, Report
from .options import (
    is_filtered,
    node_option,
    number_range,
    order_option,
    pfn_option,
    zone_option,
)
from .session import Session

COLUMNS = (
    Column("nr", "NR", "int"),
    Column("start_pfn", "START_PFN", "pfn"),
    Column("state", "STATE"),
    Column("node", "NODE", "int"),
    Column("zone", "ZONE"),
    Column("order", "ORDER", "int"),
    Column("subsections_set", "SUBSECTIONS", "int"),
    Column("memory_block", "BLOCK", "int"),
    Column("memmap_va", "MEMMAP"),
    Column("huge_leaves", "HUGE", "int"),
    Column("base_leaves", "BASE", "int"),
    Column("backing_frames", "FRAMES", "int"),
    Column("self_hosted", "SELF", "bool"),
)


def _letters(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """State letters in capitals. Raises click.BadParameter for any that is none."""
    if value is None:
        return None
    letters = value.upper()
    if not letters or set(letters) - set(STATE_LETTERS):
        names = ", ".join(STATE_LETTERS)
        raise click.BadParameter(f"{value!r}: the state letters are {names}.")
    return letters


@click.command()
@click.argument("numbers", metavar="[NR|A-B]...", type=number_range, nargs=-1)
@node_option
@zone_option
@order_option
@pfn_option
@click.option(
    "--state",
    metavar="LETTERS",
    callback=_letters,
    help="Only sections that have all of these state letters.",
)
@click.option(
    "--optimised/--not-optimised",
    "--optimized/--not-optimized",
    "optimised",
    default=None,
    help="Only sections whose vmemmap shares frames, or only the others.",
)
@click.pass_obj
def command(
    session: Session,
    numbers: tuple[range, ...],
    node: int | None,
    zone: str | None,
    order: int | None,
    pfn: range | None,
    state: str | None,
    optimised: bool | None,
) -> None:
    """mem_section entries: state, node, zone, subsections, memmap, backing.

    STATE letters: P present, M has a mem_map, O online, E early (boot memory), D taints
    ZONE_DEVICE (shares the section with RAM), V vmemmap set up before its folio was.
    """
    kernel = session.open_kernel()
    refuse_unknown("--zone", zone, kernel.unknown("zones"))
    refuse_unknown("--order", order, kernel.unknown_feature("section-order"))
    count, undecided = 0, False

    def wanted(row: SectionRow) -> bool:
        nonlocal undecided
        fields = {"node": node, "zone": zone, "is_shared": optimised, "state": state}
        undecided |= any(
            value is not None and getattr(row, name) is None
            for name, value in fields.items()
        )
        return (
            (node is None or row.node == node)
            and (zone is None or row.zone == zone)
            and (order is None or row.order == order)
            and (state is None or set(state) <= set(row.state or ""))
            and (optimised is None or row.is_shared == optimised)
        )

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in describe_sections(kernel, numbers, pfn):
            if wanted(row):
                count += 1
                yield row.as_dict()

    session.emit(
        Report(
            verb="sections",
            kernel=kernel.describe(),
            rows=rows(),
            columns=COLUMNS,
            totals=lambda: {
                "sections": None
                if undecided or not kernel.is_complete("sections")
                else count
            },
            totals_columns=(Column("sections", "sections", "int", needs_all=True),),
            missing=kernel.missing.as_dict,
            notes=lambda: warning(kernel),
            empty=lambda: nothing(
                kernel,
                "no section is present",
                "sections",
                filtered=bool(numbers)
                or is_filtered(node, zone, order, pfn, state, optimised),
                undecided=undecided,
            ),
        )
    )
