# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page-table walker: one for all architectures, which give it a format as data.

Works on physical reads alone, because a vmcore covers neither the vmemmap nor the
page tables by virtual address. Two uses: one address, level by level
(`PageTable.walk`), and a whole range, a table at a time (`PageTable.for_each_table`),
which costs some hundred times less per entry than walking every address.

Mirrors ``arch/*/include/asm/pgtable*.h``; imports the standard library only.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Union

__all__ = [
    "AbsentTable",
    "HugeLeaf",
    "LeafTable",
    "PageTable",
    "PageTableFormat",
    "ReadPhysical",
    "Step",
    "Translation",
]

ReadPhysical = Callable[[int, int], bytes]

CACHED_TABLES = 1024
"""Tables kept for single look-ups: 4 MiB with 4 KiB tables."""


@dataclass(frozen=True)
class PageTableFormat:
    """A page-table format, as numbers.

    Level 1 is the last one (PTE); ``names[level - 1]`` names it, but the root is
    always the last name, since levels that are folded away lie below it.
    ``*_mask``/``*_value`` pairs are read as ``entry & mask == value``.

    A level-1 entry is a leaf if present; an upper one if it also matches ``huge_*`` and
    its level is at most ``huge_max_level``.
    """

    name: str
    page_shift: int
    index_bits: int
    names: tuple[str, ...]
    present_mask: int
    address_mask: int
    huge_mask: int
    huge_value: int
    huge_max_level: int
    readonly_mask: int
    readonly_value: int
    flags: tuple[tuple[int, str], ...]
    """Single-bit flags of an entry: (bit number, name)."""
    huge_flag_names: tuple[tuple[int, str], ...] = ()
    """Flags whose bit means something else in a huge leaf."""
    is_sign_extended: bool = False
    """Whether address bits above the top index must repeat its highest bit."""
    data_mask: int = 0
    """Bits of a last-level leaf whose value is one for all kernel data."""
    huge_data_mask: int = 0
    """The same of a huge leaf."""
    data_value: int = 0
    """What stands in them."""
    is_hierarchical: bool = False
    """Whether a table that is read-only makes all that it maps so."""
    stray_mask: int = 0
    """Bits that the processor may set in an entry that names nothing."""

    @property
    def entries(self) -> int:
        """Entries of one table."""
        return 1 << self.index_bits

    def shift(self, level: int) -> int:
        """log2 of the bytes that one entry of this level covers."""
        return self.page_shift + (level - 1) * self.index_bits

    def index(self, va: int, level: int) -> int:
        return va >> self.shift(level) & self.entries - 1

    def is_leaf(self, entry: int, level: int) -> bool:
        """Whether a *present* entry maps memory instead of naming a table."""
        return level == 1 or (
            level <= self.huge_max_level and entry & self.huge_mask == self.huge_value
        )

    def is_readonly(self, entry: int) -> bool:
        return entry & self.readonly_mask == self.readonly_value

    def odd_data_bits(self, entry: int, level: int) -> int:
        """The bits in which a leaf differs from those that map kernel data."""
        mask = self.data_mask if level == 1 else self.huge_data_mask
        return (entry ^ self.data_value) & mask

    def reserved_bits(self, entry: int, level: int) -> int:
        """Bits of a present upper entry that have to be clear but are not.

        The low bits of a huge leaf's address, and what marks a huge leaf where none
        can be.
        """
        if self.is_leaf(entry, level):
            low = (1 << self.shift(level)) - 1 & self.address_mask
            return entry & low & ~self.huge_data_mask
        return entry & self.huge_mask if level > self.huge_max_level else 0

    def leaf_pa(self, entry: int, level: int) -> int:
        """Physical address of the first byte that a leaf of this level maps."""
        return entry & self.address_mask & ~((1 << self.shift(level)) - 1)

    def decode_flags(self, entry: int, level: int, is_leaf: bool) -> list[str]:
        """Names of the flags that are set, lowest bit first."""
        special = dict(self.huge_flag_names) if is_leaf and level > 1 else {}
        return [
            special.get(bit, name)
            for bit, name in self.flags
            if entry >> bit & 1 and special.get(bit, name)
        ]


@dataclass(frozen=True)
class Step:
    """What a walk saw at one level: the entry, where it lies, what it says."""

    level: int
    name: str
    table_pa: int
    index: int
    entry: int
    is_present: bool
    is_leaf: bool


@dataclass(frozen=True)
class Translation:
    """Where a virtual address leads: its physical address and the leaf behind it."""

    pa: int
    leaf_pa: int
    page_size: int
    is_readonly: bool


@dataclass(frozen=True)
class LeafTable:
    """A whole last-level table: ``entries[i]`` maps ``va + i * page size``.

    ``first`` and ``last`` bound the indices that lie in the range asked for.
    """

    va: int
    pa: int
    entries: array[int]
    first: int
    last: int


@dataclass(frozen=True)
class HugeLeaf:
    """A leaf above the last level."""

    va: int
    level: int
    entry: int


@dataclass(frozen=True)
class AbsentTable:
    """A table that could not be read, or that the walk has been to before.

    ``error`` is the reader's exception; None for a table that is linked twice, which no
    kernel does within the vmemmap and which would let a hostile dump fan out for ever.
    """

    va: int
    end_va: int
    level: int
    pa: int
    error: Exception | None


TableItem = Union[LeafTable, HugeLeaf, AbsentTable]


class PageTable:
    """The page tables below one root.

    ``read_physical(pa, size)`` may raise whatever it likes for memory that cannot be
    read: `walk` lets it pass, `for_each_table` reports it as an `AbsentTable`
    (exceptions of type ``absent_errors`` only).
    """

    def __init__(
        self,
        read_physical: ReadPhysical,
        table_format: PageTableFormat,
        levels: int,
        root_pa: int,
        byteorder: str = "little",
        absent_errors: tuple[type[Exception], ...] = (),
    ):
        self.format = table_format
        self.levels = levels
        self.root_pa = root_pa
        self._read_physical = read_physical
        self._swap = byteorder != sys.byteorder
        self._absent_errors = absent_errors
        self._cache: OrderedDict[int, array[int]] = OrderedDict()

    def is_address(self, va: int) -> bool:
        """Whether the processor takes this for an address ("canonical" on x86)."""
        width = self.format.shift(self.levels + 1)
        above = va >> width - 1
        return not self.format.is_sign_extended or above in (0, (1 << 65 - width) - 1)

    def read_table(self, pa: int) -> array[int]:
        """All entries of the table at ``pa``, in the host's byte order."""
        table = array("Q")
        table.frombytes(self._read_physical(pa, 8 * self.format.entries))
        if self._swap:
            table.byteswap()
        return table

    def walk(self, va: int) -> list[Step]:
        """Every level's entry for ``va``, from the root to a leaf or a hole.

        None for what is no address.
        """
        steps: list[Step] = []
        if not self.is_address(va):
            return steps
        fmt, table_pa = self.format, self.root_pa
        for level in range(self.levels, 0, -1):
            index = fmt.index(va, level)
            name = fmt.names[-1 if level == self.levels else level - 1]
            entry = self._cached_table(table_pa)[index]
            is_present = bool(entry & fmt.present_mask)
            is_leaf = is_present and fmt.is_leaf(entry, level)
            steps.append(
                Step(
                    level,
                    name,
                    table_pa,
                    index,
                    entry,
                    is_present,
                    is_leaf,
                )
            )
            if is_leaf or not is_present:
                break
            table_pa = entry & fmt.address_mask
        return steps

    def translate(self, va: int) -> Translation | None:
        """Where ``va`` leads, None when it is not mapped."""
        if not self.is_address(va):
            return None
        fmt, table_pa = self.format, self.root_pa
        for level in range(self.levels, 0, -1):
            entry = self._cached_table(table_pa)[fmt.index(va, level)]
            if not entry & fmt.present_mask:
                return None
            if fmt.is_leaf(entry, level):
                size = 1 << fmt.shift(level)
                leaf_pa = fmt.leaf_pa(entry, level)
                return Translation(
                    leaf_pa | va & size - 1, leaf_pa, size, fmt.is_readonly(entry)
                )
            table_pa = entry & fmt.address_mask
        return None

    def for_each_table(self, start_va: int, end_va: int) -> Iterator[TableItem]:
        """What maps ``start_va <= va < end_va``: leaf tables, huge leaves, in order.

        Upper tables are visited once each; holes are skipped.
        """
        visited: set[int] = set()
        yield from self._descend(self.root_pa, self.levels, start_va, end_va, visited)

    def _descend(
        self, table_pa: int, level: int, start: int, end: int, visited: set[int]
    ) -> Iterator[TableItem]:
        fmt = self.format
        if table_pa in visited:
            yield AbsentTable(start, end, level, table_pa, None)
            return
        visited.add(table_pa)
        try:
            table = self.read_table(table_pa)
        except self._absent_errors as error:
            yield AbsentTable(start, end, level, table_pa, error)
            return
        shift = fmt.shift(level)
        first, last = fmt.index(start, level), fmt.index(end - 1, level)
        base = start >> shift << shift
        if level == 1:
            yield LeafTable(base - (first << shift), table_pa, table, first, last + 1)
            return
        for index in range(first, last + 1):
            entry = table[index]
            if not entry & fmt.present_mask:
                continue
            va = base + (index - first << shift)
            if fmt.is_leaf(entry, level):
                yield HugeLeaf(va, level, entry)
            else:
                yield from self._descend(
                    entry & fmt.address_mask,
                    level - 1,
                    max(va, start),
                    min(va + (1 << shift), end),
                    visited,
                )

    def _cached_table(self, pa: int) -> array[int]:
        table = self._cache.get(pa)
        if table is None:
            table = self._cache[pa] = self.read_table(pa)
            if len(self._cache) > CACHED_TABLES:
                self._cache.popitem(last=False)
        return table
