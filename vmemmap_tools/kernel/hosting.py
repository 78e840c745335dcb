# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vmemmap that does not cost system RAM: hosted by hot-added memory or by a device.

Self-hosted vmemmap lies in the memory block it describes (memmap_on_memory,
``mm/memory_hotplug.c``); an altmap puts it on the device (``struct vmem_altmap``).
"""

from __future__ import annotations

from collections.abc import Iterable

from ..target.base import Fault
from .memory import Memory
from .pages import Pages
from .pgmap import Pgmaps
from .sections import Section, Sections
from .vmemmap import HOLE, Vmemmap

__all__ = ["SelfHosting"]

SELF_HOSTED = "PG_vmemmap_self_hosted"


class SelfHosting:
    """Which vmemmap frames are part of the memory block that they describe."""

    def __init__(
        self,
        memory: Memory,
        sections: Sections,
        pages: Pages,
        vmemmap: Vmemmap,
        pgmaps: Pgmaps,
    ):
        self._memory = memory
        self._sections = sections
        self._pages = pages
        self._vmemmap = vmemmap
        self._pgmaps = pgmaps

    def is_self_hosted(self, section: Section) -> bool | None:
        """Whether a section's vmemmap begins in self-hosted memory; None if unknown."""
        if section.is_early or not section.has_mem_map:
            return False
        first = self._pages.vmemmap_page(section.start_pfn)
        return self.is_self_hosted_frame(self._vmemmap.frame(first))

    def is_self_hosted_frame(self, frame: int) -> bool | None:
        """PG_vmemmap_self_hosted of a vmemmap frame; it means nothing elsewhere.

        None where the flag's number is unknown, or its page cannot be read. Device
        memory hosts its own vmemmap by an altmap, and never so.
        """
        host = None if frame == HOLE else self._sections.of_pfn(frame)
        if host is None or host.is_early or not host.has_mem_map:
            return False
        if self._pgmaps.of_pfn(frame) is not None:
            return False
        try:
            page = self._pages.page(frame)
        except Fault as fault:
            self._memory.missing.record(fault, "struct pages of vmemmap frames")
            return None
        return False if page.is_poisoned else self._pages.has_flag(page, SELF_HOSTED)

    def count_frames(self, sections: Iterable[Section]) -> int | None:
        """Distinct self-hosted vmemmap frames of these sections; None if unknown."""
        geometry = self._pages.geometry
        found: set[int] = set()
        for section in sections:
            is_self_hosted = self.is_self_hosted(section)
            if is_self_hosted is None:
                return None
            if not is_self_hosted:
                continue
            first = self._pages.vmemmap_page(section.start_pfn)
            count = geometry.pages_per_section // geometry.struct_pages_per_page
            for frame in set(self._vmemmap.backing(first, count).mapped):
                if self.is_self_hosted_frame(frame):
                    found.add(frame)
        return len(found)
