# SPDX-License-Identifier: LGPL-2.1-or-later
"""For scripts that used ``from linux.mm import page_ops``: the same names, checked.

``page_ops().ops`` has the methods and sizes that scripts know from the kernel's
scripts/gdb, those that slab.py, vmalloc.py and page_owner.py use included. Pages go in
as pointers or numbers and come out as ``struct page *``. What was a macro copied by
hand there is read from the kernel here, once for each reading.
"""

from __future__ import annotations

from typing import Any

import gdb

from ..kernel.sections import Section
from ..target.gdb import kernel_type
from .conversions import Conversions, NoAnswer
from .expressions import number_of
from .functions import typed
from .lx import conversions
from .reading import one_line_errors

__all__ = ["DIV_ROUND_UP", "PageOps", "page_ops", "test_bit"]

MASK_64 = (1 << 64) - 1
VMALLOC_BYTES = {4: 32 << 40, 5: 12800 << 40}
"""x86-64, by page-table levels (``VMALLOC_SIZE_TB_L4``, ``_L5``)."""


def DIV_ROUND_UP(n: int, d: int) -> int:
    """``DIV_ROUND_UP``: n / d, rounded up."""
    return -(-n // d)


def test_bit(nr: int, addr: Any) -> bool:
    """``test_bit``: whether a bit is set in the array of words that ``addr`` names.

    ``addr`` is a pointer to the first word or the array itself.
    """
    bits = 8 * addr.type.strip_typedefs().target().sizeof
    return bool(int(addr[nr // bits]) >> nr % bits & 1)


class page_ops:
    """What scripts make: ``page_ops().ops``."""

    def __init__(self) -> None:
        with one_line_errors("page_ops"):
            self.ops = PageOps(conversions())


class PageOps:
    """Conversions and sizes of the kernel that gdb has open.

    Methods raise `NoAnswer` where there is none, for example for a pfn without struct
    page, and `Fault` for what a dump lacks.
    """

    def __init__(self, of: Conversions):
        self._of = of
        kernel, geometry = of.kernel, of.geometry
        sections = kernel.sections
        self.PAGE_SHIFT = geometry.page_shift
        self.PAGE_SIZE = geometry.page_size
        self.PAGE_MASK = ~(geometry.page_size - 1) & MASK_64
        self.SECTION_SIZE_BITS = geometry.section_size_bits
        self.MAX_PHYSMEM_BITS = geometry.max_physmem_bits
        self.SECTIONS_SHIFT = geometry.max_physmem_bits - geometry.section_size_bits
        self.NR_MEM_SECTIONS = geometry.section_count
        self.PFN_SECTION_SHIFT = geometry.section_size_bits - geometry.page_shift
        self.PAGES_PER_SECTION = geometry.pages_per_section
        self.PAGE_SECTION_MASK = ~(geometry.pages_per_section - 1) & MASK_64
        self.PAGES_PER_SUBSECTION = geometry.pages_per_subsection
        self.PFN_SUBSECTION_SHIFT = geometry.pages_per_subsection.bit_length() - 1
        self.SUBSECTION_SHIFT = self.PFN_SUBSECTION_SHIFT + geometry.page_shift
        self.SECTIONS_PER_ROOT = sections.per_root
        self.NR_SECTION_ROOTS = DIV_ROUND_UP(geometry.section_count, sections.per_root)
        self.SECTION_HAS_MEM_MAP = _flag(sections.flags.has_mem_map)
        self.SECTION_IS_EARLY = _flag(sections.flags.is_early)
        self.struct_page_size = geometry.struct_page_size
        self.STRUCT_PAGE_MAX_SHIFT = (geometry.struct_page_size - 1).bit_length()
        self.PAGE_OFFSET = of.direct_map_va
        self.VMEMMAP_START, self.VMEMMAP_END = geometry.vmemmap_window
        self.VMEMMAP_SIZE = self.VMEMMAP_END - self.VMEMMAP_START
        self.vmemmap = typed(of.vmemmap_va, "page")

    # Pages

    def pfn_to_page(self, pfn: Any) -> Any:
        return typed(self._of.pfn_to_page(_number(pfn)), "page")

    def page_to_pfn(self, page: Any) -> int:
        return self._of.page_to_pfn(_number(page))

    def page_to_phys(self, page: Any) -> int:
        return self._of.page_to_phys(_number(page))

    def page_to_virt(self, page: Any) -> int:
        return self._of.page_address(_number(page))

    page_address = page_to_virt

    def folio_address(self, folio: Any) -> int:
        """A folio by value, as ``folio_ptr.dereference()``."""
        return self._of.page_address(_number(folio["page"].address))

    # Addresses

    def virt_to_phys(self, va: Any) -> int:
        return self._of.virt_to_phys(_number(va))

    def virt_to_pfn(self, va: Any) -> int:
        return self._of.virt_to_pfn(_number(va))

    def virt_to_page(self, va: Any) -> Any:
        return typed(self._of.virt_to_page(_number(va)), "page")

    def sym_to_pfn(self, va: Any) -> int:
        return self._of.sym_to_pfn(_number(va))

    def pfn_to_kaddr(self, pfn: Any) -> int:
        return self._of.pfn_to_kaddr(_number(pfn))

    def kasan_reset_tag(self, va: Any) -> Any:
        """The address itself: x86-64 has no tag-based KASAN."""
        return va

    def PFN_PHYS(self, pfn: int) -> int:
        return pfn << self.PAGE_SHIFT

    def PHYS_PFN(self, phys: int) -> int:
        return phys >> self.PAGE_SHIFT

    def is_vmalloc_addr(self, va: Any) -> bool:
        """Whether an address lies in the vmalloc area; x86-64 only."""
        start, end = self._vmalloc()
        return start <= _number(va) < end

    @property
    def VMALLOC_START(self) -> int:
        return self._vmalloc()[0]

    @property
    def VMALLOC_END(self) -> int:
        """The first address behind the vmalloc area."""
        return self._vmalloc()[1]

    @property
    def KERNEL_START(self) -> int:
        """``_text``"""
        return self._symbol("_text")

    @property
    def KERNEL_END(self) -> int:
        """``_end``"""
        return self._symbol("_end")

    def _symbol(self, name: str) -> int:
        address = self._of.kernel.target.symbol(name)
        if address is None:
            raise NoAnswer(f"no symbol {name!r} in this kernel")
        return address

    def _vmalloc(self) -> tuple[int, int]:
        kernel = self._of.kernel
        start = kernel.target.unsigned("vmalloc_base")
        size = VMALLOC_BYTES.get(self._of.geometry.levels)
        if start is None or size is None or self._of.geometry.arch.name != "x86_64":
            raise NoAnswer("where vmalloc begins is not known: no vmalloc_base")
        page = kernel.target.struct("page")
        if page is not None and "kmsan_shadow" in page:
            size //= 4  # KMSAN keeps shadows in the rest
        return start, start + size

    # Nodes

    @property
    def MAX_NUMNODES(self) -> int:
        """Nodes that the kernel was built for; 1 without NUMA."""
        target = self._of.kernel.target
        node_data = target.variable("node_data")
        if node_data is not None and node_data.type.length:
            return node_data.type.length
        if target.variable("contig_page_data") is not None:
            return 1
        raise NoAnswer("the number of nodes is not known: no variable node_data")

    @property
    def NODE_SHIFT(self) -> int:
        return self.MAX_NUMNODES.bit_length() - 1

    # Sections

    @property
    def SECTION_ROOT_MASK(self) -> int:
        """Only where the number of sections of a root is a power of two."""
        if self.SECTIONS_PER_ROOT & (self.SECTIONS_PER_ROOT - 1):
            raise AttributeError(
                "this kernel has no SECTION_ROOT_MASK: a root has "
                f"{self.SECTIONS_PER_ROOT} sections"
            )
        return self.SECTIONS_PER_ROOT - 1

    def pfn_valid(self, pfn: Any) -> bool:
        return self._of.pfn_valid(_number(pfn))

    def pfn_to_section_nr(self, pfn: int) -> int:
        return pfn >> self.PFN_SECTION_SHIFT

    def section_nr_to_pfn(self, nr: int) -> int:
        return nr << self.PFN_SECTION_SHIFT

    def SECTION_NR_TO_ROOT(self, nr: int) -> int:
        return nr // self.SECTIONS_PER_ROOT

    def nr_to_section(self, nr: int) -> Any:
        """A struct mem_section by value, None for a section that is not there."""
        section = self._of.kernel.sections.get(nr)
        if section is None:
            return None
        type_ = kernel_type("struct mem_section")
        if type_ is None:
            raise NoAnswer("gdb has no type struct mem_section: symbol-file VMLINUX")
        return gdb.Value(self._of.kernel.memory.read(section.va, type_.sizeof), type_)

    def pfn_to_section(self, pfn: Any) -> Any:
        return self.nr_to_section(self.pfn_to_section_nr(_number(pfn)))

    def subsection_map_index(self, pfn: int) -> int:
        return (pfn & ~self.PAGE_SECTION_MASK) // self.PAGES_PER_SUBSECTION

    def pfn_section_valid(self, pfn: Any) -> bool:
        """Whether a pfn's subsection is there, be its section early or not."""
        section = self._section(_number(pfn))
        if section is None:
            return False
        bits = self._of.kernel.sections.subsection_map(section)
        if bits is None:
            raise NoAnswer("this kernel's map of subsections is not known")
        return bool(bits >> self.subsection_map_index(_number(pfn)) & 1)

    def valid_section(self, section: Any) -> bool:
        return section is not None and bool(
            int(section["section_mem_map"]) & self.SECTION_HAS_MEM_MAP
        )

    def early_section(self, section: Any) -> bool:
        return section is not None and bool(
            int(section["section_mem_map"]) & self.SECTION_IS_EARLY
        )

    def _section(self, pfn: int) -> Section | None:
        return self._of.kernel.sections.of_pfn(pfn)

    @property
    def MAX_ORDER(self) -> int:
        """``MAX_PAGE_ORDER``: the largest order of the buddy allocator."""
        zone = self._of.kernel.target.struct("zone")
        length = zone["free_area"].length if zone and "free_area" in zone else None
        if length is None:
            raise NoAnswer("the number of orders is not known: no zone.free_area")
        return length - 1

    @property
    def MAX_ORDER_NR_PAGES(self) -> int:
        return 1 << self.MAX_ORDER


def _flag(bit: int | None) -> int:
    if bit is None:
        raise NoAnswer("the flags of section_mem_map are not known")
    return 1 << bit


def _number(value: Any) -> int:
    return number_of(value) if isinstance(value, gdb.Value) else int(value)
