# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small machine made by hand: 256 MiB in two sections, one node, one HVO folio.

The vmemmap of the first section is a 2 MiB leaf; that of the second is a PTE table,
whose first eight entries show the folio: a page of its own for the head, seven times
the zone's shared tail. It judges the writers without the simulated machine's help.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from vmemmap_tools.formats.core_write import Buffer
from vmemmap_tools.model.arch import ArchModel, arch_model
from vmemmap_tools.model.layouts import load
from vmemmap_tools.model.types import TypeGraph

__all__ = [
    "HEAD_PFN",
    "IMAGE_PA",
    "PAGE",
    "RAM",
    "TAIL_PA",
    "VMEMMAP_PA",
    "HandMade",
    "HandMemory",
    "HandSymbol",
]

RAM = 256 << 20
PAGE = 4096
IMAGE_PA = 0x1000000
VMEMMAP_PA = 64 << 20
TAIL_PA = 80 << 20
HEAD_PFN = 0x8000
TABLES_PA = 32 << 20
NX = 1 << 63


@dataclass(frozen=True)
class HandSymbol:
    address: int
    size: int
    kind: str
    type: str | None
    static: bool = False


class HandMemory:
    """Pages in a dict; neighbours come out as one piece."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.ranges = [(0, RAM)]

    def write(self, pa: int, data: bytes) -> None:
        for position, byte_pa in enumerate(range(pa, pa + len(data))):
            page = self.pages.setdefault(byte_pa // PAGE, bytearray(PAGE))
            page[byte_pa % PAGE] = data[position]

    def read(self, pa: int, size: int) -> bytes:
        first, last = pa // PAGE, -(-(pa + size) // PAGE)
        empty = bytearray(PAGE)
        data = b"".join(self.pages.get(n, empty) for n in range(first, last))
        return data[pa % PAGE : pa % PAGE + size]

    def chunks(self, start: int, end: int) -> Iterator[tuple[int, Buffer | None]]:
        position = start
        for number in sorted(self.pages):
            if start <= number * PAGE < end:
                if number * PAGE > position:
                    yield position, None
                yield number * PAGE, bytes(self.pages[number])
                position = (number + 1) * PAGE
        if position < end:
            yield position, None


@dataclass
class HandMade:
    """The machine: implements what model.write calls an Image."""

    generation: str
    kaslr_offset: int = 0
    slide: int = 0
    levels: int = 4
    memory: HandMemory = field(default_factory=HandMemory)
    symbols: dict[str, HandSymbol] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types: TypeGraph = load(self.generation)
        self.arch: ArchModel = arch_model("x86_64")
        self.release = f"{self.generation}.0-model"
        self.phys_base = self.slide - self.kaslr_offset
        space = self.arch.spaces[self.levels]
        self.page_offset, self.vmemmap = space.page_offset, space.vmemmap_base
        self._next_va = self.arch.image_va + (1 << 20)
        self._next_table = TABLES_PA + self.slide
        self._build(space.max_physmem_bits)

    def place(
        self,
        name: str,
        type_text: str | None,
        data: bytes = b"",
        size: int = 0,
        kind: str = "object",
        static: bool = False,
    ) -> int:
        """Give a variable an address and content; returns its physical address."""
        size = size or self.types.sizeof(str(type_text))
        address = self._next_va
        self._next_va = -(-(address + size) // PAGE) * PAGE
        self.symbols[name] = HandSymbol(address, size, kind, type_text, static)
        pa = address - self.arch.image_map + self.slide
        self.memory.write(pa, data)
        return pa

    def number(self, pa: int, path: str, value: int) -> None:
        member = self.types.member(path)
        data = (value & (1 << 64) - 1).to_bytes(8, "little")[: member.size]
        self.memory.write(pa + member.offset, data)

    def page_pa(self, pfn: int) -> int:
        return VMEMMAP_PA + self.slide + 64 * pfn

    def map(self, va: int, pa: int, level: int, flags: int) -> None:
        """One leaf at a level, with the tables above it."""
        table, shift = self.root, 0
        for step in range(self.levels, level, -1):
            shift = 12 + 9 * (step - 1)
            slot = table + 8 * (va >> shift & 511)
            entry = int.from_bytes(self.memory.read(slot, 8), "little")
            if not entry:
                entry = self._next_table | 0x67
                self._next_table += PAGE
                self.memory.write(slot, entry.to_bytes(8, "little"))
                self.memory.write(entry & ~0xFFF, bytes(PAGE))
            table = entry & ~0xFFF
        slot = table + 8 * (va >> 12 + 9 * (level - 1) & 511)
        self.memory.write(slot, (pa | flags).to_bytes(8, "little"))

    def _build(self, physmem_bits: int) -> None:
        word = struct.Struct("<Q").pack
        graph = self.types
        for name in ("_text", "_stext"):
            self.symbols[name] = HandSymbol(self.arch.image_va, 0, "notype", None)
        self.root = self.place("init_top_pgt", None, size=2 * PAGE)
        table = self.symbols["init_top_pgt"].address
        self.symbols["swapper_pg_dir"] = HandSymbol(table, 0, "notype", None)
        self.place("vmemmap_populate", None, size=64, kind="func")
        banner = f"Linux version {self.release} (hand)\n\0".encode()
        self.place("linux_banner", f"char [{len(banner)}]", banner)
        uts = self.place("init_uts_ns", "struct uts_namespace")
        at = graph.offsetof("uts_namespace.name.release")
        self.memory.write(uts + at, self.release.encode())
        self.place("page_offset_base", "unsigned long", word(self.page_offset))
        self.place("vmemmap_base", "unsigned long", word(self.vmemmap))
        self.place("nr_memmap_pages", "atomic_long_t", word(1024), static=True)
        self.place("__highest_present_section_nr", "unsigned long", word(1))
        mm = self.place("init_mm", "struct mm_struct")
        root_va = table + self.kaslr_offset
        self.number(mm, "mm_struct.pgd", root_va)
        self._sections(physmem_bits)
        self._node()
        self._mappings()
        self._folio()
        self.facts |= {
            "levels": self.levels,
            "page_offset": self.page_offset,
            "vmemmap": self.vmemmap,
            "section_size_bits": 27,
            "max_physmem_bits": physmem_bits,
            "node_data_length": 1024,
        }

    def _sections(self, physmem_bits: int) -> None:
        roots, root, usage = (48 << 20) + self.slide, 49 << 20, 50 << 20
        size = self.types.sizeof("struct mem_section")
        self.memory.write(roots, (self.page_offset + root).to_bytes(8, "little"))
        for nr in range(2):
            pa = root + nr * size
            self.number(pa, "mem_section.section_mem_map", self.vmemmap | 0xF)
            self.number(pa, "mem_section.usage", self.page_offset + usage)
        value = self.page_offset + roots
        self.facts["mem_section"] = value
        self.place("mem_section", "struct mem_section **", struct.pack("<Q", value))

    def _node(self) -> None:
        node = 51 << 20
        self.number(node, "pglist_data.nr_zones", 3)
        self.number(node, "pglist_data.node_spanned_pages", RAM // PAGE)
        self.zone_pa = node + self.types.offsetof("pglist_data.node_zones[2]")
        self.number(self.zone_pa, "zone.spanned_pages", RAM // PAGE)
        address = struct.pack("<Q", self.page_offset + node)
        self.place("node_data", "struct pglist_data *[1024]", address)
        self.place("node_states", "nodemask_t [6]", b"\1" + bytes(127) + b"\1")

    def _mappings(self) -> None:
        image_va = self.arch.image_va + self.kaslr_offset
        for step in range(0, 8 << 20, 2 << 20):
            self.map(image_va + step, IMAGE_PA + self.slide + step, 2, 0x1E3)
        for step in range(0, RAM, 2 << 20):
            self.map(self.page_offset + step, step, 2, 0x1E3 | NX)
        self.map(self.vmemmap, VMEMMAP_PA + self.slide, 2, 0x1E3 | NX)
        second = self.vmemmap + (2 << 20)
        for index in range(512):
            pa, flags = VMEMMAP_PA + self.slide + (2 << 20) + PAGE * index, 0x163 | NX
            if 0 < index < 8:
                pa, flags = TAIL_PA, 0x121 | NX
            self.map(second + PAGE * index, pa, 1, flags)

    def _folio(self) -> None:
        graph = self.types
        head = self.page_pa(HEAD_PFN)
        flags = 1 << graph.enumerator("PG_head")
        self.number(head, "page.flags", flags)
        self.number(head + 64, "page.flags", 9)
        mask = (-1 << 9 + 6 | 1) & (1 << 64) - 1
        word = "compound_info"
        if not graph.has("page.compound_info"):
            word, mask = "compound_head", (self.vmemmap + 64 * HEAD_PFN) | 1
        for index in range(1, 64):
            self.number(head + 64 * index, f"page.{word}", mask)
        for index in range(64):
            self.number(TAIL_PA + 64 * index, f"page.{word}", mask)
