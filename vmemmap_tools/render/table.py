# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables and records for a reader at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from textwrap import wrap
from typing import Any, TextIO

from .report import Column, Report, Row
from .rows import Spread, lookup
from .text import NUMERIC_KINDS, cell, escape, kind_of

__all__ = ["TABULATED_ROWS", "render_table"]

TABULATED_ROWS = 2000
"""Up to so many rows the columns fit their contents; later rows get the same widths."""

DETAIL_WIDTH = 72
"""Characters of a line in the last cell of rows that have details."""

_STREAMED_WIDTHS = {
    "pfn": 12,
    "int": 7,
    "bytes": 9,
    "bool": 3,
    "time": 25,
    "change": 5,
    "bytes_change": 10,
}


UNKNOWN = "?"


def render_table(report: Report, stream: TextIO) -> None:
    """Write rows, totals, what is missing, and notes, as far as there are."""
    parts = _Parts(stream)
    if report.records:
        for row in report.rows:
            parts.write(_record(row, report.columns))
    elif report.columns:
        parts.write(_table(report, stream))
    else:
        for _ in report.rows:  # the totals are known only after the last row
            pass
    totals, missing = report.totals(), report.missing()
    parts.write(_totals(totals, report.totals_columns, bool(missing)))
    parts.write(_missing(missing))
    parts.write(escape(note) for note in report.notes())


class _Parts:
    """Parts of the output with an empty line between them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_first = True

    def write(self, lines: Iterable[str]) -> None:
        separator = "" if self._is_first else "\n"
        for line in lines:
            self._stream.write(f"{separator}{line.rstrip()}\n")
            self._is_first = False
            separator = ""


def _table(report: Report, stream: TextIO) -> Iterator[str]:
    rows = iter(report.rows)
    columns = report.columns
    if report.streamed:
        widths = [
            max(len(column.title), _STREAMED_WIDTHS.get(column.kind, 8))
            for column in columns
        ]
        yield from _fixed(_heading(columns), columns, widths)
        for row in rows:
            yield from _fixed(_cells(row, columns), columns, widths)
            stream.flush()
        return
    first = list(islice(rows, TABULATED_ROWS))
    if not first:
        yield report.empty()
        return
    body = [line for row in first for line in _lines(report, row)]
    following = next(rows, None)
    if following is None and _can_tabulate():
        yield from _tabulated(body, columns)
        return
    widths = [max(map(len, texts)) for texts in zip(*_heading(columns), *body)]
    yield from _fixed(chain(_heading(columns), body), columns, widths)
    for row in () if following is None else chain([following], rows):
        yield from _fixed(_lines(report, row), columns, widths)


def _lines(report: Report, row: Row) -> list[list[str]]:
    """A row's cells, and below the last one its details; long text is broken."""
    lines = _cells(row, report.columns)
    if report.details is None:
        return lines
    blank = [""] * (len(report.columns) - 1)
    broken = []
    for line in lines:
        first, *others = _wrapped(line[-1])
        broken.append([*line[:-1], first])
        broken += [[*blank, other] for other in others]
    for label, value, kind in report.details(row):
        text = f"{label}: {cell(value, kind)}"
        broken += [[*blank, line] for line in _wrapped(text)]
    return broken


def _wrapped(text: str) -> list[str]:
    """Lines of a cell; a word that is longer than a line stays whole."""
    return wrap(text, DETAIL_WIDTH, break_long_words=False, break_on_hyphens=False) or [
        ""
    ]


def _can_tabulate() -> bool:
    """False in a gdb whose Python has no tabulate: our own columns serve as well."""
    try:
        import tabulate  # noqa: F401
    except ImportError:
        return False
    return True


def _tabulated(body: list[list[str]], columns: Sequence[Column]) -> Iterator[str]:
    from tabulate import tabulate

    text = tabulate(
        body,
        headers=[column.title for column in columns],
        tablefmt="simple",
        disable_numparse=True,
        colalign=["right" if _is_right(column) else "left" for column in columns],
    )
    yield from text.split("\n")


def _fixed(
    lines: Iterable[Sequence[str]], columns: Sequence[Column], widths: Sequence[int]
) -> Iterator[str]:
    """Lay out lines in columns of known width; a longer value moves the rest right."""
    for texts in lines:
        yield "  ".join(
            text.rjust(width) if _is_right(column) else text.ljust(width)
            for text, column, width in zip(texts, columns, widths)
        )


def _heading(columns: Sequence[Column]) -> list[list[str]]:
    titles = [column.title for column in columns]
    return [titles, ["-" * len(title) for title in titles]]


def _is_right(column: Column) -> bool:
    return column.kind in NUMERIC_KINDS


def _cells(row: Row, columns: Sequence[Column]) -> list[list[str]]:
    """Cells of a row: one line, or more where a column leads through a list."""
    values = [lookup(row, column.key) for column in columns]
    lines = max((len(v) for v in values if isinstance(v, Spread)), default=1)
    return [
        [_cell_at(v, line, column.kind) for v, column in zip(values, columns)]
        for line in range(max(lines, 1))
    ]


def _cell_at(value: Any, line: int, kind: str) -> str:
    if isinstance(value, Spread) and value:
        return cell(value[line], kind) if line < len(value) else ""
    return "" if line else cell(value, kind)


def _record(row: Row, columns: Sequence[Column]) -> Iterator[str]:
    """One row as a block of lines; what is None in it is left out."""
    fields = [(column, lookup(row, column.key)) for column in columns]
    yield from _fields(fields)
    for sentence in row.get("explanation") or ():
        yield escape(sentence)


def _totals(totals: Row, columns: Sequence[Column], has_gaps: bool) -> Iterator[str]:
    if not totals:
        return
    shown = columns or [Column(k, k.replace("_", " "), kind_of(k)) for k in totals]
    fields = [(column, lookup(totals, column.key)) for column in shown]
    yield from _fields(
        [
            (
                column,
                UNKNOWN if value is None and has_gaps and column.needs_all else value,
            )
            for column, value in fields
        ]
    )


def _fields(fields: Sequence[tuple[Column, Any]]) -> Iterator[str]:
    width = max((len(column.title) for column, _ in fields), default=0) + 1
    for column, value in fields:
        if value is None or value == []:
            continue
        label = f"{column.title}:"
        for text in _lines_of(value, column.kind):
            yield f"{label:<{width}} {text}"
            label = ""


def _lines_of(value: Any, kind: str) -> list[str]:
    """A list of objects takes a line for each, any other value one line."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value):
        return [cell(item, kind) for item in value]
    return [cell(value, kind)]


def _missing(missing: Row) -> Iterator[str]:
    if not missing:
        return
    yield "missing:"
    for kind, what in missing.items():
        yield f"  {escape(str(kind))}: {cell(what)}"
