# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vmemmap that does not cost system RAM: hosted by hot-added memory or by a device.

Self-hosted vmemmap lies in the memory block it describes (memmap_on_memory,
``mm/memory_hotplug.c``); an altmap puts it on the device (``struct vmem_altmap``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..target.base import Fault
from .sections import Section
from .vmemmap import HOLE

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["SelfHosting"]

SELF_HOSTED = "PG_vmemmap_self_hosted"


class SelfHosting:
    """Which vmemmap frames are part of the memory block that they describe."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        self._memory = kernel.memory
        self._sections = kernel.sections
        self._pages = kernel.pages
        self._vmemmap = kernel.vmemmap
        self._pgmaps = kernel.pgmaps

    def is_self_hosted(self, section: Section) -> bool | None:
        """Whether a section's vmemmap begins in self-hosted memory; None if unknown."""
        if section.is_early or not section.has_mem_map:
            return False
        first = self._pages.vmemmap_page(section.start_pfn)
        if self._vmemmap.is_absent(first):
            return None
        return self.is_self_hosted_frame(self._vmemmap.frame(first))

    def is_self_hosted_frame(self, frame: int) -> bool | None:
        """PG_vmemmap_self_hosted of a vmemmap frame; it means nothing elsewhere.

        None where the flag's number is unknown, or its page cannot be read. Device
        memory hosts its own vmemmap by an altmap, and never so.
        """
        if frame == HOLE:
            return False
        host = self._sections.of_pfn(frame)
        if host is None and self._sections.has_unread(frame, frame + 1):
            return None
        if host is None or host.is_early or not host.has_mem_map:
            return False
        if self._pgmaps.of_pfn(frame) is not None:
            return False
        try:
            page = self._pages.page(frame)
        except Fault as fault:
            self._memory.missing.record(fault, "struct pages of vmemmap frames")
            return None
        if page.is_poisoned:
            return False
        is_flagged = self._pages.has_flag(page, SELF_HOSTED)
        if is_flagged and not self._kernel.is_complete("device maps"):
            return None
        return is_flagged

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
            if self._vmemmap.is_absent(first, count):
                return None
            for frame in set(self._vmemmap.backing(first, count).mapped):
                hosts_itself = self.is_self_hosted_frame(frame)
                if hosts_itself is None:
                    return None
                if hosts_itself:
                    found.add(frame)
        return len(found)
