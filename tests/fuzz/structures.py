# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged structures of a kernel's memory, of each kind that the tool follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.model.kernels import varied
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.image import Image

from .damage import damaged_word
from .subject import Patches, Subject, Words

__all__ = ["Structures", "regions"]

PAGE = 4096
ADDRESS_MASK = 0x000FFFFFFFFFF000

Region = tuple[int, int]
"""(physical address, bytes) of a structure."""


class Structures(Subject):
    """A dump of a machine with everything; words of its structures are changed."""

    def __init__(self, folder: Path, generation: str):
        machine = varied(generation)
        machine.write(folder)
        self._file = Patches(folder / "vmcore")
        self._vmlinux = folder / "vmlinux"
        with Elf(self._file.path) as elf:
            self._loads = [(s.pa, s.file_size, s.offset) for s in elf.loads()]
        image = machine.image()
        self._regions = regions(image)
        self._pointers = _pointers(image, self._regions)

    def sound(self) -> Words:
        return ("-c", str(self._file.path), "-s", str(self._vmlinux))

    def damage(self, draw: Random) -> Words:
        self._file.restore()
        for _ in range(draw.randint(1, 6)):
            pa, size = draw.choice(self._regions[draw.choice(sorted(self._regions))])
            slot = draw.randrange(max(1, min(size, PAGE) // 8))
            count = min(draw.choice((1, 1, 1, 8, 512)), max(1, size // 8 - slot))
            at = self._offset(pa + 8 * slot)
            old = int.from_bytes(self._file.read(at, 8), "little")
            word = damaged_word(draw, old, self._pointers)
            self._file.write(at, word.to_bytes(8, "little") * count)
        return self.sound()

    def _offset(self, pa: int) -> int:
        """Where a physical address stands in the file."""
        return next(
            offset + pa - start
            for start, size, offset in self._loads
            if start <= pa < start + size
        )


def regions(image: Image) -> dict[str, list[Region]]:
    """The structures that verbs follow, by kind."""
    sizeof = image.types.sizeof
    found: dict[str, list[Region]] = {
        "tables": [(pa, PAGE) for pa in _tables(image)],
        "mem_section": [
            (s.pa, sizeof("struct mem_section")) for s in image.sections.values()
        ],
        "usage": [(u.pa, 64) for u in image.usages.values()],
        "hstates": [(h.pa, sizeof(f"struct {h.tag}")) for h in image.hstates],
        "zones": [(z.pa, sizeof("struct zone")) for z in image.zones.values()],
        "nodes": [(n.pa, 256) for n in image.nodes.values()],
        "pgmaps": [(p.pa, sizeof("struct dev_pagemap")) for p in image.pgmaps.values()],
        "xarray": list(_xarray(image)),
        "variables": [
            (_image_pa(image, symbol.address + image.kaslr_offset), max(8, symbol.size))
            for symbol in image.symbols.values()
            if symbol.kind == "object" and symbol.size <= PAGE
        ],
        "struct pages": [
            (image.page_pa(int(pfn)), 4 * sizeof("struct page"))
            for pfn in image.machine.hugetlb.table["pfn"][::5]
        ],
    }
    return {kind: some for kind, some in found.items() if some}


def _pointers(image: Image, found: dict[str, list[Region]]) -> list[int]:
    """Words that lead somewhere: what a structure may be made to point at."""
    direct = [image.direct(0) + pa for some in found.values() for pa, _ in some[:4]]
    pages = [image.page_va(pfn) for pfn in (0, 0x100000, 0x200000)]
    entries = [pa | 0x63 for pa, _ in found["tables"][:8]]
    return [*direct, *pages, *entries, *(entry | 1 << 7 for entry in entries)]


def _tables(image: Image) -> Iterator[int]:
    """Tables of every level that the vmemmap hangs below."""
    pa = _image_pa(image, image.root_va)
    start = image.core.placement.vmemmap_base
    for shift in range(12 + 9 * (image.late_facts()["levels"] - 1), 12, -9):
        yield pa
        pa = image.read64(pa + 8 * (start >> shift & 511)) & ADDRESS_MASK
        if not pa:
            break
    yield from (frame * PAGE for frame in image.core.vmemmap.tables.values())


def _xarray(image: Image) -> Iterator[Region]:
    """The top of pgmap_array and its first node."""
    symbol = image.symbols.get("pgmap_array")
    if symbol is None:
        return
    root = _image_pa(image, symbol.address + image.kaslr_offset)
    yield root, 16
    head = image.read64(root + image.types.offsetof("xarray.xa_head")) & ~3
    if head:
        yield head - image.heap.offset, image.types.sizeof("struct xa_node")


def _image_pa(image: Image, va: int) -> int:
    """Physical address of what lies in the kernel image."""
    return va + image.phys_base - image.arch.image_map
