# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known about a kernel and how; what is not known and what that costs."""

from __future__ import annotations

from collections.abc import Iterator

from ..kernel.kernel import Kernel
from ..target.base import Evidence

__all__ = ["facts", "lost"]


def facts(kernel: Kernel) -> Iterator[Evidence]:
    """Everything that decides how this kernel is read, surest first."""
    g, target = kernel.geometry, kernel.target
    yield Evidence("release", target.release, "VMCOREINFO OSRELEASE")
    yield from target.evidence()
    yield Evidence("architecture", g.arch.name, "the file's machine")
    yield Evidence("page-table levels", str(g.levels), g.levels_source)
    yield Evidence("page-table root", f"{g.root_pa:#x} (physical)", g.root_source)
    offset = target.vmcoreinfo.get("KERNELOFFSET")
    if offset is not None:
        yield Evidence(
            "KASLR offset", f"{int(offset, 16):#x}", "VMCOREINFO KERNELOFFSET"
        )
    start, end = g.vmemmap_window
    yield Evidence("vmemmap window", f"{start:#x}-{end:#x}", g.window_source)
    direct = g.arch.direct_map_base(target, g.levels)
    if direct is not None:
        yield Evidence("direct map", f"{direct.value:#x}", direct.source)
    yield from _decoding(kernel)
    for feature in kernel.features:
        yield Evidence(
            feature.name, "yes" if feature.present else "no", feature.evidence
        )


def _decoding(kernel: Kernel) -> Iterator[Evidence]:
    """How sections and struct pages are read."""
    g, sections, pages = kernel.geometry, kernel.sections, kernel.pages
    yield Evidence("page size", str(g.page_size), "VMCOREINFO PAGESIZE")
    yield Evidence("struct page", f"{g.struct_page_size} bytes", "type struct page")
    yield Evidence(
        "section", f"{1 << g.section_size_bits} bytes", "NUMBER(SECTION_SIZE_BITS)"
    )
    yield Evidence("physical bits", str(g.max_physmem_bits), "NUMBER(MAX_PHYSMEM_BITS)")
    yield Evidence(
        "struct mem_section",
        f"{sections.struct.size} bytes, {sections.per_root} a root",
        "type struct mem_section",
    )
    yield Evidence(
        "section flags", f"{sections.flags.last_bit} bits", sections.flags.source
    )
    base = sections.vmemmap()
    yield Evidence(
        "struct page of pfn 0",
        f"{pages.base_va:#x}",
        "all sections agree" if base is not None else "sections disagree: the window",
    )
    yield Evidence("compound word", pages.compound_member, "type struct page")
    yield Evidence("folio order", pages.compound.order_source, "types page, folio")
    yield Evidence("hugetlb test", pages.compound.hugetlb_source, "types and notes")
    yield Evidence(
        "node and zone bits",
        f"{pages.nodes_width} and {pages.zones_width}",
        "length of node_data, __MAX_NR_ZONES",
    )


LOSSES = (
    ("memory_blocks", "memory blocks of sections are not shown"),
    ("pgmap_array", "device memory (dev_pagemap) cannot be found"),
    ("hstates", "hugetlb pools and folios cannot be found"),
    ("node_data", "nodes and zones cannot be found, unless there is one node only"),
)


def lost(kernel: Kernel) -> list[str]:
    """Sentences on what this target cannot answer."""
    return [
        f"no variable {name}: {cost}"
        for name, cost in LOSSES
        if kernel.target.variable(name) is None
    ]
