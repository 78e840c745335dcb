# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules F5 and F13: what stands in the struct pages of hugetlb folios.

Tails are compared in bulk: one strided slice of a folio's struct pages against the
compound word that each of them must hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...kernel.hugetlb import Folio
from ...kernel.strided import all_equal, strided_u64
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed
from .folio_words import FolioWords
from .folios import evidence, name, without_folios
from .known import ROLLBACK_REBUILDS_HEAD
from .registry import rule

__all__: list[str] = []

MAX_SHOWN = 4


@rule(
    "F5",
    "a hugetlb folio has a proper head of its pool's order; each of its tails leads to "
    "it and can be freed",
    severity="E",
    holds="all",
    reads=("all struct pages of hugetlb folios", "lists of the pools"),
    bug="a damaged tail; a wrong mask; a vmemmap base that is not aligned for masks",
    why="compound_head() of every page must find the folio: reference counts and locks "
    "are kept in the head alone. Freeing looks at every tail: with other words in it "
    "the page is bad, and the folio lost.",
    look="vmemmap page pfn:N: head",
    applies=Context.lacks_pools,
    racy=True,
    exceptions="Shared tail pages are judged once, by Z2. The first tails hold "
    "members of struct folio; restoring may have copied refcount 1 into all (known "
    "issue boot-tail-refcount). Without CGROUP_HUGETLB nothing writes the words of "
    "its cgroups.",
    quick_omits="the tails and the pools' lists",
)
def tails_lead_to_head(context: Context) -> Iterator[Violation]:
    yield from _listed_without_head(context)
    if context.quick:
        return
    folios, words = context.folios, FolioWords(context)
    for folio in context.track("decoding hugetlb tails", folios, len(folios)):
        yield from _judge_tails(context, folio, words)


def _listed_without_head(context: Context) -> Iterator[Violation]:
    """Pages on a pool's list that do not look like a folio of that pool."""
    why = context.gap("folios")
    if why is not None:
        context.leave_out(f"the pools' lists are not checked, since {why}")
        return
    for one in context.pool_lists:
        for pfn in one.pfns:
            context.saw()
            folio = context.folios_by_pfn.get(pfn)
            if folio is not None and folio.order == one.hstate.order:
                continue
            try:
                page = context.kernel.pages.page(pfn)
            except Fault as fault:
                context.unread(fault, "struct pages of hugetlb heads")
                continue
            if _looks_like_tail(context, page.flags, page.compound_word):
                continue  # F13 tells
            yield Violation(
                Place("folio", pfn),
                "listed page is no head of its pool",
                f"pfn {pfn:#x} is on a list of the pool {one.hstate.name}, but its "
                f"struct pages are not those of a hugetlb folio of order "
                f"{one.hstate.order}",
                {"order": one.hstate.order},
                {"order": folio.order if folio is not None else None},
                hexed(
                    head_va=page.va,
                    flags=page.flags,
                    compound_word=page.compound_word,
                    mapcount_word=page.mapcount_word,
                ),
            )


def _looks_like_tail(context: Context, flags: int, word: int) -> bool:
    return bool(word & 1) and not flags & context.kernel.pages.head_bit


def _judge_tails(
    context: Context, folio: Folio, folio_words: FolioWords
) -> Iterator[Violation]:
    kernel = context.kernel
    pages = kernel.pages
    word_at = pages.struct.offset(pages.compound_member)
    wanted = context.tail_word(folio.order, pages.va(folio.pfn))
    needed = folio_words.offsets_of(folio)
    for pfn, count in _parts(context, folio):
        try:
            data = _read(context, folio, pfn, count, (word_at, *needed))
        except Fault as fault:
            context.unread(fault, "struct pages of hugetlb folios", count)
            continue
        is_first = pfn == folio.pfn
        order = kernel.target.byteorder
        if all_equal(data, word_at, pages.size, wanted, order, int(is_first)):
            own = int.from_bytes(data[word_at : word_at + 8], order)
            if not is_first or not own & 1:
                yield from folio_words.judge(folio, pfn - folio.pfn, data)
                continue
        words = strided_u64(data, word_at, pages.size, order)
        bad = [
            i
            for i, word in enumerate(words)
            if (word & 1 if is_first and not i else word != wanted)
        ]
        # A fake head among the tails of an older kernel is the alias of the head page.
        bad_pfns = [pfn + i for i in bad]
        yield Violation(
            Place("folio", folio.pfn),
            "a head that is a tail" if bad == [0] and is_first else "tails lead astray",
            f"{len(bad)} struct pages of {name(folio)} do not lead to its head, the "
            f"first at pfn {bad_pfns[0]:#x}",
            f"{wanted:#x}",
            [f"{words[i]:#x}" for i in bad[:MAX_SHOWN]],
            {
                **evidence(context, folio),
                "pfns": bad_pfns[:MAX_SHOWN],
                "struct_pages": len(bad),
                **hexed(page_va=pages.va(bad_pfns[0])),
            },
        )


