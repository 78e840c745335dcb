# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turn a Report into text: the only place that formats, and it never computes.

Imports nothing of this project.
"""

from __future__ import annotations

import sys
from typing import Callable, TextIO

from .csv import render_csv
from .json import render_json
from .report import Column, Detail, Report, Row
from .table import render_table
from .text import place_kind

__all__ = [
    "CHECK_FORMATS",
    "FORMATS",
    "Column",
    "Detail",
    "Report",
    "Row",
    "place_kind",
    "render",
]

Renderer = Callable[[Report, TextIO, TextIO], None]

_RENDERERS: dict[str, Renderer] = {
    "table": lambda report, stream, messages: render_table(report, stream),
    "json": lambda report, stream, messages: render_json(report, stream),
    "csv": render_csv,
}

FORMATS = tuple(_RENDERERS)
"""Names of the formats, the default first."""


def _sarif(report: Report, stream: TextIO, messages: TextIO) -> None:
    from .sarif import render_sarif

    render_sarif(report, stream)


def _junit(report: Report, stream: TextIO, messages: TextIO) -> None:
    # What it needs for XML takes as long to import as all the rest of this room.
    from .junit import render_junit

    render_junit(report, stream)


_RENDERERS["sarif"] = _sarif
_RENDERERS["junit"] = _junit

CHECK_FORMATS = tuple(_RENDERERS)
"""Names of the formats for findings of rules: also those that CI services take."""


def render(
    report: Report, format: str, stream: TextIO, messages: TextIO | None = None
) -> None:
    """Write the report to the stream in one of `CHECK_FORMATS`.

    Rows are taken one at a time and written as they come. ``messages`` (by default
    standard error) takes what the format itself has no place for.

    :raises KeyError: no such format
    :raises BrokenPipeError: the reader of the stream has gone
    """
    _RENDERERS[format](report, stream, sys.stderr if messages is None else messages)
