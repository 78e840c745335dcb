# SPDX-License-Identifier: LGPL-2.1-or-later
"""The judge of page tables: QEMU's walk, and bases read from the raw dump file.

Nothing here uses the tool's own reading: the address of the vmemmap is looked up as the
guest's kallsyms and QEMU's walk say, in the file as its program headers say.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from .tlb import BASE_SIZE, LARGE_SIZE, TlbLeaf
from .truth import Truth

__all__ = [
    "BASE_SIZE",
    "GIANT_SIZE",
    "KERNEL_HALF",
    "LARGE_SIZE",
    "PER_LARGE",
    "PER_VMEMMAP_PAGE",
    "STRUCT_PAGE",
    "Mapping",
    "PhysicalMemory",
    "QemuWalk",
    "Recorded",
    "Words",
]

KERNEL_HALF = 1 << 63
AFTER_VMEMMAP = 0xFFFFFE0000000000
"""CPU_ENTRY_AREA: the first thing after the vmemmap, however KASLR shuffles."""

GIANT_SIZE = 1 << 30
STRUCT_PAGE = 64
PER_LARGE = LARGE_SIZE // BASE_SIZE
PER_VMEMMAP_PAGE = BASE_SIZE // STRUCT_PAGE


@dataclass(frozen=True)
class Mapping:
    """Where a virtual address leads; *page_size* is of the leaf."""

    pa: int
    page_size: int
    writable: bool


class Words(Protocol):
    """Physical memory, a word at a time."""

    def word(self, pa: int) -> int:
        """Return the 64-bit word at *pa*."""


class Recorded(Protocol):
    """A moment of a guest of which QEMU's walk was kept."""

    def truth(self) -> Truth:
        """Return what the guest said about itself."""

    def tlb(self, start_va: int = 0, end_va: int = 1 << 64) -> Iterator[TlbLeaf]:
        """Yield the leaves of QEMU's page-table walk in [*start_va*, *end_va*)."""


class QemuWalk:
    """QEMU's ``info tlb`` of one run, and what follows from it for the vmemmap."""

    def __init__(self, run: Recorded, memory: Words) -> None:
        self._run = run
        self._memory = memory

    @cached_property
    def leaves(self) -> list[TlbLeaf]:
        """All leaves of the kernel half, by address."""
        return list(self._run.tlb(KERNEL_HALF))

    @cached_property
    def vmemmap(self) -> list[TlbLeaf]:
        """The leaves of the vmemmap, by address."""
        start, end = self.vmemmap_base, AFTER_VMEMMAP
        return [leaf for leaf in self.leaves if start <= leaf.va < end]

    @cached_property
    def vmemmap_base(self) -> int:
        """Value of the variable ``vmemmap_base``."""
        return self.variable("vmemmap_base")

    @cached_property
    def direct_map(self) -> int:
        """Value of the variable ``page_offset_base``."""
        return self.variable("page_offset_base")

    def variable(self, name: str) -> int:
        """Return the 64-bit value of kernel variable *name*."""
        address = self._run.truth().kallsyms[name]
        return self._memory.word(self.translate(address).pa)

    def translate(self, va: int) -> Mapping:
        """Return where *va* leads.

        A large page is taken for 1 GiB if nothing else is mapped in that much from it.
        :raises KeyError: if it is not mapped
        """
        index = bisect_right(self._starts, va) - 1
        leaf = self.leaves[index]
        size = BASE_SIZE
        if leaf.large:
            after = self._starts[index + 1 : index + 2] or [1 << 64]
            whole = (leaf.va | leaf.frame_pfn << 12) % GIANT_SIZE == 0
            is_giant = whole and after[0] >= leaf.va + GIANT_SIZE
            size = GIANT_SIZE if is_giant else LARGE_SIZE
        if index < 0 or va >= leaf.va + size:
            raise KeyError(f"{va:#x} is not mapped")
        return Mapping((leaf.frame_pfn << 12) + va - leaf.va, size, leaf.writable)

    @cached_property
    def mappings(self) -> Counter[int]:
        """How many vmemmap pages each frame backs; a large leaf counts 512 frames."""
        found: Counter[int] = Counter()
        for leaf in self.vmemmap:
            if leaf.large:
                found.update(range(leaf.frame_pfn, leaf.frame_pfn + PER_LARGE))
            else:
                found[leaf.frame_pfn] += 1
        return found

    @cached_property
    def readonly_only(self) -> set[int]:
        """Frames of the vmemmap that no leaf maps writable: shared tails of zones."""
        written = {leaf.frame_pfn for leaf in self.vmemmap if leaf.writable}
        return {leaf.frame_pfn for leaf in self.readonly} - written

    @cached_property
    def readonly(self) -> list[TlbLeaf]:
        """The vmemmap's leaves that may not be written."""
        return [leaf for leaf in self.vmemmap if not leaf.writable]

    @property
    def page_tables(self) -> int:
        """Last-level tables that map vmemmap."""
        return len({leaf.va // LARGE_SIZE for leaf in self.vmemmap if not leaf.large})

    def page_va(self, pfn: int) -> int:
        """Address of the struct page of *pfn*."""
        return self.vmemmap_base + pfn * STRUCT_PAGE

    def pfn(self, va: int) -> int:
        """The page frame whose struct page lies at *va*."""
        return (va - self.vmemmap_base) // STRUCT_PAGE

    def frames(self, start_pfn: int, pages: int) -> list[int]:
        """Frames behind the struct pages of *pages* from *start_pfn*, page by page."""
        first = self.page_va(start_pfn)
        return [
            self.translate(va).pa >> 12
            for va in range(first, first + pages * STRUCT_PAGE, BASE_SIZE)
        ]

    def hole(self) -> int:
        """An address in the middle of the largest hole between vmemmap leaves."""
        ends = [leaf.va + leaf.page_size for leaf in self.vmemmap]
        gaps = zip(ends, [leaf.va for leaf in self.vmemmap[1:]])
        start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
        return (start + end) // 2 // STRUCT_PAGE * STRUCT_PAGE

    @cached_property
    def _starts(self) -> list[int]:
        return [leaf.va for leaf in self.leaves]


class PhysicalMemory:
    """Words of an ELF dump by physical address, found by its PT_LOAD headers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def word(self, pa: int) -> int:
        """Return the 64-bit word at *pa*.

        :raises KeyError: if the dump does not hold it
        """
        return int.from_bytes(self.read(pa, 8), "little")

    def read(self, pa: int, length: int) -> bytes:
        """Return the bytes from *pa* on, which lie in one range of memory.

        :raises KeyError: if the dump does not hold them
        """
        with open(self._path, "rb") as file:
            for start, size, offset in self._loads(file.read(4096)):
                if start <= pa and pa + length <= start + size:
                    file.seek(offset + pa - start)
                    return file.read(length)
        raise KeyError(f"{self._path} does not hold {pa:#x}")

    @staticmethod
    def _loads(headers: bytes) -> Iterator[tuple[int, int, int]]:
        (table,) = struct.unpack_from("<Q", headers, 0x20)
        size, count = struct.unpack_from("<HH", headers, 0x36)
        for at in range(table, table + size * count, size):
            kind, _, offset, _, pa, held, _, _ = struct.unpack_from(
                "<IIQQQQQQ", headers, at
            )
            if kind == 1:
                yield pa, held, offset
