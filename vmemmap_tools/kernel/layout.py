# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sizes, bases and flag bits of this kernel, each decided once and from evidence.

May import ``target`` and ``arch``. No kernel release is ever compared: stable and
vendor kernels backport freely, so every decision stands on a type or a symbol.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..arch import ARCHITECTURES, Architecture, Fact
from ..arch.pagetable import PageTable, PageTableFormat, ReadPhysical
from ..target.base import Fault, Struct, Target, TargetError
from .bare import find_mem_map_base, types_are_known
from .bit_numbers import bit_number

__all__ = [
    "Geometry",
    "LayoutError",
    "SectionFlags",
    "UnsupportedKernel",
    "find_geometry",
    "find_page_table",
    "find_section_flags",
    "require_struct",
]

SUBSECTION_SHIFT = 21
MAX_FOLIO_SHIFT = 34
MAX_SECTION_BITS = 32
"""No architecture has more than 2^32 sections."""

NUMBERS_READ_LATER = {
    "KERNELOFFSET": 16,
    "SYMBOL(mem_section)": 16,
    "SYMBOL(vmemmap)": 16,
    "LENGTH(mem_section)": 0,
    "LENGTH(node_data)": 0,
    "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": 0,
    "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": 0,
    "NUMBER(phys_base)": 0,
}
"""Keys of VMCOREINFO that the views read, and their base."""


class LayoutError(TargetError):
    """A kernel that cannot be read as it is: says what is missing, and what helps."""


class UnsupportedKernel(TargetError):
    """A kernel of a kind that this tool does not read; says which."""


