# SPDX-License-Identifier: LGPL-2.1-or-later
"""The backing of one compound page's vmemmap, told from its page-table entries alone.

Types cannot tell the generations of the optimisation apart (stable kernels backport),
and within one kernel every folio may differ; the frames behind a folio cannot lie.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from .vmemmap import HOLE, Vmemmap

__all__ = ["CompoundBacking", "classify"]


class CompoundBacking(NamedTuple):
    """What backs the vmemmap of one compound page.

    ``layout``: "private" (nothing shared), "huge-leaf" (nothing shared, mapped huge),
    "self-shared" (all on the head's frame: 5.18 to 7.0), "page1-shared" (two kept
    pages: 5.14 to 5.17, device DAX), "zone-shared" (tails on the zone's page: 7.1+),
    "mixed" (none of these), "hole" (nothing is mapped).

    ``kept`` counts frames of its own, shared tail pages of zones not among them.
    """

    layout: str
    pages: int
    mapped: int
    kept: int
    head_frame: int
    tail_frame: int
    tail_readonly: bool | None

    @property
    def saved_pages(self) -> int:
        """Vmemmap pages that need no frame of their own."""
        return self.mapped - self.kept

    @property
    def is_optimised(self) -> bool:
        return self.saved_pages > 0


def classify(
    vmemmap: Vmemmap, first: int, pages: int, zone_tails: Collection[int]
) -> CompoundBacking:
    """Classify ``pages`` vmemmap pages from number ``first`` on.

    ``zone_tails`` holds the frames of all zones' shared tail pages.
    """
    pair = vmemmap.head_and_tail(first, pages)
    if pair is not None:
        usual = _usual_shape(vmemmap, *pair, pages, zone_tails)
        if usual is not None:
            return usual
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


def _usual_shape(
    vmemmap: Vmemmap,
    head_entry: int,
    tail_entry: int,
    pages: int,
    zone_tails: Collection[int],
) -> CompoundBacking | None:
    """A head and equal tails, as nearly every optimised folio has; None for others.

    Gives what the long way round gives, for a tenth of the time.
    """
    fmt = vmemmap.geometry.table_format
    if head_entry == tail_entry or not head_entry & tail_entry & fmt.present_mask:
        return None
    head = (head_entry & fmt.address_mask) >> fmt.page_shift
    tail = (tail_entry & fmt.address_mask) >> fmt.page_shift
    readonly = tail_entry & fmt.readonly_mask == fmt.readonly_value
    if tail in zone_tails:
        if head not in zone_tails:
            return CompoundBacking("zone-shared", pages, pages, 1, head, tail, readonly)
    elif head == tail:
        return CompoundBacking("self-shared", pages, pages, 1, head, tail, readonly)
    elif pages > 2:
        return CompoundBacking("page1-shared", pages, pages, 2, head, tail, readonly)
    return None


def _shared_layout(
    entries: list[int],
    head: int,
    tail: int,
    mapped: int,
    zone_tails: Collection[int],
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
