# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which types a layout keeps of the 120,000 that a kernel has: data for `reduce`.

A struct not named here is kept whole where a kept one holds it by value, and becomes an
incomplete type where one only points to it. Names that a kernel lacks are skipped:
generations differ.
"""

from __future__ import annotations

__all__ = ["ENUMERATORS", "FUNCTIONS", "PARTIAL", "STRUCTS", "TYPEDEFS"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


STRUCTS = _words("""
    page folio ptdesc slab mem_section mem_section_usage zone pglist_data free_area
    hstate huge_bootmem_page dev_pagemap vmem_altmap range dev_dax dev_dax_range
    dax_region xarray xa_node mm_struct list_head llist_head llist_node callback_head
    hlist_head hlist_node static_key static_key_true static_key_false page_ext
    per_cpu_pages per_cpu_pageset per_cpu_zonestat per_cpu_nodestat memory_block
    memory_group new_utsname uts_namespace nodemask_t vmap_area zoneref zonelist
    vmemmap_remap_walk task_struct kernel_param resource bus_type subsys_private klist
    klist_node memory_notify mhp_params vm_struct
""")
"""Structs and unions kept with all members, but for those in `PARTIAL`."""

PARTIAL = {
    "mm_struct": "pgd pgtables_bytes mm_users mm_count mm_mt mmap mmlist owner",
    "task_struct": """thread_info __state state stack flags on_cpu cpu prio tasks mm
        active_mm exit_state pid tgid real_parent parent children sibling
        group_leader thread_node comm""",
    "uts_namespace": "name",
    "device": "kobj parent type bus driver driver_data numa_node p",
    "memory_block": """start_section_nr state online_type nid zone dev altmap group
        group_next nr_vmemmap_pages""",
    "resource": "start end name flags parent sibling child desc",
    "subsys_private": "klist_devices bus",
    "bus_type": "name dev_name p",
    "vm_struct": "next addr size flags pages nr_pages phys_addr",
    "dax_region": "id target_node kref dev align ida res seed youngest",
}
"""Structs of which only these members are kept, as far as the kernel has them.

Sizes and offsets stay true: what is left out is padding.
"""

ENUMERATORS = _words("""
    PG_head PGTY_buddy HPG_vmemmap_optimized ZONE_NORMAL WMARK_MIN PB_compact_skip
    PB_migrate_skip SECTION_MARKED_PRESENT_BIT SECTION_HAS_MEM_MAP_BIT
    MEMORY_DEVICE_GENERIC N_POSSIBLE MIGRATE_MOVABLE HUGETLB_PAGE_DTOR NR_FREE_PAGES
    NR_LRU_BASE NR_LRU_LISTS LRU_BASE PAGE_EXT_OWNER PAGE_EXT_YOUNG SYSTEM_RUNNING
    ZONELIST_FALLBACK PGDAT_DIRTY ZONE_BOOSTED_WATERMARK MEMINIT_HOTPLUG MMOP_ONLINE
    MF_COUNT_INCREASED NR_VM_EVENT_ITEMS __NR_PAGEBLOCK_BITS NR_PAGEBLOCK_BITS
    PGALLOC_NORMAL NUMA_NO_NODE __MAX_NR_ZONES NR_MEMMAP FOLIO_CONTIG_SINGLE
""")
"""Each stands for the whole enum that holds it: some of them have no name."""

TYPEDEFS = _words("""
    u8 u16 u32 u64 s8 s16 s32 s64 bool size_t phys_addr_t resource_size_t pgoff_t
    gfp_t atomic_t atomic64_t atomic_long_t nodemask_t cpumask_t cpumask_var_t pgd_t
    p4d_t pud_t pmd_t pte_t pteval_t pgdval_t pgprot_t pgprotval_t pg_data_t
    spinlock_t memdesc_flags_t swp_entry_t pfn_t uintptr_t pid_t pgtable_t
""")

FUNCTIONS = _words("""
    __populate_section_memmap sparse_add_section sparse_remove_section
    vmemmap_populate section_activate section_deactivate
    vmemmap_populate_compound_pages vmemmap_populate_hugepages
    vmemmap_populate_basepages vmemmap_populate_hvo vmemmap_populate_address
    vmemmap_populate_range depopulate_section_memmap vmemmap_free arch_add_memory
    arch_remove_memory __add_pages __remove_pages memremap_pages memunmap_pages
    memmap_init_zone_device hugetlb_vmemmap_optimize hugetlb_vmemmap_restore
    hugetlb_vmemmap_optimize_folio hugetlb_vmemmap_restore_folio
    hugetlb_vmemmap_optimize_folios hugetlb_vmemmap_restore_folios
    hugetlb_vmemmap_init_early hugetlb_bootmem_struct_page_init vmemmap_get_tail
    vmemmap_remap_range vmemmap_remap_pte vmemmap_restore_pte vmemmap_can_optimize
    sparse_init_nid sparse_init_one_section online_pages offline_pages try_online_node
    dev_dax_probe memmap_pages_add free_hpage_workfn vmemmap_wrprotect_hvo
    vmemmap_undo_hvo sparse_vmemmap_init_nid_early sparse_vmemmap_init_nid_late
    page_fixed_fake_head
""")
"""Kept with their parameters: what a function takes tells generations apart."""
