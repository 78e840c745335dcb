# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole vmemmap in numbers: its size, what backs it, what is saved and by what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..kernel.kernel import Kernel
from .dax import DaxRange, measure
from .hvo import savable_pages
from .parts import add, is_whole

__all__ = ["Group", "Summary"]


@dataclass
class Group:
    """Compounds of one kind and order in one zone."""

    node: int | None
    zone: str | None
    kind: str
    order: int
    count: int = 0
    optimised: int = 0
    saved_bytes: int = 0
    savable_bytes: int | None = 0


class Summary:
    """Everything `vmemmap summary` says about a kernel."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        self._page_size = kernel.geometry.page_size
        self._has_all_folios = False

    @cached_property
    def groups(self) -> list[Group]:
        """Hugetlb folios and DAX compounds by node, zone, kind and order."""
        groups: dict[tuple[Any, ...], Group] = {}

        def group(node: int | None, zone: str | None, kind: str, order: int) -> Group:
            key = (node, zone, kind, order)
            if key not in groups:
                groups[key] = Group(*key)
            return groups[key]

        kernel = self._kernel
        for folio, count in kernel.hugetlb.for_each_kind():
            zone = kernel.zone_name(folio.zone_index)
            row = group(folio.node, zone, "hugetlb", folio.order)
            saved = folio.backing.saved_pages
            row.count += count
            if saved:
                row.optimised += count
                row.saved_bytes += count * saved * self._page_size
            else:
                row.savable_bytes = _plus(
                    row.savable_bytes,
                    savable_pages(kernel, folio),
                    count * self._page_size,
                )
        self._has_all_folios = is_whole(kernel, "folios", "zones")
        for dax in self.dax_ranges:
            if not dax.compounds:
                continue
            row = group(dax.node, dax.zone, "dax", dax.pgmap.vmemmap_shift)
            row.count += dax.compounds
            row.optimised += dax.optimised
            row.saved_bytes += dax.saved_pages * self._page_size
            row.savable_bytes = _plus(
                row.savable_bytes, dax.savable_pages, self._page_size
            )
        return [
            groups[key]
            for key in sorted(
                groups, key=lambda k: (k[0] is None, k[0] or 0, k[1] or "", k[2:])
            )
        ]

    @cached_property
    def dax_ranges(self) -> list[DaxRange]:
        return list(measure(self._kernel))

    def totals(self) -> dict[str, int | None]:
        """The ``totals`` of the answer, in bytes, frames and leaves.

        None where this kernel's types would have to be known, or where some of what is
        counted could not be read.
        """
        kernel, page = self._kernel, self._page_size
        mapped = self._mapped()
        hugetlb = sum(g.saved_bytes for g in self.groups if g.kind == "hugetlb")
        dax = sum(g.saved_bytes for g in self.groups if g.kind == "dax")
        saved, tails = mapped["saved_bytes"], self._tails()
        knows_hugetlb, knows_dax = self.is_known("hugetlb"), self.is_known("dax")
        knows_all = knows_hugetlb and knows_dax and tails is not None
        if not kernel.pgmaps.are_known and saved is not None and tails is not None:
            # What hugetlb does not explain may be shared tail pages of devices.
            tails = tails if saved + tails == hugetlb else None
        altmap = self.altmap_frames()
        selfhosted = kernel.self_hosting.count_frames(kernel.sections)
        if not is_whole(kernel, "hosting"):
            selfhosted = None
        backing = mapped["backing_frames"]
        present = sum(1 for s in kernel.sections if s.is_present)
        return {
            "sections": present if is_whole(kernel, "sections") else None,
            **mapped,
            "saved_hugetlb_bytes": hugetlb if knows_hugetlb else None,
            "saved_dax_bytes": dax if knows_dax else None,
            "saved_other_bytes": saved - hugetlb - dax + tails
            if knows_all and saved is not None and tails is not None
            else None,
            "altmap_frames": altmap,
            "selfhosted_frames": selfhosted,
            "net_ram_bytes": None
            if backing is None or altmap is None or selfhosted is None
            else (backing - altmap - selfhosted) * page
            + kernel.vmemmap.page_table_bytes,
            "savable_hugetlb_bytes": self._savable("hugetlb"),
            "savable_dax_bytes": self._savable("dax"),
            "shared_tail_bytes": tails,
            "nr_memmap_pages": kernel.counters.runtime,
            "nr_memmap_boot_pages": kernel.counters.boot,
        }

    def is_known(self, kind: str) -> bool:
        """Whether the groups of this kind are all that there are, and whole."""
        kernel = self._kernel
        assert self.groups is not None, "what is missing of them shows as they are read"
        if kind == "hugetlb":
            return self._has_all_folios
        return kernel.pgmaps.are_known and is_whole(
            kernel, "device maps", "sections", "page tables"
        )

    def _mapped(self) -> dict[str, int | None]:
        """What the page tables show."""
        vmemmap = self._kernel.vmemmap
        backing = vmemmap.frames.distinct
        found: dict[str, int | None] = {
            "mapped_bytes": vmemmap.mapped_bytes,
            "backing_frames": backing,
            "huge_leaves": vmemmap.huge_leaves,
            "base_leaves": vmemmap.base_leaves,
            "readonly_leaves": vmemmap.readonly_leaves,
            "shared_frames": len(vmemmap.frames.shared),
            "saved_bytes": vmemmap.mapped_bytes - backing * self._page_size,
            "page_table_bytes": vmemmap.page_table_bytes,
        }
        if is_whole(self._kernel, "page tables"):
            return found
        return dict.fromkeys(found)

    def _tails(self) -> int | None:
        """Bytes of the shared tail pages that are in use."""
        kernel = self._kernel
        frames = kernel.tail_frames
        if not is_whole(kernel, "page tables", "zones"):
            return None
        used = sum(1 for frame in frames if frame in kernel.vmemmap.frames)
        return used * self._page_size

    def _savable(self, kind: str) -> int | None:
        """Bytes that groups of this kind could save; None if one cannot be told."""
        if not self.is_known(kind):
            return None
        return add(g.savable_bytes for g in self.groups if g.kind == kind)

    def altmap_frames(self) -> int | None:
        """Distinct vmemmap frames that lie on a device (``struct vmem_altmap``)."""
        if not self._kernel.pgmaps.are_known or not is_whole(
            self._kernel, "device maps", "page tables"
        ):
            return None
        return sum(
            self._kernel.vmemmap.frames.distinct_in(start, end)
            for start, end in self._altmap_areas()
        )

    def _altmap_areas(self) -> Iterator[tuple[int, int]]:
        """The areas of all altmaps, disjoint."""
        reached = 0
        areas = sorted(
            (p.altmap.base_pfn, p.altmap.end_pfn)
            for p in self._kernel.pgmaps
            if p.altmap is not None
        )
        for start, end in areas:
            if end > max(start, reached):
                yield max(start, reached), end
                reached = end


def _plus(total: int | None, more: int | None, factor: int = 1) -> int | None:
    """A sum that is unknown once a part of it is."""
    return None if total is None or more is None else total + more * factor
