# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel generations that the model can be, as base kernels and edits.

Bases are packaged kernels, so their layouts are exact. The others never had a package
with BTF at hand; their edits name what tells them apart and what moves. Where an edit
had to choose a place that the real kernel chooses otherwise, only offsets differ, and
readers take those from the debug info.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmemmap_tools.model.layouts.edits import (
    Edit,
    add_member,
    add_struct,
    drop_enum,
    drop_enumerator,
    drop_function,
    drop_member,
    drop_parameter,
    drop_struct,
    place_member,
    rename_function,
    rename_member,
    resize,
    retype_member,
    set_enumerator,
)

__all__ = ["EXTRAS", "GENERATIONS", "Generation"]

PGMAP = "struct dev_pagemap *"


@dataclass(frozen=True)
class Generation:
    """A kind of kernel: which packaged one it starts from, and what is different.

    ``release`` has three parts: libkdumpfile reads nothing of a two-part one.
    """

    name: str
    base: str
    release: str
    about: str
    edits: tuple[Edit, ...] = ()


BEFORE_5_19: tuple[Edit, ...] = (
    # Compound device maps do not share pages yet, so populating needs no pgmap.
    drop_parameter("__populate_section_memmap", PGMAP),
    drop_parameter("sparse_add_section", PGMAP),
    # MEMORY_DEVICE_COHERENT came in between the others.
    drop_enumerator("MEMORY_DEVICE_COHERENT"),
    set_enumerator("MEMORY_DEVICE_FS_DAX", 2),
    set_enumerator("MEMORY_DEVICE_GENERIC", 3),
    set_enumerator("MEMORY_DEVICE_PCI_P2PDMA", 4),
    # Section flags are macros before 6.0, self-hosted pages are not marked.
    drop_enum("SECTION_HAS_MEM_MAP_BIT"),
    drop_enumerator("PG_vmemmap_self_hosted"),
    drop_enumerator("HPG_raw_hwp_unreliable"),
    set_enumerator("__NR_HPAGEFLAGS", 5),
    # The bitmap is not freed by RCU.
    drop_member("mem_section_usage.rcu"),
    place_member("mem_section_usage.subsection_map", 0),
    place_member("mem_section_usage.pageblock_flags", 8),
    resize("mem_section_usage", 8),
    # The cgroup files of 6.1 make room for the count of pages that HVO frees.
    drop_member("hstate.cgroup_files_legacy"),
    rename_member("hstate.cgroup_files_dfl", "nr_free_vmemmap_pages"),
    retype_member("hstate.nr_free_vmemmap_pages", "unsigned int"),
)

FOLIO_TAIL_MEMBERS = (
    "_flags_1",
    "__head",
    "_folio_dtor",
    "_folio_order",
    "_total_mapcount",
    "_pincount",
    "_folio_nr_pages",
    "_private_1",
)

WITHOUT_PREINIT: tuple[Edit, ...] = (
    drop_enumerator("SECTION_IS_VMEMMAP_PREINIT_BIT"),
    set_enumerator("SECTION_MAP_LAST_BIT", 5),
    drop_function("vmemmap_populate_hvo"),
    drop_function("vmemmap_wrprotect_hvo"),
    drop_function("hugetlb_vmemmap_init_early"),
    drop_function("sparse_vmemmap_init_nid_early"),
)


def _section_order(size: int, offset: int = 16) -> tuple[Edit, ...]:
    return (
        *WITHOUT_PREINIT,
        resize("mem_section", size),
        add_member("mem_section", "order", "unsigned int", offset),
    )


SECTION_DAX: tuple[Edit, ...] = (
    *_section_order(32),
    rename_member("mem_section.order", "compound_page_order"),
    retype_member("zone.vmemmap_tails", "struct page **"),
)

SEED: tuple[Edit, ...] = (
    *SECTION_DAX,
    drop_parameter("__populate_section_memmap", PGMAP),
    drop_parameter("sparse_add_section", PGMAP),
    drop_parameter("sparse_remove_section", PGMAP),
)

_ALL = (
    Generation(
        "5.14",
        "6.1",
        "5.14.0-model",
        "HVO keeps two pages of a folio's vmemmap; no static key, no folios",
        (
            *BEFORE_5_19,
            rename_function("hugetlb_vmemmap_optimize", "free_huge_page_vmemmap"),
            rename_function("hugetlb_vmemmap_restore", "alloc_huge_page_vmemmap"),
            drop_member("dev_pagemap.vmemmap_shift"),
            drop_member("hstate.demote_order"),
            drop_member("hstate.max_huge_pages_node"),
            drop_struct("folio"),
            drop_struct("slab"),
        ),
    ),
    Generation(
        "5.18",
        "6.1",
        "5.18.0-model",
        "all of a folio's vmemmap maps its first page (fake heads); first static key",
        (
            *BEFORE_5_19,
            rename_function("hugetlb_vmemmap_optimize", "hugetlb_vmemmap_free"),
            rename_function("hugetlb_vmemmap_restore", "hugetlb_vmemmap_alloc"),
            *(drop_member(f"folio.{name}") for name in FOLIO_TAIL_MEMBERS),
            resize("folio", 64),
        ),
    ),
    Generation(
        "6.1",
        "6.1",
        "6.1.0-model",
        "as 5.18; sysctl, self-hosted mark, device DAX shares the second page",
    ),
    Generation(
        "6.12",
        "6.12",
        "6.12.0-model",
        "the folio's first vmemmap page is a newly allocated copy; nr_memmap counters",
    ),
    Generation(
        "7.2",
        "7.2",
        "7.2.0-model",
        "tails map the zone's shared tail page; compound_info masks; pre-HVO at boot",
    ),
    Generation("7.3", "7.3", "7.3.0-model", "as 7.2; sections start after zones"),
    Generation(
        "section-order",
        "7.3",
        "7.4.0-model",
        "boot pages by mem_section.order, no PREINIT; mem_section is 24 bytes",
        _section_order(24),
    ),
    Generation(
        "section-order-32",
        "7.3",
        "7.4.0-model",
        "as section-order, with the 32 bytes that were seen",
        _section_order(32),
    ),
    Generation(
        "section-order-48",
        "7.3",
        "7.4.0-model",
        "as section-order, with 48 bytes and the order behind padding",
        _section_order(48, 40),
    ),
    Generation(
        "section-dax",
        "7.3",
        "7.4.1-model",
        "device DAX by mem_section.compound_page_order; vmemmap_tails is allocated",
        SECTION_DAX,
    ),
    Generation(
        "seed",
        "7.3",
        "7.5.0-model",
        "as section-dax; sections record their zone, DAX tails are read-only",
        (*SEED, add_member("mem_section", "zone", "struct zone *", 24)),
    ),
    Generation(
        "seed-zone-index",
        "7.3",
        "7.5.0-model",
        "as seed, with the zone as its index in the node",
        (*SEED, add_member("mem_section", "zone", "unsigned int", 20)),
    ),
)
GENERATIONS = {generation.name: generation for generation in _ALL}
"""Oldest first."""

EXTRAS: dict[str, tuple[Edit, ...]] = {
    "page-ext": (
        add_struct("page_ext", 8, (("flags", "unsigned long", 0),)),
        resize("mem_section", 32),
        add_member("mem_section", "page_ext", "struct page_ext *", 16),
        add_member("mem_section", "pad", "unsigned long", 24),
    ),
}
"""Configuration options that change types: CONFIG_PAGE_EXTENSION, for generations whose
mem_section has 16 bytes."""