@dataclass(frozen=True)
class Geometry:
    """Sizes and bases. ``vmemmap`` is the address of pfn 0's struct page."""

    arch: Architecture
    table_format: PageTableFormat
    levels: int
    levels_source: str
    root_pa: int
    root_source: str
    page_shift: int
    struct_page_size: int
    section_size_bits: int
    max_physmem_bits: int
    vmemmap_window: tuple[int, int]
    window_source: str

    @property
    def page_size(self) -> int:
        return 1 << self.page_shift

    @property
    def pages_per_section(self) -> int:
        return 1 << self.section_size_bits - self.page_shift

    @property
    def pages_per_subsection(self) -> int:
        return 1 << SUBSECTION_SHIFT - self.page_shift

    @property
    def struct_pages_per_page(self) -> int:
        """Struct pages that fit into one vmemmap page."""
        return self.page_size // self.struct_page_size

    @property
    def struct_page_size_is_power_of_two(self) -> bool:
        return self.struct_page_size & self.struct_page_size - 1 == 0

    @property
    def section_count(self) -> int:
        """``NR_MEM_SECTIONS``"""
        return 1 << self.max_physmem_bits - self.section_size_bits

    @property
    def min_optimisable_order(self) -> int:
        """Smallest order whose vmemmap fills two pages (``VMEMMAP_TAIL_MIN_ORDER``)."""
        return (2 * self.page_size // self.struct_page_size - 1).bit_length()

    @property
    def max_folio_order(self) -> int:
        """``MAX_FOLIO_ORDER``: 16 GiB is the most on every architecture."""
        return MAX_FOLIO_SHIFT - self.page_shift

    def vmemmap_pages(self, order: int) -> int:
        """Vmemmap pages of a folio of this order; 0 when they do not fill one.

        The order of a damaged hstate has up to 32 bits: a shift by it would take half a
        gigabyte, and every order above 63 is more than there are addresses.
        """
        return (self.struct_page_size << min(order, 63)) >> self.page_shift


@dataclass(frozen=True)
class SectionFlags:
    """Bit numbers in ``mem_section.section_mem_map``; None for flags it lacks."""

    marked_present: int | None
    has_mem_map: int
    is_online: int
    is_early: int
    taint_zone_device: int | None
    is_vmemmap_preinit: int | None
    last_bit: int
    source: str
    are_named: bool = True
    """False where neither an enum nor the kernel's age gives the bits their names."""

    @property
    def map_mask(self) -> int:
        """``SECTION_MAP_MASK``: the bits of the encoded mem_map pointer."""
        return ~((1 << self.last_bit) - 1) & (1 << 64) - 1


def require_struct(target: Target, name: str, *members: str) -> Struct:
    """A struct with these members, or `LayoutError`."""
    struct = target.struct(name)
    if struct is None:
        raise LayoutError(
            f"the debug info has no complete struct {name}: give the vmlinux that "
            "belongs to this kernel with -s"
        )
    for member in members:
        if member not in struct:
            raise LayoutError(
                f"struct {name} has no member {member}: this kernel's layout is "
                "unknown to this tool"
            )
    return struct


def find_geometry(target: Target) -> Geometry:
    """Bases and sizes. Raises `UnsupportedKernel` or `LayoutError`."""
    arch = ARCHITECTURES.get(target.arch)
    if arch is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UnsupportedKernel(
            f"architecture {target.arch} is not supported (supported: {known})"
        )
    _require_sparsemem_vmemmap(target)
    try:
        for key, base in NUMBERS_READ_LATER.items():
            int(target.vmcoreinfo.get(key, "0"), base)
        geometry = _read_geometry(target, arch)
    except ValueError as error:
        raise LayoutError(f"VMCOREINFO is damaged: {error}") from None
    _check(geometry)
    return geometry


def _read_geometry(target: Target, arch: Architecture) -> Geometry:
    table_format = arch.table_format(target)
    levels = arch.levels(target)
    root = arch.root_pa(target)
    if root is None:
        raise LayoutError(
            "the kernel's page-table root is unknown: neither VMCOREINFO "
            "(SYMBOL(swapper_pg_dir), NUMBER(phys_base)) nor symbols give it"
        )
    window = arch.vmemmap_window(target, levels.value)
    if not types_are_known(target) and (window is None or window.is_assumed):
        window = _window_of_sections(target, arch, levels.value)
    if window is None:
        raise LayoutError(
            "the vmemmap base is unknown: neither VMCOREINFO SYMBOL(vmemmap) nor the "
            "variable vmemmap_base could be read; is this the right vmlinux?"
            if types_are_known(target)
            else "the vmemmap base is unknown: VMCOREINFO has no SYMBOL(vmemmap), and "
            "the sections that could be read agree on none; give a vmlinux with -s"
        )
    number = target.vmcoreinfo.get
    page_size = int(number("PAGESIZE", str(1 << table_format.page_shift)), 0)
    if page_size != 1 << table_format.page_shift:
        raise LayoutError(
            f"VMCOREINFO PAGESIZE {page_size} is not that of {table_format.name} "
            "page tables"
        )
    page_struct = require_struct(target, "page", "flags")
    return Geometry(
        arch=arch,
        table_format=table_format,
        levels=levels.value,
        levels_source=levels.source,
        root_pa=root.value,
        root_source=root.source,
        page_shift=table_format.page_shift,
        struct_page_size=page_struct.size,
        section_size_bits=int(
            number("NUMBER(SECTION_SIZE_BITS)", str(arch.section_size_bits)), 0
        ),
        max_physmem_bits=int(
            number(
                "NUMBER(MAX_PHYSMEM_BITS)", str(arch.max_physmem_bits[levels.value])
            ),
            0,
        ),
        vmemmap_window=window.value,
        window_source=window.source,
    )


def _window_of_sections(
    target: Target, arch: Architecture, levels: int
) -> Fact[tuple[int, int]] | None:
    """The window from what mem_section says of the vmemmap's base."""
    found = find_mem_map_base(target, 1 << arch.table_format(target).shift(2))
    if found is None:
        return None
    size = arch.vmemmap_bytes[levels]
    window = found.address, found.address + size
    return Fact(window, "mem_section: all sections agree on this base")


def _check(geometry: Geometry) -> None:
    """Refuse numbers that no kernel has, before anything is sized by them."""
    bits, start = geometry.section_size_bits, geometry.vmemmap_window[0]
    sections = geometry.max_physmem_bits - bits
    if bits < SUBSECTION_SHIFT or not 0 < sections <= MAX_SECTION_BITS:
        raise LayoutError(
            f"VMCOREINFO is damaged: sections of 2^{bits} bytes in "
            f"2^{geometry.max_physmem_bits} bytes of memory"
        )
    slot = 1 << geometry.table_format.shift(2)
    if not 0 <= start < geometry.vmemmap_window[1] <= 1 << 64 or start % slot:
        raise LayoutError(
            f"the vmemmap cannot begin at {start:#x} ({geometry.window_source})"
        )


def _require_sparsemem_vmemmap(target: Target) -> None:
    if target.struct("mem_section") is None:
        if target.struct("page") is None:
            raise LayoutError(
                "the debug info has no struct page: give the vmlinux that belongs to "
                "this kernel with -s"
            )
        raise UnsupportedKernel(
            "this is a FLATMEM kernel (it has no struct mem_section): "
            "only SPARSEMEM_VMEMMAP kernels have a vmemmap"
        )
    has_vmemmap = (
        target.function("vmemmap_populate") is not None
        or "SYMBOL(vmemmap)" in target.vmcoreinfo
        # Without types this is all that can be asked; the sections will tell.
        or not types_are_known(target)
    )  # vmemmap_base tells nothing: x86-64 has it without a vmemmap as well
    if not has_vmemmap:
        raise UnsupportedKernel(
            "this is a SPARSEMEM kernel without SPARSEMEM_VMEMMAP (it has no "
            "vmemmap_populate): it has no vmemmap to look at"
        )


def find_page_table(
    target: Target, geometry: Geometry, read_physical: ReadPhysical
) -> PageTable:
    """The walker over the kernel's own page tables (``init_mm.pgd``)."""
    return PageTable(
        read_physical,
        geometry.table_format,
        geometry.levels,
        geometry.root_pa,
        target.byteorder,
        absent_errors=(Fault,),
    )


def find_section_flags(target: Target) -> SectionFlags:
    """The flag bits of section_mem_map: the enum's, or what the macros were before."""
    bit = partial(bit_number, target)
    has_mem_map = bit("SECTION_HAS_MEM_MAP_BIT")
    last = bit("SECTION_MAP_LAST_BIT")
    if has_mem_map is not None and last is not None:
        if last > SUBSECTION_SHIFT:
            raise LayoutError(f"mem_section cannot have {last} flag bits")
        return SectionFlags(
            bit("SECTION_MARKED_PRESENT_BIT"),
            has_mem_map,
            bit("SECTION_IS_ONLINE_BIT") or has_mem_map + 1,
            bit("SECTION_IS_EARLY_BIT") or has_mem_map + 2,
            bit("SECTION_TAINT_ZONE_DEVICE_BIT"),
            bit("SECTION_IS_VMEMMAP_PREINIT_BIT"),
            last,
            "enumerators SECTION_*_BIT",
        )
    if not types_are_known(target):
        return _flags_of_words(target)
    # They became an enum in 6.0. The macros before: bits 0 to 3 since 5.3, and bit 4
    # for mixed sections since 5.12 where ZONE_DEVICE is configured.
    has_device = bit("ZONE_DEVICE") is not None
    return SectionFlags(
        0,
        1,
        2,
        3,
        4 if has_device else None,
        None,
        5 if has_device else 4,
        "macros before the enum existed",
    )


def _flags_of_words(target: Target) -> SectionFlags:
    """Flags without their enum: what the words show, and symbols of configurations.

    Bits 0 to 3 have been the same since 5.3. Bit 4 is that of mixed sections where
    ZONE_DEVICE is configured, which ``pgmap_array`` shows.
    """
    arch = ARCHITECTURES[target.arch]
    found = find_mem_map_base(target, 1 << arch.table_format(target).shift(2))
    has_device = target.symbol("pgmap_array") is not None
    return SectionFlags(
        0,
        1,
        2,
        3,
        4 if has_device else None,
        5 if has_device else None,
        found.last_bit if found is not None else 6,
        "the words of mem_section: with so many, all sections agree on a base",
        are_named=has_device,
    )
