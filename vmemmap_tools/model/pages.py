# SPDX-License-Identifier: LGPL-2.1-or-later
"""Render struct pages while a dump is streamed: the content of vmemmap frames.

Everything comes from compact records (page states, folio table, pgmaps), a few
thousand pages at a time, as arrays of 64-bit words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vmemmap_tools.model.frames import Kind, PageRun
from vmemmap_tools.model.hugetlb import ACTIVE
from vmemmap_tools.model.hugetlb import FREE as ON_FREELIST
from vmemmap_tools.model.memory import Buffer
from vmemmap_tools.model.templates import Templates, page_type
from vmemmap_tools.model.vmemmap import Array, Backing

if TYPE_CHECKING:
    from vmemmap_tools.model.dax import Pgmap
    from vmemmap_tools.model.machine import Machine

__all__ = ["FrameSource", "Links", "StrideSource", "StructPages"]

_SELF_LINKED = (Kind.RESERVED, Kind.HOLE, Kind.DEVICE_META, Kind.ANON)
MANY_RUNS = 8
_UNIFORM = (Kind.ALLOCATED, Kind.SLAB, Kind.TABLE, Kind.UNINIT, Kind.SELF_HOSTED)


@dataclass
class Links:
    """Pages that hang on lists: sorted pfns, with both neighbours' addresses."""

    pfns: Array
    following: Array
    preceding: Array

    @classmethod
    def empty(cls) -> Links:
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none.astype(np.uint64), none.astype(np.uint64))


