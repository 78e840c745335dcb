# SPDX-License-Identifier: LGPL-2.1-or-later
"""Making a capsule: ask everything, keep what was read, leave out what must not go.

Two safeguards stand behind the recording. Bytes of a kind that `KINDS` does not name
are left out. And so is a frame whose own struct page says that it belongs to users (on
an LRU list, with a mapping, of a huge page, of a device) or to nobody, or cannot be
read: only a damaged pointer or page table can have led there. Both are accounted for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Callable

from ..kernel.kernel import Kernel
from ..kernel.layout import LayoutError
from ..kernel.page_role import hugetlb_order
from ..kernel.pages import Page
from ..target.base import Fault, Target
from ..target.recorded import CapsuleNote
from ..target.words import WORD
from .kinds import KINDS
from .recorder import RecordedKernel, Recorder
from .store import PAGE_SHIFT, Store

__all__ = ["Capsule", "capture"]

FOREIGN_TYPES = frozenset({"buddy", "hugetlb", "offline", "unaccepted", "zsmalloc"})
BUDDY_BEFORE_TYPES, NO_TYPE = 0xFFFFFF7F, 0xFFFFFFFF
"""In ``_mapcount``, unsigned."""
FOR_DRGN = "mem_section", "max_pfn", "min_low_pfn"
"""Integers and pointers that drgn's helpers read and ours do not."""


@dataclass
class Capsule:
    """What goes into the file. ``slide`` takes physical to direct-map addresses."""

    store: Store
    note: CapsuleNote
    target: Target
    slide: int
    views: dict[int, int]
    """Virtual address -> physical one, of what lies outside of the direct map."""
    withheld: dict[int, str] = field(default_factory=dict)
    changed: Counter[str] = field(default_factory=Counter)
    changed_words: int = 0

    def pages(self) -> Iterable[dict[str, Any]]:
        """The audit: each frame, how much of it goes in, and what for."""
        words = self.store.words.frames()
        for pfn in sorted({*self.store.frames(), *words}):
            kinds = sorted(self.store.kinds(pfn))
            pieces = self.store.pieces(pfn)
            count = words.get(pfn, 0)
            yield {
                "pfn": pfn,
                "bytes": sum(len(data) for _, data in pieces) + WORD * count,
                "ranges": [[start, start + len(data)] for start, data in pieces],
                "words": count,
                "kinds": kinds,
                "reason": "; ".join(KINDS[kind] for kind in kinds),
            }

    @cached_property
    def totals(self) -> dict[str, Any]:
        """Sums, and what did not go in."""
        frames = {*self.store.frames(), *self.store.words.frames()}
        kinds = Counter(k for pfn in frames for k in self.store.kinds(pfn))
        return {
            "pages": len(frames),
            "bytes": self.store.size,
            "words": len(self.store.words),
            "pages_by_kind": dict(sorted(kinds.items())),
            "withheld": [
                {"pfn": pfn, "reason": reason} for pfn, reason in self.withheld.items()
            ],
            "changed_while_captured": dict(self.changed),
            "words_changed_while_captured": self.changed_words,
        }


def capture(
    target: Target,
    ask: Callable[[Kernel], None],
    with_struct_pages: bool = True,
) -> Capsule:
    """Run ``ask`` over a recording kernel and collect what it read.

    Raises `TargetError` and `LayoutError` where the kernel cannot be read at all.
    """
    recorder = Recorder(target)
    kernel = RecordedKernel(recorder)
    _read_release(recorder)
    _read_for_drgn(recorder)
    ask(kernel)
    store = recorder.store
    withheld = dict(_foreign(kernel, store))
    store.drop(withheld.keys())
    if not with_struct_pages:
        store.drop_struct_pages()
    changed = _changes(recorder) if target.live else (Counter[str](), 0)
    slide = _slide(kernel, recorder)
    views = {
        va: pa
        for va, pa in recorder.reads.items()
        if va - pa != slide and store.pieces(pa >> PAGE_SHIFT)
    }
    recorder.note.words = store.words
    recorder.note.source = f"answers recorded from {target.release}"
    capsule = Capsule(store, recorder.note, target, slide, views, withheld, *changed)
    recorder.note.account = {**capsule.totals, "struct_pages": with_struct_pages}
    return capsule


def _read_release(recorder: Recorder) -> None:
    """By this a dump is known; of the structure no other name is read."""
    address, uts = recorder.symbol("init_uts_ns"), recorder.struct("uts_namespace")
    if address is not None and uts is not None and "name.release" in uts:
        recorder.kind = "release"
        try:
            size = len(recorder.release.encode()) + 1
            recorder.read(address + uts.offset("name.release"), size)
        except Fault:
            pass


