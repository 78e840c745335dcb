# SPDX-License-Identifier: LGPL-2.1-or-later
"""The node of each device map.

memremap_pages() puts all memory of a map on one node, but the map does not keep it:
most of some struct pages tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from ...kernel.pgmap import Pgmap
from ...target.base import Fault

if TYPE_CHECKING:
    from .context import Context, DeviceRange

__all__ = ["MapNodes"]

MAX_RANGES = 1 << 6
"""Ranges of a map that are asked for its node."""


class MapNodes:
    """Nodes of device maps, each found once."""

    def __init__(self, context: Context):
        self._context = context
        self._known: dict[int, int | None] = {}

    def of(self, pgmap: Pgmap) -> int | None:
        """The node of a map's memory, None if its struct pages do not tell."""
        if pgmap.va not in self._known:
            found = Counter(map(self._node_of, self._samples(pgmap)))
            del found[None]
            common = found.most_common(1)
            self._known[pgmap.va] = common[0][0] if common else None
        return self._known[pgmap.va]

    def _samples(self, pgmap: Pgmap) -> Iterator[int]:
        """pfns at the start, in the middle and at the end of a map's ranges."""
        for one in self._ranges.get(pgmap.va, ()):
            if one.first_pfn < one.end:
                yield one.first_pfn
                yield (one.first_pfn + one.end) // 2
                yield one.end - 1

    @cached_property
    def _ranges(self) -> dict[int, list[DeviceRange]]:
        """The ranges to ask of each map, by its address.

        Not sought by the borders that a map names: a damaged map may name everything.
        """
        found: dict[int, list[DeviceRange]] = {}
        for one in self._context.device_ranges:
            ranges = found.setdefault(one.pgmap.va, [])
            if len(ranges) < MAX_RANGES:
                ranges.append(one)
        return found

    def _node_of(self, pfn: int) -> int | None:
        """The node that a struct page names; None if it is blank or not here."""
        if not self._context.flags_trusted:
            return None
        pages = self._context.kernel.pages
        try:
            page = pages.page(pfn)
        except Fault:
            return None
        return None if page.is_poisoned or not page.flags else pages.node(page)
