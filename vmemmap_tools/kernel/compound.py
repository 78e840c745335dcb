# SPDX-License-Identifier: LGPL-2.1-or-later
"""The backing of one compound page's vmemmap, told from its page-table entries alone.

Types cannot tell the generations of the optimisation apart (stable kernels backport),
and within one kernel every folio may differ; the frames behind a folio cannot lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .vmemmap import HOLE, Vmemmap

__all__ = ["Classifier", "CompoundBacking", "TailFrames", "classify"]


class TailFrames(dict[int, tuple[int, int, int]]):
    """{frame: (node, zone index, order)} of the zones' shared tail pages.

    ``is_complete`` is False where a zone that may hold more of them is missing.
    """

    is_complete = True


class CompoundBacking(NamedTuple):
    """What backs the vmemmap of one compound page.

    ``layout``: "private" (nothing shared), "huge-leaf" (nothing shared, mapped huge),
    "self-shared" (all on the head's frame: 5.18 to 7.0), "page1-shared" (two kept
    pages: 5.14 to 5.17, device DAX), "zone-shared" (tails on the zone's page: 7.1+),
    "mixed" (none of these), "hole" (nothing is mapped), or None where a page table or a
    zone that decides is missing: nothing else is known then but the frames.

    ``kept`` counts frames of its own, shared tail pages of zones not among them.
    """

    layout: str | None
    pages: int
    mapped: int
    kept: int
    head_frame: int
    tail_frame: int
    tail_readonly: bool | None

    @property
    def is_known(self) -> bool:
        """Whether all that decides the layout could be read."""
        return self.layout is not None

    @property
    def saved_pages(self) -> int:
        """Vmemmap pages that need no frame of their own; 0 if that is not known."""
        return self.mapped - self.kept if self.is_known else 0

    @property
    def is_optimised(self) -> bool:
        return self.saved_pages > 0


def classify(
    vmemmap: Vmemmap, first: int, pages: int, zone_tails: TailFrames
) -> CompoundBacking:
    """Classify ``pages`` vmemmap pages from number ``first`` on."""
    found = _classify(vmemmap, first, pages, zone_tails)
    is_known = not (vmemmap.absent and vmemmap.is_absent(first, pages)) and (
        zone_tails.is_complete
        or found.layout in ("zone-shared", "huge-leaf", "hole")
        or not _shares(vmemmap, first, pages)
    )
    return found if is_known else found._replace(layout=None, tail_readonly=None)


def _shares(vmemmap: Vmemmap, first: int, pages: int) -> bool:
    """Whether any frame behind these pages backs another vmemmap page, too."""
    frames = vmemmap.backing(first, pages).mapped
    return any(frame in vmemmap.frames.shared for frame in set(frames))


def _classify(
    vmemmap: Vmemmap, first: int, pages: int, zone_tails: TailFrames
) -> CompoundBacking:
    entries = vmemmap.entries(first, pages)
    fmt = vmemmap.geometry.table_format
    mask, shift = fmt.address_mask, fmt.page_shift
    values = set(entries)
    present = [e for e in values if e & fmt.present_mask]
    distinct = {(e & mask) >> shift for e in present}
    if not distinct:
        return CompoundBacking("hole", pages, 0, 0, HOLE, HOLE, None)
    is_whole = len(present) == len(values)
    mapped = pages if is_whole else sum(bool(e & fmt.present_mask) for e in entries)
    kept = sum(1 for frame in distinct if frame not in zone_tails)
    head = (entries[0] & mask) >> shift if entries[0] & fmt.present_mask else HOLE
    if len(distinct) == pages:
        huge = (
            vmemmap.slot_kind(first) == vmemmap.slot_kind(first + pages - 1) == "huge"
        )
        layout = "huge-leaf" if huge else "private"
        if kept == pages:
            return CompoundBacking(layout, pages, mapped, kept, head, HOLE, None)
    tail_entry = entries[1] if pages > 1 else 0
    tail = (tail_entry & mask) >> shift if tail_entry & fmt.present_mask else HOLE
    layout = _shared_layout(entries, head, tail, mapped, zone_tails, mask)
    readonly = {fmt.is_readonly(e) for e in _shared_entries(entries, layout)}
    return CompoundBacking(
        layout,
        pages,
        mapped,
        kept,
        head,
        tail,
        readonly.pop() if len(readonly) == 1 else None,
    )


class Classifier:
    """`classify` for many compounds: the same answers, the usual ones quickly.

    Compounds of a zone share their tails' entry, so that what follows from that entry
    alone is kept until another comes.
    """

    def __init__(self, vmemmap: Vmemmap, zone_tails: TailFrames):
        self._vmemmap = vmemmap
        self._zone_tails = zone_tails
        self._format = fmt = vmemmap.geometry.table_format
        self._present, self._address_mask = fmt.present_mask, fmt.address_mask
        self._page_shift = fmt.page_shift
        self._pair = vmemmap.head_and_tail
        self._tail_entry = -1
        self._tail = HOLE
        self._is_shared_by_zone = False
        self._is_readonly = False

    def __call__(self, first: int, pages: int) -> CompoundBacking:
        """What backs ``pages`` vmemmap pages from number ``first`` on."""
        pair = self._pair(first, pages)
        # A head and equal tails, as nearly every optimised folio has.
        if pair is not None and pair[0] != pair[1] and pair[0] & self._present:
            head_entry, tail_entry = pair
            if tail_entry != self._tail_entry:
                self._look_at_tail(tail_entry)
            head = (head_entry & self._address_mask) >> self._page_shift
            tail = self._tail
            if self._is_shared_by_zone:
                layout, kept = "zone-shared", 1
                is_usual = head not in self._zone_tails
            elif head == tail:
                layout, kept, is_usual = "self-shared", 1, self._zone_tails.is_complete
            else:
                layout, kept = "page1-shared", 2
                is_usual = pages > 2 and self._zone_tails.is_complete
            if is_usual and tail_entry & self._present:
                return CompoundBacking(
                    layout, pages, pages, kept, head, tail, self._is_readonly
                )
        return classify(self._vmemmap, first, pages, self._zone_tails)

    def alike(
        self, first: int, pages: int, count: int
    ) -> Iterator[CompoundBacking] | None:
        """What backs each of ``count`` compounds, one behind the other.

        None unless they differ in nothing but the frame of their head, all of them
        having their tails on the one shared page of their zone.
        """
        heads = self._heads_of_alike(first, pages, count)
        if heads is None:
            return None
        tail, is_readonly = self._tail, self._is_readonly
        return (
            CompoundBacking("zone-shared", pages, pages, 1, head, tail, is_readonly)
            for head in heads
        )

    def _heads_of_alike(self, first: int, pages: int, count: int) -> list[int] | None:
        """The frames of the heads of such compounds, once their tail is looked at."""
        entries = self._vmemmap.entries(first, count * pages)
        heads, tails = entries[::pages], entries[1::pages]
        if pages < 2 or any(entries[i::pages] != tails for i in range(2, pages)):
            return None
        tail, present, mask = tails[0], self._present, self._address_mask
        if not tail & present or tails.count(tail) != count:
            return None
        if tail != self._tail_entry:
            self._look_at_tail(tail)
        if not self._is_shared_by_zone or not all([h & present for h in heads]):
            return None
        frames = [(head & mask) >> self._page_shift for head in heads]
        own = set(frames)
        is_usual = len(own) == count and own.isdisjoint(self._zone_tails)
        return frames if is_usual else None

    def _look_at_tail(self, entry: int) -> None:
        fmt = self._format
        self._tail_entry = entry
        self._tail = (entry & fmt.address_mask) >> fmt.page_shift
        self._is_readonly = fmt.is_readonly(entry)
        self._is_shared_by_zone = self._tail in self._zone_tails


def _shared_layout(
    entries: list[int],
    head: int,
    tail: int,
    mapped: int,
    zone_tails: TailFrames,
    mask: int,
) -> str:
    if mapped != len(entries):
        return "mixed"
    if len({e & mask for e in set(entries[1:])}) > 1:
        return "mixed"
    if tail in zone_tails:
        return "mixed" if head in zone_tails else "zone-shared"
    return "self-shared" if head == tail else "page1-shared"


def _shared_entries(entries: list[int], layout: str) -> set[int]:
    """The entries whose frame is not theirs alone by design, for their permission."""
    if layout == "page1-shared":
        # Page 1 itself is written by its owner before 5.18.
        return set(entries[2:])
    return set(entries[1:]) if layout in ("self-shared", "zone-shared") else set()
