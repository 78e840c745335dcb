# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finding hugetlb folios: a look at every struct page that could be a head.

A terabyte of 2 MiB folios has half a million heads, so that this loop is written for
speed: one read and one unpacking for each candidate, nothing kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Callable, NamedTuple

from ..target.base import Fault
from .compound import Classifier, CompoundBacking, TailFrames
from .layout import LayoutError
from .memory import Memory, Missing
from .pages import PAGES_OF_FOLIO_HEAD, Pages
from .progress import Progress, silent
from .sections import Section, Sections
from .vmemmap import HOLE, Vmemmap

__all__ = ["Folio", "FolioScan"]


Candidate = tuple[int, int, int]
"""(pfn, vmemmap page, physical address of its struct page)."""
Run = list[Candidate]
Head = tuple[int, int, int, tuple[int, int], int, "bool | None"]
"""(pfn, vmemmap page, order, (node, zone index), private, hwpoison) of a head."""


class Folio(NamedTuple):
    """One hugetlb folio. ``private`` is the head's word of HPG_* flags.

    ``hwpoison``: whether the head has PG_hwpoison, None if the flag is unknown. It
    stands for all pages of the folio.
    """

    pfn: int
    order: int
    node: int
    zone_index: int
    private: int
    backing: CompoundBacking
    hwpoison: bool | None = None


@dataclass(frozen=True)
class FolioScan:
    """Looks for hugetlb folios of these orders in all sections.

    Struct pages may be missing: they are counted in ``missing``, and their folios left
    out.
    """

    memory: Memory
    pages: Pages
    sections: Sections
    vmemmap: Vmemmap
    tail_frames: TailFrames
    orders: Collection[int]
    progress: Progress = silent
    missing: Missing = field(default_factory=Missing)

    def each(self) -> Iterator[Folio]:
        """Every folio, by pfn."""
        for heads, backings in self._found():
            for head, backing in zip(heads, backings):
                pfn, _, order, (node, zone_index), private, hwpoison = head
                yield Folio(pfn, order, node, zone_index, private, backing, hwpoison)

    def alike(self) -> Iterator[tuple[Folio, int]]:
        """(folio, count): so many folios one behind the other, of which this is one.

        They differ in nothing but their place and the frame of their head.
        """
        for heads, backings in self._found():
            pfn, _, order, (node, zone), private, hwpoison = heads[0]
            backing = next(backings)
            folio = Folio(pfn, order, node, zone, private, backing, hwpoison)
            yield folio, len(heads)

    def _found(self) -> Iterator[tuple[list[Head], Iterator[CompoundBacking]]]:
        """Heads of folios, with what backs each: several at once if they are alike."""
        if not self.orders:
            return
        scan = _Scan(self.memory, self.pages, self.vmemmap, self.missing)
        classify = Classifier(self.vmemmap, self.tail_frames)
        step = 1 << min(self.orders)
        covered = 0
        sizes = {o: self.pages.geometry.vmemmap_pages(o) for o in self.orders}
        for section in self._sections():
            if section.start_pfn + self.pages.geometry.pages_per_section <= covered:
                continue  # of a gigantic folio that was found already
            for run, data in scan.runs(section, step):
                heads = scan.heads_of(run, data)
                if run[0][0] >= covered and _are_alike(heads, run, step):
                    _, number, order, *_ = heads[0]
                    backings = classify.alike(number, sizes[order], len(heads))
                    if backings is not None:
                        covered = run[-1][0] + step
                        yield heads, backings
                        continue
                for head in heads:
                    pfn, number, order, *_ = head
                    # Orders come from memory: only pools', at their alignment.
                    if order not in sizes or pfn < covered or pfn & (1 << order) - 1:
                        continue
                    covered = pfn + (1 << order)
                    yield [head], iter((classify(number, sizes[order]),))

    def _sections(self) -> Iterator[Section]:
        with self.progress("looking for huge pages", len(self.sections)) as bar:
            for section in self.sections:
                bar.update(1)
                if section.has_mem_map and (section.is_online or section.is_early):
                    yield section


def _are_alike(heads: list[Head], run: Run, step: int) -> bool:
    """Whether every page of a run is a head, and all say the same of themselves.

    One folio follows the other, ``step`` pages each.
    """
    if len(heads) != len(run) or run[-1][0] - run[0][0] != (len(run) - 1) * step:
        return False
    kind = heads[0][2:]
    return 1 << kind[0] == step and all(head[2:] == kind for head in heads)


