# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vmemmap as a ledger: for every vmemmap page the frame behind it, and why.

A *vmemmap page* is a page of the ``struct page`` array, numbered from 0 at the base.
The ledger is the truth of the model; page tables are made from it when they are
written. A run of the ledger is a `Backing`: either linear frames, or a repeated
pattern of kept private frames and tails, so that half a million folios are one run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vmemmap_tools.model.runs import RunMap

__all__ = ["Array", "Backing", "Progression", "Vmemmap", "frame_runs", "progressions"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Backing:
    """What backs a run of vmemmap pages."""

    why: str
    """boot, hot-added, self-hosted, hvo, restored, pre-hvo, dax, altmap, dax-shared"""
    origin: int
    """The vmemmap page at which the pattern starts."""
    frame: int
    """First private frame."""
    period: int = 0
    """Vmemmap pages per compound page; 0: every page has its own frame, in a row."""
    kept: int = 1
    """Private frames per period (0: a continuation, all tails)."""
    stride: int = 1
    """Distance between the first private frames of two periods."""
    gap: int = 1
    """Distance between the private frames of one period."""
    shared: int = -1
    """Frame of the tails; -1: the last kept frame of the same period."""
    tails: str = "ro"
    """How tails are mapped: rw, ro, boot-ro (write-protected after boot)."""
    order: int = 0
    owner: int = 0

    @property
    def is_shared(self) -> bool:
        return self.period != 0

    def frames(self, pages: Array) -> tuple[Array, Array]:
        """Frames of an array of vmemmap page numbers, and which of them are tails."""
        index = pages - self.origin
        if not self.period:
            return self.frame + index, np.zeros(len(index), dtype=bool)
        turn, place = np.divmod(index, self.period)
        tail = place >= self.kept
        within = np.minimum(place, self.kept - 1) * self.gap
        private = self.frame + turn * self.stride + within
        if self.shared < 0:
            return private, tail
        return np.where(tail, self.shared, private), tail


@dataclass(frozen=True)
class Progression:
    """``count`` frames from ``first`` on, ``step`` apart; ``index`` of the first."""

    index: int
    first: int
    step: int
    count: int


def progressions(frames: Array) -> Iterator[Progression]:
    """Cut an array of frames into maximal arithmetic progressions."""
    n = len(frames)
    at = 0
    while at < n:
        if at + 1 == n:
            yield Progression(at, int(frames[at]), 1, 1)
            return
        steps = np.diff(frames[at:])
        step = int(steps[0])
        other = np.nonzero(steps != step)[0]
        count = int(other[0]) + 1 if len(other) else n - at
        yield Progression(at, int(frames[at]), step, count)
        at += count


def frame_runs(frames: Iterable[int] | Array) -> list[tuple[int, int]]:
    """Frames as sorted, maximal [start, end) runs."""
    # Sorting what is almost sorted is far cheaper than numpy's unique.
    array = np.sort(np.asarray(frames, dtype=np.int64), kind="stable")
    if not len(array):
        return []
    array = array[np.concatenate(([True], np.diff(array) != 0))]
    breaks = np.nonzero(np.diff(array) != 1)[0]
    starts = array[np.concatenate(([0], breaks + 1))]
    ends = array[np.concatenate((breaks, [len(array) - 1]))] + 1
    return [(int(s), int(e)) for s, e in zip(starts, ends)]


class Vmemmap:
    """The ledger, and which PMD-sized blocks of it are mapped by a PTE table."""

    def __init__(self, page_size: int, struct_page_size: int, entries: int) -> None:
        self.spp = page_size // struct_page_size
        self.entries = entries
        self.ledger: RunMap[Backing] = RunMap()
        self.tables: dict[int, int] = {}
        """Block number -> frame of its PTE table; a mapped block without one is a
        PMD leaf."""

    def page_of(self, pfn: int) -> int:
        """The vmemmap page that holds the struct page of ``pfn``."""
        return pfn // self.spp

    def pages_per(self, order: int) -> int:
        """Vmemmap pages of a compound page of ``order``."""
        return (1 << order) // self.spp

    def blocks(self, start: int, end: int) -> range:
        """Blocks that the vmemmap pages [start, end) lie in."""
        return range(start // self.entries, -(-end // self.entries))

    def map(self, start: int, end: int, backing: Backing) -> None:
        """Enter a backing for the vmemmap pages [start, end)."""
        self.ledger.set(start, end, backing)

    def map_linear(self, start: int, runs: list[tuple[int, int]], why: str) -> int:
        """Back pages from ``start`` on with (frame, length) runs; returns the end."""
        for frame, length in runs:
            # Origin 0 lets neighbours of one kind be one run.
            self.map(start, start + length, Backing(why, 0, frame - start))
            start += length
        return start

    def frames(self, start: int, end: int) -> tuple[Array, Array]:
        """Frames of the mapped vmemmap pages in [start, end), and which are tails."""
        parts = [
            backing.frames(np.arange(s, e)) for s, e, backing in self.runs(start, end)
        ]
        if not parts:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        return np.concatenate([f for f, _ in parts]), np.concatenate(
            [t for _, t in parts]
        )

    def private_frames(self, start: int, end: int) -> list[tuple[int, int]]:
        """Runs of the frames that back [start, end) and are nobody's shared tail."""
        frames, tails = self.frames(start, end)
        return frame_runs(frames[~tails])

    def runs(
        self, start: int = 0, end: int = 1 << 62
    ) -> Iterator[tuple[int, int, Backing]]:
        """Yield (start, end, backing) of the ledger's runs in [start, end)."""
        return self.ledger.runs(start, end)

    def mapped(self, start: int, end: int) -> int:
        """How many of the vmemmap pages [start, end) are mapped."""
        return sum(e - s for s, e, _ in self.runs(start, end))

    def is_leaf(self, block: int) -> bool:
        """Whether a block is mapped by one PMD leaf."""
        first = block * self.entries
        return block not in self.tables and self.ledger.get(first) is not None

    def retitle(self, start: int, end: int, why: str) -> None:
        """Change the reason of linear pages that stay where they are."""
        for s, e, backing in self.runs(start, end):
            self.map(s, e, replace(backing, why=why))
