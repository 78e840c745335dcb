# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leaves of the vmemmap whose flags are not those of kernel data.

May import ``arch``. Whole tables are cleared at once: of the bytes of all entries those
that may stand there are deleted, and nothing is left.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from ..arch.pagetable import PageTableFormat

__all__ = ["LeafFlags", "OddBit"]


@dataclass
class OddBit:
    """A bit that some leaves have the other way round: the first, and how many."""

    bit: int
    page: int
    entry: int
    leaves: int = 0


class LeafFlags:
    """Looks at the flags of leaves as they are read. ``odd`` holds {bit: `OddBit`}."""

    def __init__(self, table_format: PageTableFormat):
        self._format = table_format
        self.odd: dict[int, OddBit] = {}
        self._usual = _usual_bytes(table_format.data_mask, table_format.data_value)

    def add_table(self, number: int, table: array[int]) -> None:
        """A last-level table, whose first entry maps vmemmap page ``number``."""
        data = table.tobytes()
        for place, usual in self._usual:
            if data[place::8].translate(None, usual):
                self._look_at(enumerate(table, number))
                return

    def add_repeated(self, number: int, entry: int) -> None:
        """A last-level table whose entries all have the flags of this one."""
        if self._format.odd_data_bits(entry, 1):
            count = self._format.entries
            self._look_at((n, entry) for n in range(number, number + count))

    def add_huge(self, number: int, entry: int, level: int) -> None:
        """A huge leaf."""
        odd = self._format.odd_data_bits(entry, level)
        if odd:
            self._note(number, entry, odd)

    def _look_at(self, entries: Iterable[tuple[int, int]]) -> None:
        fmt = self._format
        for number, entry in entries:
            odd = fmt.odd_data_bits(entry, 1) if entry & fmt.present_mask else 0
            if odd:
                self._note(number, entry, odd)

    def _note(self, number: int, entry: int, odd: int) -> None:
        while odd:
            bit = odd.bit_length() - 1
            odd ^= 1 << bit
            self.odd.setdefault(bit, OddBit(bit, number, entry)).leaves += 1


def _usual_bytes(mask: int, value: int) -> list[tuple[int, bytes]]:
    """(number of a byte, what may stand in it) where a mask has bits."""
    usual = []
    for i in range(8):
        bits, wanted = mask >> 8 * i & 0xFF, value >> 8 * i & 0xFF
        if bits:
            place = i if sys.byteorder == "little" else 7 - i
            usual.append((place, bytes(b for b in range(256) if b & bits == wanted)))
    return usual
