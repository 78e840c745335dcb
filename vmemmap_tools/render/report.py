# SPDX-License-Identifier: LGPL-2.1-or-later
"""Report: what a verb answers, before it is turned into text.

Imports nothing of this project. A verb in ``commands`` fills it, ``render`` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

__all__ = ["Column", "Detail", "Report", "Row"]

Row = Mapping[str, Any]
Detail = tuple[str, Any, str]
"""Label, value and its kind (as of a `Column`)."""


@dataclass(frozen=True)
class Column:
    """One column of the table form.

    ``key`` is a dotted path into the row. ``kind`` tells the renderer how the value is
    written: "text", "int", "bytes" (human units), "pfn" (hexadecimal), "bool", "time",
    "place" (an object of kind and id), or "change" and "bytes_change" (with a sign).
    A total that ``needs_all`` is unknown when something is missing, and shown so ("?");
    other totals that are None are left out.
    """

    key: str
    title: str
    kind: str = "text"
    needs_all: bool = False


UNDETERMINED = "cannot be determined"
"""How `Report.empty` begins where the rows are not known."""


@dataclass
class Report:
    """The answer of one verb.

    ``rows`` may be a generator: rows are streamed, and ``totals``, ``missing`` and
    ``notes`` are asked for only once the last row has been taken. Row values are
    JSON-ready: pfns, counts and sizes are ints, kernel virtual addresses and raw words
    are "0x..." strings (`render.text.hexadecimal`).

    ``notes`` are sentences for the reader of the table form; every fact in them is also
    in ``rows`` or ``totals``. With ``records`` each row is a block of "key: value"
    lines (the columns), followed by the sentences in its ``explanation`` list.

    ``details`` makes of a row further lines for the reader of the table form, which
    stand below the row's last cell; every fact in them is also in the row.

    A column whose key leads through a list ("tails.order") takes one line per element.
    Without ``columns`` the table form shows no rows, and it says ``empty()`` when there
    are none. ``streamed`` rows come slowly (a live reading): each is printed as it
    comes. ``missing`` holds only what is missing, no zero counts.
    """

    verb: str
    kernel: Row
    rows: Iterable[Row]
    columns: Sequence[Column]
    totals: Callable[[], Row] = dict
    missing: Callable[[], Row] = dict
    notes: Callable[[], Sequence[str]] = list
    details: Callable[[Row], Iterable[Detail]] | None = None
    totals_columns: Sequence[Column] = field(default_factory=tuple)
    records: bool = False
    version: int = 1
    streamed: bool = False
    empty: Callable[[], str] = lambda: "nothing to show"

    @property
    def schema(self) -> str:
        """Name and version of the JSON form, e.g. "vmemmap-tools/summary/1"."""
        return f"vmemmap-tools/{self.verb}/{self.version}"
