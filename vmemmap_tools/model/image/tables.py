# SPDX-License-Identifier: LGPL-2.1-or-later
"""Page tables and vmemmap content of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmemmap_tools.model.memory import Source
from vmemmap_tools.model.pages import FrameSource, StructPages
from vmemmap_tools.model.pagetables import TableSource
from vmemmap_tools.model.vmemmap import Backing

if TYPE_CHECKING:
    from vmemmap_tools.model.image.base import Image

__all__ = ["add_vmemmap", "map_memory"]


def map_memory(image: Image) -> None:
    """Map the kernel image and all memory in the direct map."""
    core, tables = image.core, image.tables
    placement = core.placement
    shift = image.arch.page_shift
    start, end = image.machine.boot.image
    va = image.arch.image_va + placement.kaslr_offset
    tables.map_range(va, start << shift, (end - start) << shift)
    for low, high in image.machine.mapped_ranges():
        tables.map_range(placement.page_offset + low, low, high - low)


def add_vmemmap(image: Image, pages: StructPages) -> None:
    """Hang the vmemmap's tables into the tree, and let frames render themselves."""
    core, tables = image.core, image.tables
    vmemmap = core.vmemmap
    sources: list[tuple[int, int, Source]] = []
    seen: set[int] = set()
    for start, end, backing in vmemmap.runs():
        for block in vmemmap.blocks(start, end):
            if block in seen:
                continue
            seen.add(block)
            va = image.vmemmap_va(block * vmemmap.entries)
            if block in vmemmap.tables:
                tables.attach(1, va, vmemmap.tables[block])
            else:
                frame = image.frame_of(block * vmemmap.entries)
                tables.map_huge(2, va, frame)
        sources += _frame_sources(pages, start, end, backing)
    sources += _table_sources(image)
    image.memory.add_sources(sources)


def _frame_sources(
    pages: StructPages, start: int, end: int, backing: Backing
) -> list[tuple[int, int, Source]]:
    """Sources for the private frames of one ledger run."""
    if not backing.period:
        first = backing.frame + start - backing.origin
        linear = FrameSource.of(pages, first, start, backing)
        return [(first, first + end - start, linear)]
    if not backing.kept:
        return []
    first_turn = -(-(start - backing.origin) // backing.period)
    last_turn = -(-(end - backing.origin) // backing.period)
    kept, stride = backing.kept, backing.stride
    # Kept frames that follow each other are one source for all turns.
    step = last_turn - first_turn if stride == kept else 1
    out: list[tuple[int, int, Source]] = []
    for turn in range(first_turn, last_turn, step):
        frame = backing.frame + turn * stride
        page = backing.origin + turn * backing.period
        source = FrameSource.of(pages, frame, page, backing)
        out.append((frame, frame + step * kept, source))
    return out


def _table_sources(image: Image) -> list[tuple[int, int, Source]]:
    """Sources for PTE tables, one for each run of neighbouring frames."""
    vmemmap = image.core.vmemmap
    by_frame = sorted((frame, block) for block, frame in vmemmap.tables.items())
    out: list[tuple[int, int, Source]] = []
    at = 0
    while at < len(by_frame):
        end = at + 1
        while end < len(by_frame) and by_frame[end][0] == by_frame[end - 1][0] + 1:
            end += 1
        first = by_frame[at][0]
        source = TableSource(
            vmemmap,
            image.arch,
            image.tables.flags,
            image.encryption,
            first,
            tuple(block for _, block in by_frame[at:end]),
        )
        out.append((first, first + end - at, source))
        at = end
    return out
