# SPDX-License-Identifier: LGPL-2.1-or-later
"""Context: one reading of a kernel as the rules see it.

What several rules need is made once and kept here: who owns which vmemmap page, the
sharing that nothing explains (`sharing.Sharing`), the pools' lists. Frames are kept as
bits or arrays, never as an object each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

from ...kernel.compound import CompoundBacking, classify
from ...kernel.hugetlb import Folio, Hstate
from ...kernel.hugetlb_lists import HugetlbLists, PoolList
from ...kernel.kernel import Kernel
from ...kernel.page_state import FrameState, FrameStates
from ...kernel.pageblocks import Pageblocks
from ...kernel.pgmap import DeviceRange, Pgmap
from ...kernel.progress import Progress, silent
from ...kernel.zones import Zone
from ...target.base import Fault
from .accounting import Accounting
from .frame_contents import Strangers
from .frame_scan import NoMemory, find_unusable
from .map_nodes import MapNodes
from .sharing import Sharing
from .usual import UsualFolios

__all__ = ["Context", "DeviceRange", "Progress", "silent"]

MAX_FOLIO_BYTES_SHIFT = 34
"""``MAX_FOLIO_ORDER`` is 16 GiB on every architecture that has gigantic folios."""


class Context(Accounting):
    """What rules read, and the account of the rule that runs."""

    def __init__(
        self, kernel: Kernel, progress: Progress = silent, quick: bool = False
    ):
        super().__init__(kernel, progress)
        self.geometry = kernel.geometry
        self.quick = quick
        self.overlapping_ranges: list[DeviceRange] = []

    # Features

    def lacks(self, *features: str) -> str | None:
        """Why a rule that needs these features does not apply; None if all are here."""
        for feature in self.kernel.features:
            if feature.name in features and not feature.present:
                how = (
                    "unknown here" if feature.present is None else "not in this kernel"
                )
                return f"{how}: {feature.evidence}"
        known = {f.name for f in self.kernel.features}
        return next((f"unknown here: {f}" for f in features if f not in known), None)

    @cached_property
    def has_zone_tails(self) -> bool:
        """Tails of hugetlb folios are the zones' shared tail pages (7.1 and later)."""
        return self.kernel.has("zone-shared-tails")

    @cached_property
    def is_booting(self) -> bool:
        """Whether boot-time states of the vmemmap may stand (``system_state``)."""
        state = self.kernel.target.unsigned("system_state")
        # What has to be done is done by then; 5.16 made a state of its own of it.
        names = "SYSTEM_FREEING_INITMEM", "SYSTEM_RUNNING"
        states = map(self.kernel.target.enumerator, names)
        ready = next((s for s in states if s is not None), None)
        return state is not None and ready is not None and state < ready

    @cached_property
    def max_folio_order(self) -> int:
        """``MAX_FOLIO_ORDER``"""
        return MAX_FOLIO_BYTES_SHIFT - self.geometry.page_shift

    @cached_property
    def order_shift(self) -> int:
        """log2 of the bytes of vmemmap of one page, for masks; needs a power of two."""
        return self.geometry.struct_page_size.bit_length() - 1

    def tail_word(self, order: int, head_va: int) -> int:
        """What the compound word of each tail of a folio must hold."""
        if self.kernel.pages.has_mask:
            return (-1 << order + self.order_shift) & (1 << 64) - 1 | 1
        return head_va | 1

    # Hugetlb

    @cached_property
    def folios(self) -> list[Folio]:
        """Hugetlb folios of which the backing is known."""
        return [f for f in self.kernel.hugetlb.folios() if f.backing.is_known]

    @cached_property
    def usual(self) -> UsualFolios:
        return UsualFolios(self)

    def folio_at(self, number: int) -> Folio | None:
        """The hugetlb folio whose struct pages begin in or span this vmemmap page."""
        starts = self.usual.starts
        i = bisect_right(starts, number) - 1
        if i < 0:
            return None
        folio = self.folios[i]
        inside = number - starts[i] < max(1, folio.backing.pages)
        return folio if inside else None

    @cached_property
    def folios_by_pfn(self) -> dict[int, Folio]:
        """Every hugetlb folio, those of unknown backing, too; for kernels' pools."""
        return {folio.pfn: folio for folio in self.kernel.hugetlb.folios()}

    def hpg(self, folio: Folio, name: str) -> bool | None:
        return self.kernel.hugetlb.has_flag(folio, name)

    def lacks_pools(self) -> str | None:
        """Why a rule about hugetlb pools does not apply; None if it does."""
        unknown = self.kernel.unknown("hstates")
        if unknown is not None:
            return unknown
        has_pools = bool(self.kernel.hugetlb.hstates)
        return None if has_pools else "this kernel has no hugetlb pools"

    def lacks_hpg(self, *names: str) -> str | None:
        """Why a rule that needs these HPG_* flags does not apply; None if it does."""
        why = self.lacks_pools()
        if why is not None:
            return why
        bits = self.kernel.hugetlb.flag_bits
        lacking = next((name for name in names if name not in bits), None)
        return None if lacking is None else f"no type tells what HPG_{lacking} is"

    @cached_property
    def pools(self) -> dict[int, Hstate]:
        """hstates by order, but for orders that no folio can have."""
        most = self.geometry.max_folio_order
        return {h.order: h for h in self.kernel.hugetlb.hstates if h.order <= most}

    @cached_property
    def nodes(self) -> list[int]:
        return sorted({zone.node for zone in self.kernel.zones})

    @cached_property
    def pool_lists(self) -> list[PoolList]:
        """Free and active lists of all pools; empty where a kernel's are unknown.

        Not walked by --quick: each entry is a read, one after the other.
        """
        kernel = self.kernel
        lists = HugetlbLists(kernel.target, kernel.memory, kernel.pages, kernel.vmemmap)
        if self.quick or not lists.are_known:
            return []
        return [
            one
            for hstate in kernel.hugetlb.hstates
            for one in lists.of_pool(hstate, self.nodes)
        ]

    # Device memory

    def lacks_maps(self) -> str | None:
        """Why a rule about device memory does not apply; None if it does."""
        return self.kernel.unknown("device maps")

    @cached_property
    def device_ranges(self) -> list[DeviceRange]:
        """Ranges of device memory, by pfn; disjoint, so that walks over them are short.

        Of ranges that overlap, which only damage can bring about, the first counts; P8
        tells of the others.
        """
        ranges = sorted(
            (
                one
                for pgmap in self.kernel.pgmaps
                for one in pgmap.device_ranges()
                if one.start < one.end
            ),
            key=lambda r: (r.start, r.end),
        )
        disjoint: list[DeviceRange] = []
        for one in ranges:
            if disjoint and one.start < disjoint[-1].end:
                self.overlapping_ranges.append(one)
            else:
                disjoint.append(one)
        return disjoint

    def device_ranges_in(self, start: int, end: int) -> Iterator[DeviceRange]:
        """The ranges of device memory that pfns ``start`` to ``end`` touch."""
        i = max(0, bisect_right(self._device_starts, start) - 1)
        for one in self.device_ranges[i:]:
            if one.start >= end:
                return
            if one.end > start:
                yield one

    @cached_property
    def _device_starts(self) -> list[int]:
        return [r.start for r in self.device_ranges]

    @cached_property
    def compound_ranges(self) -> list[DeviceRange]:
        """Ranges whose compound pages have vmemmap to share."""
        return [r for r in self.device_ranges if self._has_compounds(r)]

    def _has_compounds(self, one: DeviceRange) -> bool:
        shift = one.pgmap.vmemmap_shift
        return (
            self.shift_is_sane(one.pgmap)
            and self.geometry.vmemmap_pages(shift) > 0
            and one.first_pfn < one.end
        )

    def shift_is_sane(self, pgmap: Pgmap) -> bool:
        return 0 <= pgmap.vmemmap_shift <= self.max_folio_order

    def dax_at(self, pfn: int) -> tuple[Pgmap, int] | None:
        """(map, head pfn) of the device compound that has this pfn."""
        for one in self.device_ranges_in(pfn, pfn + 1):
            head = one.compound_head(pfn) if self._has_compounds(one) else None
            return None if head is None else (one.pgmap, head)
        return None

    def backing_of(self, pfn: int, order: int) -> CompoundBacking:
        """What backs the struct pages of a compound of at most MAX_FOLIO_ORDER."""
        assert order <= self.max_folio_order
        return classify(
            self.kernel.vmemmap,
            self.kernel.pages.vmemmap_page(pfn),
            self.geometry.vmemmap_pages(order),
            self.kernel.tail_frames,
        )

    @cached_property
    def map_nodes(self) -> MapNodes:
        return MapNodes(self)

    @cached_property
    def device_zone(self) -> int | None:
        """Index of ZONE_DEVICE."""
        return self.kernel.target.enumerator("ZONE_DEVICE")

    # Frames and pages

    @property
    def sharing(self) -> Sharing:
        return self.once("sharing", lambda: Sharing(self))

    @cached_property
    def strangers(self) -> Strangers:
        return Strangers(self)

    @cached_property
    def frame_states(self) -> FrameStates:
        return FrameStates(self.kernel.target, self.kernel.pages)

    @property
    def unusable_frames(self) -> list[FrameState | NoMemory]:
        """Frames behind the vmemmap that cannot be in use as such, or are no memory.

        Struct pages of frames in an altmap are never set up and say nothing.
        """
        return self.once("unusable frames", lambda: list(find_unusable(self)))

    @property
    def self_hosted_frames(self) -> set[int]:
        """Frames behind the vmemmap with PG_vmemmap_self_hosted."""
        _ = self.unusable_frames  # the one look at them all
        return self.frame_states.self_hosted

    def is_told(self, state: FrameState) -> bool:
        """Whether what a frame's struct page says counts.

        While booting an empty one may still be to be set up.
        """
        return bool(state.flags) or not self.is_booting

    def is_initialised(self, pfn: int) -> bool:
        """Whether the struct page of a pfn was ever set up, and is kept up to date.

        Not in memory that is offline, nor in a driver's reserve in front of an altmap:
        there stands whatever the frame held before. What the altmap hands out is set up
        once, and left out here with it.
        """
        for one in self.device_ranges_in(pfn, pfn + 1):
            return pfn >= one.first_pfn
        section = self.kernel.sections.of_pfn(pfn)
        return section is not None and section.has_mem_map and section.is_online

    @cached_property
    def pageblocks(self) -> Pageblocks:
        kernel = self.kernel
        return Pageblocks(
            kernel.target, kernel.memory, kernel.geometry, kernel.sections
        )

    @cached_property
    def has_memory_blocks(self) -> bool:
        """Whether memory blocks are known in this kernel."""
        sections = self.kernel.sections
        return any(sections.memory_block(s) is not None for s in sections)

    def zone_label(self, zone: Zone) -> str:
        return f"node {zone.node} {zone.name}"

    @cached_property
    def flags_trusted(self) -> bool:
        """Whether the widths of the node and zone fields agree with the zones' spans.

        They are derived, not read: a few pages of each zone decide whether any rule may
        speak about node and zone of a struct page.
        """
        pages, agree, differ = self.kernel.pages, 0, 0
        for zone in self.kernel.zones:
            if not zone.present:
                continue
            for part in (1, 3, 5, 7):
                pfn = zone.start_pfn + zone.spanned * part // 8
                try:
                    page = pages.page(pfn)
                except Fault:
                    continue
                if page.is_poisoned or not page.flags:
                    continue
                found = self.kernel.zones.get(pages.node(page), pages.zone_index(page))
                if found is not None and found.spans(pfn):
                    agree += 1
                else:
                    differ += 1
        return agree > differ
