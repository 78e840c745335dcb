# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel: the facade that ties the views to one Target.

Views are made when first asked for and kept: a Kernel is one reading. A second look
at a live kernel is a new one (`Kernel.fresh`), so that two readings can disagree.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ..target.base import Refreshable, Target
from .bare import types_are_known
from .counters import MemmapCounters, read_memmap_counters
from .dax_devices import DaxDevices
from .features import Feature, features_without_types, find_features
from .hosting import SelfHosting
from .hugetlb import Hugetlb
from .kcore import Kcore, is_kcore
from .layout import find_geometry, find_page_table
from .memory import Memory
from .pages import UNKNOWN_ZONE, Pages
from .pgmap import Pgmaps
from .progress import Progress, silent
from .sections import Sections
from .vmemmap import Vmemmap
from .zones import Zones

__all__ = ["Kernel"]


class Kernel:
    """One reading of one kernel.

    Raises `UnsupportedKernel` or `LayoutError` when it cannot be read at all.
    """

    def __init__(self, target: Target, progress: Progress = silent):
        self.target = target
        self.progress = progress
        self.geometry = find_geometry(target)
        read = Kcore(self).read_physical if is_kcore(target) else target.read_physical
        self.page_table = find_page_table(target, self.geometry, read)
        window = self.geometry.vmemmap_window
        self.memory = Memory(target, self.page_table, window, read)
        self.missing = self.memory.missing

    def fresh(self) -> Kernel:
        """A new reading of the same target."""
        if isinstance(self.target, Refreshable):
            self.target.refresh()
        return Kernel(self.target, self.progress)

    @cached_property
    def features(self) -> list[Feature]:
        if not self.types_are_known:
            return features_without_types(self.target, self.pages.told_mask)
        return find_features(self.target)

    def has(self, feature: str) -> bool:
        """Whether a named Feature is present."""
        return any(f.present for f in self.features if f.name == feature)

    def is_untold(self, feature: str) -> bool:
        """Whether nothing tells if a named Feature is present."""
        return any(f.present is None for f in self.features if f.name == feature)

    @cached_property
    def sections(self) -> Sections:
        return Sections(self.target, self.memory, self.geometry)

    @cached_property
    def zones(self) -> Zones:
        return Zones(self.target, self.memory, self.geometry)

    @cached_property
    def vmemmap(self) -> Vmemmap:
        return Vmemmap(self.page_table, self.geometry, self.missing, self.progress)

    @cached_property
    def pages(self) -> Pages:
        pages = Pages(self.target, self.memory, self.geometry, self.vmemmap)
        # On some architectures pfn 0's struct page lies before the window.
        pages.base_va = self.sections.vmemmap() or self.vmemmap.start_va
        return pages

    @cached_property
    def hugetlb(self) -> Hugetlb:
        return Hugetlb(
            self.target,
            self.memory,
            self.pages,
            self.sections,
            self.zones,
            self.vmemmap,
            frozenset(self.tail_frames),
            self.progress,
        )

    @cached_property
    def self_hosting(self) -> SelfHosting:
        return SelfHosting(
            self.memory, self.sections, self.pages, self.vmemmap, self.pgmaps
        )

    @cached_property
    def pgmaps(self) -> Pgmaps:
        return Pgmaps(self.target, self.memory, self.geometry)

    @cached_property
    def dax_devices(self) -> DaxDevices:
        return DaxDevices(self.target, self.memory, self.geometry)

    @cached_property
    def counters(self) -> MemmapCounters:
        return read_memmap_counters(self.target, self.memory)

    @cached_property
    def tail_frames(self) -> dict[int, tuple[int, int, int]]:
        """{frame: (node, zone index, order)} of the zones' shared tail pages.

        Where zones are unknown: of those that the tails of hugetlb folios share.
        """
        if not self.zones.are_known:
            return self._shared_tails()
        return {
            self.pages.pfn(tail.page_va): (zone.node, zone.index, tail.order)
            for zone in self.zones
            for tail in zone.tails
        }

    def _shared_tails(self) -> dict[int, tuple[int, int, int]]:
        """The frames behind the tails of folios, found without a name.

        Tails that hold masks are the same in all folios of an order, and kernels that
        write masks share them in the zone.
        """
        if not self.pages.has_mask:
            return {}
        hugetlb = Hugetlb(
            self.target,
            self.memory,
            self.pages,
            self.sections,
            self.zones,
            self.vmemmap,
            frozenset(),
        )
        return {
            folio.backing.tail_frame: (folio.node, folio.zone_index, folio.order)
            for folio in hugetlb.for_each_folio()
            if folio.backing.layout == "page1-shared"
        }

    @cached_property
    def types_are_known(self) -> bool:
        """False where VMCOREINFO is all that describes this kernel."""
        return types_are_known(self.target)

    @cached_property
    def kept_pages(self) -> int:
        """Vmemmap pages that an optimised hugetlb folio keeps in this kernel."""
        return 2 if self.has("hvo-keeps-two-pages") else 1

    def zone_name(self, index: int) -> str | None:
        """The name of a zone by its index, None for `UNKNOWN_ZONE`."""
        if index == UNKNOWN_ZONE:
            return None
        return self.zones.names.get(index, f"zone {index}")

    def describe(self) -> dict[str, Any]:
        """The ``kernel`` object of every JSON answer."""
        g = self.geometry
        return {
            "release": self.target.release,
            "arch": g.arch.name,
            "page_size": g.page_size,
            "page_struct_size": g.struct_page_size,
            "levels": g.levels,
            "vmemmap_va": f"{self.pages.base_va:#x}",
            "features": [f.name for f in self.features if f.present],
        }
