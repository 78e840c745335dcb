# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vmemmap as runs of equal backing, in address order.

Walks compound by compound where a hugetlb folio or a device compound lies, and slot by
slot elsewhere, so that a run never mixes two owners.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Union

from ..kernel.compound import Classifier, CompoundBacking
from ..kernel.kernel import Kernel
from ..kernel.vmemmap import HOLE

__all__ = ["Owner", "Run", "Runs"]

HOLE_LABEL = "hole"
ALIKE = ("private", HOLE_LABEL, None)
"""Backings of pages that make one run whatever their frames are."""
Label = Union[str, None]
"""The backing of a page, None where it is not known."""


@dataclass(frozen=True)
class Owner:
    """The compound page whose struct pages a run holds: "hugetlb" or "dax"."""

    kind: str
    pfn: int
    order: int


@dataclass(frozen=True)
class Run:
    """``pages`` vmemmap pages from number ``first`` on, backed alike.

    ``backing`` is "huge", "private", "page1-shared", "self-shared", "zone-shared",
    "hole", or "shared" for sharing that nothing explains. It is None where the page
    table, or what tells the owner of shared pages, could not be read; ``frames`` is
    None where the page table could not.
    """

    first: int
    pages: int
    backing: str | None
    frames: int | None
    first_frame: int | None
    readonly: bool | None
    owner: Owner | None

    @property
    def end(self) -> int:
        return self.first + self.pages