class StructPages:
    """Renders the struct page of any pfn of a machine."""

    def __init__(
        self, machine: Machine, folio_links: Links, free_links: Links, orders: Array
    ) -> None:
        core = machine.core
        self.core = core
        self.templates = Templates(core)
        self.base = core.placement.vmemmap_base
        self.size = core.types.sizeof("struct page")
        self.words = self.size // 8
        self.folios = folio_links
        self.free = free_links
        self.free_orders = orders
        self.table = machine.hugetlb.table
        self.hstates = machine.hugetlb.hstates
        self.pgmaps: dict[int, Pgmap] = {
            p.ident: p for p in machine.devices.pgmaps.values()
        }
        self.pgmap_va: dict[int, int] = {}
        self._uniform: dict[tuple[PageRun, int], bytes] = {}
        self._refcounts: tuple[Array, Array] | None = None
        self._lru = core.types.offsetof("page.lru.next") // 8
        self._compound = (
            core.types.offsetof(f"page.{self.templates.compound_word}") // 8
        )
        self._private = core.types.offsetof("page.private") // 8
        self._refcount = core.types.offsetof("page._refcount") // 4
        self._type = core.types.offsetof("page.page_type") // 4

    def va(self, pfns: Array) -> Array:
        """Addresses of struct pages."""
        out: Array = np.uint64(self.base) + pfns.astype(np.uint64) * np.uint64(
            self.size
        )
        return out

    def render(self, pfns: Array) -> Array:
        """Words of the struct pages of sorted ``pfns``: shape (n, words)."""
        out = np.zeros((len(pfns), self.words), dtype=np.uint64)
        states = self.core.frames.states
        runs = list(states.runs(int(pfns[0]), int(pfns[-1]) + 1))
        if len(runs) > MANY_RUNS:
            self._render_runs(runs, pfns, out)
            runs = []
        for start, end, run in runs:
            low, high = (int(i) for i in np.searchsorted(pfns, [start, end]))
            if low < high:
                self._render_run(run, pfns[low:high], out[low:high])
        self._set_refcounts(pfns, out)
        return out

    def _render_runs(
        self, runs: list[tuple[int, int, PageRun]], pfns: Array, out: Array
    ) -> None:
        """Render many short runs: all pages in the same state at once."""
        kinds = {run: code for code, run in enumerate({run for _, _, run in runs}, 1)}
        codes = np.array([kinds[run] for _, _, run in runs])
        starts = np.array([start for start, _, _ in runs])
        ends = np.array([end for _, end, _ in runs])
        index = np.searchsorted(starts, pfns, side="right") - 1
        of_page = np.where(pfns < ends[index], codes[index], 0)
        for run, code in kinds.items():
            rows = np.nonzero(of_page == code)[0]
            if len(rows):
                part = np.zeros((len(rows), self.words), dtype=np.uint64)
                self._render_run(run, pfns[rows], part)
                out[rows] = part

    def uniform(self, start: int, end: int) -> bytes | None:
        """Content of [start, end) as one shared object, if all pages look the same."""
        runs = list(self.core.frames.states.runs(start, end))
        if len(runs) != 1 or runs[0][:2] != (start, end):
            return None
        run = runs[0][2]
        if run.kind not in _UNIFORM:
            return None
        pfns, _ = self._special_refcounts()
        low, high = np.searchsorted(pfns, [start, end])
        if low != high:
            return None
        key = (run, end - start)
        if key not in self._uniform:
            words = self.templates.plain(run)
            self._uniform[key] = words.tobytes() * (end - start)
        return self._uniform[key]

    def _render_run(self, run: PageRun, pfns: Array, out: Array) -> None:
        if run.kind is Kind.HUGETLB:
            self._render_hugetlb(run, pfns, out)
            return
        if run.kind is Kind.DEVICE:
            self._render_device(run, pfns, out)
            return
        out[:] = self.templates.plain(run)
        if run.kind in _SELF_LINKED:
            own = self.va(pfns) + np.uint64(self._lru * 8)
            out[:, self._lru] = own
            out[:, self._lru + 1] = own
        if run.kind in (Kind.FREE, Kind.PCP):
            self._link_free(run, pfns, out)

    def _link_free(self, run: PageRun, pfns: Array, out: Array) -> None:
        links = self.free
        low, high = np.searchsorted(links.pfns, [pfns[0], pfns[-1] + 1])
        heads = links.pfns[low:high]
        rows = np.searchsorted(pfns, heads)
        good = rows < len(pfns)
        good[good] = pfns[rows[good]] == heads[good]
        rows = rows[good]
        out[rows, self._lru] = links.following[low:high][good]
        out[rows, self._lru + 1] = links.preceding[low:high][good]
        if run.kind is Kind.FREE:
            out[rows, self._private] = self.free_orders[low:high][good]
            buddy = page_type(self.core, "buddy")
            assert buddy is not None
            out.view(np.uint32)[rows, self._type] = buddy

    def _render_hugetlb(self, run: PageRun, pfns: Array, out: Array) -> None:
        table = self.table
        rows = np.searchsorted(table["pfn"], pfns, side="right") - 1
        heads = table["pfn"][rows]
        offsets = pfns - heads
        for hstate in self.hstates:
            mine = table["hstate"][rows] == hstate.index
            if not mine.any():
                continue
            shared = self.core.generation.tail == "zone"
            compound = self.templates.compound(run, hstate.order, True, shared)
            out[mine] = compound.tail
            for index in range(4):
                out[mine & (offsets == index)] = compound.first[index]
        if not self.core.generation.mask:
            tails = offsets > 0
            out[tails, self._compound] = self.va(heads[tails]) | np.uint64(1)
        at = np.nonzero(offsets == 0)[0]
        if len(at):
            self._render_heads(table[rows[at]], at, out)

    def _render_heads(self, folios: Array, at: Array, out: Array) -> None:
        """Lists, flags and refcount of hugetlb heads."""
        types = self.core.types
        place = np.searchsorted(self.folios.pfns, folios["pfn"])
        out[at, self._lru] = self.folios.following[place]
        out[at, self._lru + 1] = self.folios.preceding[place]
        private = np.zeros(len(at), dtype=np.uint64)
        for column, name in (
            (folios["optimised"], "HPG_vmemmap_optimized"),
            (folios["list"] == ON_FREELIST, "HPG_freed"),
            (folios["list"] == ACTIVE, "HPG_migratable"),
        ):
            bit = np.uint64(1 << types.enumerator(name))
            private |= np.where(column, bit, np.uint64(0))
        out[at, self._private] = private
        words = out.view(np.uint32)
        words[at, self._refcount] = np.where(folios["list"] == ON_FREELIST, 0, 1)

    def _render_device(self, run: PageRun, pfns: Array, out: Array) -> None:
        pgmap = self.pgmaps[run.owner]
        generation = self.core.generation
        order = pgmap.shift
        first = pgmap.start_pfn if pgmap.altmap is None else pgmap.data_pfn
        offsets = (pfns - first) % (1 << order)
        shared = generation.dax == "D2" and not self._is_private(pgmap)
        compound = self.templates.compound(run, order, False, shared)
        out[:] = compound.tail
        for index in range(4):
            out[offsets == index] = compound.first[index]
        heads = offsets == 0
        words = out.view(np.uint32)
        if not order:
            location = self.templates.location(run.node, run.zone)
            out[:, 0] = location | self.templates.flag("PG_reserved")
        if pgmap.fsdax:
            words[heads, self._refcount] = generation.fsdax_refcount
        if not generation.mask:
            tails = offsets > 0
            own = self.va(pfns[tails] - offsets[tails])
            out[tails, self._compound] = own | np.uint64(1)
        path = "folio.pgmap" if self.core.types.has("folio.pgmap") else "page.pgmap"
        at = self.core.types.offsetof(path) // 8
        out[heads, at] = self.pgmap_va.get(run.owner, 0)
        out[heads, self.core.types.offsetof("page.zone_device_data") // 8] = 0

    def _is_private(self, pgmap: Pgmap) -> bool:
        return pgmap.shift < self.core.min_order

    def _special_refcounts(self) -> tuple[Array, Array]:
        """Sorted frames whose reference count is not what their kind says."""
        if self._refcounts is None:
            frames: list[Array] = []
            counts: list[Array] = []
            for pgmap in self.pgmaps.values():
                for r in pgmap.refcounts:
                    frames.append(r.start + r.step * np.arange(r.count))
                    counts.append(np.full(r.count, r.value))
            for key, refs in self.core.tail_refs.items():
                frames.append(np.array([self.core.tails[key].frame]))
                counts.append(np.array([1 + refs]))
            if frames:
                joined = np.concatenate(frames)
                order = np.argsort(joined)
                self._refcounts = joined[order], np.concatenate(counts)[order]
            else:
                none = np.zeros(0, dtype=np.int64)
                self._refcounts = none, none
        return self._refcounts

    def _set_refcounts(self, pfns: Array, out: Array) -> None:
        frames, counts = self._special_refcounts()
        low, high = np.searchsorted(frames, [pfns[0], pfns[-1] + 1])
        if low == high:
            return
        rows = np.searchsorted(pfns, frames[low:high])
        good = rows < len(pfns)
        good[good] = pfns[rows[good]] == frames[low:high][good]
        out.view(np.uint32)[rows[good], self._refcount] = counts[low:high][good]


@dataclass(frozen=True)
class FrameSource:
    """Content of consecutive private vmemmap frames of one ledger run."""

    pages: StructPages
    first_frame: int
    first_page: int
    """The vmemmap page behind the first frame."""
    period: int
    kept: int
    spp: int

    @classmethod
    def of(
        cls, pages: StructPages, frame: int, page: int, backing: Backing
    ) -> FrameSource:
        kept = backing.kept if backing.period else 1
        period = backing.period or 1
        return cls(pages, frame, page, period, kept, pages.core.vmemmap.spp)

    def render(self, start_pfn: int, end_pfn: int) -> Buffer | None:
        """Struct pages of the vmemmap pages behind these frames."""
        index = np.arange(start_pfn - self.first_frame, end_pfn - self.first_frame)
        if self.period == self.kept:
            low = (self.first_page + int(index[0])) * self.spp
            high = low + len(index) * self.spp
            shared = self.pages.uniform(low, high)
            if shared is not None:
                return shared
            return self.pages.render(np.arange(low, high)).data.cast("B")
        return self.render_pages(*np.divmod(index, self.kept))

    def render_pages(self, turn: Array, place: Array) -> memoryview:
        """Struct pages of the kept pages ``place`` of the compounds ``turn``."""
        vpages = self.first_page + turn * self.period + place
        pfns = (vpages[:, None] * self.spp + np.arange(self.spp)).ravel()
        return self.pages.render(pfns).data.cast("B")


@dataclass(frozen=True)
class StrideSource:
    """Content of kept frames that lie apart, other memory between them."""

    inner: FrameSource
    stride: int

    def render(self, start_pfn: int, end_pfn: int) -> Buffer | None:
        """One frame's content; None for the memory in between."""
        for _, content in self.scattered(start_pfn, start_pfn + 1):
            return content
        return None

    def scattered(self, start_pfn: int, end_pfn: int) -> Iterator[tuple[int, Buffer]]:
        """The kept frames in a range, rendered together."""
        first, kept = self.inner.first_frame, self.inner.kept
        offsets = np.arange(start_pfn - first, end_pfn - first)
        turn, place = np.divmod(offsets, self.stride)
        mine = (place < kept) & (turn >= 0)
        if not mine.any():
            return
        turn, place = turn[mine], place[mine]
        content = self.inner.render_pages(turn, place)
        size = len(content) // len(turn)
        for index, (t, p) in enumerate(zip(turn.tolist(), place.tolist())):
            frame = first + t * self.stride + p
            yield frame, content[index * size : (index + 1) * size]
