# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is to say about each mem_section entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..kernel.kernel import Kernel
from ..kernel.sections import Section
from ..target.base import Fault
from .dax import vmemmap_spans
from .placement import place_section, section_zone_name

__all__ = ["SectionRow", "describe_section", "describe_sections"]


@dataclass(frozen=True)
class SectionRow:
    """One section. ``order`` and ``section_zone`` are None in kernels without them.

    What rests on types, page tables or struct pages is None where those are missing.
    """

    nr: int
    start_pfn: int
    pages: int
    state: str | None
    flags: list[str] | None
    node: int | None
    zone: str | None
    order: int | None
    section_zone: str | None
    subsections_set: int | None
    subsections: int
    memory_block: int | None
    self_hosted: bool | None
    memmap_va: str | None
    huge_leaves: int | None
    base_leaves: int | None
    mapped_pages: int | None
    backing_frames: int | None

    @property
    def is_shared(self) -> bool | None:
        """Whether some frame backs more than one page of this section's vmemmap.

        None where its page tables could not be read.
        """
        if self.backing_frames is None or self.mapped_pages is None:
            return None
        return self.backing_frames < self.mapped_pages

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe_sections(
    kernel: Kernel, numbers: Sequence[range] = (), pfns: range | None = None
) -> Iterator[SectionRow]:
    """The used sections with these numbers (all without any) that touch these pfns.

    In the order in which they are named, each once.
    """
    sections, last = kernel.sections, 1 << 64
    size = kernel.geometry.pages_per_section
    spans = [(r.start * size, r.stop * size) for r in numbers] or [(0, last)]
    if pfns is not None:
        spans = [(max(a, pfns.start), min(b, pfns.stop)) for a, b in spans]
    told: set[int] = set()
    for start, end in spans:
        for section in sections.between(start, end) if start < end else ():
            if section.nr not in told:
                told.add(section.nr)
                yield describe_section(kernel, section)


def describe_section(kernel: Kernel, section: Section) -> SectionRow:
    """Everything about one section."""
    sections, pages = kernel.sections, kernel.geometry.pages_per_section
    place = place_section(kernel, section)
    start = section.start_pfn
    spans = list(vmemmap_spans(kernel, start, start + pages))
    extent = kernel.vmemmap.extent(spans)
    is_read = not any(kernel.vmemmap.is_absent(*span) for span in spans)
    return SectionRow(
        nr=section.nr,
        start_pfn=start,
        pages=pages,
        state=None if section.has_unnamed_flags else section.state,
        flags=None if section.has_unnamed_flags else section.flag_names(),
        node=place.node,
        zone=place.zone,
        order=section.order,
        section_zone=section_zone_name(kernel, section),
        subsections_set=_subsections_set(kernel, section),
        subsections=sections.subsections_per_section,
        memory_block=sections.memory_block(section),
        self_hosted=kernel.self_hosting.is_self_hosted(section),
        memmap_va=f"{kernel.pages.va(start):#x}" if section.has_mem_map else None,
        huge_leaves=extent.huge_leaves if is_read else None,
        base_leaves=extent.base_leaves if is_read else None,
        mapped_pages=extent.mapped_pages if is_read else None,
        backing_frames=extent.frames if is_read else None,
    )


def _subsections_set(kernel: Kernel, section: Section) -> int | None:
    try:
        bits = kernel.sections.subsection_map(section)
    except Fault as fault:
        kernel.missing.record(fault, "mem_section_usage")
        return None
    return None if bits is None else bin(bits).count("1")
