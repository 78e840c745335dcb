# SPDX-License-Identifier: LGPL-2.1-or-later
"""Between pfns, struct pages, physical and virtual addresses; all of them ints.

Named like the kernel's functions. Unlike those, and unlike macros copied into scripts,
they refuse what has no answer, and ask the page tables where arithmetic does not hold.
Knows no gdb.
"""

from __future__ import annotations

from functools import cached_property

from ..kernel.kernel import Kernel
from ..kernel.memory import KERNEL_HALF
from ..target.base import Fault
from ..target.kaslr import direct_map_base

__all__ = ["Conversions", "NoAnswer"]


class NoAnswer(Exception):
    """A question without an answer in this kernel; the text says why."""


class Conversions:
    """The conversions of one Kernel. They raise `NoAnswer` and `Fault`."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.geometry = kernel.geometry

    @cached_property
    def vmemmap_va(self) -> int:
        """Address of pfn 0's struct page."""
        return self.kernel.sections.vmemmap() or self.geometry.vmemmap_window[0]

    @cached_property
    def direct_map_va(self) -> int:
        """``PAGE_OFFSET``: where physical address 0 is mapped."""
        target = self.kernel.target
        return direct_map_base(target, target.read, target.vmcoreinfo)

    def pfn_valid(self, pfn: int) -> bool:
        """``pfn_valid``; whole sections where the map of subsections is missing."""
        try:
            return self.kernel.sections.pfn_is_valid(pfn) is not False
        except Fault:
            return True

    def pfn_to_page(self, pfn: int) -> int:
        """Address of the pfn's struct page."""
        return self.vmemmap_va + self._valid(pfn) * self.geometry.struct_page_size

    def page_to_pfn(self, page_va: int) -> int:
        """The pfn of a struct page."""
        start, end = self.geometry.vmemmap_window
        if not start <= page_va < end or page_va < self.vmemmap_va:
            raise NoAnswer(
                f"{page_va:#x} is no struct page: the vmemmap is {start:#x}-{end:#x}"
            )
        size = self.geometry.struct_page_size
        pfn, inside = divmod(page_va - self.vmemmap_va, size)
        if inside:
            raise NoAnswer(
                f"{page_va:#x} is {inside} bytes inside the struct page at "
                f"{page_va - inside:#x}"
            )
        return self._valid(pfn)

    def page_to_phys(self, page_va: int) -> int:
        """The physical address of a struct page's page."""
        return self.page_to_pfn(page_va) << self.geometry.page_shift

    def page_address(self, page_va: int) -> int:
        """Where a struct page's page lies in the direct map."""
        return self.direct_map_va + self.page_to_phys(page_va)

    def pfn_to_kaddr(self, pfn: int) -> int:
        """Where a page lies in the direct map."""
        return self.direct_map_va + (self._valid(pfn) << self.geometry.page_shift)

    def virt_to_phys(self, va: int) -> int:
        """The physical address behind a kernel virtual address.

        By arithmetic in the direct map and the kernel image, as the kernel has it; by
        the page tables elsewhere (vmalloc, modules, vmemmap, per-CPU).
        """
        if va < KERNEL_HALF:
            raise NoAnswer(f"{va:#x} is a user's address, not the kernel's")
        pa = self._linear(va)
        if pa is not None:
            return pa
        found = self.kernel.page_table.translate(va)
        if found is None:
            raise NoAnswer(f"{va:#x}: the kernel's page tables do not map it")
        return found.pa

    def virt_to_pfn(self, va: int) -> int:
        """The pfn behind a kernel virtual address."""
        return self.virt_to_phys(va) >> self.geometry.page_shift

    def virt_to_page(self, va: int) -> int:
        """Address of the struct page of the page behind a kernel virtual address."""
        return self.pfn_to_page(self.virt_to_pfn(va))

    def sym_to_pfn(self, va: int) -> int:
        """The pfn behind a symbol's address."""
        return self.virt_to_pfn(va)

    def _valid(self, pfn: int) -> int:
        if not self.pfn_valid(pfn):
            raise NoAnswer(f"pfn {pfn:#x} has no struct page: {self._why(pfn)}")
        return pfn

    def _why(self, pfn: int) -> str:
        number = pfn // self.geometry.pages_per_section
        section = self.kernel.sections.get(number)
        if section is None:
            return f"there is no section {number}"
        if not section.has_mem_map:
            return f"section {number} has no mem_map"
        return f"its subsection of section {number} is not there"

    def _linear(self, va: int) -> int | None:
        """By arithmetic, None where that does not hold."""
        try:
            pa = va - self.direct_map_va
        except Fault:
            pa = -1  # the variable that tells is missing; the page tables know as well
        if pa >= 0 and self.pfn_valid(pa >> self.geometry.page_shift):
            return pa
        start, end = self._image
        if start <= va < end:
            return va - start + self._image_pa
        return None

    @cached_property
    def _image(self) -> tuple[int, int]:
        """Addresses of the kernel image; empty where it is not known."""
        symbol = self.kernel.target.symbol
        start, end = symbol("_text") or symbol("_stext"), symbol("_end")
        if start is None or end is None:
            return 0, 0
        found = self.kernel.page_table.translate(start)
        return (0, 0) if found is None else (start, end)

    @cached_property
    def _image_pa(self) -> int:
        """Physical address of the image's first byte; it lies in one piece."""
        found = self.kernel.page_table.translate(self._image[0])
        assert found is not None
        return found.pa
