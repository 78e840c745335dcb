# SPDX-License-Identifier: LGPL-2.1-or-later
"""Page tables and vmemmap content of an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from vmemmap_tools.model.memory import Scattered, Source
from vmemmap_tools.model.pages import FrameSource, StrideSource, StructPages
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
    scattered: list[tuple[int, int, Scattered]] = []
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
        together, apart = _frame_sources(pages, start, end, backing)
        sources += together
        scattered += apart
    sources += _table_sources(image)
    image.memory.add_sources(sources)
    image.memory.add_scattered(scattered)


def _frame_sources(
    pages: StructPages, start: int, end: int, backing: Backing
) -> tuple[list[tuple[int, int, Source]], list[tuple[int, int, Scattered]]]:
    """Sources for the private frames of one ledger run: in a row, or far apart."""
    if not backing.period:
        first = backing.frame + start - backing.origin
        linear = FrameSource.of(pages, first, start, backing)
        return [(first, first + end - start, linear)], []
    if not backing.kept:
        return [], []
    first_turn = -(-(start - backing.origin) // backing.period)
    last_turn = -(-(end - backing.origin) // backing.period)
    turns = last_turn - first_turn
    first = backing.frame + first_turn * backing.stride
    page = backing.origin + first_turn * backing.period
    if backing.stride < 0 or backing.gap != 1:
        return list(_single_frames(pages, start, end, backing)), []
    source = FrameSource.of(pages, first, page, backing)
    if backing.stride == backing.kept or turns == 1:
        return [(first, first + turns * backing.kept, source)], []
    apart = StrideSource(source, backing.stride)
    end = first + (turns - 1) * backing.stride + backing.kept
    return [], [(first, end, apart)]


def _single_frames(
    pages: StructPages, start: int, end: int, backing: Backing
) -> Iterator[tuple[int, int, Source]]:
    """A source for each private frame of a ledger run, in whatever order they lie."""
    numbers = np.arange(start, end)
    frames, tails = backing.frames(numbers)
    spp = pages.core.vmemmap.spp
    for page, frame in zip(numbers[~tails].tolist(), frames[~tails].tolist()):
        yield frame, frame + 1, FrameSource(pages, frame, page, 1, 1, spp)


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
