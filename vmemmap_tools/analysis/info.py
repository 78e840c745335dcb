# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known about a kernel and how; what is not known and what that costs."""

from __future__ import annotations

from collections.abc import Iterator

from ..kernel.kernel import Kernel
from ..kernel.sections import Sections
from ..target.base import Evidence

__all__ = ["facts", "lost", "lost_fields", "warning"]

KASLR_OFFSET = "KASLR offset"
PRESENT = {True: "yes", False: "no", None: "unknown"}


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
    yield Evidence(
        "section flags", f"{sections.flags.last_bit} bits", sections.flags.source
    )
    yield Evidence("struct page of pfn 0", f"{pages.base_va:#x}", _agreement(sections))
    yield Evidence("compound word", pages.compound_member, f"{types} page")
    yield Evidence("folio order", pages.compound.order_source, "types page, folio")
    yield Evidence("hugetlb test", pages.compound.hugetlb_source, "types and notes")
    yield Evidence(
        "node and zone bits",
        f"{pages.nodes_width} and "
        f"{'unknown' if pages.zones_width is None else pages.zones_width}",
        "length of node_data, __MAX_NR_ZONES",
    )


def _agreement(sections: Sections) -> str:
    """Where the address of the vmemmap is known from."""
    if sections.vmemmap() is not None:
        return "all sections agree"
    if any(section.has_mem_map for section in sections):
        return "sections disagree: the window"
    return "no section could be read: the window"


LOSSES = (
    ("memory_blocks", "memory blocks of sections are not shown"),
    ("pgmap_array", "device memory (dev_pagemap) cannot be found"),
    ("hstates", "hugetlb pools and folios cannot be found"),
    ("node_data", "nodes and zones cannot be found, unless there is one node only"),
)

WITHOUT_TYPES = (
    "zones: names, spans, shared tail pages; the zone of sections, folios and pages",
    "device memory: page maps, compounds, altmaps, and what they save; in map its "
    "vmemmap has no owner, and shared parts of it are called shared",
    "hugetlb pools: their counts, and pools without pages; flags of folios (freed, "
    "vmemmap_optimized)",
    "sections: order, zone field, subsections, memory block",
    "struct pages: names of flags, and of the types that VMCOREINFO does not export",
    "which vmemmap is hosted by hot-added memory, unless all sections are early",
    "features that only types tell of",
    "check: every rule",
)
WITHOUT_SYMBOLS = (
    "counters of the memmap, the policy for new folios",
    "sections that device memory shares (letters D and V): their bits have no names",
)
LOST_FIELDS = {
    "summary": (
        "rows.zone",
        "rows.savable_bytes",
        "totals.saved_dax_bytes",
        "totals.saved_other_bytes",
        "totals.altmap_frames",
        "totals.selfhosted_frames",
        "totals.net_ram_bytes",
        "totals.savable_hugetlb_bytes",
        "totals.savable_dax_bytes",
        "totals.shared_tail_bytes",
    ),
    "sections": (
        "rows.zone",
        "rows.order",
        "rows.section_zone",
        "rows.subsections_set",
        "rows.memory_block",
        "rows.self_hosted",
    ),
    "zones": ("rows", "totals.shared_tail_pages"),
    "page": (
        "rows.verdict",
        "rows.explanation",
        "rows.valid",
        "rows.section.order",
        "rows.section.memory_block",
        "rows.struct_page.flags",
        "rows.struct_page.zone",
        "rows.struct_page.type",
        "rows.hugetlb.flags",
        "rows.hugetlb.flagged",
        "rows.dax",
        "rows.vmemmap.owner",
        "rows.vmemmap.index_in_folio",
        "rows.vmemmap.shared_tail_of.zone",
        "rows.backs.shared_tail_of.zone",
    ),
    "map": ("rows.owner", "rows.backing"),
    "hvo": (
        "rows.total",
        "rows.free",
        "rows.reserved",
        "rows.surplus",
        "rows.overcommit",
        "rows.flagged",
        "rows.reason",
        "rows.reasons",
        "rows.savable_bytes",
        "rows.zone",
        "rows.flags",
    ),
    "dax": ("rows", "totals"),
    "check": ("rows", "totals"),
}
"""Fields of each verb's JSON that may be null or absent without types."""
FIELDS_WITHOUT_SYMBOLS = {
    "summary": ("totals.nr_memmap_pages", "totals.nr_memmap_boot_pages"),
    "sections": ("rows.state", "rows.flags"),
    "page": ("rows.section.state", "rows.section.flags"),
    "hvo": ("totals.policy",),
}
"""The same for addresses of variables."""


def lost(kernel: Kernel) -> list[str]:
    """Sentences on what this target cannot answer."""
    if not kernel.types_are_known:
        reasons = [f"no types: {cost}" for cost in WITHOUT_TYPES]
        if not _knows_variables(kernel):
            reasons += [f"no symbols: {cost}" for cost in WITHOUT_SYMBOLS]
        return reasons
    return [
        f"no variable {name}: {cost}"
        for name, cost in LOSSES
        if kernel.target.variable(name) is None
    ]


def lost_fields(kernel: Kernel) -> dict[str, list[str]]:
    """{verb: fields of its JSON} that are null, or left out, for want of types."""
    if kernel.types_are_known:
        return {}
    fields = {verb: list(names) for verb, names in LOST_FIELDS.items()}
    if not _knows_variables(kernel):
        for verb, names in FIELDS_WITHOUT_SYMBOLS.items():
            fields[verb] += names
    return fields


def _knows_variables(kernel: Kernel) -> bool:
    return kernel.target.symbol("sections_per_block") is not None


def warning(kernel: Kernel) -> list[str]:
    """A sentence for answers that would say more if types were known."""
    if kernel.types_are_known:
        return []
    return [
        "types are unknown but for VMCOREINFO: 'vmemmap info' says what is not answered"
    ]