def _read_for_drgn(recorder: Recorder) -> None:
    """What drgn's own `vmemmap`, pfn_to_page(), for_each_page(), follow_phys() need.

    Our views take the first from VMCOREINFO, and no page table of a process.
    """
    for name in FOR_DRGN:
        recorder.unsigned(name)
    address, mm = recorder.inner.symbol("init_mm"), recorder.inner.struct("mm_struct")
    if address is not None and mm is not None and "pgd" in mm:
        with suppress(Fault):
            recorder.read(address + mm.offset("pgd"), mm["pgd"].size)


def _slide(kernel: Kernel, recorder: Recorder) -> int:
    base = kernel.geometry.arch.direct_map_base(recorder, kernel.geometry.levels)
    if base is not None:
        return base.value
    # A kernel without the variable: what was read through the direct map tells.
    below = [va - pa for va, pa in recorder.reads.items() if va < 0xFFFFE00000000000]
    return Counter(below).most_common(1)[0][0] if below else 0xFFFF888000000000


def _foreign(kernel: RecordedKernel, store: Store) -> Iterable[tuple[int, str]]:
    """(frame, why it is left out)."""
    plain = Kernel(kernel.recorder.inner)
    owner = _Owner(plain)
    for pfn in sorted({*store.frames(), *store.words.frames()}):
        unknown = store.kinds(pfn) - set(KINDS)
        if unknown:
            yield pfn, f"read as {', '.join(sorted(unknown))}, which no capsule holds"
            continue
        try:
            reason = owner.of(pfn)
        except (Fault, LayoutError, OverflowError):
            reason = "its struct page cannot be read: nothing tells whose it is"
        if reason is not None:
            yield pfn, reason


class _Owner:
    """Whose a frame is, as far as its struct page says so."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        page, self._pages = kernel.target.struct("page"), kernel.pages
        known = page is not None and "mapping" in page
        self._mapping_at = page.offset("mapping") if page and known else None
        bits = map(kernel.target.enumerator, ("PG_head", "PG_lru", "PG_slab"))
        self._telling = sum(1 << bit for bit in bits if bit is not None)

    def of(self, pfn: int) -> str | None:
        """Why a frame is left out. Raises `Fault`, `LayoutError`, OverflowError."""
        pgmap = self._kernel.pgmaps.of_pfn(pfn)
        if pgmap is not None:
            # The device holds its users' data, but for the vmemmap in its altmap,
            # whose own struct pages are never set up.
            altmap = pgmap.altmap
            is_inside = altmap is not None and altmap.base_pfn <= pfn < altmap.end_pfn
            return None if is_inside else "it is memory of a device"
        page = self._pages.page(pfn)
        if page.is_tail:
            page = self._pages.page(self._pages.pfn(page.head_va))
        return None if self._is_plain(page) else self._said_by(page)

    def _is_plain(self, page: Page) -> bool:
        """Whether nothing at all is said: so it is of nearly all frames."""
        at = self._mapping_at
        return (
            page.mapcount_word == NO_TYPE
            and not page.flags & self._telling
            and at is not None
            and page.data[at : at + 8] == bytes(8)
        )

    def _said_by(self, page: Page) -> str | None:
        pages = self._pages
        if page.is_poisoned or not any(page.data):
            return None
        kind = pages.type_name(page)
        if kind == "slab" or pages.has_flag(page, "PG_slab"):
            return None
        if kind in FOREIGN_TYPES or page.mapcount_word == BUDDY_BEFORE_TYPES:
            return f"its struct page says that it is {kind or 'free'}"
        if pages.has_flag(page, "PG_lru"):
            return "its struct page says that it is on an LRU list"
        at = self._mapping_at
        if at is not None and any(page.data[at : at + 8]):
            return "its struct page has a mapping"
        # Only a head has struct pages behind it that tell; others may end a section.
        if page.flags & pages.head_bit and hugetlb_order(pages, page.pfn) is not None:
            return "its struct page says that it is a huge page"
        return None


def _changes(recorder: Recorder) -> tuple[Counter[str], int]:
    """The second look at a running kernel: changed ranges by kind, and changed words.

    A range of several kinds counts under each.
    """

    def look(pa: int, size: int) -> bytes | None:
        try:
            return recorder.inner.read_physical(pa, size)
        except Fault:
            return None

    found: Counter[str] = Counter()
    store = recorder.store
    for pfn in store.frames():
        for start, data in store.pieces(pfn):
            if look((pfn << PAGE_SHIFT) + start, len(data)) != data:
                found.update(store.kinds(pfn))
    return found, store.words.changed(look, recorder.byteorder)
