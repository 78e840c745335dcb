# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page tables below which the vmemmap hangs: their frames and entries.

Reads upper tables only, so that a terabyte costs a few dozen reads. The pass of
``kernel.vmemmap`` has met each of these tables but keeps only their entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..arch.pagetable import PageTable
from ..target.base import Fault

__all__ = [
    "TableFrame",
    "UpperEntry",
    "for_each_table_frame",
    "for_each_upper_entry",
]


@dataclass(frozen=True)
class TableFrame:
    """A page table: its frame, level (1 is the last) and the first address it maps."""

    pfn: int
    level: int
    va: int


@dataclass(frozen=True)
class UpperEntry:
    """An entry above the last level that is not zero, and the first address it maps."""

    entry: int
    level: int
    va: int


def for_each_table_frame(
    page_table: PageTable, start_va: int, end_va: int
) -> Iterator[TableFrame]:
    """Every table below the root that maps part of ``start_va <= va < end_va``.

    Tables that cannot be read or that are linked twice are not entered again.
    """
    fmt = page_table.format
    for upper in for_each_upper_entry(page_table, start_va, end_va):
        entry, level = upper.entry, upper.level
        if entry & fmt.present_mask and not fmt.is_leaf(entry, level):
            below_pa = entry & fmt.address_mask
            yield TableFrame(below_pa >> fmt.page_shift, level - 1, upper.va)


def for_each_upper_entry(
    page_table: PageTable, start_va: int, end_va: int
) -> Iterator[UpperEntry]:
    """Every entry above the last level that is not zero, each before those below it."""
    yield from _below(
        page_table, page_table.root_pa, page_table.levels, start_va, end_va, set()
    )


def _below(
    page_table: PageTable,
    table_pa: int,
    level: int,
    start: int,
    end: int,
    visited: set[int],
) -> Iterator[UpperEntry]:
    if table_pa in visited:
        return
    visited.add(table_pa)
    try:
        table = page_table.read_table(table_pa)
    except Fault:
        return  # Already counted by the pass over the vmemmap.
    fmt = page_table.format
    shift = fmt.shift(level)
    first = fmt.index(start, level)
    for index in range(first, fmt.index(end - 1, level) + 1):
        entry = table[index]
        if not entry:
            continue
        va = (start >> shift << shift) + (index - first << shift)
        yield UpperEntry(entry, level, va)
        is_table = entry & fmt.present_mask and not fmt.is_leaf(entry, level)
        if is_table and level > 2:
            yield from _below(
                page_table,
                entry & fmt.address_mask,
                level - 1,
                max(va, start),
                min(va + (1 << shift), end),
                visited,
            )