def _parts(context: Context, folio: Folio) -> Iterator[tuple[int, int]]:
    """(first pfn, pages) of the struct pages that are the folio's own.

    Every frame once; the frames of shared tail pages not at all.
    """
    backing, spp = folio.backing, context.geometry.struct_pages_per_page
    if backing.layout in ("self-shared", "zone-shared"):
        yield folio.pfn, spp
    elif backing.layout == "page1-shared":
        yield folio.pfn, 2 * spp
    elif backing.layout in ("private", "huge-leaf") or not backing.pages:
        yield folio.pfn, 1 << folio.order
    else:
        seen: set[int] = set()
        number = context.kernel.pages.vmemmap_page(folio.pfn)
        for i, frame in enumerate(
            context.kernel.vmemmap.backing(number, backing.pages).frames
        ):
            if (
                frame not in seen
                and frame >= 0
                and (frame not in context.kernel.tail_frames)
            ):
                seen.add(frame)
                yield folio.pfn + i * spp, spp


def _read(
    context: Context, folio: Folio, pfn: int, count: int, words: Sequence[int]
) -> bytes:
    """Struct pages of a folio: the first ones, and these words of all. Raises `Fault`.

    What the other words hold says nothing.
    """
    pages = context.kernel.pages
    if pfn == folio.pfn:
        return pages.read_heads(pfn, count, words)
    return pages.read_words(pfn, count, words)


@rule(
    "F13",
    "the head vmemmap page of a hugetlb folio does not begin with a tail",
    severity="E",
    holds="kernels with hugetlb vmemmap optimisation",
    reads=("vmemmap page tables", "lists of the pools"),
    bug='"mm/hugetlb_vmemmap: fix incorrect vmemmap restore in rollback": a failed '
    "optimisation rebuilt page 0 from tail data",
    why="page 0 holds the head and the members of struct folio: refcount, order, "
    "hugetlb flags. Overwritten with tails the folio is gone.",
    look="vmemmap page pfn:HEAD; vmemmap hvo --folios",
    applies=without_folios,
    racy=True,
    quick_omits="the pools' lists",
)
def head_page_is_head(context: Context) -> Iterator[Violation]:
    seen: set[int] = set()
    for ghost in context.sharing.ghosts:
        context.saw()
        if not ghost.head_looks_like_tail or ghost.pfn in seen:
            continue
        seen.add(ghost.pfn)
        yield Violation(
            Place("folio", ghost.pfn),
            "a tail in the head's place",
            f"the vmemmap from pfn {ghost.pfn:#x} on is mapped as an optimised folio "
            f"of order {ghost.order}, but its first struct page is a tail",
            "a compound head",
            "a tail",
            hexed(head_va=context.kernel.pages.va(ghost.pfn), tail_entry=ghost.entry),
            known_issue=ROLLBACK_REBUILDS_HEAD,
        )
    for one in context.pool_lists:
        for pfn in one.pfns:
            context.saw()
            if pfn in seen or pfn in context.folios_by_pfn:
                continue
            try:
                page = context.kernel.pages.page(pfn)
            except Fault as fault:
                context.unread(fault, "struct pages of hugetlb heads")
                continue
            if not _looks_like_tail(context, page.flags, page.compound_word):
                continue
            seen.add(pfn)
            yield Violation(
                Place("folio", pfn),
                "a tail in the head's place",
                f"pfn {pfn:#x} is on a list of the pool {one.hstate.name}, but its "
                "struct page is a tail",
                "a compound head",
                "a tail",
                hexed(
                    head_va=page.va,
                    flags=page.flags,
                    compound_word=page.compound_word,
                ),
                known_issue=ROLLBACK_REBUILDS_HEAD,
            )
