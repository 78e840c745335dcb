# SPDX-License-Identifier: LGPL-2.1-or-later
"""HugeTLB: pools (struct hstate) and the folios in them, with their HVO state.

Mirrors ``include/linux/hugetlb.h``. Folios are found by looking at every struct page
that could be a head, not through the pools' lists: it needs no list to be sound, finds
isolated folios as well, and works where a list would change under the reader.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from ..target.base import Fault, Target
from .bare import NO_TYPES, types_are_known
from .bit_numbers import bit_numbers
from .compound import TailFrames
from .folio_scan import Folio, FolioScan
from .layout import require_struct
from .memory import Memory, Missing, Record
from .pages import Pages
from .progress import Progress, silent
from .sections import Sections
from .vmemmap import Vmemmap
from .zones import Zones

__all__ = ["Folio", "Hstate", "Hugetlb"]

T = TypeVar("T")

MAX_HSTATES = 32
COUNTS = (
    "nr_huge_pages",
    "free_huge_pages",
    "resv_huge_pages",
    "surplus_huge_pages",
    "nr_overcommit_huge_pages",
)
HPG_PREFIX = "HPG_"


@dataclass(frozen=True)
class Hstate:
    """One pool. Per-node values are indexed by node id."""

    index: int
    va: int
    name: str
    order: int
    demote_order: int | None
    total: int
    free: int
    reserved: int
    surplus: int
    overcommit: int
    total_by_node: tuple[int, ...]
    free_by_node: tuple[int, ...]
    surplus_by_node: tuple[int, ...]


class Hugetlb:
    """The hugetlb pools of a kernel.

    ``tail_frames`` is asked when folios are looked for: it may itself have to look.
    """

    def __init__(
        self,
        target: Target,
        memory: Memory,
        pages: Pages,
        sections: Sections,
        zones: Zones,
        vmemmap: Vmemmap,
        tail_frames: Callable[[], TailFrames],
        progress: Progress = silent,
    ):
        self._target = target
        self._memory = memory
        self._pages = pages
        self._sections = sections
        self._zones = zones
        self._vmemmap = vmemmap
        self._tail_frames = tail_frames
        self._progress = progress
        self._folios: list[Folio] | None = None
        self._is_counted = False

    @cached_property
    def unknown(self) -> str | None:
        """What is not known without which no pool of a kernel with hugetlb is found.

        None where pools are known, and in a kernel that has none.
        """
        struct = self._target.struct("hstate")
        if struct is None and not types_are_known(self._target):
            return NO_TYPES
        # Empty without CONFIG_HUGETLB_PAGE.
        if struct is None or not struct.members:
            return None
        for name in ("hstates", "hugetlb_max_hstate"):
            if self._target.variable(name) is None:
                return f"no variable {name}"
        return None

    @cached_property
    def hstates(self) -> list[Hstate]:
        """All pools; empty in a kernel without hugetlb. Raises `LayoutError`."""
        return list(self._read_hstates())

    @cached_property
    def flag_bits(self) -> dict[str, int]:
        """HPG_* flag names to bit numbers (``enum hugetlb_page_flags``)."""
        found = bit_numbers(self._target, "hugetlb_page_flags")
        return {
            name[len(HPG_PREFIX) :]: bit
            for name, bit in found.items()
            if name.startswith(HPG_PREFIX)
        }

    def flag_names(self, folio: Folio) -> list[str] | None:
        """Names of the HPG_* flags that are set, without it; None if unknown."""
        if not self.flag_bits:
            return None
        return [
            name for name, bit in self.flag_bits.items() if folio.private >> bit & 1
        ]

    def has_flag(self, folio: Folio, name: str) -> bool | None:
        """Whether an HPG_* flag is set; None when this kernel has no such flag."""
        bit = self.flag_bits.get(name)
        return None if bit is None else bool(folio.private >> bit & 1)

    def folios(self) -> list[Folio]:
        """Every hugetlb folio, by pfn; found once and kept."""
        if self._folios is None:
            with _no_collection():
                self._folios = list(self.for_each_folio())
        return self._folios

    def look_at_all(self) -> None:
        """Look for folios everywhere, so that what is missing of them is counted."""
        if not self._is_counted:
            for _ in self.for_each_kind():
                pass

    def for_each_folio(self) -> Iterable[Folio]:
        """Every hugetlb folio, by pfn; found anew, and not kept, unless they were."""
        if self._folios is not None:
            return self._folios
        scan = self._scan()
        return self._counted_once(scan, scan.each())

    def for_each_kind(self) -> Iterable[tuple[Folio, int]]:
        """(folio, count) of folios that follow each other and are alike, by pfn.

        They share order, place, flags and what backs them but for the head's frame: a
        terabyte of huge pages is counted so, and not looked at one by one.
        """
        if self._folios is not None:
            return ((folio, 1) for folio in self._folios)
        scan = self._scan()
        return self._counted_once(scan, scan.alike())

    def _counted_once(self, scan: FolioScan, found: Iterator[T]) -> Iterator[T]:
        """What a scan finds; what it lacks counts when the first of them ends."""
        yield from found
        if not self._is_counted:
            self._is_counted = True
            self._memory.missing.add(scan.missing)

    def _scan(self) -> FolioScan:
        return FolioScan(
            self._memory,
            self._pages,
            self._sections,
            self._vmemmap,
            self._tail_frames(),
            self._orders(),
            self._progress,
            Missing(),
        )

    def _orders(self) -> set[int]:
        """Orders of folios to look for: those of pools, or all where pools are unknown.

        A pool may count none and still have some: ``remove_hugetlb_folio()`` takes
        folios off the books before their vmemmap is restored, and those with unknown
        poisoned pages (HPG_raw_hwp_unreliable) are never freed.
        """
        g = self._pages.geometry
        hstates = self.hstates
        if self.unknown is not None or self._memory.missing.about("hstates"):
            return set(range(g.arch.huge_page_order, g.max_folio_order + 1))
        may_be_off_books = self._vmemmap.readonly_leaves > 0
        return {
            h.order
            for h in hstates
            if (h.total or may_be_off_books) and h.order <= g.max_folio_order
        }

    # Pools

    def _read_hstates(self) -> Iterator[Hstate]:
        struct = self._target.struct("hstate")
        array = self._target.variable("hstates")
        count = self._target.unsigned("hugetlb_max_hstate")
        if struct is None or array is None:
            return
        require_struct(self._target, "hstate", "order", *COUNTS)
        if count is None:
            counter = self._target.variable("hugetlb_max_hstate")
            if counter is not None:
                try:
                    self._memory.read(counter.address, counter.type.size)
                except Fault as fault:
                    self._memory.missing.record(fault, "hstates")
            return
        length = array.type.length or MAX_HSTATES
        for index in range(min(count, length, MAX_HSTATES)):
            va = array.address + index * struct.size
            try:
                record = self._memory.record(struct, va)
            except Fault as fault:
                self._memory.missing.record(fault, "hstates")
                continue
            yield self._decode_hstate(index, record)

    def _decode_hstate(self, index: int, record: Record) -> Hstate:
        by_node = {
            name: tuple(record.array(name)) if name in record else (record[whole],)
            for name, whole in (
                ("nr_huge_pages_node", "nr_huge_pages"),
                ("free_huge_pages_node", "free_huge_pages"),
                ("surplus_huge_pages_node", "surplus_huge_pages"),
            )
        }
        name = record.bytes("name").split(b"\0")[0] if "name" in record else b""
        return Hstate(
            index=index,
            va=record.address,
            name="".join(chr(c) for c in name if 32 <= c < 127),
            order=record["order"],
            demote_order=record.get("demote_order"),
            total=record["nr_huge_pages"],
            free=record["free_huge_pages"],
            reserved=record["resv_huge_pages"],
            surplus=record["surplus_huge_pages"],
            overcommit=record["nr_overcommit_huge_pages"],
            total_by_node=by_node["nr_huge_pages_node"],
            free_by_node=by_node["free_huge_pages_node"],
            surplus_by_node=by_node["surplus_huge_pages_node"],
        )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold off the cycle collector while much is made that will all be kept.

    It would look at half a million folios again and again, a third of the time that
    they take to find.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
