# SPDX-License-Identifier: LGPL-2.1-or-later
"""CSV for spreadsheets and awk: rows only, without totals.

Objects become dotted columns; lists one line per element with the parent's columns
repeated. Numbers are decimal, booleans true and false, nothing is an empty field. Lines
end in a plain newline, and no field holds one: text is escaped as in the table form.
Text that a spreadsheet takes for a formula gets an apostrophe before it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, TextIO

from .report import UNDETERMINED, Report, Row
from .rows import flat_lines
from .text import cell, escape

__all__ = ["render_csv"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that spreadsheets compute or hand to other programs."""
HEADER_ROWS = 2000
"""Rows that are read ahead to know the columns."""


def render_csv(report: Report, stream: TextIO, messages: TextIO) -> None:
    """Write header and rows; say on ``messages`` what the CSV leaves out."""
    rows = iter(report.rows)
    first = list(islice(rows, 0 if report.streamed else HEADER_ROWS))
    keys = _header(first, [column.key for column in report.columns])
    writer = csv.writer(stream, lineterminator="\n")
    if keys:
        writer.writerow([_text(key) for key in keys])
    known, is_empty = frozenset(keys), True
    left_out: dict[str, None] = {}
    for row in chain(first, rows):
        is_empty = False
        for line in flat_lines(row):
            writer.writerow([_field(line.get(key)) for key in keys])
            if not known.issuperset(line):
                lost = (k for k in line if k not in known and line[k] is not None)
                left_out.update(dict.fromkeys(lost))
        if report.streamed:
            stream.flush()
    if left_out:
        names = ", ".join(escape(key) for key in left_out)
        messages.write(f"vmemmap: not in the CSV, first seen late: {names}\n")
    none = report.empty() if is_empty else ""
    if none.startswith(UNDETERMINED):
        messages.write(f"vmemmap: {none}\n")
    missing = report.missing()
    if missing:
        what = "; ".join(f"{escape(str(k))}: {cell(v)}" for k, v in missing.items())
        messages.write(f"vmemmap: missing: {what}\n")


def _header(rows: Iterable[Row], wanted: list[str]) -> list[str]:
    """Collect the dotted keys of the rows, each near its neighbours."""
    keys: list[str] = []
    for row in rows:
        _merge(keys, list(dict.fromkeys(chain.from_iterable(flat_lines(row)))))
    keys += [key for key in wanted if key not in keys]
    return [key for key in keys if not _is_parent(key, keys)]


def _merge(keys: list[str], others: list[str]) -> None:
    """Add what is new in ``others``, behind the key that precedes it there."""
    position = 0
    for key in others:
        if key in keys:
            position = keys.index(key) + 1
        else:
            keys.insert(position, key)
            position += 1


def _is_parent(key: str, keys: list[str]) -> bool:
    """True for the place of an object or list that some rows have and some do not."""
    return any(other.startswith(f"{key}.") for other in keys)


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else _text(str(value))


def _text(text: str) -> str:
    """Text in one line that no spreadsheet executes: names in a dump may be that."""
    return escape(f"'{text}" if text.startswith(FORMULA) else text)
