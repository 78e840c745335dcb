# SPDX-License-Identifier: LGPL-2.1-or-later
"""Page tables of a made-up vmemmap in memory, for timing the pass over them alone."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator

from vmemmap_tools.arch.pagetable import PageTable
from vmemmap_tools.arch.x86_64 import FORMAT

__all__ = ["PATTERNS", "WINDOW", "make_page_table"]

WINDOW = (0xFFFFEA0000000000, 0xFFFFEB0000000000)
ENTRIES = 512
RW, RO = 0x8000000000000163, 0x8000000000000121
FIRST_TABLE_PA = 1 << 44
"""Tables lie where no frame does."""


def make_page_table(pattern: str, leaf_tables: int) -> PageTable:
    """A 4-level page table whose vmemmap window has this many full leaf tables."""
    memory: dict[int, bytes] = {}
    leaves = [
        FIRST_TABLE_PA + (i << 12)
        for i, table in enumerate(PATTERNS[pattern](leaf_tables))
        if memory.setdefault(FIRST_TABLE_PA + (i << 12), table.tobytes())
    ]
    level_pas, level = leaves, 1
    next_pa = FIRST_TABLE_PA + (len(leaves) << 12)
    while level < 4:
        level += 1
        shift = FORMAT.shift(level)
        first = FORMAT.index(WINDOW[0], level)
        uppers = []
        for start in range(0, len(level_pas), ENTRIES):
            upper = array("Q", bytes(8 * ENTRIES))
            for i, pa in enumerate(level_pas[start : start + ENTRIES]):
                upper[first + i] = pa | 0x67
            memory[next_pa] = upper.tobytes()
            uppers.append(next_pa)
            next_pa += 1 << 12
        assert level == 4 or WINDOW[0] >> shift << shift == WINDOW[0]
        level_pas = uppers
    (root,) = level_pas
    return PageTable(lambda pa, size: memory[pa], FORMAT, 4, root)


def _folios(table: int, tail: int) -> Iterator[int]:
    for i in range(64):
        head = (1 << 20) + table * 64 + i
        yield head << 12 | RW
        yield from [(tail or head) << 12 | RO] * 7


def _zone_shared(tables: int) -> Iterator[array[int]]:
    """2M folios: a frame for each head, one tail page for all."""
    return (array("Q", _folios(t, tail=7)) for t in range(tables))


def _self_shared(tables: int) -> Iterator[array[int]]:
    """2M folios whose tails lie on their own head's frame."""
    return (array("Q", _folios(t, tail=0)) for t in range(tables))


def _gigantic(tables: int) -> Iterator[array[int]]:
    """1G folios: eight tables each, all on one tail page but the first entry."""
    for t in range(tables):
        table = array("Q", [7 << 12 | RO] * ENTRIES)
        if t % 8 == 0:
            table[0] = (1 << 20) + t << 12 | RW
        yield table


def _adjoining(tables: int) -> Iterator[array[int]]:
    """A frame for every page, in address order, as boot memory has it."""
    for t in range(tables):
        first = (1 << 20) + t * ENTRIES
        yield array("Q", (pfn << 12 | RW for pfn in range(first, first + ENTRIES)))


def _scattered(tables: int) -> Iterator[array[int]]:
    """A frame for every page, in no order at all."""
    pfns = list(range(1 << 20, (1 << 20) + tables * ENTRIES))
    random.Random(5).shuffle(pfns)
    for t in range(tables):
        yield array(
            "Q", (pfn << 12 | RW for pfn in pfns[t * ENTRIES : (t + 1) * ENTRIES])
        )


PATTERNS = {
    "zone-shared 2M": _zone_shared,
    "self-shared 2M": _self_shared,
    "zone-shared 1G": _gigantic,
    "distinct, adjoining": _adjoining,
    "distinct, scattered": _scattered,
}
