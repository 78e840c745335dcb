# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one pass over the page tables that the rules share.

Goes through every base-page slot of the vmemmap, leaves out the folios that are in the
usual order, and looks only at pages that are mapped read-only or by a frame that is
mapped more than once. What the owner of the page
explains is dropped at once; what is left is the material of several rules.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.compound import CompoundBacking
from ...kernel.hugetlb import Folio
from ...kernel.pgmap import Pgmap
from ...target.base import Fault

if TYPE_CHECKING:
    from .context import Context

__all__ = ["MAX_ODD", "Ghost", "Odd", "Sharing"]

MAX_ODD = 100_000
"""Unexplained runs that are kept; of the rest only the number is told."""


@dataclass(frozen=True)
class Odd:
    """Pages ``first`` to ``first + count`` mapped alike, and not as they should be.

    ``kind`` is "readonly" (no optimised folio is there), "shared" (a frame with other
    users), "foreign-tail" (a zone's tail page that is not this compound's),
    "writable-tail" (a shared tail page of a hugetlb folio that may be written).
    """

    kind: str
    first: int
    count: int
    frame: int
    entry: int
    folio: Folio | None = None
    pgmap: Pgmap | None = None


@dataclass(frozen=True)
class Ghost:
    """Pages mapped as those of an optimised folio, where no folio's head is."""

    pfn: int
    order: int
    first: int
    pages: int
    entry: int
    head_looks_like_tail: bool


