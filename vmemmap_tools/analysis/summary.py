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

        None where this kernel's types would have to be known.
        """
        kernel, page = self._kernel, self._page_size
        vmemmap = kernel.vmemmap
        backing = vmemmap.frames.distinct
        saved = vmemmap.mapped_bytes - backing * page
        hugetlb = sum(g.saved_bytes for g in self.groups if g.kind == "hugetlb")
        dax = None
        if kernel.pgmaps.are_known:
            dax = sum(g.saved_bytes for g in self.groups if g.kind == "dax")
        tails = sum(1 for frame in kernel.tail_frames if frame in vmemmap.frames)
        altmap = self.altmap_frames()
        selfhosted = kernel.self_hosting.count_frames(kernel.sections)
        return {
            "sections": sum(1 for s in kernel.sections if s.is_present),
            "mapped_bytes": vmemmap.mapped_bytes,
            "backing_frames": backing,
            "huge_leaves": vmemmap.huge_leaves,
            "base_leaves": vmemmap.base_leaves,
            "readonly_leaves": vmemmap.readonly_leaves,
            "shared_frames": len(vmemmap.frames.shared),
            "saved_bytes": saved,
            "saved_hugetlb_bytes": hugetlb,
            "saved_dax_bytes": dax,
            "saved_other_bytes": None
            if dax is None
            else saved - hugetlb - dax + tails * page,
            "altmap_frames": altmap,
            "selfhosted_frames": selfhosted,
            "net_ram_bytes": None
            if altmap is None or selfhosted is None
            else (backing - altmap - selfhosted) * page + vmemmap.page_table_bytes,
            "savable_hugetlb_bytes": self._savable("hugetlb"),
            "savable_dax_bytes": None if dax is None else self._savable("dax"),
            "page_table_bytes": vmemmap.page_table_bytes,
            # What hugetlb does not explain may be shared tail pages of devices.
            "shared_tail_bytes": None
            if dax is None and saved + tails * page != hugetlb
            else tails * page,
            "nr_memmap_pages": kernel.counters.runtime,
            "nr_memmap_boot_pages": kernel.counters.boot,
        }

    def _savable(self, kind: str) -> int | None:
        """Bytes that groups of this kind could save; None if one cannot be told."""
        total: int | None = 0
        for group in self.groups:
            if group.kind == kind:
                total = _plus(total, group.savable_bytes)
        return total

    def altmap_frames(self) -> int | None:
        """Distinct vmemmap frames that lie on a device (``struct vmem_altmap``)."""
        if not self._kernel.pgmaps.are_known:
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
