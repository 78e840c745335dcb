# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rule F6: PG_head and hugetlb types where no head is.

Restoring a folio's vmemmap must give every page proper tails. Kernels that copy the
head's page instead leave clones of the head at the start of each restored page; they
outlive the folio, so that the whole vmemmap has to be looked at. Only base pages are:
a huge leaf was never split, hence never restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...kernel.page_role import STALE_HEADS, stale_kind
from ...kernel.pages import PAGES_OF_FOLIO_HEAD
from ...kernel.strided import strided_u32, strided_u64
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed
from .known import BOOT_TAIL_REFCOUNT, RESTORE_COPIES_HEAD
from .registry import rule
from .tail_contents import has_boot_references

__all__ = ["Clone", "has_restored_clones", "restored_clones"]

POISON = (1 << 64) - 1


@dataclass(frozen=True)
class Clone:
    """A stale head: it looks like a head but is not one. ``kind`` is of STALE_HEADS."""

    kind: str
    pfn: int
    frame: int
    flags: int
    word: int
    next_word: int
    mapcount_word: int
    is_hugetlb: bool


def restored_clones(context: Context) -> list[Clone]:
    """All clones of heads, found once for a reading."""
    return context.once("clones", lambda: list(_scan(context)))


def has_restored_clones(context: Context) -> bool:
    """Whether the defect that copies heads explains flags where none belong."""
    return (
        not context.quick
        and context.kernel.has("fake-heads")
        and any(_is_copy(clone) for clone in restored_clones(context))
    )


def _is_copy(clone: Clone) -> bool:
    """Whether this is a copy of a hugetlb head, and not a damaged one."""
    return clone.is_hugetlb and clone.kind != "e"


def _scan(context: Context) -> Iterator[Clone]:
    if not context.geometry.struct_page_size_is_power_of_two:
        return
    spans = context.sharing.spans
    for first, end in context.track("looking for stale heads", spans, len(spans)):
        for number, frame, count in _to_read(context, first, end):
            yield from _read_run(context, number, frame, count)