class _Scan:
    """Reads candidates and tells heads from other struct pages."""

    def __init__(
        self, memory: Memory, pages: Pages, vmemmap: Vmemmap, missing: Missing
    ):
        self._memory = memory
        self._pages = pages
        self._vmemmap = vmemmap
        self._missing = missing
        self._length = PAGES_OF_FOLIO_HEAD * pages.size
        self._page_shift = pages.geometry.page_shift
        offsets = (
            pages.flags_offset,
            pages.private_offset,
            pages.size + pages.compound_word_offset,
        )
        self._words = _words_at(offsets, pages.byteorder)
        self._places: dict[int, tuple[int, int]] = {}
        # 0 where no head can have the flag, or none tells: then `_unset` says which.
        bit = pages.hwpoison_bit
        self._poison_bit, self._unset = bit or 0, None if bit is None else False

    def heads_of(self, run: Run, data: bytes) -> list[Head]:
        """The hugetlb heads of a run.

        The struct page behind a head has to name it: remains of a freed folio do not.
        """
        pages, size = self._pages, self._pages.size
        is_hugetlb, order_of = pages.compound.is_hugetlb, pages.compound.order_of
        head_bit, has_mask, unpack = pages.head_bit, pages.has_mask, self._words
        base_va, length, first_pa = pages.base_va, self._length, run[0][2]
        places, place_shift = self._places, pages.place_shift
        poison, unset = self._poison_bit, self._unset
        found = []
        for pfn, number, pa in run:
            part = data[pa - first_pa : pa - first_pa + length]
            if not is_hugetlb(part):
                continue
            flags, private, word = unpack(part)
            va = base_va + pfn * size
            head = va + size & word if has_mask else word - 1
            if not flags & head_bit or not word & 1 or head != va:
                continue
            place = places.get(flags >> place_shift)
            if place is None:
                place = pages.node_of(flags), pages.zone_index_of(flags)
                places[flags >> place_shift] = place
            hwpoison = True if flags & poison else unset
            found.append((pfn, number, order_of(part), place, private, hwpoison))
        return found

    def _candidates(self, section: Section, step: int) -> list[Candidate]:
        """The section's step-th struct pages, where mapped."""
        pages, vmemmap, g = self._pages, self._vmemmap, self._pages.geometry
        first = -(-section.start_pfn // step) * step
        pfns = range(first, section.start_pfn + g.pages_per_section, step)
        if not pfns:
            return []
        first_va, span = pages.va(first), step * pages.size
        if span % g.page_size:
            return self._scattered(pfns)
        number, every = vmemmap.page_number(first_va), span >> g.page_shift
        numbers = range(number, number + every * len(pfns), every)
        entries = vmemmap.entries(number, every * (len(pfns) - 1) + 1)[::every]
        present, mask = g.table_format.present_mask, g.table_format.address_mask
        at = first_va & g.page_size - 1
        found = zip(pfns, numbers, [(entry & mask) + at for entry in entries])
        if all(entry & present for entry in entries):
            return list(found)
        return [c for c, entry in zip(found, entries) if entry & present]

    def _scattered(self, pfns: range) -> list[Candidate]:
        """The same where struct pages of any size do not recur at one offset."""
        pages, vmemmap, page_size = self._pages, self._vmemmap, 1 << self._page_shift
        found = []
        for pfn in pfns:
            va = pages.va(pfn)
            number = vmemmap.page_number(va)
            frame = vmemmap.frame(number)
            if frame != HOLE:
                pa = frame * page_size + (va & page_size - 1)
                found.append((pfn, number, pa))
        return found

    def runs(self, section: Section, step: int) -> Iterator[tuple[Run, bytes]]:
        """The section's step-th struct pages that can be read, run by run."""
        candidates = self._candidates(section, step)
        for run in _runs_of_frames(candidates, 1 << self._page_shift):
            yield from self._read(run)

    def _read(self, run: Run) -> Iterator[tuple[Run, bytes]]:
        first_pa = run[0][2]
        step = run[1][2] - first_pa if len(run) > 1 else self._length
        try:
            yield (
                run,
                self._memory.read_pieces(first_pa, self._length, step, len(run)),
            )
        except Fault as fault:
            if len(run) == 1:
                self._missing.record(fault, "heads of huge pages")
                return
            for candidate in run:
                yield from self._read([candidate])


def _runs_of_frames(candidates: list[Candidate], page_size: int) -> Iterator[Run]:
    """Candidates at even distances, in the same frame or in the one behind it.

    Head pages were often allocated in one go. A page read in vain costs a third of a
    read of its own.
    """
    run: Run = []
    step = 0
    for candidate in candidates:
        distance = candidate[2] - run[-1][2] if run else 0
        is_next = 0 < distance <= page_size and (len(run) == 1 or distance == step)
        if run and not is_next:
            yield run
            run = []
        run.append(candidate)
        step = distance
    if run:
        yield run


def _words_at(
    offsets: tuple[int, int, int], byteorder: str
) -> Callable[[bytes], tuple[int, ...]]:
    """A function that unpacks the 64-bit words at these offsets in one go."""
    parts, position = "", 0
    for offset in offsets:
        if offset < position:
            raise LayoutError("struct page has private before flags: an unknown layout")
        parts += f"{offset - position}xQ"
        position = offset + 8
    return Struct(("<" if byteorder == "little" else ">") + parts).unpack_from
