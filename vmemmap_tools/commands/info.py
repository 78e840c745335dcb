# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap info"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.info import facts
from ..analysis.losses import lost, lost_fields
from ..kernel.kernel import Kernel
from ..render import Column, Report
from .session import Session

COLUMNS = (
    Column("subject", "SUBJECT"),
    Column("value", "VALUE"),
    Column("source", "EVIDENCE"),
)


def _rows(kernel: Kernel) -> Iterator[dict[str, Any]]:
    for fact in facts(kernel):
        yield {"subject": fact.subject, "value": fact.value, "source": fact.source}


def _totals(kernel: Kernel) -> dict[str, Any]:
    """What is lost in sentences, and as fields of the other verbs' answers."""
    sentences = lost(kernel)
    return {
        "losses": len(sentences) or None,
        "lost": sentences,
        "lost_fields": lost_fields(kernel),
    }


@click.command()
@click.pass_obj
def command(session: Session) -> None:
    """What is known about the kernel, and from which evidence.

    Bases, sizes and every feature that decides how the vmemmap is read, each with the
    type, symbol or note that it was told from. Ends with what is not available here and
    what that costs.
    """
    kernel = session.open_kernel()
    session.emit(
        Report(
            verb="info",
            kernel=kernel.describe(),
            rows=_rows(kernel),
            columns=COLUMNS,
            totals=lambda: _totals(kernel),
            totals_columns=(Column("losses", "Answers lost", "int"),),
            missing=kernel.missing.as_dict,
            notes=lambda: lost(kernel),
        )
    )
