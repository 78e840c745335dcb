# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap page"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.explain import explain_page, resolve
from ..analysis.unavailable import warning
from ..render import Column, Report
from .options import TargetWord, target_word
from .session import Session

COLUMNS = (
    Column("target", "Target"),
    Column("verdict", "Verdict"),
    Column("pfn", "pfn", "pfn"),
    Column("page_va", "struct page"),
    Column("struct_page.flags", "flags"),
    Column("struct_page.refcount", "refcount", "int"),
    Column("struct_page.type", "type"),
    Column("compound.head_pfn", "head", "pfn"),
    Column("compound.order", "order", "int"),
    Column("compound.hwpoison", "hwpoison", "bool"),
    Column("hugetlb.flags", "hugetlb flags"),
    Column("section.nr", "section", "int"),
    Column("section.state", "section state"),
    Column("vmemmap.va", "vmemmap page"),
    Column("vmemmap.frame_pfn", "frame", "pfn"),
    Column("vmemmap.mappings", "frame backs", "int"),
    Column("vmemmap.readonly", "read-only", "bool"),
)


@click.command()
@click.argument("targets", metavar="TARGET...", type=target_word, nargs=-1)
@click.pass_obj
def command(session: Session, targets: tuple[TargetWord, ...]) -> None:
    """Everything about a page, and a verdict in words.

    TARGET is a kernel virtual address or symbol (inside the vmemmap: that struct page),
    va:X (the page behind an address, wherever it lies), pfn:N or phys:X; decimal or 0x.

    Tells what the page is, its true head, order, zone and section; the vmemmap page its
    struct page lies in, the frame behind that, with how many others it is shared and
    whether it may be written; and which vmemmap pages the page itself backs. For a
    faulting address in the vmemmap the verdict says what was hit.
    """
    if not targets:
        raise click.UsageError("name at least one TARGET, for example pfn:0x1000")
    kernel = session.open_kernel()
    # Before the answer begins: an unknown symbol is refused in one line.
    values = [word.number(kernel.target.symbol) for word in targets]

    def rows() -> Iterator[dict[str, Any]]:
        for word, value in zip(targets, values):
            text = word.symbol or f"{value:#x}"
            name = text if word.kind == "address" else f"{word.kind}:{text}"
            yield explain_page(
                kernel, resolve(kernel, word.kind, value, name)
            ).as_dict()

    session.emit(
        Report(
            verb="page",
            kernel=kernel.describe(),
            rows=rows(),
            columns=COLUMNS,
            missing=kernel.missing.as_dict,
            notes=lambda: warning(kernel),
            records=True,
        )
    )
