# SPDX-License-Identifier: LGPL-2.1-or-later
"""The image under construction: memory, symbols, heap, and where objects ended up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmemmap_tools.model.memory import PhysicalMemory
from vmemmap_tools.model.objects import Heap, ImageSymbol, Object, Symbols
from vmemmap_tools.model.pagetables import PageTables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmemmap_tools.model.machine import Machine

__all__ = ["Image"]


class Image:
    """What a writer needs of a machine, and what a fault needs to find things."""

    def __init__(self, machine: Machine) -> None:
        core = machine.core
        placement = core.placement
        self.machine = machine
        self.core = core
        self.types = core.types
        self.arch = core.arch
        self.generation = core.generation.name
        self.release = machine.release
        self.kaslr_offset = placement.kaslr_offset
        self.phys_base = placement.phys_base
        self.encryption = core.arch.sme_mask if machine.sme else 0
        self.memory = PhysicalMemory(machine.dumped_ranges(), core.arch.page_shift)
        page = core.arch.page_size
        start, end = machine.boot.heap
        self.heap = Heap(
            self.memory, self.types, start * page, end * page, placement.page_offset
        )
        slide = placement.phys_slide
        self._symbols = Symbols(
            self.memory,
            self.types,
            core.arch.image_va + (1 << 20),
            slide - core.arch.image_map,
            placement.kaslr_offset,
        )
        root = self._symbols.place(
            core.arch.root_symbol, None, 2 * page, align=2 * page
        )
        self.tables = PageTables(
            self.memory,
            core.arch,
            core.arch.pte_flags[core.generation.pte_flags],
            placement.space.levels,
            root.pa // page,
            self.heap.page,
            self.encryption,
        )
        self.root_va = root.va
        self.nodes: dict[int, Object] = {}
        self.zones: dict[tuple[int, int], Object] = {}
        self.sections: dict[int, Object] = {}
        self.usages: dict[int, Object] = {}
        self.slabs: list[int] = []
        """Frames of the heap that stand for kmalloc()ed memory."""
        self.slab_used = 0
        """Bytes of the last of them that are taken."""
        self.hstates: list[Object] = []
        self.pgmaps: dict[str, Object] = {}
        self.dax_devices: dict[str, Object] = {}
        self.dax_ranges: dict[str, Object] = {}
        self.variables: dict[str, Object] = {}
        self.mms: list[Object] = []
        self.pgds: list[int] = []
        """Frames of the other mms' top-level tables."""
        self.facts: dict[str, int] = {}

    @property
    def symbols(self) -> Mapping[str, ImageSymbol]:
        return self._symbols.table

    @property
    def layout(self) -> Symbols:
        """For the rooms that place variables."""
        return self._symbols

    def direct(self, pfn: int) -> int:
        """Direct-map address of a frame."""
        return self.core.placement.page_offset + pfn * self.arch.page_size

    def page_va(self, pfn: int) -> int:
        """Address of the struct page of ``pfn``."""
        size = self.types.sizeof("struct page")
        return self.core.placement.vmemmap_base + pfn * size

    def page_pa(self, pfn: int) -> int:
        """Physical address of the struct page of ``pfn``, through the ledger."""
        vmemmap = self.core.vmemmap
        page = vmemmap.page_of(pfn)
        frame = self.frame_of(page)
        size = self.types.sizeof("struct page")
        return frame * self.arch.page_size + (pfn % vmemmap.spp) * size

    def page(self, pfn: int) -> Object:
        """The struct page of ``pfn``."""
        return Object(
            self.memory, self.types, "page", self.page_pa(pfn), self.page_va(pfn)
        )

    def frame_of(self, vmemmap_page: int) -> int:
        """The frame behind a vmemmap page, by the ledger; ValueError if unmapped."""
        vmemmap = self.core.vmemmap
        frames, _ = vmemmap.frames(vmemmap_page, vmemmap_page + 1)
        if not len(frames):
            raise ValueError(f"vmemmap page {vmemmap_page:#x} is not mapped")
        return int(frames[0])

    def pte_pa(self, vmemmap_page: int) -> int:
        """Physical address of the PTE of a vmemmap page in a PTE-mapped block."""
        vmemmap = self.core.vmemmap
        block, index = divmod(vmemmap_page, vmemmap.entries)
        return vmemmap.tables[block] * self.arch.page_size + 8 * index

    def vmemmap_va(self, vmemmap_page: int) -> int:
        """Address of a vmemmap page."""
        base = self.core.placement.vmemmap_base
        return base + vmemmap_page * self.arch.page_size

    def read64(self, pa: int) -> int:
        return int.from_bytes(self.memory.read(pa, 8), "little")

    def write64(self, pa: int, value: int) -> None:
        self.memory.write(pa, (value & (1 << 64) - 1).to_bytes(8, "little"))

    def late_facts(self) -> dict[str, int]:
        """What VMCOREINFO says besides types and symbols."""
        core = self.core
        space = core.placement.space
        sections = 1 << (space.max_physmem_bits - core.arch.section_size_bits)
        per_root = core.arch.page_size // self.types.sizeof("struct mem_section")
        roots = -(-sections // per_root)
        return {
            "levels": space.levels,
            "sme_mask": self.encryption,
            "vmemmap": core.placement.vmemmap_base,
            "page_offset": core.placement.page_offset,
            "vmalloc_start": core.placement.vmalloc_base,
            "section_size_bits": core.arch.section_size_bits,
            "max_physmem_bits": space.max_physmem_bits,
            "section_roots": roots,
            "node_data_length": self.types.array_length("hstate.nr_huge_pages_node"),
            "root_va": self.root_va - core.placement.kaslr_offset,
        }
