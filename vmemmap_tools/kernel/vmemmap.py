# SPDX-License-Identifier: LGPL-2.1-or-later
"""What backs the vmemmap: one pass over its page tables, a table at a time.

May import ``arch`` and ``kernel.layout``. After the pass every vmemmap page's entry is
at hand without another walk: last-level tables are kept as they are (32 MiB per TiB of
memory, if all of it is mapped by base pages), huge leaves as one entry each.

A *vmemmap page* is numbered from the start of the vmemmap window; its *frame* is the
physical page behind it, by pfn.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable

from ..arch.pagetable import AbsentTable, HugeLeaf, LeafTable, PageTable
from ..target.base import Fault
from .frames import FrameCounts
from .layout import Geometry
from .leaf_flags import LeafFlags
from .leaf_tables import adjoining_frames, count_entries, folio_columns
from .memory import Missing
from .progress import Progress, silent

__all__ = ["HOLE", "Backing", "Extent", "Leaf", "Vmemmap"]

HOLE = -1


@dataclass(frozen=True)
class Leaf:
    """One page-table leaf of the vmemmap."""

    va: int
    size: int
    frame_pfn: int
    is_readonly: bool
    entry: int


@dataclass(frozen=True)
class Extent:
    """A range of vmemmap in numbers: leaves, mapped pages and distinct frames."""

    huge_leaves: int
    base_leaves: int
    mapped_pages: int
    frames: int


@dataclass(frozen=True)
class Backing:
    """The frames behind a run of vmemmap pages, one element a page.

    ``frames`` has `HOLE` for pages that are not mapped; ``readonly`` and ``huge`` tell
    for each page whether it may not be written, and whether a huge leaf maps it.
    """

    frames: list[int]
    readonly: list[bool]
    huge: list[bool]

    @property
    def is_huge(self) -> bool:
        """Huge leaves map all of it."""
        return all(self.huge)

    @property
    def mapped(self) -> list[int]:
        return [f for f in self.frames if f != HOLE]

    @property
    def is_private(self) -> bool:
        """Every page is mapped, each by a frame of its own."""
        return HOLE not in self.frames and len(set(self.frames)) == len(self.frames)


class Vmemmap:
    """The page tables of the vmemmap window, read once."""

    def __init__(
        self,
        page_table: PageTable,
        geometry: Geometry,
        missing: Missing,
        progress: Progress = silent,
    ):
        self.geometry = geometry
        self.start_va, self.end_va = geometry.vmemmap_window
        self._format = geometry.table_format
        self._page_shift = geometry.page_shift
        self._per_slot = self._format.entries
        self._slot_shift = self._format.shift(2)
        self._folio_pages = geometry.vmemmap_pages(geometry.arch.huge_page_order)
        self._tables: dict[int, array[int]] = {}
        self._grouped_slot = -1
        self._grouped: tuple[array[int], array[int]] | None = None
        self._huge: dict[int, int] = {}
        self._full: set[int] = set()
        self.frames = FrameCounts()
        self.flags = LeafFlags(self._format)
        self.base_leaves = 0
        self.huge_leaves = 0
        self.readonly_leaves = 0
        self.leaf_tables = 0
        self.absent: list[AbsentTable] = []
        with progress("reading the vmemmap's page tables", None) as bar:
            self._read(page_table, missing, bar.update)

    # The pass

    def _read(
        self, page_table: PageTable, missing: Missing, count: Callable[[int], None]
    ) -> None:
        for item in page_table.for_each_table(self.start_va, self.end_va):
            count(1)
            if isinstance(item, LeafTable):
                self._add_table(item)
            elif isinstance(item, HugeLeaf):
                if item.level == 2:
                    self._add_huge(item)
                else:
                    # No kernel maps a vmemmap so; one page of such entries would be a
                    # thousand times a thousand frames to count.
                    pa = item.entry & self._format.address_mask
                    size = 1 << self._format.shift(item.level)
                    fault = Fault(pa, size, "damaged", physical=True)
                    missing.record(fault, "leaves too large for a vmemmap")
            else:
                self.absent.append(item)
                if isinstance(item.error, Fault):
                    missing.record(item.error, "vmemmap page tables")
                else:
                    fault = Fault(item.pa, 8 * self._per_slot, "damaged", True)
                    missing.record(fault, "vmemmap page tables linked twice")

    def _add_table(self, item: LeafTable) -> None:
        table = item.entries
        slot = item.va - self.start_va >> self._slot_shift
        self._tables[slot] = table
        self.leaf_tables += 1
        fmt, shift, first = self._format, self._page_shift, table[0]
        if first & fmt.present_mask and adjoining_frames(table, 1 << shift):
            self._full.add(slot)
            self.base_leaves += len(table)
            self.readonly_leaves += len(table) * fmt.is_readonly(first)
            self.frames.add_range((first & fmt.address_mask) >> shift, len(table))
            self.flags.add_repeated(self.page_number(item.va), first)
            return
        self.flags.add_table(self.page_number(item.va), table)
        once, often = count_entries(table, self._folio_pages)
        present, mask = fmt.present_mask, fmt.address_mask
        ro_mask, ro = fmt.readonly_mask, fmt.readonly_value
        single = [e for e in once if e & present]
        repeated = [(e, n) for e, n in often.items() if e & present]
        leaves = len(single) + sum([n for _, n in repeated])
        self.base_leaves += leaves
        if leaves == len(table):
            self._full.add(slot)
        self.readonly_leaves += [e & ro_mask for e in single].count(ro)
        self.readonly_leaves += sum([n for e, n in repeated if e & ro_mask == ro])
        self.frames.add_each([(e & mask) >> shift for e in single])
        self.frames.add_times([((e & mask) >> shift, n) for e, n in repeated])

    def _add_huge(self, item: HugeLeaf) -> None:
        """A leaf that covers a whole slot."""
        fmt = self._format
        pa = fmt.leaf_pa(item.entry, item.level)
        slot = item.va - self.start_va >> self._slot_shift
        self._huge[slot] = item.entry & ~fmt.address_mask | pa
        self._full.add(slot)
        self.huge_leaves += 1
        self.flags.add_huge(self.page_number(item.va), item.entry, item.level)
        self.readonly_leaves += fmt.is_readonly(item.entry)
        self.frames.add_range(pa >> self._page_shift, self._per_slot)

    # Totals

    @property
    def mapped_bytes(self) -> int:
        """Bytes of vmemmap address space that are mapped."""
        return (self.base_leaves << self._page_shift) + (
            self.huge_leaves << self._slot_shift
        )

    @property
    def page_table_bytes(self) -> int:
        """Bytes of last-level page tables."""
        return self.leaf_tables * 8 * self._per_slot

    # Look-ups

    def page_number(self, va: int) -> int:
        """Number of the vmemmap page that holds this address."""
        return va - self.start_va >> self._page_shift

    def page_va(self, number: int) -> int:
        return self.start_va + (number << self._page_shift)

    def frame(self, number: int) -> int:
        """Frame behind a vmemmap page, `HOLE` if it is not mapped."""
        entry = self._entry(number)
        if not entry & self._format.present_mask:
            return HOLE
        return (entry & self._format.address_mask) >> self._page_shift

    def is_readonly(self, number: int) -> bool:
        return self._format.is_readonly(self._entry(number))

    def _entry(self, number: int) -> int:
        """The entry that maps a page; for huge leaves one as if it were a base page."""
        slot, index = divmod(number, self._per_slot)
        table = self._tables.get(slot)
        if table is not None:
            return table[index]
        huge = self._huge.get(slot, 0)
        return huge + (index << self._page_shift) if huge else 0

    def is_absent(self, first: int, count: int = 1) -> bool:
        """Whether a table above any of these pages was not read, or linked twice."""
        start, end = self.page_va(first), self.page_va(first + count)
        return any(a.va < end and start < a.end_va for a in self.absent)

    def why_not_mapped(self, number: int) -> str:
        """The kind of `Fault` of a page without entry: "unmapped", or its table's."""
        va = self.page_va(number)
        for absent in self.absent:
            if absent.va <= va < absent.end_va and isinstance(absent.error, Fault):
                return absent.error.kind
        return "unmapped"

    def slot_kind(self, number: int) -> str:
        """What maps a page's slot: "base", "huge" or "hole"."""
        slot = number // self._per_slot
        if slot in self._tables:
            return "base"
        return "huge" if slot in self._huge else "hole"

    def is_full(self, first: int, count: int = 1) -> bool:
        """Whether the slots of these pages are mapped, each to its last page."""
        slots = range(
            first // self._per_slot, (first + count - 1) // self._per_slot + 1
        )
        return self._full.issuperset(slots)

    def head_and_tail(self, first: int, count: int) -> tuple[int, int] | None:
        """The entry of page ``first`` and the one that all pages behind it share.

        None when they do not share one, or not within one last-level table. Whole
        tables of usual huge pages are told at once and remembered until the next.
        """
        slot, index = divmod(first, self._per_slot)
        if count == self._folio_pages and index % count == 0 and count > 1:
            if slot != self._grouped_slot:
                self._grouped_slot = slot
                self._grouped = self._group(slot)
            if self._grouped is not None:
                heads, tails = self._grouped
                return heads[index // count], tails[index // count]
        table = self._tables.get(slot)
        if table is None or count < 2 or index + count > self._per_slot:
            return None
        part = table[index : index + count]
        tail = part[1]
        if part[0] == tail or part.count(tail) != count - 1:
            return None
        return part[0], tail

    def _group(self, slot: int) -> tuple[array[int], array[int]] | None:
        """The first and the second entry of every usual huge page of a table."""
        table = self._tables.get(slot)
        return None if table is None else folio_columns(table, self._folio_pages)

    def entries(self, first: int, count: int) -> list[int]:
        """The entries of ``count`` vmemmap pages, 0 for holes."""
        entries: list[int] = []
        end = first + count
        while first < end:
            slot, index = divmod(first, self._per_slot)
            number = min(end - first, self._per_slot - index)
            table = self._tables.get(slot)
            if table is not None:
                entries += table[index : index + number]
            elif slot in self._huge:
                base = self._huge[slot]
                step = 1 << self._page_shift
                start = base + index * step
                entries += range(start, start + number * step, step)
            else:
                entries += [0] * number
            first += number
        return entries

    def backing(self, first: int, count: int) -> Backing:
        """What backs ``count`` vmemmap pages."""
        fmt, shift = self._format, self._page_shift
        entries = self.entries(first, count)
        return Backing(
            [
                (e & fmt.address_mask) >> shift if e & fmt.present_mask else HOLE
                for e in entries
            ],
            [e & fmt.readonly_mask == fmt.readonly_value for e in entries],
            [n // self._per_slot in self._huge for n in range(first, first + count)],
        )

    def extent(self, spans: Iterable[tuple[int, int]]) -> Extent:
        """Leaves and distinct frames of spans of vmemmap pages: (first, count)."""
        frames = FrameCounts()
        huge = base = mapped = 0
        for first, number in self._by_slot(spans):
            kind = self.slot_kind(first)
            if kind == "huge":
                # A leaf that began before this span counts there, not here.
                huge += first % self._per_slot == 0
                mapped += number
                frames.add_range(self.frame(first), number)
            elif kind == "base":
                backing = Counter(self.backing(first, number).mapped)
                base += sum(backing.values())
                frames.add_times(backing.items())
        return Extent(huge, base, base + mapped, frames.distinct)

    def _by_slot(self, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The spans cut at slot borders."""
        for start, count in spans:
            position, end = start, start + count
            while position < end:
                left = self._per_slot - position % self._per_slot
                yield position, min(end - position, left)
                position += left

    def slots(
        self, first: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, bool]]:
        """(first vmemmap page, is huge) of every mapped slot, by address.

        Only those that the vmemmap pages ``first <= number < end`` touch.
        """
        per_slot = self._per_slot
        last = None if end is None else (end - 1) // per_slot
        for slot in sorted([*self._tables, *self._huge]):
            if slot >= first // per_slot and (last is None or slot <= last):
                yield slot * per_slot, slot in self._huge

    @property
    def pages_per_slot(self) -> int:
        """Vmemmap pages that one last-level table, or one huge leaf, maps."""
        return self._per_slot

    def leaves(
        self, first_page: int = 0, end_page: int | None = None
    ) -> Iterator[Leaf]:
        """Every leaf, by address; only in the slots that a range of pages touches."""
        fmt, shift = self._format, self._page_shift
        for first, is_huge in self.slots(first_page, end_page):
            slot_va = self.page_va(first)
            if is_huge:
                entry = self._huge[first // self._per_slot]
                yield Leaf(
                    slot_va,
                    1 << self._slot_shift,
                    fmt.leaf_pa(entry, 2) >> shift,
                    fmt.is_readonly(entry),
                    entry,
                )
                continue
            for i, entry in enumerate(self._tables[first // self._per_slot]):
                if entry & fmt.present_mask:
                    yield Leaf(
                        slot_va + (i << shift),
                        1 << shift,
                        (entry & fmt.address_mask) >> shift,
                        fmt.is_readonly(entry),
                        entry,
                    )

    def pages_of_frame(self, pfn: int) -> Iterator[int]:
        """Numbers of the vmemmap pages that this frame backs, by address."""
        if pfn not in self.frames:
            return
        fmt, shift = self._format, self._page_shift
        for first, is_huge in self.slots():
            if is_huge:
                base = fmt.leaf_pa(self._huge[first // self._per_slot], 2) >> shift
                if base <= pfn < base + self._per_slot:
                    yield first + pfn - base
                continue
            for i, entry in enumerate(self._tables[first // self._per_slot]):
                if (
                    entry & fmt.present_mask
                    and (entry & fmt.address_mask) >> shift == pfn
                ):
                    yield first + i
