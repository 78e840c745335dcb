# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page-table walk over an image's bytes: what tests hold against the books."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vmemmap_tools.model.image import Image

__all__ = ["Found", "leaves", "struct_page", "vmemmap_leaves", "walk"]

ADDRESS = ((1 << 52) - 1) & ~0xFFF & ~(1 << 47)
"""Bits of an entry that are the address; bit 47 is the model's encryption bit."""


@dataclass(frozen=True)
class Found:
    """A leaf: the frame of the 4 KiB page asked for, and how it is mapped."""

    frame: int
    writable: bool
    level: int
    entry: int


def _table(image: Image, pa: int) -> tuple[int, ...]:
    return struct.unpack("<512Q", image.memory.read(pa, 4096))


def walk(image: Image, va: int) -> Found | None:
    """Translate one address; None if it is not mapped."""
    table = image.tables.root_pfn << 12
    for level in range(image.facts["levels"], 0, -1):
        index = va >> (12 + 9 * (level - 1)) & 511
        entry = _table(image, table)[index]
        if not entry & 1:
            return None
        if level == 1 or entry & 0x80:
            span = 12 + 9 * (level - 1)
            frame = (entry & ADDRESS) >> 12
            frame += (va & (1 << span) - 1) >> 12
            return Found(frame, bool(entry & 2), level, entry)
        table = entry & ADDRESS
    return None


def leaves(image: Image, start: int, end: int) -> Iterator[tuple[int, Found]]:
    """All leaves in [start, end), by 4 KiB page, tables read once."""
    root = image.tables.root_pfn << 12
    yield from _below(image, root, image.facts["levels"], 0, start, end)


def _below(
    image: Image, table: int, level: int, base: int, start: int, end: int
) -> Iterator[tuple[int, Found]]:
    shift = 12 + 9 * (level - 1)
    for index, entry in enumerate(_table(image, table)):
        va = base + (index << shift)
        if level == image.facts["levels"] and index >= 256:
            va |= (1 << 64) - (1 << (shift + 9))
        if not entry & 1 or va >= end or va + (1 << shift) <= start:
            continue
        if level > 1 and not entry & 0x80:
            yield from _below(image, entry & ADDRESS, level - 1, va, start, end)
            continue
        frame = (entry & ADDRESS) >> 12
        for offset in range(1 << (shift - 12)):
            found = Found(frame + offset, bool(entry & 2), level, entry)
            yield va + (offset << 12), found


def vmemmap_leaves(image: Image) -> dict[int, Found]:
    """Every mapped vmemmap page, by its number."""
    base = image.facts["vmemmap"]
    size = image.core.placement.space.vmemmap_size
    return {(va - base) >> 12: f for va, f in leaves(image, base, base + size)}


def struct_page(image: Image, pfn: int) -> tuple[int, ...]:
    """The eight words of a struct page, read through the page tables."""
    va = image.facts["vmemmap"] + 64 * pfn
    found = walk(image, va & ~0xFFF)
    assert found is not None, f"the struct page of {pfn:#x} is not mapped"
    data = image.memory.read((found.frame << 12) + va % 4096, 64)
    return struct.unpack("<8Q", data)
