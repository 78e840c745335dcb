# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules F10 to F12: the frames behind the vmemmap and who else has a claim to them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from ...kernel.page_state import FrameState
from ...kernel.table_frames import for_each_table_frame, for_each_upper_entry
from ...target.base import Fault
from .clones import restored_clones
from .context import Context
from .findings import Place, Violation, hexed
from .frame_contents import for_each_stranger, no_memory
from .frame_scan import NoMemory
from .registry import rule
from .sharing import Odd

__all__: list[str] = []

OTHER_PAGES = 8
"""Further vmemmap pages of a frame that evidence names."""
LOOKED_UP = 16
"""So many findings look up who else uses the frame: each look goes over all tables."""


def _place(context: Context, odd: Odd) -> Place:
    if odd.folio is not None:
        return Place("folio", odd.folio.pfn)
    va = context.kernel.vmemmap.page_va(odd.first)
    return Place("pfn", context.kernel.pages.pfn(va))


@rule(
    "F10",
    "every read-only page of the vmemmap belongs to an optimised hugetlb folio",
    severity="E",
    holds="all",
    reads=("vmemmap page tables", "hugetlb folios"),
    bug="a folio freed or demoted without restoring its vmemmap; the class of "
    '"do not clear hugetlb dtor until allocating vmemmap"',
    why="whoever gets that memory next writes to its struct pages and faults, or "
    "reads the tails of a folio that is gone.",
    look="vmemmap map; vmemmap page VA",
    needs=("zones", "folios", "device maps"),
    racy=True,
    exceptions="Tails of device DAX may be read-only or not.",
)
def readonly_is_hugetlb(context: Context) -> Iterator[Violation]:
    context.saw(context.kernel.vmemmap.readonly_leaves)
    kernel = context.kernel
    listed = {pfn for one in context.pool_lists for pfn in one.pfns}
    for ghost in context.sharing.ghosts:
        if ghost.head_looks_like_tail or ghost.pfn in listed:
            continue  # F13 and F5 tell
        yield Violation(
            Place("pfn", ghost.pfn),
            "optimised vmemmap without a folio",
            f"the vmemmap from pfn {ghost.pfn:#x} on is mapped as that of an optimised "
            f"folio of order {ghost.order}, but no hugetlb folio is there",
            "private and writable",
            "read-only and shared",
            {
                **hexed(va=kernel.vmemmap.page_va(ghost.first), entry=ghost.entry),
                "order": ghost.order,
                "pages": ghost.pages,
            },
        )
    yield from _readonly_tables(context)
    for odd in context.sharing.of_kind("readonly"):
        va = kernel.vmemmap.page_va(odd.first)
        yield Violation(
            _place(context, odd),
            "read-only without an optimised folio",
            f"{odd.count} vmemmap pages from {va:#x} on are read-only, but "
            + (
                f"the folio at pfn {odd.folio.pfn:#x} is not optimised"
                if odd.folio is not None
                else "no hugetlb folio is there"
            ),
            "writable",
            "read-only",
            {
                **hexed(va=va, entry=odd.entry),
                "pages": odd.count,
                "frame_pfn": odd.frame,
            },
        )


def _readonly_tables(context: Context) -> Iterator[Violation]:
    """Upper entries without write permission: no leaf below them can be written."""
    fmt, window = context.geometry.table_format, context.geometry.vmemmap_window
    if not fmt.is_hierarchical:
        return
    for upper in for_each_upper_entry(context.kernel.page_table, *window):
        entry, level = upper.entry, upper.level
        if not entry & fmt.present_mask or fmt.is_leaf(entry, level):
            continue
        if fmt.is_readonly(entry):
            pfn = max(0, context.kernel.pages.pfn(upper.va))
            yield Violation(
                Place("pfn", pfn),
                "read-only page table",
                f"the entry of level {level} for {upper.va:#x} is read-only, and with "
                "it all that hangs below",
                "writable",
                "read-only",
                {**hexed(va=upper.va, entry=entry), "level": level},
            )


