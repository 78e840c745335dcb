# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counting the entries of a last-level table without looking at each of them.

Half a thousand entries in Python cost as much as thousands of compared bytes, and
nearly every table of a vmemmap follows one of three patterns. Imports nothing of ours.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

__all__ = ["adjoining_frames", "count_entries", "folio_columns"]


@cache
def _lanes(entries: int, step: int) -> tuple[int, int]:
    """As big integers of one 64-bit lane per entry: all ones, and 0, step, 2*step..."""
    ones = sum(1 << 64 * i for i in range(entries))
    steps = sum(i * step << 64 * i for i in range(entries))
    return ones, steps


def adjoining_frames(table: array[int], page_size: int) -> bool:
    """Whether every entry maps the frame behind the one before, with equal flags.

    Memory that was allocated in one piece looks like that. All entries are compared at
    once, as two integers; no lane can overflow, for an address ends far below 2^64.
    """
    first = table[0]
    if table[-1] - first != (len(table) - 1) * page_size:
        return False
    ones, steps = _lanes(len(table), page_size)
    return int.from_bytes(table.tobytes(), sys.byteorder) == (
        first * ones + steps if sys.byteorder == "little" else -1
    )


def count_entries(
    table: array[int], folio_pages: int
) -> tuple[Sequence[int], Mapping[int, int]]:
    """How often each entry occurs: (entries to count once each, {entry: times}).

    An entry may be in both, and more than once in the first.

    ``folio_pages`` are the vmemmap pages of the usual huge page: where every group of
    so many ends in equal entries, as optimised folios do, only two of each are looked
    at. Two gigantic folios never meet in one table, so that all but its first entry
    being equal is the other common case.
    """
    data = table.tobytes()
    if data[8:-8] == data[16:]:
        return table[:1], {table[1]: len(table) - 1}
    columns = folio_columns(table, folio_pages)
    if columns is not None:
        heads, tails = columns
        return heads, {e: n * (folio_pages - 1) for e, n in _count(tails)}
    if len(set(table)) == len(table):
        return table, {}
    return (), dict(_count(table))


def folio_columns(
    table: array[int], folio_pages: int
) -> tuple[array[int], array[int]] | None:
    """(first entries, second entries) of the table's groups of ``folio_pages``.

    None unless all entries of every group but its first are equal.
    """
    if folio_pages < 2 or len(table) % folio_pages:
        return None
    tails = table[1::folio_pages]
    if any(table[i::folio_pages] != tails for i in range(2, folio_pages)):
        return None
    return table[::folio_pages], tails


def _count(entries: array[int]) -> Iterable[tuple[int, int]]:
    first = entries[0]
    if entries.count(first) == len(entries):
        return ((first, len(entries)),)
    return Counter(entries).items()
