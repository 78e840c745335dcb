# SPDX-License-Identifier: LGPL-2.1-or-later
"""Making a capsule: ask everything, keep what was read, leave out what must not go.

Two checks follow the recording. Bytes of a kind that `KINDS` does not name are left
out. And so is a frame whose own struct page says that it cannot be what it was read as
(`FRAMES`), or cannot be read: only a damaged pointer or page table can have led there.
Both are accounted for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Callable

from ..kernel.kernel import Kernel
from ..target.base import Fault, Target
from ..target.recorded import CapsuleNote
from ..target.words import WORD
from .frames import Frames
from .kinds import FRAMES, KINDS
from .recorder import RecordedKernel, Recorder
from .store import PAGE_SHIFT, Store

__all__ = ["Capsule", "capture"]

FOR_DRGN = "mem_section", "max_pfn", "min_low_pfn"
"""Integers and pointers that drgn's helpers read and ours do not."""
BOOT_ID_SIZE = 16


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
    strings: list[tuple[str, str]] = field(default_factory=list)
    """(kind, text) of the C strings in it."""

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
            "strings": [{"kind": kind, "text": text} for kind, text in self.strings],
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
    with_identity: bool = False,
) -> Capsule:
    """Run ``ask`` over a recording kernel and collect what it read.

    ``with_identity`` adds the host name and the boot id.

    Raises `TargetError` and `LayoutError` where the kernel cannot be read at all.
    """
    recorder = Recorder(target)
    kernel = RecordedKernel(recorder)
    _read_release(recorder)
    _read_for_drgn(recorder)
    if with_identity:
        _read_identity(recorder)
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
    capsule.strings = sorted(
        {(kind, text) for pa, kind, text in recorder.strings if store.get(pa, 1)}
    )
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


def _read_identity(recorder: Recorder) -> None:
    """Host name and boot id, as far as the kernel has them."""
    recorder.kind = "identity"
    address, uts = recorder.symbol("init_uts_ns"), recorder.struct("uts_namespace")
    with suppress(Fault):
        if address is not None and uts is not None and "name.nodename" in uts:
            start = address + uts.offset("name.nodename")
            for at in range(start, start + uts["name.nodename"].size):
                if recorder.read(at, 1) == b"\0":
                    break
    address = recorder.symbol("sysctl_bootid")
    with suppress(Fault):
        if address is not None:
            recorder.read(address, BOOT_ID_SIZE)


def _slide(kernel: Kernel, recorder: Recorder) -> int:
    base = kernel.geometry.arch.direct_map_base(recorder, kernel.geometry.levels)
    if base is not None:
        return base.value
    # A kernel without the variable: what was read through the direct map tells.
    below = [va - pa for va, pa in recorder.reads.items() if va < 0xFFFFE00000000000]
    return Counter(below).most_common(1)[0][0] if below else 0xFFFF888000000000


def _foreign(kernel: RecordedKernel, store: Store) -> Iterable[tuple[int, str]]:
    """(frame, why it is left out)."""
    frames = Frames(Kernel(kernel.recorder.inner))
    pfns = sorted({*store.frames(), *store.words.frames()})
    plain = frames.plain(pfns)
    next_plain = next(plain, None)
    for pfn in pfns:
        if pfn == next_plain:
            next_plain = next(plain, None)
            if store.kinds(pfn) <= FRAMES.keys():
                continue
        reason = frames.why_not(pfn, store.kinds(pfn))
        if reason is not None:
            yield pfn, reason


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
