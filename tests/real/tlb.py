# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's ``info tlb``: a walk of the guest's page tables that is not ours.

One line per leaf, user half first::

    ffffea0000000000: 000000017b400000 XGPDA---W

The flag columns are X (no-execute), G, P (large page), D, A, C, T, U, W.  A large page
of the vmemmap is always 2 MiB; elsewhere P does not tell 2 MiB from 1 GiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BASE_SIZE", "LARGE_SIZE", "TlbLeaf", "parse_tlb", "read_tlb"]

BASE_SIZE = 1 << 12
LARGE_SIZE = 1 << 21

_PHYSICAL_MASK = (1 << 52) - 1


@dataclass(frozen=True)
class TlbLeaf:
    """One leaf of the page tables that CPU 0 uses."""

    __slots__ = ("flags", "frame_pfn", "large", "va", "writable")

    va: int
    frame_pfn: int
    large: bool
    writable: bool
    flags: str

    @property
    def page_size(self) -> int:
        """Bytes mapped, taking a large page for one of 2 MiB."""
        return LARGE_SIZE if self.large else BASE_SIZE


def read_tlb(path: Path, start_va: int = 0, end_va: int = 1 << 64) -> Iterator[TlbLeaf]:
    """Yield the leaves of file *path* that lie in [*start_va*, *end_va*)."""
    with open(path) as lines:
        yield from parse_tlb(lines, start_va, end_va)


def parse_tlb(
    lines: Iterable[str], start_va: int = 0, end_va: int = 1 << 64
) -> Iterator[TlbLeaf]:
    """Yield the leaves of these lines that lie in [*start_va*, *end_va*)."""
    for line in lines:
        va_text, _, rest = line.partition(": ")
        words = rest.split()
        if len(words) != 2:
            continue
        va = int(va_text, 16)
        if start_va <= va < end_va:
            frame_pfn = (int(words[0], 16) & _PHYSICAL_MASK) >> 12
            flags = words[1]
            yield TlbLeaf(va, frame_pfn, flags[2] == "P", flags[8] == "W", flags)