@rule(
    "F11",
    "a frame that backs several vmemmap pages is one compound's own, or a zone's "
    "shared tail page",
    severity="E",
    holds="all",
    reads=("vmemmap page tables",),
    bug="a frame that was freed while a stale entry still maps it, and used again",
    why="two places of the vmemmap with one frame are one struct page for two pages.",
    look="vmemmap page pfn:FRAME: backs",
    needs=("zones", "folios", "device maps"),
    racy=True,
)
def shared_frames_are_explained(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    context.saw(len(kernel.vmemmap.frames.shared))
    yield from _tables_linked_twice(context)
    looked_up = 0
    for odd in context.sharing.of_kind("shared"):
        others: list[int] = []
        if looked_up < LOOKED_UP:
            looked_up += 1
            pages = kernel.vmemmap.pages_of_frame(odd.frame)
            others = [
                kernel.pages.pfn(kernel.vmemmap.page_va(n))
                for n in islice(pages, OTHER_PAGES + odd.count)
                if not odd.first <= n < odd.first + odd.count
            ][:OTHER_PAGES]
        va = kernel.vmemmap.page_va(odd.first)
        yield Violation(
            _place(context, odd),
            "frame with unrelated users",
            f"the frame {odd.frame:#x} behind {va:#x} backs "
            f"{kernel.vmemmap.frames.mappings(odd.frame)} vmemmap pages that no "
            "compound page explains",
            "one user",
            kernel.vmemmap.frames.mappings(odd.frame),
            {
                **hexed(va=va, entry=odd.entry),
                "frame_pfn": odd.frame,
                "other_pfns": others,
            },
        )


def _tables_linked_twice(context: Context) -> Iterator[Violation]:
    """Entries that lead to a table which maps another part of the vmemmap already."""
    for table in context.kernel.vmemmap.absent:
        if table.error is not None:
            continue
        frame = table.pa >> context.geometry.page_shift
        pfn = max(0, context.kernel.pages.pfn(table.va))
        yield Violation(
            Place("pfn", pfn),
            "page table linked twice",
            f"the page table of level {table.level} in frame {frame:#x} maps the "
            f"vmemmap from {table.va:#x} on, and another part of it as well",
            "one user",
            "two",
            {**hexed(va=table.va), "frame_pfn": frame, "level": table.level},
        )


@rule(
    "F12",
    "a frame behind the vmemmap is memory and holds its struct pages; none, nor a page "
    "table of it, is free, slab or of another type, on an LRU list or anonymous",
    severity="E",
    holds="all",
    reads=("struct pages of all vmemmap frames and page tables",),
    bug="use after free: frames freed before the TLB flush, PMD-sized vmemmap freed "
    "with the wrong size",
    why="the frame's next owner overwrites struct pages.",
    look="vmemmap page pfn:FRAME",
    needs=("device maps",),
    racy=True,
    exceptions="Between a batch's remap and its flush frames wait to be freed. Frames "
    "on a device and those never initialised have no state to look at. Struct pages "
    "that are empty may never have been set up: a warning. A page table that says so "
    "by its type needs no reference.",
    quick_omits="what stands in the frames",
)
def backing_frames_are_in_use(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    context.saw(kernel.vmemmap.frames.distinct)
    for state in context.unusable_frames:
        if isinstance(state, NoMemory):
            yield _no_memory(state.pfn, state.count, "the vmemmap", {})
        else:
            yield _unusable(state, "vmemmap", {})
    start, end = context.geometry.vmemmap_window
    for table in for_each_table_frame(kernel.page_table, start, end):
        context.saw()
        try:
            bad = context.frame_states.judge(table.pfn, is_table=True)
        except Fault as fault:
            if no_memory(context, table.pfn, 1, fault):
                more = {**hexed(va=table.va), "level": table.level}
                yield _no_memory(table.pfn, 1, "a page table of the vmemmap", more)
            else:
                context.unread(fault, "struct pages of page tables")
            continue
        if bad is not None and context.is_told(bad):
            more = {**hexed(va=table.va), "level": table.level}
            yield _unusable(bad, "page table", more)
    if not context.quick and not any(map(context.gap, ("page tables", "zones"))):
        restored_clones(context)  # the one look at what stands in base pages
        yield from for_each_stranger(context)


def _no_memory(pfn: int, count: int, use: str, more: dict[str, object]) -> Violation:
    return Violation(
        Place("frame", pfn),
        f"no memory behind {use}",
        f"the frame {pfn:#x} is mapped as {use}, but has no struct page: it is no "
        "memory of this kernel",
        "memory",
        "none",
        {"frame_pfn": pfn, "frames": count, **more},
    )


def _unusable(state: FrameState, use: str, more: dict[str, object]) -> Violation:
    return Violation(
        Place("frame", state.pfn),
        f"{use} frame in other use: {state.reason}",
        f"the frame {state.pfn:#x} is in use as a {use} page of the vmemmap, yet "
        f"{state.reason}"
        if use == "page table"
        else f"the frame {state.pfn:#x} backs the vmemmap, yet {state.reason}",
        "in use, without a type",
        state.reason,
        {
            **hexed(
                flags=state.flags,
                mapcount_word=state.mapcount_word,
                mapping=state.mapping,
            ),
            "refcount": state.refcount,
            "frame_pfn": state.pfn,
            **more,
        },
    )
