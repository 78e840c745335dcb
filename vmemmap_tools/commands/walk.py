# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap walk"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..arch.pagetable import Step
from ..kernel.kernel import Kernel
from ..render import Column, Report
from ..target.base import Fault
from .options import TargetWord, address
from .session import Session

COLUMNS = (
    Column("level", "LEVEL", "int"),
    Column("name", "TABLE"),
    Column("table_pa", "TABLE PA", "pfn"),
    Column("index", "INDEX", "int"),
    Column("entry", "ENTRY"),
    Column("flags", "FLAGS"),
    Column("leaf", "LEAF", "bool"),
)

TOTALS = (
    Column("pa", "Physical address", "pfn"),
    Column("frame_pfn", "Frame", "pfn"),
    Column("page_size", "Leaf covers", "bytes"),
    Column("readonly", "Read-only", "bool"),
)


def _row(kernel: Kernel, step: Step) -> dict[str, Any]:
    fmt = kernel.geometry.table_format
    flags = fmt.decode_flags(step.entry, step.level, step.is_leaf)
    return {
        "level": step.level,
        "name": step.name,
        "table_pa": step.table_pa,
        "index": step.index,
        "entry": f"{step.entry:#x}",
        "flags": flags if step.is_present else [],
        "leaf": step.is_leaf,
    }


@click.command()
@click.argument("va", type=address)
@click.pass_obj
def command(session: Session, va: TargetWord) -> None:
    """Walk the kernel's page tables for one address, level by level.

    VA is a number (decimal or 0x) or a symbol. Without a leaf the last entry shown is
    the one where the walk ends.
    """
    kernel = session.open_kernel()
    value = va.number(kernel.target.symbol)

    def rows() -> Iterator[dict[str, Any]]:
        try:
            for step in kernel.page_table.walk(value):
                yield _row(kernel, step)
        except Fault as fault:
            kernel.missing.record(fault, "page tables")

    def totals() -> dict[str, Any]:
        try:
            found = kernel.page_table.translate(value)
        except Fault:
            found = None
        if found is None:
            return {"pa": None, "frame_pfn": None, "page_size": None, "readonly": None}
        return {
            "pa": found.pa,
            "frame_pfn": found.pa >> kernel.geometry.page_shift,
            "page_size": found.page_size,
            "readonly": found.is_readonly,
        }

    session.emit(
        Report(
            verb="walk",
            kernel=kernel.describe(),
            rows=rows(),
            columns=COLUMNS,
            totals=totals,
            totals_columns=TOTALS,
            missing=kernel.missing.as_dict,
        )
    )
