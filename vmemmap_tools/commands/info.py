# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap info"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..analysis.info import UNKNOWN, facts
from ..analysis.unavailable import unavailable, unknown_parts
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
        value = None if fact.value == UNKNOWN else fact.value
        yield {"subject": fact.subject, "value": value, "source": fact.source}


def _totals(kernel: Kernel) -> dict[str, Any]:
    """What cannot be answered, in sentences and by part."""
    sentences = unavailable(kernel)
    return {
        "losses": len(sentences) or None,
        "lost": sentences,
        "unknown_parts": unknown_parts(kernel),
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
            notes=lambda: unavailable(kernel),
        )
    )
