# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap watch: pools, optimised folios and savings of a running kernel over time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import count
from typing import TYPE_CHECKING, Any

import click

from ..commands.session import Session
from ..render import Column, Report

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ["command"]

COLUMNS = (
    Column("time", "TIME", "time"),
    Column("total", "PAGES", "int"),
    Column("total_change", "+/-", "change"),
    Column("free", "FREE", "int"),
    Column("optimised", "OPTIMISED", "int"),
    Column("optimised_change", "+/-", "change"),
    Column("saved_hugetlb_bytes", "HVO SAVES", "bytes"),
    Column("saved_hugetlb_bytes_change", "+/-", "bytes_change"),
    Column("saved_dax_bytes", "DAX SAVES", "bytes"),
    Column("saved_dax_bytes_change", "+/-", "bytes_change"),
    Column("stood_still", "STILL", "bool"),
)
"""A line for each look."""

POOL_COLUMNS = (
    Column("size_bytes", "SIZE", "bytes"),
    Column("node", "NODE", "int"),
    Column("total", "PAGES", "int"),
    Column("total_change", "+/-", "change"),
    Column("free", "FREE", "int"),
    Column("optimised", "OPTIMISED", "int"),
    Column("optimised_change", "+/-", "change"),
    Column("saved_bytes", "SAVES", "bytes"),
    Column("saved_bytes_change", "+/-", "bytes_change"),
)
"""The live table has a line for each pool on each node."""

TOTALS = (
    Column("time", "Time"),
    Column("saved_hugetlb_bytes", "Saved by HugeTLB (HVO)", "bytes"),
    Column("saved_dax_bytes", "Saved by device DAX", "bytes"),
    Column("saved_bytes", "Saved in all", "bytes"),
    Column("saved_bytes_change", "  since the look before", "bytes_change"),
    Column("mapped_bytes", "Vmemmap mapped", "bytes"),
    Column("stood_still", "Stood still meanwhile", "bool"),
)

CLEAR = "\x1b[H\x1b[2J\x1b[3J"
"""To the corner of the terminal, and everything gone."""


def _refuse_nan(
    context: click.Context, parameter: click.Parameter, value: float
) -> float:
    """No comparison refuses what is no number."""
    if value != value:
        raise click.BadParameter("'nan' is no number of seconds.")
    return value


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0, 86400),
    callback=_refuse_nan,
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="From one look to the next.",
)
@click.option(
    "--count",
    "looks",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after so many looks.  [default: when interrupted]",
)
@click.pass_context
def command(ctx: click.Context, interval: float, looks: int | None) -> None:
    """Pools, optimised folios and savings of a running kernel over time.

    A table on a terminal; a line for each look in a pipe or file, and with --format csv
    or json (an object a line). Each look is a fresh reading; STILL says whether nothing
    changed while it was taken. PAGES and FREE are the kernel's own counts, OPTIMISED is
    found in the page tables.

    Ends with Ctrl-C and exit status 130.
    """
    session = ctx.find_object(Session) or Session()
    core = ctx.find_root().params.get("core")
    if core is not None:
        raise click.UsageError(
            f"{core} is a dump, which does not change: leave out -c to watch the "
            "running kernel, or watch a guest with --qemu SOCK"
        )
    rows = _rows(session.open_kernel(), interval, looks)
    stream = session.stream or sys.stdout
    if session.format == "json":
        for row in rows:
            stream.write(json.dumps(row) + "\n")
            stream.flush()
    elif session.format == "table" and stream.isatty():
        for row in rows:
            stream.write(CLEAR)
            session.emit(_screen(row))
            stream.flush()
    else:
        lines = ({k: v for k, v in row.items() if k not in NESTED} for row in rows)
        session.emit(
            Report(
                verb="watch",
                kernel={},
                rows=lines,
                columns=_columns(session),
                streamed=True,
            )
        )


CSV_KEYS = (
    *("time", "seconds", "total", "total_change", "free"),
    *("optimised", "optimised_change"),
    *("saved_hugetlb_bytes", "saved_hugetlb_bytes_change"),
    *("saved_dax_bytes", "saved_dax_bytes_change"),
    *("saved_bytes", "saved_bytes_change", "mapped_bytes", "stood_still"),
)

NESTED = ("schema", "kernel", "pools", "missing")
"""Parts of a look that do not fit on a line."""


def _rows(
    kernel: Kernel, interval: float, looks: int | None
) -> Iterator[dict[str, Any]]:
    """A look every ``interval`` seconds; those that took too long leave some out."""
    from ..analysis.steady import read_steadily
    from ..analysis.watch import look, with_changes

    before: dict[str, Any] | None = None
    start = due = time.monotonic()
    for number in count(1):
        reading = read_steadily(kernel, look)
        moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
        yield {
            "schema": "vmemmap-tools/watch/1",
            "kernel": reading.kernel.target.release,
            "time": moment,
            "seconds": round(time.monotonic() - start, 3),
            **with_changes(reading.answer, before),
            "stood_still": reading.stood_still,
            "missing": reading.kernel.missing.as_dict(),
        }
        if number == looks:
            return
        before = reading.answer
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        kernel = reading.kernel.fresh()


def _screen(row: dict[str, Any]) -> Report:
    """One look as a table of its pools."""
    return Report(
        verb="watch",
        kernel={},
        rows=row["pools"],
        columns=POOL_COLUMNS,
        totals=lambda: row,
        totals_columns=TOTALS,
        missing=lambda: row["missing"],
        empty=lambda: "no hugetlb pool",
    )


def _columns(session: Session) -> tuple[Column, ...]:
    """A CSV has every number, the lines of a table what fits beside each other."""
    if session.format != "csv":
        return COLUMNS
    return tuple(Column(key, key) for key in CSV_KEYS)
