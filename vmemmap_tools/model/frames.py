# SPDX-License-Identifier: LGPL-2.1-or-later
"""Page frames: what each one is, which zone it lies in, and who gets the next one.

Stands for memblock, the buddy allocator and alloc_contig_pages. A free range has no
buddy structure of its own: it is cut into maximal blocks when it is rendered, as a
buddy allocator that merged everything would hold it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from vmemmap_tools.model.runs import PageSet, RunMap

__all__ = ["Frames", "Kind", "OutOfMemory", "PageRun", "ZoneKey"]


class OutOfMemory(ValueError):
    """The simulated allocator has no such pages."""


class Kind(Enum):
    """What a struct page describes."""

    HOLE = "hole"  # no memory, but in an early section: init_unavailable_range
    RESERVED = "reserved"  # memblock allocation or reservation
    FREE = "free"  # in the buddy allocator
    PCP = "pcp"  # free, on a per-cpu list
    ALLOCATED = "allocated"  # a kernel page without a type
    TABLE = "table"  # a page table
    SLAB = "slab"
    ANON = "anon"  # user memory on an LRU list
    SELF_HOSTED = "self-hosted"  # vmemmap in the memory block it describes
    HUGETLB = "hugetlb"
    DEVICE = "device"  # ZONE_DEVICE, initialised; the owner is a pgmap id
    DEVICE_META = "device-meta"  # altmap area of a pgmap
    UNINIT = "uninit"  # struct pages nobody initialised (zero)
    OFFLINE = "offline"  # hot-added, not online yet
    POISON = "poison"  # struct pages poisoned with all ones


ZoneKey = tuple[int, int]
"""(node, zone index)"""


@dataclass(frozen=True)
class PageRun:
    """The state of a run of page frames."""

    kind: Kind
    node: int
    zone: int
    owner: int = 0

    @property
    def zone_key(self) -> ZoneKey:
        return self.node, self.zone


@dataclass
class Frames:
    """The state of every page frame, and the free ones per zone."""

    states: RunMap[PageRun] = field(default_factory=RunMap)
    free: dict[ZoneKey, PageSet] = field(default_factory=dict)

    def declare(self, start: int, end: int, run: PageRun) -> None:
        """Say what the struct pages of [start, end) describe, whatever they were."""
        for s, e, old in self.states.runs(start, end):
            if old.kind is Kind.FREE:
                self.free[old.zone_key].remove(s, e)
        self.states.set(start, end, run)
        if run.kind is Kind.FREE:
            self.free.setdefault(run.zone_key, PageSet()).add(start, end)

    def forget(self, start: int, end: int) -> None:
        """The frames [start, end) have no struct pages any more."""
        for s, e, old in self.states.runs(start, end):
            if old.kind is Kind.FREE:
                self.free[old.zone_key].remove(s, e)
        self.states.set(start, end, None)

    def turn(self, start: int, end: int, kind: Kind, owner: int = 0) -> None:
        """Change what known frames are; they keep node and zone."""
        for s, e, old in self.states.runs(start, end):
            self.declare(s, e, PageRun(kind, old.node, old.zone, owner))

    def release(self, start: int, end: int) -> None:
        """Give frames to the buddy allocator of their zone."""
        self.turn(start, end, Kind.FREE)

    def release_many(
        self, runs: Sequence[tuple[int, int]]
    ) -> list[tuple[int, PageRun]]:
        """Release many sorted runs at once; says what each part was: (pages, state)."""
        found = [part for s, e in runs for part in self.states.runs(s, e)]
        by_zone: dict[ZoneKey, list[tuple[int, int]]] = {}
        free: dict[ZoneKey, PageRun] = {}
        for start, end, run in found:
            by_zone.setdefault(run.zone_key, []).append((start, end))
            if run.zone_key not in free:
                free[run.zone_key] = PageRun(Kind.FREE, run.node, run.zone)
        self.states.set_many([(s, e, free[run.zone_key]) for s, e, run in found])
        for key, parts in by_zone.items():
            self.free.setdefault(key, PageSet()).add_many(parts)
        return [(e - s, run) for s, e, run in found]

    def kind(self, pfn: int) -> Kind | None:
        run = self.states.get(pfn)
        return None if run is None else run.kind

    def count(self, start: int, end: int, kind: Kind) -> int:
        """How many of [start, end) are of ``kind``."""
        return sum(
            e - s for s, e, run in self.states.runs(start, end) if run.kind is kind
        )

    def take(self, start: int, end: int, kind: Kind, owner: int = 0) -> None:
        """Allocate exactly [start, end); OutOfMemory unless all of it is free."""
        runs = list(self.states.runs(start, end))
        covered = sum(e - s for s, e, _ in runs)
        if covered != end - start or any(r.kind is not Kind.FREE for _, _, r in runs):
            raise OutOfMemory(f"frames {start:#x}-{end:#x} are not all free")
        self.turn(start, end, kind, owner)

    def take_blocks(
        self, zones: list[ZoneKey], pages: int, count: int, kind: Kind
    ) -> Iterator[tuple[int, int]]:
        """Allocate ``count`` naturally aligned blocks, lowest first, zone by zone.

        Yields (start pfn, number of consecutive blocks); fewer than asked for when
        memory ends.
        """
        for key in zones:
            free = self.free.get(key)
            while free is not None and count:
                place = free.find_low(pages, pages)
                if place is None:
                    break
                start, room = place
                blocks = min(count, room // pages)
                self.take(start, start + blocks * pages, kind)
                count -= blocks
                yield start, blocks

    def take_frames(
        self,
        zones: list[ZoneKey],
        count: int,
        kind: Kind = Kind.ALLOCATED,
        multiple: int = 1,
    ) -> list[tuple[int, int]]:
        """Allocate ``count`` single frames: (start, length) runs, from the top down.

        Kernel allocations stay away from the low end, where huge pages are cut.
        The length of every run, like ``count``, is a multiple of ``multiple``.
        """
        available = sum(len(self.free[key]) for key in zones if key in self.free)
        if available < count:
            raise OutOfMemory(f"{count} frames wanted, {available} free")
        taken: list[tuple[int, int]] = []
        for key in zones:
            free = self.free.get(key)
            if free is None or not count:
                continue
            start = free.find_high(count, 1)
            if start is not None:
                parts = [(start, start + count)]
            else:
                parts = free.pop_high(count, multiple)
            self._set_taken(key, parts, kind, popped=start is None)
            taken += [(s, e - s) for s, e in parts]
            count -= sum(e - s for s, e in parts)
        if count:
            raise OutOfMemory(f"memory is too fragmented: {count} frames short")
        return taken

    def _set_taken(
        self, key: ZoneKey, parts: list[tuple[int, int]], kind: Kind, popped: bool
    ) -> None:
        if not popped:
            for start, end in parts:
                self.take(start, end, kind)
            return
        run = PageRun(kind, *key)
        self.states.set_many([(s, e, run) for s, e in sorted(parts)])
