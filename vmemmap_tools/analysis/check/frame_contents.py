# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rule F12 asks of frames behind the vmemmap besides their use.

A frame has to be memory that the kernel knows, and to hold the struct pages of the
place that it is mapped at: these name their zone and node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.bit_numbers import bit_number
from ...kernel.zones import Zone
from ...target.base import Fault
from .findings import Place, Violation, hexed

if TYPE_CHECKING:
    from .context import Context

__all__ = ["Strangers", "for_each_stranger", "no_memory"]

POISON = (1 << 64) - 1
MAX_STRANGERS = 1024
"""Vmemmap pages with other contents that are told one by one."""
SAMPLES = 4
"""Struct pages of a huge leaf that are looked at."""


@dataclass(frozen=True)
class Stranger:
    """A vmemmap page whose struct page for ``pfn`` names a zone that has no such."""

    pfn: int
    flags: int


class Strangers:
    """Collects struct pages that are in the wrong place; ``found`` is bounded."""

    def __init__(self, context: Context):
        self._context = context
        self.found: list[Stranger] = []
        self._shift = context.kernel.pages.place_shift
        # While booting much is still to be set up.
        self._is_told = context.flags_trusted and not context.is_booting
        self._zones = [z for z in context.kernel.zones if z.spanned]
        reserved = bit_number(context.kernel.target, "PG_reserved")
        self._reserved = 0 if reserved is None else 1 << reserved

    def look(self, pfn: int, step: int, flags: Sequence[int]) -> None:
        """The flags of every ``step``-th struct page from that of ``pfn`` on."""
        if not self._is_told or pfn < 0:
            return
        end = pfn + step * len(flags)
        for place in {f >> self._shift for f in flags}:
            if not self._is_spanned(place, pfn, end):
                break
        else:
            return
        for i, word in enumerate(flags):
            if len(self.found) >= MAX_STRANGERS:
                return
            if self._is_strange(pfn + i * step, word):
                self.found.append(Stranger(pfn + i * step, word))

    def _is_spanned(self, place: int, pfn: int, end: int) -> bool:
        """Whether a zone with this number spans all of these pfns."""
        zone = self._zone(place)
        return zone is not None and zone.start_pfn <= pfn and end <= zone.end_pfn

    def _zone(self, place: int) -> Zone | None:
        pages, flags = self._context.kernel.pages, place << self._shift
        return self._context.kernel.zones.get(
            pages.node_of(flags), pages.zone_index_of(flags)
        )

    def _is_strange(self, pfn: int, flags: int) -> bool:
        """Whether the struct page cannot be that of a pfn.

        Holes between zones belong to either; they are reserved. What was never set up
        says nothing, nor does memory that no zone spans.
        """
        context = self._context
        if flags == POISON or self._is_spanned(flags >> self._shift, pfn, pfn + 1):
            return False
        if any(context.device_ranges_in(pfn, pfn + 1)):
            return False  # P2 tells
        if flags & self._reserved and self._zone(flags >> self._shift) is not None:
            return False
        spanning = [z for z in self._zones if z.spans(pfn)]
        return bool(spanning) and context.is_initialised(pfn)


def for_each_stranger(context: Context) -> Iterator[Violation]:
    """Pages of the vmemmap with contents of another place."""
    strangers = context.strangers
    _look_at_huge_leaves(context, strangers)
    if len(strangers.found) >= MAX_STRANGERS:
        context.leave_out(f"struct pages behind the {MAX_STRANGERS} of another place")
    pages = context.kernel.pages
    for stranger in strangers.found:
        number = pages.vmemmap_page(stranger.pfn)
        frame = context.kernel.vmemmap.frame(number)
        flags = stranger.flags
        yield Violation(
            Place("pfn", stranger.pfn),
            "struct pages of another place" if flags else "empty struct pages",
            f"the struct page of pfn {stranger.pfn:#x}, in frame {frame:#x}, says node "
            f"{pages.node_of(flags)}, zone "
            f"{context.kernel.zone_name(pages.zone_index_of(flags))}",
            [
                context.zone_label(z)
                for z in context.kernel.zones.spanning(stranger.pfn)
            ],
            f"{flags:#x}",
            {**hexed(page_va=pages.va(stranger.pfn), flags=flags), "frame_pfn": frame},
            # What was handed over a kexec is set up when somebody asks for it.
            severity=None if flags else "W",
        )


def _look_at_huge_leaves(context: Context, strangers: Strangers) -> None:
    kernel, g = context.kernel, context.geometry
    per_slot = kernel.vmemmap.pages_per_slot
    for first, is_huge in kernel.vmemmap.slots():
        if not is_huge:
            continue
        for number in range(first, first + per_slot, per_slot // SAMPLES):
            va = kernel.vmemmap.page_va(number)
            if (va - kernel.pages.base_va) % kernel.pages.size:
                continue  # struct pages straddle pages here
            pa = kernel.vmemmap.frame(number) << g.page_shift
            try:
                data = kernel.memory.read_physical(pa, kernel.pages.size)
            except Fault as fault:
                context.unread(fault, "vmemmap pages")
                continue
            pfn = kernel.pages.pfn(va)
            strangers.look(pfn, 1, [kernel.pages.flags_of(data)])


def no_memory(context: Context, pfn: int, count: int, fault: Fault) -> bool:
    """Whether a fault at the struct pages of frames means that they are no memory.

    Not if a page table on the way to them is missing.
    """
    if fault.kind != "unmapped":
        return False
    vmemmap, pages = context.kernel.vmemmap, context.kernel.pages
    first = pages.vmemmap_page(pfn)
    last = vmemmap.page_number(pages.va(pfn + count) - 1)
    return not vmemmap.is_absent(first, last - first + 1)