class Sharing:
    """Unexplained sharing and write protection of one kernel's vmemmap."""

    def __init__(self, context: Context):
        self._context = context
        kernel = context.kernel
        self._vmemmap = kernel.vmemmap
        self._pages = kernel.pages
        self._tails = kernel.tail_frames
        self._tail_frames = sorted(self._tails)
        self._format = kernel.geometry.table_format
        self._shift = kernel.geometry.page_shift
        self.ghosts: list[Ghost] = []
        self.odd: list[Odd] = []
        self.spans: list[tuple[int, int]] = []
        """Base pages (first, end) outside the folios that are in the usual order."""
        self._ghost_end = -1
        self._dax: tuple[int, CompoundBacking] | None = None
        dropped = 0
        for odd in self._pass():
            if len(self.odd) < MAX_ODD:
                self.odd.append(odd)
            else:
                dropped += 1
        if dropped:
            context.leave_out(f"{dropped} more runs of vmemmap pages mapped oddly")

    def of_kind(self, *kinds: str) -> Iterator[Odd]:
        """The unexplained runs of these kinds, by address."""
        return (odd for odd in self.odd if odd.kind in kinds)

    # The pass

    def _pass(self) -> Iterator[Odd]:
        vmemmap, fmt = self._vmemmap, self._format
        per_slot = vmemmap.pages_per_slot
        shared = vmemmap.frames.shared.keys()
        usual = self._context.usual
        for first, is_huge in vmemmap.slots():
            if is_huge:
                yield from self._huge(first, per_slot)
                continue
            index = bisect_right(usual.starts, first) - 1
            for start, end in usual.uncovered(first, first + per_slot, index):
                self.spans.append((start, end))
                entries = vmemmap.entries(start, end - start)
                distinct = {e for e in entries if e & fmt.present_mask}
                frames = {(e & fmt.address_mask) >> self._shift for e in distinct}
                plain = shared.isdisjoint(frames) and not any(
                    map(fmt.is_readonly, distinct)
                )
                if not plain or not frames.isdisjoint(self._tails):
                    yield from self._run_by_run(start, entries)

    def _huge(self, first: int, count: int) -> Iterator[Odd]:
        vmemmap = self._vmemmap
        entry = vmemmap.entries(first, 1)[0]
        frame = vmemmap.frame(first)
        if self._format.is_readonly(entry):
            yield Odd("readonly", first, count, frame, entry)
        low = bisect_left(self._tail_frames, frame)
        high = bisect_left(self._tail_frames, frame + count)
        for tail in self._tail_frames[low:high]:
            # A tail page with a single user is mapped, but not shared.
            if tail not in vmemmap.frames.shared:
                yield Odd("foreign-tail", first + tail - frame, 1, tail, entry)
        if not vmemmap.frames.shared:
            return
        for i in range(count):
            if frame + i in vmemmap.frames.shared:
                yield Odd("shared", first + i, 1, frame + i, entry)

    def _run_by_run(self, first: int, entries: list[int]) -> Iterator[Odd]:
        """Runs of equal entries that are shared or read-only."""
        fmt, shared = self._format, self._vmemmap.frames.shared
        end, i = len(entries), 0
        while i < end:
            entry = entries[i]
            start = i
            i += 1
            if not entry & fmt.present_mask:
                continue
            frame = (entry & fmt.address_mask) >> self._shift
            readonly = fmt.is_readonly(entry)
            if frame not in shared and not readonly:
                if frame in self._tails:
                    # A tail page with a single user: as good as shared.
                    yield from self._judge(first + start, 1, frame, entry)
                continue
            while i < end and entries[i] == entry:
                i += 1
            yield from self._judge(first + start, i - start, frame, entry)

    def _judge(self, first: int, count: int, frame: int, entry: int) -> Iterator[Odd]:
        """The run in pieces, each with one owner."""
        end = first + count
        while first < end:
            if first < self._ghost_end:
                first = min(end, self._ghost_end)
                continue
            folio = self._context.folio_at(first)
            if folio is not None and folio.backing.pages:
                start = self._pages.vmemmap_page(folio.pfn)
                stop = min(end, start + folio.backing.pages)
                yield from self._in_folio(folio, start, first, stop, frame, entry)
                first = stop
                continue
            pfn = self._pages.pfn(self._vmemmap.page_va(first))
            dax = self._context.dax_at(pfn)
            if dax is not None:
                pgmap, head = dax
                after = self._pages.vmemmap_page(head) + (
                    self._context.geometry.vmemmap_pages(pgmap.vmemmap_shift)
                )
                stop = max(first + 1, min(end, after))
                yield from self._in_dax(pgmap, head, first, stop - first, frame, entry)
                first = stop
                continue
            stop = self._next_owner(first, end)
            if not self._is_ghost(first, stop - first, frame, entry):
                yield from self._unowned(first, stop - first, frame, entry)
            first = max(stop, min(end, self._ghost_end))

    def _next_owner(self, first: int, end: int) -> int:
        for number in range(first + 1, end):
            if self._context.folio_at(number) is not None:
                return number
            if self._context.dax_at(self._pages.pfn(self._vmemmap.page_va(number))):
                return number
        return end

    # Owners

    def _in_folio(
        self, folio: Folio, start: int, first: int, stop: int, frame: int, entry: int
    ) -> Iterator[Odd]:
        readonly = self._format.is_readonly(entry)
        count, backing = stop - first, folio.backing
        tail = self._tails.get(frame)
        if tail is not None:
            if self._is_foreign(tail, folio):
                yield Odd("foreign-tail", first, count, frame, entry, folio)
            elif not readonly:
                yield Odd("writable-tail", first, count, frame, entry, folio)
            return
        if frame in self._vmemmap.frames.shared:
            own = self._mappings_within(backing, frame, start)
            if self._vmemmap.frames.mappings(frame) != own:
                yield Odd("shared", first, count, frame, entry, folio)
        if readonly and not backing.is_optimised:
            yield Odd("readonly", first, count, frame, entry, folio)

    def _is_foreign(self, tail: tuple[int, int, int], folio: Folio) -> bool:
        if not self._context.flags_trusted:
            return tail[2] != folio.order
        return tail != (folio.node, folio.zone_index, folio.order)

    def _mappings_within(self, backing: CompoundBacking, frame: int, start: int) -> int:
        """How often a compound maps a frame that it may use for several pages."""
        if frame not in (backing.head_frame, backing.tail_frame):
            return 1
        if backing.layout == "self-shared":
            return backing.pages
        if backing.layout == "page1-shared":
            return backing.pages - 1 if frame == backing.tail_frame else 1
        entries = self._vmemmap.entries(start, backing.pages)
        mask = self._format.address_mask
        wanted = frame << self._shift
        return sum(1 for e in entries if e & mask == wanted)

    def _in_dax(
        self,
        pgmap: Pgmap,
        head: int,
        first: int,
        count: int,
        frame: int,
        entry: int,
    ) -> Iterator[Odd]:
        """Device memory: tails may be written or not; only foreign sharing is odd."""
        tail = self._tails.get(frame)
        if tail is not None:
            zone, order = self._context.device_zone, pgmap.vmemmap_shift
            on_node = self._context.map_nodes.of(pgmap) in (None, tail[0])
            if tail[1:] != (zone, order) or not on_node:
                yield Odd("foreign-tail", first, count, frame, entry, None, pgmap)
            return
        if frame not in self._vmemmap.frames.shared:
            if self._format.is_readonly(entry):
                yield Odd("readonly", first, count, frame, entry, None, pgmap)
            return
        if self._dax is None or self._dax[0] != head:
            self._dax = head, self._context.backing_of(head, pgmap.vmemmap_shift)
        backing = self._dax[1]
        start = self._pages.vmemmap_page(head)
        own = self._mappings_within(backing, frame, start)
        if self._vmemmap.frames.mappings(frame) != own:
            yield Odd("shared", first, count, frame, entry, None, pgmap)

    def _unowned(self, first: int, count: int, frame: int, entry: int) -> Iterator[Odd]:
        if self._format.is_readonly(entry):
            yield Odd("readonly", first, count, frame, entry)
        elif frame in self._tails:
            yield Odd("foreign-tail", first, count, frame, entry)
        if frame not in self._tails and frame in self._vmemmap.frames.shared:
            yield Odd("shared", first, count, frame, entry)

    # Folios that are gone, or whose head is damaged

    def _is_ghost(self, first: int, count: int, frame: int, entry: int) -> bool:
        """Whether this run begins what is mapped as an optimised folio."""
        for order, head_page, first_tail in self._candidates(first, frame, entry):
            pages = self._context.geometry.vmemmap_pages(order)
            pfn = self._pages.pfn(self._vmemmap.page_va(head_page))
            if pages < 2 or head_page < 0 or pfn % (1 << order):
                continue
            tails = self._vmemmap.entries(first_tail, head_page + pages - first_tail)
            if not tails or tails.count(tails[0]) != len(tails):
                continue
            looks_like_tail = self._tail_like(pfn)
            if looks_like_tail is not None:
                self.ghosts.append(
                    Ghost(pfn, order, head_page, pages, tails[0], looks_like_tail)
                )
            self._ghost_end = head_page + pages
            return True
        return False

    def _candidates(
        self, first: int, frame: int, entry: int
    ) -> Iterator[tuple[int, int, int]]:
        """(order, head's vmemmap page, first tail page) of folios that would fit."""
        tail = self._tails.get(frame)
        if tail is not None:
            if self._format.is_readonly(entry):
                yield tail[2], first - 1, first
            return
        # The page that the tails alias is writable itself and comes before them.
        following = self._vmemmap.entries(first + 1, 1)[0]
        is_target = (
            not self._format.is_readonly(entry)
            and self._format.is_readonly(following)
            and (following & self._format.address_mask) >> self._shift == frame
        )
        if not is_target:
            return
        head_page = first if self._context.kernel.kept_pages == 1 else first - 1
        for order in sorted(self._context.pools, reverse=True):
            if 0 < order <= self._context.max_folio_order:
                yield order, head_page, first + 1

    def _tail_like(self, pfn: int) -> bool | None:
        """Whether the struct page in a head's place says that it is a tail.

        None when it could not be read: a sound folio may be there.
        """
        try:
            page = self._pages.page(pfn)
        except Fault as fault:
            self._context.unread(fault, "struct pages of hugetlb heads")
            return None
        is_tail = bool(page.compound_word & 1)
        return is_tail and not page.flags & self._pages.head_bit
