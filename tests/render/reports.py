# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small reports, and ways to print them into strings."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from vmemmap_tools.render import Column, Report, Row, render

KERNEL = {"release": "7.3.0", "arch": "x86_64"}

DMA32: dict[str, Any] = {
    "node": 0,
    "zone": "DMA32",
    "start_pfn": 4096,
    "saved_bytes": 1 << 30,
    "tails": [
        {"order": 9, "pfn": 4711, "mapped_by": 112},
        {"order": 18, "pfn": 4712, "mapped_by": 8},
    ],
}
NORMAL: dict[str, Any] = {
    "node": 1,
    "zone": "Normal",
    "start_pfn": 1 << 20,
    "saved_bytes": 3 << 29,
    "tails": [],
}

COLUMNS = (
    Column("node", "NODE", "int"),
    Column("zone", "ZONE"),
    Column("start_pfn", "START", "pfn"),
    Column("saved_bytes", "SAVED", "bytes"),
    Column("tails.order", "ORDER", "int"),
    Column("tails.pfn", "FRAME", "pfn"),
)


def report(rows: Iterable[Row], **fields: Any) -> Report:
    """A report of the verb "zones" with the columns above, unless told otherwise."""
    fields.setdefault("columns", COLUMNS)
    return Report(verb="zones", kernel=KERNEL, rows=rows, **fields)


def printed(format: str, rows: Iterable[Row], **fields: Any) -> str:
    """What a report looks like in a format."""
    return printed_and_told(format, rows, **fields)[0]


def printed_and_told(
    format: str, rows: Iterable[Row], **fields: Any
) -> tuple[str, str]:
    """What goes to the stream, and what to the messages."""
    stream, messages = io.StringIO(), io.StringIO()
    render(report(rows, **fields), format, stream, messages)
    return stream.getvalue(), messages.getvalue()
