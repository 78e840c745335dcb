# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole vmemmap in numbers: its size, what backs it, what is saved and by what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Optional

from ..kernel.kernel import Kernel
from .dax import DaxRange, measure
from .hvo import savable_pages

__all__ = ["Group", "Summary", "add"]


@dataclass
class Group:
    """Compounds of one kind and order in one zone; numbers are None if not known.

    ``zone`` is None where zones have no names here.
    """

    node: int | None
    zone: str | None
    kind: str
    order: int
    count: int | None = 0
    optimised: int | None = 0
    saved_bytes: int | None = 0
    savable_bytes: int | None = 0

    def add(
        self, count: int, optimised: int, saved: int | None, savable: int | None
    ) -> None:
        """Add compounds, and the bytes that they save and could save."""
        self.count = add((self.count, count))
        self.optimised = None if saved is None else add((self.optimised, optimised))
        self.saved_bytes = add((self.saved_bytes, saved))
        self.savable_bytes = add((self.savable_bytes, savable))

    def forget(self) -> None:
        """Drop numbers that are of a part of the compounds alone."""
        self.count = self.optimised = self.saved_bytes = self.savable_bytes = None


Place = tuple[Optional[int], Optional[int], str, int]
"""(node, zone index, kind, order)"""


class Summary:
    """Everything `vmemmap summary` says about a kernel."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        self._page_size = kernel.geometry.page_size
        self.folios_found = 0
        """Hugetlb folios that could be read, be they all or not."""

    @cached_property
    def groups(self) -> list[Group]:
        """Hugetlb folios and DAX compounds by node, zone, kind and order."""
        groups = {**self._hugetlb_groups(), **self._dax_groups()}
        return [
            groups[key]
            for key in sorted(
                groups,
                key=lambda k: (
                    (k[0] is None, k[0] or 0),
                    (groups[k].zone or "", -1 if k[1] is None else k[1]),
                    k[2:],
                ),
            )
        ]

    def _hugetlb_groups(self) -> dict[Place, Group]:
        groups: dict[Place, Group] = {}
        for folio, count in self._kernel.hugetlb.for_each_kind():
            self.folios_found += count
            row = self._group(
                groups, folio.node, folio.zone_index, "hugetlb", folio.order
            )
            if not folio.backing.is_known:
                row.add(count, 0, None, None)
                continue
            saved = folio.backing.saved_pages
            savable = savable_pages(self._kernel, folio)
            row.add(
                count,
                count if saved else 0,
                count * saved * self._page_size,
                None if savable is None else count * savable * self._page_size,
            )
        if not self._kernel.is_complete("folios"):
            for row in groups.values():
                row.forget()
        return groups

    def _dax_groups(self) -> dict[Place, Group]:
        groups: dict[Place, Group] = {}
        for dax in sorted(self.dax_ranges, key=lambda dax: not dax.is_placed):
            order = dax.pgmap.vmemmap_shift
            if not dax.is_placed and any(key[3] == order for key in groups):
                continue  # It may belong to any of these, which are forgotten below.
            if dax.compounds is None or dax.compounds:
                row = self._group(groups, dax.node, dax.zone_index, "dax", order)
                row.add(
                    dax.compounds or 0,
                    dax.optimised or 0,
                    self._bytes(dax.saved_pages),
                    self._bytes(dax.savable_pages),
                )
                if dax.compounds is None:
                    row.forget()
        # Compounds of unknown place may belong to any group of their order.
        unplaced = {
            dax.pgmap.vmemmap_shift for dax in self.dax_ranges if not dax.is_placed
        }
        has_all = self._kernel.is_complete("device maps")
        for key, row in groups.items():
            if not has_all or key[3] in unplaced:
                row.forget()
        return groups

    def _group(
        self,
        groups: dict[Place, Group],
        node: int | None,
        zone_index: int | None,
        kind: str,
        order: int,
    ) -> Group:
        key = (node, zone_index, kind, order)
        if key not in groups:
            zone = None
            if zone_index is not None:
                zone = self._kernel.zone_name(zone_index)
            groups[key] = Group(node, zone, kind, order)
        return groups[key]

    def _bytes(self, pages: int | None) -> int | None:
        return None if pages is None else pages * self._page_size

    @cached_property
    def dax_ranges(self) -> list[DaxRange]:
        return list(measure(self._kernel))

    def totals(self) -> dict[str, int | None]:
        """The ``totals`` of the answer, in bytes, frames and leaves."""
        kernel, page = self._kernel, self._page_size
        mapped = self._mapped()
        hugetlb, dax = self._sum("hugetlb"), self._sum("dax")
        saved, tails = mapped["saved_bytes"], self._tails()
        if kernel.unknown("device maps") and saved is not None and tails is not None:
            # What hugetlb does not explain may be shared tail pages of devices.
            tails = tails if saved + tails == hugetlb else None
        altmap = self.altmap_frames()
        selfhosted = None
        if kernel.is_complete("sections", "page tables"):
            selfhosted = kernel.self_hosting.count_frames(kernel.sections)
        backing = mapped["backing_frames"]
        present = sum(1 for s in kernel.sections if s.is_present)
        return {
            "sections": present if kernel.is_complete("sections") else None,
            **mapped,
            "saved_hugetlb_bytes": hugetlb,
            "saved_dax_bytes": dax,
            "saved_other_bytes": None
            if saved is None or hugetlb is None or dax is None or tails is None
            else saved - hugetlb - dax + tails,
            "altmap_frames": altmap,
            "selfhosted_frames": selfhosted,
            "net_ram_bytes": None
            if backing is None or altmap is None or selfhosted is None
            else (backing - altmap - selfhosted) * page
            + kernel.vmemmap.page_table_bytes,
            "savable_hugetlb_bytes": self._sum("hugetlb", "savable_bytes"),
            "savable_dax_bytes": self._sum("dax", "savable_bytes"),
            "shared_tail_bytes": tails,
            "nr_memmap_pages": kernel.counters.runtime,
            "nr_memmap_boot_pages": kernel.counters.boot,
        }

    def is_known(self, kind: str) -> bool:
        """Whether the groups of this kind are all that there are."""
        parts = {"hugetlb": "folios", "dax": "device maps"}
        assert self.groups is not None  # what is missing of them shows as they are read
        return self._kernel.is_complete(parts[kind])

    def _sum(self, kind: str, key: str = "saved_bytes") -> int | None:
        """Bytes of all groups of a kind; None if any of them is not known."""
        if not self.is_known(kind):
            return None
        if kind == "dax":
            ranges = self.dax_ranges
            name = key.replace("_bytes", "_pages")
            return self._bytes(add(getattr(dax, name) for dax in ranges))
        return add(getattr(g, key) for g in self.groups if g.kind == kind)

    def gaps(self) -> Iterator[str]:
        """Why numbers of the rows are not known, in words."""
        kernel = self._kernel
        why = kernel.gap("folios") if kernel.types_are_known else None
        if why is not None:
            yield (
                f"hugetlb folios cannot be counted: {why}; "
                f"{self.folios_found} could be read"
            )
        why = kernel.gap("device maps") if kernel.types_are_known else None
        if why is not None:
            yield f"device DAX compounds cannot be counted: {why}"

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
        if self._kernel.is_complete("page tables"):
            return found
        return dict.fromkeys(found)

    def _tails(self) -> int | None:
        """Bytes of the shared tail pages that are in use."""
        kernel = self._kernel
        frames = kernel.tail_frames
        if kernel.types_are_known and not kernel.is_complete("zones"):
            return None
        if not kernel.is_complete("page tables"):
            return None
        used = sum(1 for frame in frames if frame in kernel.vmemmap.frames)
        return used * self._page_size

    def altmap_frames(self) -> int | None:
        """Distinct vmemmap frames that lie on a device (``struct vmem_altmap``)."""
        if not self._kernel.is_complete("device maps", "page tables"):
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


def add(values: Iterable[int | None]) -> int | None:
    """A sum that is unknown once a part of it is."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
