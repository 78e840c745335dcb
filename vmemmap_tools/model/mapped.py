# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a simulated machine's page tables map, read back from its memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmemmap_tools.model.write import Image

__all__ = ["mapped_runs"]

PRESENT = 1
LEAF = {"x86_64": 0x80}
"""The bit that makes an entry above the lowest level map memory itself."""
ADDRESS = {"x86_64": 0x000FFFFFFFFFF000}
Run = tuple[int, int, int]


def mapped_runs(image: Image, start: int, end: int) -> Iterator[Run]:
    """(virtual address, physical address, size) of each contiguous mapping in a range.

    Neighbours in both spaces are one run. Raises KeyError for an architecture whose
    entries this does not know.
    """
    last: Run | None = None
    for va, pa, size in _leaves(image, start, end):
        if last and (last[0] + last[2], last[1] + last[2]) == (va, pa):
            last = last[0], last[1], last[2] + size
            continue
        if last:
            yield last
        last = va, pa, size
    if last:
        yield last


def _leaves(image: Image, start: int, end: int) -> Iterator[Run]:
    arch, levels = image.arch, image.facts["levels"]
    root = image.symbols[arch.root_symbol].address + image.kaslr_offset
    table = root - arch.image_map + image.phys_base
    top = arch.page_shift + levels * arch.table_bits
    base = start >> top << top  # the sign extension, which the tables do not hold
    yield from _walk(image, table, levels, base, start, end)


def _walk(
    image: Image, table: int, level: int, base: int, start: int, end: int
) -> Iterator[Run]:
    arch = image.arch
    bits, shift = arch.table_bits, arch.page_shift + (level - 1) * arch.table_bits
    first = max(start - base, 0) >> shift
    last = min(-(-(end - base) >> shift), 1 << bits)
    entries = memoryview(image.memory.read(table, 8 << bits)).cast("Q")
    mask = ADDRESS[arch.name] & ~image.facts.get("sme_mask", 0)
    for index in range(first, last):
        entry = entries[index]
        if not entry & PRESENT:
            continue
        va = base + (index << shift)
        if level == 1 or entry & LEAF[arch.name]:
            yield va, entry & mask & -(1 << shift), 1 << shift
        else:
            yield from _walk(image, entry & mask, level - 1, va, start, end)