class Runs:
    """Cuts the vmemmap of one kernel into runs."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        self._vmemmap = kernel.vmemmap
        self._classify = Classifier(kernel.vmemmap, kernel.tail_frames)
        folios = kernel.hugetlb.folios()
        self._folios = {
            kernel.pages.vmemmap_page(f.pfn): Owner("hugetlb", f.pfn, f.order)
            for f in folios
            if f.backing.pages
        }
        self._folio_pages = sorted(self._folios)
        self._dax = sorted(
            (one.first_pfn, one.end, p.compound_order)
            for p in kernel.pgmaps
            if kernel.geometry.vmemmap_pages(p.compound_order)
            for one in p.device_ranges()
            if one.first_pfn < one.end
        )
        self._dax_starts = [start for start, _, _ in self._dax]
        self._knows_owners = kernel.is_complete("folios", "device maps")
        self._missing = _joined(
            (self._vmemmap.page_number(a.va), self._vmemmap.page_number(a.end_va - 1))
            for a in self._vmemmap.absent
        )

    def between(self, first: int, end: int) -> Iterator[Run]:
        """The runs of vmemmap pages ``first <= number < end``, merged where alike."""
        pending: Run | None = None
        for run in self._pieces(first, end):
            merged = _merge(pending, run) if pending else None
            if pending and not merged:
                yield pending
            pending = merged or run
        if pending:
            yield pending

    def everything(self) -> Iterator[Run]:
        """All runs from the first vmemmap page to the last, holes between them too.

        The first and the last that are mapped, or may be for all that is known.
        """
        slots = [first for first, _ in self._vmemmap.slots()]
        spans = [(first, first + self._vmemmap.pages_per_slot) for first in slots]
        spans += self._missing
        if spans:
            starts, ends = zip(*spans)
            yield from self.between(min(starts), max(ends))

    def owner(self, number: int) -> Owner | None:
        """The compound whose struct pages lie in this vmemmap page."""
        kernel = self._kernel
        i = bisect_right(self._folio_pages, number) - 1
        if i >= 0:
            owner = self._folios[self._folio_pages[i]]
            if number < self._folio_pages[i] + kernel.geometry.vmemmap_pages(
                owner.order
            ):
                return owner
        pfn = kernel.pages.pfn(self._vmemmap.page_va(number))
        i = bisect_right(self._dax_starts, pfn) - 1
        if i >= 0:
            start, end, shift = self._dax[i]
            head = start + (pfn - start >> shift << shift)
            pages = kernel.geometry.vmemmap_pages(shift)
            # A compound that begins inside a vmemmap page ends in one that it shares.
            is_inside = number < kernel.pages.vmemmap_page(head) + pages
            if head + (1 << shift) <= end and is_inside:
                return Owner("dax", head, shift)
        return None

    def _pieces(self, first: int, end: int) -> Iterator[Run]:
        kernel, vmemmap = self._kernel, self._vmemmap
        slots = [slot for slot, _ in vmemmap.slots()]
        while first < end:
            if vmemmap.slot_kind(first) == "hole":
                i = bisect_right(slots, first)
                stop = min(slots[i] if i < len(slots) else end, end)
                label, stop = self._not_mapped(first, stop)
                frames = 0 if label == HOLE_LABEL else None
                yield Run(first, stop - first, label, frames, None, None, None)
                first = stop
                continue
            owner = self.owner(first)
            if owner is None:
                stop = min(self._next_border(first), end)
                yield from self._plain(first, stop)
            else:
                head = kernel.pages.vmemmap_page(owner.pfn)
                pages = kernel.geometry.vmemmap_pages(owner.order)
                stop = min(head + pages, end)
                yield from self._owned(owner, head, pages, first, stop)
            first = stop

    def _not_mapped(self, first: int, stop: int) -> tuple[Label, int]:
        """The backing of pages that nothing is known to map, and up to where it is."""
        i = bisect_right(self._missing, (first, sys.maxsize)) - 1
        if i >= 0 and first < self._missing[i][1]:
            return None, min(stop, self._missing[i][1])
        following = self._missing[i + 1 : i + 2]
        return HOLE_LABEL, min([stop, *(start for start, _ in following)])

    def _unmapped_label(self, number: int) -> Label:
        return self._not_mapped(number, number + 1)[0]

    def _unowned_label(self, frame: int) -> Label:
        """The backing of a mapped page of no compound that is known."""
        if frame in self._kernel.tail_frames:
            return "zone-shared"
        if frame not in self._vmemmap.frames.shared:
            return "private"
        return "shared" if self._knows_owners else None

    def _next_border(self, first: int) -> int:
        """End of this slot, or the next compound before it."""
        per_slot = self._vmemmap.pages_per_slot
        border = (first // per_slot + 1) * per_slot
        i = bisect_right(self._folio_pages, first)
        if i < len(self._folio_pages):
            border = min(border, self._folio_pages[i])
        pfn = self._kernel.pages.pfn(self._vmemmap.page_va(first))
        i = bisect_right(self._dax_starts, pfn)
        if i < len(self._dax_starts):
            border = min(border, self._kernel.pages.vmemmap_page(self._dax_starts[i]))
        return max(border, first + 1)

    def _plain(self, first: int, stop: int) -> Iterator[Run]:
        """Pages of no optimisable compound: each ought to have a frame of its own."""
        backing = self._vmemmap.backing(first, stop - first)
        if backing.is_huge:
            frame = backing.frames[0]
            yield Run(
                first,
                stop - first,
                "huge",
                stop - first,
                frame,
                backing.readonly[0],
                None,
            )
            return
        labels = [
            self._unmapped_label(number) if f == HOLE else self._unowned_label(f)
            for number, f in enumerate(backing.frames, first)
        ]
        yield from _group(first, labels, backing.frames, backing.readonly, None)

    def _owned(
        self, owner: Owner, head: int, pages: int, first: int, stop: int
    ) -> Iterator[Run]:
        kernel = self._kernel
        whole = self._classify(head, pages)
        is_whole = (first, stop) == (head, head + pages)
        if (
            is_whole
            and whole.layout == "zone-shared"
            and whole.tail_readonly is not None
        ):
            yield from self._head_and_tails(owner, head, whole)
            return
        backing = self._vmemmap.backing(first, stop - first)
        if backing.is_huge:
            yield Run(
                first,
                stop - first,
                "huge",
                stop - first,
                backing.frames[0],
                backing.readonly[0],
                owner,
            )
            return
        counts = Counter(self._vmemmap.backing(head, pages).mapped)
        shared = self._vmemmap.frames.shared

        def label(number: int, frame: int) -> Label:
            if frame == HOLE:
                return self._unmapped_label(number)
            if frame in kernel.tail_frames:
                return "zone-shared"
            if whole.layout is None:
                return None
            if counts[frame] > 1:
                return whole.layout if whole.layout.endswith("-shared") else "shared"
            return "shared" if frame in shared else "private"

        labels = [label(number, f) for number, f in enumerate(backing.frames, first)]
        yield from _group(first, labels, backing.frames, backing.readonly, owner)

    def _head_and_tails(
        self, owner: Owner, head: int, whole: CompoundBacking
    ) -> Iterator[Run]:
        """The two runs of a compound whose tails are alike: of nearly all of them."""
        frame, readonly = whole.head_frame, self._vmemmap.is_readonly(head)
        label = "shared" if frame in self._vmemmap.frames.shared else "private"
        yield Run(head, 1, label, 1, frame, readonly, owner)
        yield Run(
            head + 1,
            whole.pages - 1,
            whole.layout,
            1,
            whole.tail_frame,
            whole.tail_readonly,
            owner,
        )


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(first, end) of spans (first, last), in order; what touches is one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last + 1)
        else:
            joined.append((first, last + 1))
    return joined


def _group(
    first: int,
    labels: list[Label],
    frames: list[int],
    readonly: list[bool],
    owner: Owner | None,
) -> Iterator[Run]:
    start = 0
    for i in range(1, len(labels) + 1):
        if (
            i < len(labels)
            and labels[i] == labels[start]
            and readonly[i] == readonly[start]
            and (frames[i] == HOLE) == (frames[start] == HOLE)
            and (labels[i] in ALIKE or frames[i] == frames[start])
        ):
            continue
        is_mapped = frames[start] != HOLE
        count: int | None = len(set(frames[start:i]))
        if not is_mapped:
            count = 0 if labels[start] == HOLE_LABEL else None
        yield Run(
            first + start,
            i - start,
            labels[start],
            count,
            frames[start] if is_mapped else None,
            readonly[start] if is_mapped else None,
            owner,
        )
        start = i


def _merge(a: Run, b: Run) -> Run | None:
    """Two adjoining runs as one, when nobody could tell them apart."""
    alike = (
        a.end == b.first
        and a.backing == b.backing
        and a.readonly == b.readonly
        and a.owner is None
        and b.owner is None
        and a.backing in ("huge", *ALIKE)
        and (a.frames is None) == (b.frames is None)
    )
    if not alike:
        return None
    frames = None if a.frames is None or b.frames is None else a.frames + b.frames
    return replace(a, pages=a.pages + b.pages, frames=frames)