def _to_read(context: Context, first: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(vmemmap page, frame, count): runs of adjoining frames that need a look.

    Left out are frames with several users: an alias of a head's page shows the head's
    flags and is no clone. Whether it may be one is for F2 and F11 to say.
    """
    vmemmap, fmt = context.kernel.vmemmap, context.geometry.table_format
    tails, shared = context.kernel.tail_frames, vmemmap.frames.shared
    entries = vmemmap.entries(first, end - first)
    start, frame, count = first, 0, 0
    for i, entry in enumerate(entries):
        number = first + i
        here = (entry & fmt.address_mask) >> context.geometry.page_shift
        wanted = (
            bool(entry & fmt.present_mask) and here not in tails and here not in shared
        )
        if wanted and count and here == frame + count:
            count += 1
            continue
        if count:
            yield start, frame, count
        start, frame, count = number, here, int(wanted)
    if count:
        yield start, frame, count


def _read_run(context: Context, number: int, frame: int, count: int) -> Iterator[Clone]:
    kernel, g = context.kernel, context.geometry
    # No more of each page than its first folio's head takes.
    size = PAGES_OF_FOLIO_HEAD * kernel.pages.size
    try:
        data = kernel.memory.read_pieces(
            frame << g.page_shift, size, g.page_size, count
        )
    except Fault as fault:
        if count == 1:
            context.unread(fault, "vmemmap pages")
            return
        half = count // 2
        yield from _read_run(context, number, frame, half)
        yield from _read_run(context, number + half, frame + half, count - half)
        return
    pages, order, page = kernel.pages, kernel.target.byteorder, g.page_size
    struct = pages.struct
    flags = strided_u64(data, struct.offset("flags"), page, order)
    word_at = struct.offset(pages.compound_member)
    words = strided_u64(data, word_at, page, order)
    next_words = strided_u64(data, pages.size + word_at, page, order)
    types = strided_u32(data, struct.offset("_mapcount"), page, order)
    hugetlb = kernel.target.enumerator("PGTY_hugetlb")
    head_bit = pages.head_bit
    context.strangers.look(
        pages.pfn(kernel.vmemmap.page_va(number)),
        g.struct_pages_per_page,
        flags,
    )
    for i in range(count):
        is_head = flags[i] & head_bit
        typed = hugetlb is not None and types[i] >> 24 == hugetlb
        if not (is_head or typed) or flags[i] == POISON:
            continue
        pfn = pages.pfn(kernel.vmemmap.page_va(number + i))
        if pfn < 0 or not context.is_initialised(pfn):
            continue
        head = data[i * page : i * page + size]
        is_hugetlb = typed or (hugetlb is None and pages.compound.is_hugetlb(head))
        order_of_folio = pages.compound.order_of(head)
        kind = stale_kind(pages, pfn, flags[i], words[i], next_words[i], order_of_folio)
        if kind is not None:
            yield Clone(
                kind,
                pfn,
                frame + i,
                flags[i],
                words[i],
                next_words[i],
                types[i],
                is_hugetlb,
            )


def _known(context: Context, clone: Clone, is_pattern: bool) -> str | None:
    """The defect that left a clone; ``is_pattern`` if there are hugetlb ones, too."""
    if clone.kind == "e":
        return None
    if is_pattern and context.kernel.has("fake-heads"):
        return RESTORE_COPIES_HEAD
    if (
        clone.kind == "c"
        and not clone.is_hugetlb
        and _is_lost_boot_page(context, clone)
    ):
        return BOOT_TAIL_REFCOUNT
    return None


def _is_lost_boot_page(context: Context, clone: Clone) -> bool:
    """Whether a head is that of a gigantic page that references kept from being freed.

    Its tails were restored from a tail page of its zone that has them since booting.
    Page checks refuse such tails when they are tails no more, and leave the head.
    """
    pages = context.kernel.pages
    zone = context.kernel.zones.get(
        pages.node_of(clone.flags), pages.zone_index_of(clone.flags)
    )
    if zone is None:
        return False
    try:
        return any(
            clone.pfn % (1 << tail.order) == 0
            and has_boot_references(context, zone, tail)
            and _are_referenced(context, clone.pfn, tail.order)
            for tail in zone.tails or ()
        )
    except Fault as fault:
        context.unread(fault, "struct pages of a page that was not freed")
        return False


def _are_referenced(context: Context, head: int, order: int) -> bool:
    """Whether the first and last struct pages that restoring gave a folio back are
    tails no more and have a reference. Raises `Fault`.
    """
    pages, byteorder = context.kernel.pages, context.kernel.target.byteorder
    count = context.geometry.struct_pages_per_page
    for first in head + count, head + (1 << order) - count:
        data = pages.read(first, count)
        words = strided_u64(data, pages.compound_word_offset, pages.size, byteorder)
        refcounts = strided_u32(
            data, pages.struct.offset("_refcount"), pages.size, byteorder
        )
        if set(words) != {0} or set(refcounts) != {1}:
            return False
    return True


def _cpus(context: Context) -> int:
    """CPUs that may each be caught in the middle of freeing or making one page."""
    return context.kernel.target.unsigned("nr_cpu_ids") or 1


@rule(
    "F6",
    "PG_head or a hugetlb type on a page that is no head occurs only as an alias of "
    "a head's page",
    severity="E",
    holds="all",
    reads=("first struct page of every vmemmap page that a base page maps",),
    bug="restoring copies the head's page over the tails (6.12 stable kernels with "
    "the walker's refactoring but without the zones' tail pages)",
    why="page checks refuse to free such a folio and the memory is lost; without them "
    "the buddy allocator hands out pages that still claim to be hugetlb.",
    look="vmemmap page pfn:N for pfns at multiples of 64 inside the former folio; "
    'dmesg: "corrupted mapping in tail page"',
    applies=lambda context: (
        None
        if context.geometry.struct_page_size_is_power_of_two
        else "struct pages straddle pages here, so that nothing is ever shared"
    ),
    needs=("page tables",),
    racy=True,
    thorough=True,
    exceptions="A CPU that makes, splits or frees a compound page leaves one such page "
    "without a hugetlb type for a moment: a warning, unless there are more than CPUs "
    "or references of its tails kept a gigantic boot page from being freed (known "
    "issue boot-tail-refcount).",
)
def heads_are_heads(context: Context) -> Iterator[Violation]:
    clones = restored_clones(context)
    typeless = [c for c in clones if not c.is_hugetlb]
    by_hugetlb = [c.pfn for c in clones if _is_copy(c)]
    many = len(typeless) > _cpus(context)
    reach = 1 << max(context.pools, default=0)
    for clone in clones:
        certain = clone.is_hugetlb or many
        certain = certain or any(0 < p - clone.pfn < reach for p in by_hugetlb)
        known = _known(context, clone, clone.is_hugetlb or bool(by_hugetlb))
        certain = certain or known == BOOT_TAIL_REFCOUNT
        yield Violation(
            Place("pfn", clone.pfn),
            f"stale head, kind {clone.kind}"
            + ("" if clone.is_hugetlb else ", typeless"),
            f"pfn {clone.pfn:#x} is no compound head, yet its struct page is "
            f"{STALE_HEADS[clone.kind]}",
            "a tail or a single page",
            {"kind": clone.kind, "hugetlb": clone.is_hugetlb},
            {
                **hexed(
                    page_va=context.kernel.pages.va(clone.pfn),
                    flags=clone.flags,
                    compound_word=clone.word,
                    next_compound_word=clone.next_word,
                    mapcount_word=clone.mapcount_word,
                ),
                "frame_pfn": clone.frame,
            },
            severity=None if certain else "W",
            known_issue=known,
        )
