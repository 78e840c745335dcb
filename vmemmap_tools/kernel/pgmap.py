# SPDX-License-Identifier: LGPL-2.1-or-later
"""dev_pagemap: device memory with struct pages (device DAX, fsdax, ...).

Mirrors ``include/linux/memremap.h`` and ``mm/memremap.c``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from ..target.base import Fault, Target
from . import xarray
from .bare import NO_TYPES, types_are_known
from .layout import Geometry, require_struct
from .memory import Memory, Record

__all__ = ["Altmap", "DeviceRange", "Pgmap", "Pgmaps"]

ARRAY = "pgmap_array"
PGMAP_ALTMAP_VALID = 1 << 0
MAX_RANGES = 1 << 12
MAX_PGMAPS = 1 << 16
ALTMAP = tuple(
    f"altmap.{name}" for name in ("base_pfn", "reserve", "free", "align", "alloc")
)
TYPE_PREFIX = "MEMORY_DEVICE_"


@dataclass(frozen=True)
class Altmap:
    """``struct vmem_altmap``: the part of the device that backs its own vmemmap."""

    base_pfn: int
    reserve: int
    free: int
    align: int
    alloc: int

    @property
    def end_pfn(self) -> int:
        return self.base_pfn + self.reserve + self.free


@dataclass(frozen=True)
class Pgmap:
    """One struct dev_pagemap. ``ranges`` are (first pfn, end pfn).

    ``compound_order`` is ``vmemmap_shift``, but 0 where that is no order of any folio.
    """

    va: int
    type: int
    type_name: str
    vmemmap_shift: int
    compound_order: int
    altmap: Altmap | None
    ranges: tuple[tuple[int, int], ...]

    def device_ranges(self) -> Iterator[DeviceRange]:
        """The ranges, in the map's order."""
        for index, (start, end) in enumerate(self.ranges):
            yield DeviceRange(self, start, end, index)


@dataclass(frozen=True)
class DeviceRange:
    """One range of a dev_pagemap; ``index`` is its place among the map's ranges."""

    pgmap: Pgmap
    start: int
    end: int
    index: int

    @property
    def first_pfn(self) -> int:
        """``pfn_first()``: behind what an altmap takes of the first range.

        The map's compound pages begin here.
        """
        altmap = self.pgmap.altmap
        if altmap is None or self.index:
            return self.start
        return self.start + altmap.reserve + altmap.free

    def compound_head(self, pfn: int) -> int | None:
        """pfn of the head of the compound page that has this pfn.

        None for a map without compound pages, in what the altmap takes, and where no
        whole compound page fits.
        """
        shift, first = self.pgmap.compound_order, self.first_pfn
        if not shift or not first <= pfn < self.end:
            return None
        head = first + (pfn - first >> shift << shift)
        return head if head + (1 << shift) <= self.end else None


class Pgmaps:
    """All device page maps, from ``pgmap_array``. Raises `LayoutError`."""

    def __init__(self, target: Target, memory: Memory, geometry: Geometry):
        self._target = target
        self._memory = memory
        self._geometry = geometry
        self._taken: list[tuple[int, int]] = []
        self._struct = target.struct("dev_pagemap")
        self._range = target.struct("range")
        self._all = list(self._read())

    @property
    def unknown(self) -> str | None:
        """What is not known without which no map of a kernel with devices is found.

        None where maps are known, and in a kernel that has none.
        """
        if self._struct is None and not types_are_known(self._target):
            return NO_TYPES
        if self._target.enumerator("ZONE_DEVICE") is None:
            return None
        if self._target.variable(ARRAY) is None:
            return f"no variable {ARRAY}"
        types = "dev_pagemap", "range", "xarray", "xa_node"
        lacking = next((t for t in types if self._target.struct(t) is None), None)
        return None if lacking is None else f"no type {lacking}"

    def __iter__(self) -> Iterator[Pgmap]:
        """Every map once, by its first pfn."""
        return iter(self._all)

    def of_pfn(self, pfn: int) -> Pgmap | None:
        """The map that has this pfn (``get_dev_pagemap``)."""
        found = self.range_of_pfn(pfn)
        return None if found is None else found.pgmap

    def range_of_pfn(self, pfn: int) -> DeviceRange | None:
        """The range of device memory that has this pfn."""
        for pgmap in self._all:
            for one in pgmap.device_ranges():
                if one.start <= pfn < one.end:
                    return one
        return None

    def _read(self) -> Iterator[Pgmap]:
        array = self._target.variable(ARRAY)
        if array is None or self._struct is None:
            return
        require_struct(self._target, "dev_pagemap", "type", "flags", *ALTMAP)
        if self._range is not None:
            require_struct(self._target, "range", "start", "end")
        seen: set[int] = set()
        try:
            for _, va in xarray.for_each_entry(self._memory, array.address):
                if va in seen or len(seen) >= MAX_PGMAPS:
                    continue
                seen.add(va)
                pgmap = self._decode(va)
                if pgmap is not None:
                    yield pgmap
        except Fault as fault:
            self._memory.missing.record(fault, "nodes of pgmap_array")

    def _decode(self, va: int) -> Pgmap | None:
        assert self._struct is not None
        try:
            record = self._memory.record(self._struct, va)
            ranges = tuple(self._ranges(record))
        except Fault as fault:
            self._memory.missing.record(fault, "dev_pagemaps")
            return None
        names = {v: n for n, v in self._target.enumerators("memory_type").items()}
        name = names.get(record["type"], f"type {record['type']}")
        shift = record.get("vmemmap_shift") or 0
        return Pgmap(
            va=va,
            type=record["type"],
            type_name=name.replace(TYPE_PREFIX, "", 1),
            vmemmap_shift=shift,
            compound_order=shift if shift <= self._geometry.max_folio_order else 0,
            altmap=self._altmap(record),
            ranges=ranges,
        )

    def _altmap(self, record: Record) -> Altmap | None:
        """The altmap, which counts only if the map's flags say so."""
        if not record["flags"] & PGMAP_ALTMAP_VALID:
            return None
        return Altmap(*(record[name] for name in ALTMAP))

    def _ranges(self, record: Record) -> Iterator[tuple[int, int]]:
        """The physical ranges; a struct range has an inclusive end.

        Ends with the first that cannot be: empty, beyond physical memory, or taken by
        a range before it, which ``pgmap_array`` rules out.
        """
        member = record.struct.first("range", "ranges")
        if self._range is None or member is None:
            return
        shift = self._geometry.page_shift
        limit = 1 << self._geometry.max_physmem_bits - shift
        count = min(record.get("nr_range") or 1, MAX_RANGES)
        first = record.address_of(member)
        for i in range(count):
            entry = self._memory.record(self._range, first + i * self._range.size)
            start, end = entry["start"] >> shift, entry["end"] + 1 >> shift
            if not start < end <= limit or self._is_taken(start, end):
                fault = Fault(entry.address, self._range.size, "damaged")
                self._memory.missing.record(fault, "ranges of dev_pagemaps", count - i)
                return
            insort(self._taken, (start, end))
            yield start, end

    def _is_taken(self, start: int, end: int) -> bool:
        i = bisect_left(self._taken, (end, 0))
        return i > 0 and self._taken[i - 1][1] > start
