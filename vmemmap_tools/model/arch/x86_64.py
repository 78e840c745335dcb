# SPDX-License-Identifier: LGPL-2.1-or-later
"""x86-64 with 4 and 5 page-table levels, as data."""

from __future__ import annotations

from vmemmap_tools.model.arch import AddressSpace, ArchModel, PteFlags

__all__ = ["X86_64"]

_NX = 1 << 63
_SAVED_DIRTY = 1 << 58

X86_64 = ArchModel(
    name="x86_64",
    elf_machine=62,
    byteorder="little",
    page_shift=12,
    table_bits=9,
    entry_pfn_shift=12,
    section_size_bits=27,
    subsection_shift=21,
    image_va=0xFFFFFFFF81000000,
    image_map=0xFFFFFFFF80000000,
    image_map_size=1 << 30,
    image_pa=0x1000000,
    spaces={
        4: AddressSpace(
            levels=4,
            page_offset=0xFFFF888000000000,
            vmalloc_base=0xFFFFC90000000000,
            vmemmap_base=0xFFFFEA0000000000,
            vmemmap_size=1 << 40,
            max_physmem_bits=46,
            kaslr_span=1 << 43,
        ),
        5: AddressSpace(
            levels=5,
            page_offset=0xFF11000000000000,
            vmalloc_base=0xFFA0000000000000,
            vmemmap_base=0xFFD4000000000000,
            vmemmap_size=1 << 49,
            max_physmem_bits=52,
            kaslr_span=1 << 51,
        ),
    },
    pte_flags={
        # Write-protecting leaves the dirty bit where it is.
        "dirty-kept": PteFlags(
            page=0x163 | _NX,
            tail=0x161 | _NX,
            boot_tail=0x161 | _NX,
            huge=0x1E3 | _NX,
            table=0x67,
        ),
        # 6.6 and later never leave a read-only entry dirty: a fresh entry has D
        # clear, a write-protected one has moved it to the software bit 58.
        "dirty-saved": PteFlags(
            page=0x163 | _NX,
            tail=0x121 | _NX,
            boot_tail=0x121 | _NX | _SAVED_DIRTY,
            huge=0x1E3 | _NX,
            table=0x67,
        ),
    },
    hugetlb_orders=(9, 18),
    pageblock_order=9,
    max_folio_order=22,
    last_cpupid_width=21,
    zone_limits={"DMA": 16 << 20, "DMA32": 4 << 30},
    poison=0xDEAD000000000000,
    sme_mask=1 << 47,
    root_symbol="init_top_pgt",
)
