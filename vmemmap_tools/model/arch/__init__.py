# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the model knows of an architecture: one data file each, no behaviour.

Mirrors the constants of ``arch/*/include/asm/{pgtable,sparsemem,page}*.h``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["AddressSpace", "ArchModel", "Placement", "PteFlags", "arch_model"]


@dataclass(frozen=True)
class PteFlags:
    """Attribute bits of the page-table entries one kernel generation writes."""

    page: int
    """A writable kernel page (PAGE_KERNEL)."""
    tail: int
    """A read-only shared tail page, remapped at run time."""
    boot_tail: int
    """A read-only shared tail page, write-protected after boot populated it."""
    huge: int
    """A writable PMD or PUD leaf."""
    table: int
    """An entry that points to a lower table."""


@dataclass(frozen=True)
class AddressSpace:
    """Default bases and geometry with a given number of page-table levels."""

    levels: int
    page_offset: int
    vmalloc_base: int
    vmemmap_base: int
    vmemmap_size: int
    max_physmem_bits: int
    kaslr_span: int
    """How far KASLR may move page_offset, vmalloc_base and vmemmap_base, in bytes."""


@dataclass(frozen=True)
class Placement:
    """Where one boot put things: the result of KASLR, or of its absence."""

    space: AddressSpace
    page_offset: int
    vmalloc_base: int
    vmemmap_base: int
    kaslr_offset: int
    """Slide of the kernel image's virtual addresses (KERNELOFFSET)."""
    phys_slide: int
    """Slide of the kernel image's physical address."""

    @property
    def phys_base(self) -> int:
        """NUMBER(phys_base) of VMCOREINFO; may be negative."""
        return self.phys_slide - self.kaslr_offset


@dataclass(frozen=True)
class ArchModel:
    """One architecture as data."""

    name: str
    elf_machine: int
    byteorder: str
    page_shift: int
    table_bits: int
    entry_pfn_shift: int
    """Left shift of a pfn inside a page-table entry."""
    section_size_bits: int
    subsection_shift: int
    image_va: int
    """Link address of the kernel's first byte (_text)."""
    image_map: int
    """Virtual address that corresponds to physical 0 + phys_base."""
    image_map_size: int
    image_pa: int
    """Physical address of _text without KASLR."""
    spaces: Mapping[int, AddressSpace]
    pte_flags: Mapping[str, PteFlags]
    hugetlb_orders: tuple[int, ...]
    pageblock_order: int
    """A macro: MAX_PAGE_ORDER in kernels without huge pages."""
    max_folio_order: int
    last_cpupid_width: int
    """Bits of ``page.flags`` for LAST_CPUPID (a matter of CONFIG_NR_CPUS)."""
    zone_limits: Mapping[str, int]
    """End physical address of each bounded zone."""
    poison: int
    """POISON_POINTER_DELTA."""
    sme_mask: int
    """The memory encryption bit, when a machine asks for it."""
    root_symbol: str

    @property
    def page_size(self) -> int:
        return 1 << self.page_shift

    @property
    def pages_per_section(self) -> int:
        return 1 << (self.section_size_bits - self.page_shift)

    @property
    def pages_per_subsection(self) -> int:
        return 1 << (self.subsection_shift - self.page_shift)

    @property
    def table_entries(self) -> int:
        return 1 << self.table_bits

    def level_shift(self, level: int) -> int:
        """log2 of the bytes that one entry of a level's table describes (1 = PTE)."""
        return self.page_shift + (level - 1) * self.table_bits

    def place(
        self, levels: int, kaslr: int | None, memory: list[tuple[int, int]]
    ) -> Placement:
        """Choose the bases: fixed when ``kaslr`` is None, else drawn from that seed.

        ``memory`` lists the boot memory as physical (start, end), for the image.
        """
        space = self.spaces[levels]
        if kaslr is None:
            return Placement(
                space,
                space.page_offset,
                space.vmalloc_base,
                space.vmemmap_base,
                kaslr_offset=0,
                phys_slide=0,
            )
        rng = random.Random(kaslr)
        # The three regions move by whole PUDs and never change places.
        pud = self.level_shift(3)
        steps = sorted(rng.randrange(1, space.kaslr_span >> pud) for _ in range(3))
        slide = rng.randrange(1, (self.image_map_size >> 1) >> 21) << 21
        candidates = [
            pa
            for start, end in memory
            for pa in range(
                max(start, self.image_pa),
                min(end, start + (1 << 30)) - (64 << 20),
                1 << 24,
            )
        ]
        image_pa = rng.choice(candidates) if candidates else self.image_pa
        return Placement(
            space,
            space.page_offset + (steps[0] << pud),
            space.vmalloc_base + (steps[1] << pud),
            space.vmemmap_base + (steps[2] << pud),
            kaslr_offset=slide,
            phys_slide=image_pa - self.image_pa,
        )


def arch_model(name: str) -> ArchModel:
    """Return the model of architecture ``name``; ValueError if there is none."""
    from vmemmap_tools.model.arch import x86_64

    models = {"x86_64": x86_64.X86_64}
    if name not in models:
        raise ValueError(f"the model knows no architecture {name!r}; it has x86_64")
    return models[name]
