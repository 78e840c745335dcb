# SPDX-License-Identifier: LGPL-2.1-or-later
"""x86-64: 4 and 5 levels, 2 MiB and 1 GiB leaves, memory encryption.

Mirrors ``arch/x86/include/asm/pgtable_64_types.h`` and ``pgtable_types.h``.
"""

from __future__ import annotations

from dataclasses import replace

from .architecture import Architecture, Fact, KernelFacts
from .pagetable import PageTableFormat

__all__ = ["X86_64"]

KERNEL_MAP = 0xFFFFFFFF80000000
"""``__START_KERNEL_map``: the kernel image is linked here, at ``phys_base``."""

FIXED_VMEMMAP = 0xFFFFEA0000000000
"""``__VMEMMAP_BASE_L4``"""

VMEMMAP_BYTES = {4: 1 << 40, 5: 1 << 49}
MASK_64 = (1 << 64) - 1

USER, PWT, PCD, ACCESSED, DIRTY, PAT = (1 << bit for bit in range(2, 8))
HUGE_PAT, NX = 1 << 12, 1 << 63

FORMAT = PageTableFormat(
    name="x86-64",
    page_shift=12,
    index_bits=9,
    names=("PTE", "PMD", "PUD", "P4D", "PGD"),
    present_mask=1 << 0,
    address_mask=0x000FFFFFFFFFF000,
    huge_mask=1 << 7,
    huge_value=1 << 7,
    huge_max_level=3,
    # Write-protecting a dirty kernel PTE moves its dirty bit to a software bit (6.6+),
    # so that whole permission words differ among equals: RW alone decides.
    readonly_mask=1 << 1,
    readonly_value=0,
    flags=(
        (0, "PRESENT"),
        (1, "RW"),
        (2, "USER"),
        (3, "PWT"),
        (4, "PCD"),
        (5, "ACCESSED"),
        (6, "DIRTY"),
        (7, "PAT"),
        (8, "GLOBAL"),
        (9, "SOFTW1"),
        (10, "SOFTW2"),
        (11, "SOFTW3"),
        (12, ""),  # an address bit, but in huge leaves
        (58, "SAVED_DIRTY"),
        (63, "NX"),
    ),
    huge_flag_names=((7, "PSE"), (12, "PAT")),
    is_sign_extended=True,
    # PAGE_KERNEL: not for users, write-back, not executable.
    data_mask=USER | PWT | PCD | PAT | NX,
    huge_data_mask=USER | PWT | PCD | HUGE_PAT | NX,
    data_value=NX,
    is_hierarchical=True,
    # Some processors set these when they race with the entry being cleared
    # (_PAGE_KNL_ERRATUM_MASK).
    stray_mask=ACCESSED | DIRTY,
)


def _sme_mask(facts: KernelFacts) -> int:
    text = facts.vmcoreinfo.get("NUMBER(sme_mask)")
    if text is not None:
        return int(text, 0) & MASK_64
    return facts.unsigned("sme_me_mask") or 0


def _table_format(facts: KernelFacts) -> PageTableFormat:
    """The format with the memory-encryption bit taken out of addresses."""
    return replace(FORMAT, address_mask=FORMAT.address_mask & ~_sme_mask(facts))


def _levels(facts: KernelFacts) -> Fact[int]:
    text = facts.vmcoreinfo.get("NUMBER(pgtable_l5_enabled)")
    if text is not None:
        return Fact(5 if int(text, 0) else 4, "VMCOREINFO NUMBER(pgtable_l5_enabled)")
    enabled = facts.unsigned("__pgtable_l5_enabled")
    if enabled is not None:
        return Fact(5 if enabled else 4, "variable __pgtable_l5_enabled")
    return Fact(4, "no sign of 5-level paging")


def _root_pa(facts: KernelFacts) -> Fact[int] | None:
    """Physical address of ``init_top_pgt``, the table of ``init_mm``."""
    phys_base = facts.vmcoreinfo.get("NUMBER(phys_base)")
    if phys_base is None:
        return None
    for key in ("SYMBOL(init_top_pgt)", "SYMBOL(swapper_pg_dir)"):
        text = facts.vmcoreinfo.get(key)
        if text is not None:
            # phys_base is signed: KASLR may place the image below its link address.
            pa = int(text, 16) - KERNEL_MAP + int(phys_base, 0) & MASK_64
            return Fact(pa, f"VMCOREINFO {key}, NUMBER(phys_base)")
    va = facts.symbol("init_top_pgt")
    if va is None:
        return None
    pa = va - KERNEL_MAP + int(phys_base, 0) & MASK_64
    return Fact(pa, "symbol init_top_pgt, VMCOREINFO NUMBER(phys_base)")


def _vmemmap_window(facts: KernelFacts, levels: int) -> Fact[tuple[int, int]] | None:
    text = facts.vmcoreinfo.get("SYMBOL(vmemmap)")
    is_assumed = False
    if text is not None:
        start, source = int(text, 16), "VMCOREINFO SYMBOL(vmemmap)"
    else:
        value = facts.unsigned("vmemmap_base")
        if value is not None:
            start, source = value, "variable vmemmap_base"
        elif levels == 4 and facts.symbol("vmemmap_base") is None:
            # Without CONFIG_DYNAMIC_MEMORY_LAYOUT the base is a constant.
            start, source = FIXED_VMEMMAP, "the fixed base: no variable vmemmap_base"
            is_assumed = True
        else:
            return None
    return Fact((start, start + VMEMMAP_BYTES[levels]), source, is_assumed)


def _direct_map_base(facts: KernelFacts, levels: int) -> Fact[int] | None:
    value = facts.unsigned("page_offset_base")
    if value is None:
        return None
    return Fact(value, "variable page_offset_base")


X86_64 = Architecture(
    name="x86_64",
    elf_machine=62,
    section_size_bits=27,
    max_physmem_bits={4: 46, 5: 52},
    huge_page_order=9,
    illegal_pointer=0xDEAD000000000000,
    vmemmap_bytes=VMEMMAP_BYTES,
    table_format=_table_format,
    levels=_levels,
    root_pa=_root_pa,
    vmemmap_window=_vmemmap_window,
    direct_map_base=_direct_map_base,
)
