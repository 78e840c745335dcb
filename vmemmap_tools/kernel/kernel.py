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
from .compound import TailFrames
from .counters import MemmapCounters, read_memmap_counters
from .dax_devices import DaxDevices
from .features import Feature, features_without_types, find_features
from .gaps import gap, unknown
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
            return features_without_types(self.target, self.pages.mask_evidence)
        return find_features(self.target)

    def has(self, feature: str) -> bool:
        """Whether a named Feature is present."""
        return any(f.present for f in self.features if f.name == feature)

    def unknown_feature(self, feature: str) -> str | None:
        """Why it is unknown whether a named Feature is present; None if it is known."""
        found = (f for f in self.features if f.name == feature and f.present is None)
        return next((f"{f.name} is unknown: {f.evidence}" for f in found), None)

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
            lambda: self.tail_frames,
            self.progress,
        )

    @cached_property
    def self_hosting(self) -> SelfHosting:
        return SelfHosting(self)

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
    def tail_frames(self) -> TailFrames:
        """The frames of the zones' shared tail pages.

        Where no type describes zones: of those that the tails of hugetlb folios share.
        """
        if not self.types_are_known:
            return self._shared_tails()
        frames = TailFrames()
        for zone in self.zones:
            for tail in zone.tails or ():
                place = zone.node, zone.index, tail.order
                frames[self.pages.pfn(tail.page_va)] = place
        if self.has("zone-shared-tails"):
            frames.is_complete = self.is_complete("zones")
        return frames

    def _shared_tails(self) -> TailFrames:
        """The frames behind the tails of folios, found without a name.

        Tails that hold masks are the same in all folios of an order, and kernels that
        write masks share them in the zone.
        """
        frames = TailFrames()
        if not self.pages.has_mask:
            return frames
        hugetlb = Hugetlb(
            self.target,
            self.memory,
            self.pages,
            self.sections,
            self.zones,
            self.vmemmap,
            lambda: frames,
        )
        frames.update(
            {
                folio.backing.tail_frame: (folio.node, folio.zone_index, folio.order)
                for folio in hugetlb.for_each_folio()
                if folio.backing.layout == "page1-shared"
            }
        )
        return frames

    @cached_property
    def types_are_known(self) -> bool:
        """False where VMCOREINFO is all that describes this kernel."""
        return types_are_known(self.target)

    @cached_property
    def kept_pages(self) -> int:
        """Vmemmap pages that an optimised hugetlb folio keeps in this kernel."""
        return 2 if self.has("hvo-keeps-two-pages") else 1

    def zone_name(self, index: int) -> str | None:
        """The name of a zone by its index, None where it is not known."""
        name = self.zones.names.get(index)
        if name is None and index != UNKNOWN_ZONE and self.is_complete("zone names"):
            return f"zone {index}"
        return name

    def gap(self, *parts: str) -> str | None:
        """What is missing of the first part that is incomplete; None if none is.

        ``parts`` are keys of `gaps.PARTS`.
        """
        return next(filter(None, (gap(self, part) for part in parts)), None)

    def unknown(self, part: str) -> str | None:
        """Why nothing at all is known of a part; None if something may be."""
        return unknown(self, part)

    def is_complete(self, *parts: str) -> bool:
        """Whether these parts are known, and all of them could be read."""
        return self.gap(*parts) is None

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
            "unknown_features": [f.name for f in self.features if f.present is None],
        }
