# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known about a kernel, and how."""

from __future__ import annotations

from collections.abc import Iterator

from ..kernel.kernel import Kernel
from ..kernel.sections import Sections
from ..target.base import Evidence

__all__ = ["UNKNOWN", "facts"]

UNKNOWN = "unknown"
"""The value of a fact for which there is no evidence."""

KASLR_OFFSET = "KASLR offset"
PRESENT = {True: "yes", False: "no", None: UNKNOWN}


def facts(kernel: Kernel) -> Iterator[Evidence]:
    """Everything that decides how this kernel is read, surest first."""
    g, target = kernel.geometry, kernel.target
    yield Evidence("release", target.release, "VMCOREINFO OSRELEASE")
    known = target.evidence()
    yield from known
    yield Evidence("architecture", g.arch.name, "the file's machine")
    yield Evidence("page-table levels", str(g.levels), g.levels_source)
    yield Evidence("page-table root", f"{g.root_pa:#x} (physical)", g.root_source)
    offset = target.vmcoreinfo.get("KERNELOFFSET")
    if offset is not None:
        said = f"{int(offset, 16):#x}"
        # A target that found it in another way has told; once more only if they differ.
        if not any(e.subject == KASLR_OFFSET and e.value == said for e in known):
            yield Evidence(KASLR_OFFSET, said, "VMCOREINFO KERNELOFFSET")
    start, end = g.vmemmap_window
    yield Evidence("vmemmap window", f"{start:#x}-{end:#x}", g.window_source)
    direct = g.arch.direct_map_base(target, g.levels)
    if direct is not None:
        yield Evidence("direct map", f"{direct.value:#x}", direct.source)
    else:
        yield Evidence(
            "direct map", UNKNOWN, "no variable gives it, or none is readable"
        )
    yield from _decoding(kernel)
    for feature in kernel.features:
        yield Evidence(feature.name, PRESENT[feature.present], feature.evidence)


def _decoding(kernel: Kernel) -> Iterator[Evidence]:
    """How sections and struct pages are read."""
    g, sections, pages = kernel.geometry, kernel.sections, kernel.pages
    types = "type struct" if kernel.types_are_known else "VMCOREINFO: struct"
    yield Evidence("page size", str(g.page_size), "VMCOREINFO PAGESIZE")
    yield Evidence("struct page", f"{g.struct_page_size} bytes", f"{types} page")
    yield Evidence(
        "section", f"{1 << g.section_size_bits} bytes", "NUMBER(SECTION_SIZE_BITS)"
    )
    yield Evidence("physical bits", str(g.max_physmem_bits), "NUMBER(MAX_PHYSMEM_BITS)")
    yield Evidence(
        "struct mem_section",
        f"{sections.struct.size} bytes, {sections.per_root} a root",
        f"{types} mem_section",
    )
    # The words of mem_section show no bit that no section has set.
    bits = f"{sections.flags.last_bit} bits"
    yield Evidence(
        "section flags",
        bits if kernel.types_are_known else UNKNOWN,
        sections.flags.source
        if kernel.types_are_known
        else f"{sections.flags.source}, at least {bits}",
    )
    yield Evidence("struct page of pfn 0", f"{pages.base_va:#x}", _agreement(sections))
    yield Evidence("compound word", pages.compound_member, f"{types} page")
    yield Evidence("folio order", pages.compound.order_source, "types page, folio")
    yield Evidence("hugetlb test", pages.compound.hugetlb_source, "types and notes")
    nodes, zones = pages.nodes_width, pages.zones_width
    yield Evidence(
        "node and zone bits",
        UNKNOWN if zones is None else f"{nodes} and {zones}",
        f"{pages.nodes_source}, __MAX_NR_ZONES",
    )


def _agreement(sections: Sections) -> str:
    """Where the address of the vmemmap is known from."""
    if sections.vmemmap() is not None:
        return "all sections agree"
    if any(section.has_mem_map for section in sections):
        return "sections disagree: the window"
    return "no section could be read: the window"
