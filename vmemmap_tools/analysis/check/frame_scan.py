# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one look at the struct pages of all frames behind the vmemmap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from ...kernel.page_state import FrameState
from .frame_contents import no_memory

if TYPE_CHECKING:
    from .context import Context

__all__ = ["MAX_UNUSABLE", "NoMemory", "find_unusable"]

MAX_UNUSABLE = 100_000
"""More of them than any defect brings about; a damaged dump could name them all."""


@dataclass(frozen=True)
class NoMemory:
    """Frames that have no struct page: whatever they are, no memory of this kernel."""

    pfn: int
    count: int


def find_unusable(context: Context) -> Iterator[FrameState | NoMemory]:
    """Frames behind the vmemmap that are free or in other use, at most MAX_UNUSABLE."""
    kernel = context.kernel
    hosted = sorted(
        (r.pgmap.altmap.base_pfn, r.pgmap.altmap.end_pfn)
        for r in context.device_ranges
        if r.pgmap.altmap is not None
    )
    runs = _without(kernel.vmemmap.frames.runs(), hosted)
    states = context.frame_states.unusable(runs, _inside_huge_leaf(context))
    found = 0
    for state in context.track("looking at vmemmap frames", states):
        if isinstance(state, FrameState):
            if context.is_initialised(state.pfn) and context.is_told(state):
                found += 1
                yield state
        else:
            pfn, count, fault = state
            if no_memory(context, pfn, count, fault):
                found += 1
                yield NoMemory(pfn, count)
            else:
                context.unread(
                    fault, "struct pages of frames behind the vmemmap", count
                )
        if found >= MAX_UNUSABLE:
            context.leave_out(f"frames behind the {found} that cannot be in use")
            return


def _inside_huge_leaf(context: Context) -> Callable[[int], bool]:
    """Whether a frame is one of a huge leaf's, but not the first.

    vmemmap_alloc_block() takes the block as one allocation that is no compound page:
    only the first page has a reference, until the block is split for remapping.
    """
    vmemmap = context.kernel.vmemmap
    size = vmemmap.pages_per_slot
    firsts = {vmemmap.frame(n) for n, is_huge in vmemmap.slots() if is_huge}
    return lambda pfn: pfn % size != 0 and pfn - pfn % size in firsts


def _without(
    runs: Iterator[tuple[int, int]], areas: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Runs of frames less those in altmaps, whose struct pages are never set up."""
    for first, count in runs:
        start, end = first, first + count
        for low, high in areas:
            if high <= start or end <= low:
                continue
            if start < low:
                yield start, low - start
            start = max(start, high)
            if start >= end:
                break
        if start < end:
            yield start, end - start
