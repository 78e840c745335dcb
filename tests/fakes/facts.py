# SPDX-License-Identifier: LGPL-2.1-or-later
"""What debug info and the VMCOREINFO note say, besides struct layouts.

Numbers of enumerators are from kernel-reference.md 1.6, 2.2 and 6.
"""

from __future__ import annotations

from .layouts import Generation

__all__ = ["KERNEL_MAP", "PAGE_FLAGS", "enums", "functions", "vmcoreinfo"]

KERNEL_MAP = 0xFFFFFFFF80000000
SECTION_FLAGS = (
    "MARKED_PRESENT",
    "HAS_MEM_MAP",
    "IS_ONLINE",
    "IS_EARLY",
    "TAINT_ZONE_DEVICE",
)

PAGE_FLAGS = {
    "PG_locked": 0,
    "PG_writeback": 1,
    "PG_head": 6,
    "PG_active": 8,
    "PG_owner_priv_1": 10,
    "PG_reserved": 13,
    "PG_hwpoison": 20,
    "__NR_PAGEFLAGS": 22,
    "PG_vmemmap_self_hosted": 10,
}
ENUMS = {
    "zone_type": {
        "ZONE_DMA": 0,
        "ZONE_DMA32": 1,
        "ZONE_NORMAL": 2,
        "ZONE_MOVABLE": 3,
        "ZONE_DEVICE": 4,
        "__MAX_NR_ZONES": 5,
    },
    "hugetlb_page_flags": {
        "HPG_restore_reserve": 0,
        "HPG_migratable": 1,
        "HPG_temporary": 2,
        "HPG_freed": 3,
        "HPG_vmemmap_optimized": 4,
        "__NR_HPAGEFLAGS": 6,
    },
    "node_states": {"N_POSSIBLE": 0, "N_ONLINE": 1, "NR_NODE_STATES": 6},
    "memory_type": {
        "MEMORY_DEVICE_PRIVATE": 1,
        "MEMORY_DEVICE_COHERENT": 2,
        "MEMORY_DEVICE_FS_DAX": 3,
        "MEMORY_DEVICE_GENERIC": 4,
        "MEMORY_DEVICE_PCI_P2PDMA": 5,
    },
}
PAGE_TYPES = {"PGTY_buddy": 0xF0, "PGTY_hugetlb": 0xF4, "PGTY_mapcount_underflow": 0xFF}


def vmcoreinfo(
    generation: Generation, levels: int, root_pa: int, vmemmap: int
) -> dict[str, str]:
    """The note of a kernel that was not moved (9.1)."""
    root = f"{KERNEL_MAP + root_pa:x}"
    keys = {
        "OSRELEASE": "0.0-fake",
        "PAGESIZE": "4096",
        "SYMBOL(init_top_pgt)": root,
        "SYMBOL(swapper_pg_dir)": root,
        "NUMBER(phys_base)": "0",
        "NUMBER(pgtable_l5_enabled)": str(levels - 4),
        "NUMBER(SECTION_SIZE_BITS)": "27",
        "NUMBER(MAX_PHYSMEM_BITS)": {4: "46", 5: "52"}[levels],
        "SYMBOL(vmemmap)": f"{vmemmap:x}",
        "KERNELOFFSET": "0",
    }
    if generation.hugetlb_by == "type-bit":
        keys["NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)"] = str(~0x800)
    return keys


def functions(generation: Generation) -> dict[str, tuple[str, ...]]:
    """Parameter types of the functions that tests of 1.3 ask about."""
    pgmap = ("struct dev_pagemap *",) if generation.takes_pgmap else ()
    return {
        "vmemmap_populate": ("unsigned long", "unsigned long", "int"),
        "__populate_section_memmap": ("unsigned long", *pgmap),
        "sparse_remove_section": ("unsigned long", "unsigned long"),
    }


def enums(generation: Generation) -> dict[str, dict[str, int]]:
    """All enumerators, by enum."""
    found = {name: dict(values) for name, values in ENUMS.items()}
    found["pageflags"] = dict(PAGE_FLAGS)
    if generation.section_enum:
        flags = [*SECTION_FLAGS, *["IS_VMEMMAP_PREINIT"] * generation.preinit]
        values = {f"SECTION_{name}_BIT": i for i, name in enumerate(flags)}
        found["section_flags"] = {**values, "SECTION_MAP_LAST_BIT": len(flags)}
    if generation.hugetlb_by == "type":
        found["pagetype"] = dict(PAGE_TYPES)
    elif generation.hugetlb_by == "flag":
        found["pageflags"]["PG_hugetlb"] = PAGE_FLAGS["PG_active"]
    elif generation.hugetlb_by.endswith("dtor"):
        found["compound_dtor_id"] = {"HUGETLB_PAGE_DTOR": 2}
    return found
