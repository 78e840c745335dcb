# SPDX-License-Identifier: LGPL-2.1-or-later
"""The types of the variables that the views read, for types without variables.

BTF describes no variable but per-CPU ones, VMCOREINFO none at all. What C declares them
as has not changed between the kernels we know; where it did, the newer form is a
variable of another name. Lengths of arrays are told from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCALARS", "VARIABLES", "Declared"]


@dataclass(frozen=True)
class Declared:
    """A declaration in C: ``base``, stars, and whether it is an array.

    ``base`` is a scalar of `SCALARS` or the name of a struct, typedef or enum.
    """

    base: str
    pointers: int = 0
    is_array: bool = False


SCALARS = {
    "bool": 1,
    "int": 4,
    "unsigned int": 4,
    "unsigned long": 8,
    "u64": 8,
}
"""Bytes of the integers that variables are made of, on 64-bit kernels."""

_ULONG = Declared("unsigned long")
_UINT = Declared("unsigned int")
_BOOL = Declared("bool")
_ATOMIC_LONG = Declared("atomic_long_t")
_XARRAY = Declared("xarray")

VARIABLES = {
    # arch/x86
    "__pgtable_l5_enabled": _UINT,
    "page_offset_base": _ULONG,
    "pgd_list": Declared("list_head"),
    "sme_me_mask": Declared("u64"),
    "vmalloc_base": _ULONG,
    "vmemmap_base": _ULONG,
    # drivers/base/memory.c
    "memory_blocks": _XARRAY,
    "sections_per_block": Declared("int"),
    # mm/hugetlb.c, mm/hugetlb_vmemmap.c
    "hstates": Declared("hstate", is_array=True),
    "hugetlb_free_vmemmap_enabled": _BOOL,
    "hugetlb_free_vmemmap_enabled_key": Declared("static_key_false"),
    "hugetlb_max_hstate": Declared("int"),
    "hugetlb_optimize_vmemmap_key": Declared("static_key_false"),
    "vmemmap_optimize_enabled": _BOOL,
    "vmemmap_optimize_mode": Declared("vmemmap_optimize_mode"),
    # mm/memremap.c
    "pgmap_array": _XARRAY,
    # mm/page_alloc.c, mm/mm_init.c, mm/numa.c
    "contig_page_data": Declared("pglist_data"),
    "max_pfn": _ULONG,
    "min_low_pfn": _ULONG,
    "node_data": Declared("pglist_data", pointers=1, is_array=True),
    "node_states": Declared("nodemask_t", is_array=True),
    "nr_cpu_ids": _UINT,
    "page_ext_size": _ULONG,
    "pageblock_order": _UINT,
    "system_state": Declared("system_states"),
    # mm/sparse.c: a pointer to roots, or an array (see ``mem_section`` in btf_types)
    "__highest_present_section_nr": _ULONG,
    "__highest_used_section_nr": _ULONG,
    "mem_section": Declared("mem_section", pointers=2),
    # mm/vmstat.c
    "nr_memmap_boot_pages": _ATOMIC_LONG,
    "nr_memmap_pages": _ATOMIC_LONG,
}
"""What the kernel declares each variable as."""
