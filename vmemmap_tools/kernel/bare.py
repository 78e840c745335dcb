# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a kernel shows where its types are unknown, and VMCOREINFO is all there is.

May import ``target`` only. mem_section tells where the vmemmap begins, and how many low
bits of its words are flags: all sections decode to one aligned address, or the guess
was wrong. Tails tell by their content whether they name their head by a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Callable

from ..target.base import Fault, Target

__all__ = [
    "NO_TYPES",
    "MemMapBase",
    "find_mem_map_base",
    "finds_pointers",
    "types_are_known",
]

NO_TYPES = "VMCOREINFO alone does not describe them"
"""Why a part of a kernel without types is unknown."""

LAST_BITS = (4, 5, 6)
"""SECTION_MAP_LAST_BIT of the kernels there are."""
HAS_MEM_MAP = 1 << 1
MAX_SECTIONS = 1 << 12
"""Sections that are looked at: all but of the largest machines."""
MAX_ROOTS = 1 << 17
MAX_TAILS = 1 << 10


def types_are_known(target: Target) -> bool:
    """Whether this target knows the kernel's structs, and not a few offsets only."""
    return target.struct("zone") is not None


@dataclass(frozen=True)
class MemMapBase:
    """Address of pfn 0's struct page, and the number of flag bits below it."""

    address: int
    last_bit: int


def find_mem_map_base(target: Target, alignment: int) -> MemMapBase | None:
    """The base that all sections agree on, with the fewest flag bits that allow it."""
    words = set(islice(_words(target), MAX_SECTIONS))
    for last_bit in LAST_BITS:
        bases = {word >> last_bit << last_bit for word in words}
        if len(bases) == 1 and not min(bases) % alignment:
            return MemMapBase(bases.pop(), last_bit)
    return None


def _words(target: Target) -> Iterator[int]:
    """``section_mem_map`` of the sections that have a mem_map."""
    struct = target.struct("mem_section")
    if struct is None:
        return
    at = struct.offset("section_mem_map")
    for address, count in _entries(target, struct.size):
        try:
            data = target.read(address, count * struct.size)
        except Fault:
            continue
        for start in range(at, len(data), struct.size):
            word = int.from_bytes(data[start : start + 8], target.byteorder)
            if word & HAS_MEM_MAP:
                yield word


def _entries(target: Target, size: int) -> Iterator[tuple[int, int]]:
    """(address, number) of neighbouring entries: roots, or the table itself."""
    page_size = int(target.vmcoreinfo.get("PAGESIZE", "4096"), 0)
    length = int(target.vmcoreinfo.get("LENGTH(mem_section)", "0"), 0)
    array = target.vmcoreinfo.get("SYMBOL(mem_section)")
    if array is None or not 0 < size <= page_size:
        return
    address, variable = int(array, 16), target.variable("mem_section")
    if variable is not None and variable.type.kind == "array":
        step = page_size // size
        for first in range(0, min(length, MAX_ROOTS * step), step):
            yield address + first * size, min(step, length - first)
        return
    for first in range(0, min(length, MAX_ROOTS), page_size // 8):
        number = min(page_size // 8, length - first)
        try:
            data = target.read(address + 8 * first, 8 * number)
        except Fault:
            continue
        for start in range(0, len(data), 8):
            root = int.from_bytes(data[start : start + 8], target.byteorder)
            if root:
                yield root, page_size // size


def finds_pointers(
    blocks: Callable[[], Iterator[bytes]],
    word_at: int,
    size: int,
    window: tuple[int, int],
    byteorder: str,
) -> bool | None:
    """Whether tails among these struct pages point to their head; None without tails.

    ``blocks`` gives bytes of whole struct pages. The other form, a mask, has its upper
    bits set and so lies above every vmemmap.
    """
    order = "little" if byteorder == "little" else "big"
    inside = outside = 0
    for data in blocks():
        for start in range(word_at, len(data) - 7, size):
            word = int.from_bytes(data[start : start + 8], order)  # type: ignore[arg-type]
            if word & 1 and word + 1 < 1 << 64:
                inside += window[0] <= word - 1 < window[1]
                outside += word >> 34 == (1 << 30) - 1
        if inside + outside >= MAX_TAILS:
            break
    if not inside + outside:
        return None
    return inside > outside
