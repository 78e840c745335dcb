# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules F1 to F4, F8 and F14: how the vmemmap of each hugetlb folio is mapped.

Mirrors ``mm/hugetlb_vmemmap.c``. What a folio looks like is decided by its page-table
entries; the kernel's own flag is what they are compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...kernel.hugetlb import Folio
from ...kernel.vmemmap import HOLE
from ..hvo import OPTIMISED_FLAG, is_switched_on, why_not
from .clones import has_restored_clones
from .context import Context
from .findings import Place, Violation, hexed
from .known import BOOT_TAIL_WRITABLE, RESTORE_COPIES_HEAD
from .registry import rule
from .usual import prescribed_layout

__all__ = ["is_protected_short"]

SELF_HOSTED = "PG_vmemmap_self_hosted"


def without_folios(context: Context) -> str | None:
    """Why rules about the optimisation of hugetlb folios do not apply."""
    return context.lacks("hugetlb-hvo") or context.lacks_pools()


def evidence(context: Context, folio: Folio) -> dict[str, object]:
    """Addresses and words that belong to every finding about a folio."""
    number = context.kernel.pages.vmemmap_page(folio.pfn)
    entries = context.kernel.vmemmap.entries(number, 2)
    return {
        **hexed(
            head_va=context.kernel.pages.va(folio.pfn),
            private=folio.private,
            head_entry=entries[0],
            tail_entry=entries[1],
        ),
        "order": folio.order,
        "layout": folio.backing.layout,
        "kept_frames": folio.backing.kept,
        "vmemmap_pages": folio.backing.pages,
    }


def name(folio: Folio) -> str:
    return f"the hugetlb folio of order {folio.order} at pfn {folio.pfn:#x}"


def _suspects(context: Context) -> Iterator[Folio]:
    """Folios that are not in the usual order; all count as examined.

    Those whose page tables are not all here could be in any order.
    """
    vmemmap, number = context.kernel.vmemmap, context.kernel.pages.vmemmap_page
    context.saw(len(context.folios))
    for folio in context.usual.others():
        if vmemmap.absent and vmemmap.is_absent(
            number(folio.pfn), max(1, folio.backing.pages)
        ):
            context.leave_out(f"{name(folio)}: a page table of its vmemmap is missing")
            continue
        yield folio


def _optimised(context: Context) -> Iterator[Folio]:
    return (f for f in _suspects(context) if f.backing.is_optimised)


@rule(
    "F1",
    "HPG_vmemmap_optimized is set exactly on the folios whose vmemmap is shared",
    severity="E",
    holds="all",
    reads=("hugetlb folios", "vmemmap page tables"),
    bug="a failed remap or restore that leaves the flag or the entries behind",
    why="the flag decides whether freeing a folio restores its vmemmap first: flagged "
    "without sharing it is restored twice, shared without the flag its memory goes "
    "to the buddy allocator with read-only struct pages.",
    look="vmemmap hvo --folios: FLAGGED against OPTIMISED",
    applies=lambda context: context.lacks_hpg(OPTIMISED_FLAG),
    racy=True,
    exceptions="The flag is set before the remap and cleared after the restore. On "
    "arm64 (in flight) a folio may stay flagged with some tails restored.",
)
def flag_matches_mapping(context: Context) -> Iterator[Violation]:
    for folio in _suspects(context):
        flagged = context.hpg(folio, OPTIMISED_FLAG)
        if not folio.backing.mapped:
            continue
        shared = folio.backing.is_optimised
        if flagged == shared:
            continue
        known = None
        if flagged and has_restored_clones(context):
            known = RESTORE_COPIES_HEAD
        yield Violation(
            Place("folio", folio.pfn),
            "flag without sharing" if flagged else "sharing without flag",
            f"{name(folio)} "
            + (
                "is flagged as optimised, but every vmemmap page has a frame of its own"
                if flagged
                else "shares vmemmap frames, but is not flagged as optimised"
            ),
            "shared" if flagged else "private",
            folio.backing.layout,
            evidence(context, folio),
            known_issue=known,
        )


@rule(
    "F2",
    "the head vmemmap page of a folio is writable and backed by a frame of its own",
    severity="E",
    holds="all",
    reads=("hugetlb folios", "vmemmap page tables"),
    bug="vmemmap frames freed twice and given out twice",
    why="the head page holds the folio's counters and flags: shared with another "
    "folio each would change the other's, read-only every change faults.",
    look="vmemmap page pfn:HEAD: backs",
    applies=Context.lacks_pools,
    racy=True,
    exceptions="Before 7.1 the folio's own tails alias its head page.",
)
def head_page_is_own(context: Context) -> Iterator[Violation]:
    vmemmap = context.kernel.vmemmap
    may_alias = prescribed_layout(context) not in ("page1-shared", "zone-shared")
    for folio in _suspects(context):
        backing = folio.backing
        if not backing.pages or backing.head_frame == HOLE:
            continue
        number = context.kernel.pages.vmemmap_page(folio.pfn)
        if vmemmap.is_readonly(number):
            yield Violation(
                Place("folio", folio.pfn),
                "read-only head page",
                f"the head vmemmap page of {name(folio)} is mapped read-only",
                "writable",
                "read-only",
                evidence(context, folio),
            )
        own = _own_uses_of_head(context, folio) if may_alias else 1
        found = vmemmap.frames.mappings(backing.head_frame)
        if found != own:
            yield Violation(
                Place("folio", folio.pfn),
                "head frame with other users",
                f"the head frame {backing.head_frame:#x} of {name(folio)} backs "
                f"{found} vmemmap pages instead of {own}",
                own,
                found,
                {**evidence(context, folio), "frame_pfn": backing.head_frame},
            )


def _own_uses_of_head(context: Context, folio: Folio) -> int:
    """How many of a folio's own vmemmap pages have its head's frame.

    All of one that is optimised, fewer of one that is half restored.
    """
    layout, pages = folio.backing.layout, folio.backing.pages
    if layout != "mixed":
        return pages if layout == "self-shared" else 1
    first = context.kernel.pages.vmemmap_page(folio.pfn)
    frames = context.kernel.vmemmap.backing(first, pages).frames
    return frames.count(folio.backing.head_frame)


def _not_while_booting(context: Context) -> str | None:
    if context.is_booting:
        return "the kernel was still booting: gigantic pages are protected late"
    return without_folios(context)


@rule(
    "F3",
    "the tail vmemmap pages of an optimised folio are read-only",
    severity="E",
    holds="kernels with hugetlb vmemmap optimisation",
    reads=("hugetlb folios", "vmemmap page tables"),
    bug="a missing write protection",
    why="a write to one aliased struct page shows in all others; the kernel relies on "
    "the fault to catch such writers.",
    look="vmemmap hvo --folios: TAIL RO",
    applies=_not_while_booting,
    racy=True,
    exceptions="Gigantic boot pages are writable until they are gathered; some kernels "
    "then protect only the first (known issue boot-tail-writable). Tails with frames "
    "of their own, as in a folio that is half restored, are writable.",
)
def tails_are_readonly(context: Context) -> Iterator[Violation]:
    for folio in _optimised(context):
        if folio.backing.tail_readonly is True:
            continue
        shared, writable = _shared_tails(context, folio)
        if not writable:
            continue
        some = writable < shared
        yield Violation(
            Place("folio", folio.pfn),
            "writable tail pages",
            f"{'some' if some else 'the'} shared tail vmemmap pages of "
            f"{name(folio)} are writable",
            "read-only",
            "partly writable" if some else "writable",
            {**evidence(context, folio), "writable_pages": writable},
            known_issue=BOOT_TAIL_WRITABLE
            if is_protected_short(context, folio)
            else None,
        )


def _shared_tails(context: Context, folio: Folio) -> tuple[int, int]:
    """(tail vmemmap pages whose frame is not theirs alone, writable ones of these)."""
    kernel, layout = context.kernel, folio.backing.layout
    first = kernel.pages.vmemmap_page(folio.pfn)
    found = kernel.vmemmap.backing(first, folio.backing.pages)
    users = Counter(found.frames)
    # Page 1 is written by its owner before 5.18.
    kept = 2 if layout == "page1-shared" else kernel.kept_pages
    shared = [
        is_readonly
        for frame, is_readonly in list(zip(found.frames, found.readonly))[kept:]
        if frame != HOLE and (frame in kernel.tail_frames or users[frame] > 1)
    ]
    return len(shared), shared.count(False)


def is_protected_short(context: Context, folio: Folio) -> bool:
    """Whether a gigantic boot page has ``pages_per_huge_page()`` bytes protected.

    Mirrors what ``__hugetlb_vmemmap_optimize_folios()`` told
    ``vmemmap_wrprotect_hvo()``.
    """
    kernel, pages = context.kernel, folio.backing.pages
    section = kernel.sections.of_pfn(folio.pfn)
    end = (1 << folio.order) >> context.geometry.page_shift
    if section is None or not section.is_preinit or not 1 < end < pages:
        return False
    first = kernel.pages.vmemmap_page(folio.pfn)
    is_readonly = kernel.vmemmap.is_readonly
    protected = is_readonly(first + 1) and is_readonly(first + end - 1)
    beyond = is_readonly(first + end) or is_readonly(first + pages - 1)
    return protected and not beyond


@rule(
    "F4",
    "all tails of an optimised folio are mapped to the one target of this kernel",
    severity="E",
    holds="kernels with hugetlb vmemmap optimisation",
    reads=("hugetlb folios", "vmemmap page tables"),
    bug="a rollback that stopped half-way",
    why="5.14 to 5.17 map tails to page 1, 5.18 to 7.0 to the head page, 7.1 and "
    "later to the zone's tail page; anything else reads as other struct pages.",
    look="vmemmap map --pfn HEAD+N",
    applies=without_folios,
    needs=("zones",),
    racy=True,
)
def tails_have_one_target(context: Context) -> Iterator[Violation]:
    prescribed = prescribed_layout(context)
    for folio in _optimised(context):
        if folio.backing.layout != prescribed:
            yield Violation(
                Place("folio", folio.pfn),
                f"layout {folio.backing.layout}",
                f"{name(folio)} is mapped {folio.backing.layout}; this kernel maps "
                f"optimised folios {prescribed}",
                prescribed,
                folio.backing.layout,
                evidence(context, folio),
            )


@rule(
    "F8",
    "no optimised folio has vmemmap that is hosted by its own memory block",
    severity="E",
    holds="kernels with PG_vmemmap_self_hosted",
    reads=("struct pages of vmemmap frames",),
    bug="a missing test for self-hosted vmemmap",
    why="memory_hotplug frees self-hosted vmemmap with its block: the optimisation "
    "must not have given such frames to the buddy allocator.",
    look="vmemmap page pfn:FRAME: flags vmemmap_self_hosted",
    applies=lambda context: (
        without_folios(context)
        or (
            f"this kernel has no {SELF_HOSTED}"
            if context.kernel.target.enumerator(SELF_HOSTED) is None
            else None
        )
    ),
    racy=True,
)
def not_self_hosted(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    hosted_blocks: dict[int, int | None] = {}
    marked = context.self_hosted_frames
    if not marked:
        context.saw(len(context.folios))
        return
    for folio in context.folios:
        if not folio.backing.is_optimised:
            continue
        context.saw()
        section = kernel.sections.of_pfn(folio.pfn)
        if section is None:
            continue
        if section.nr not in hosted_blocks:
            hosted_blocks[section.nr] = _hosted_frame(context, section.nr)
        frame = hosted_blocks[section.nr]
        if frame is None and folio.backing.head_frame in marked:
            frame = folio.backing.head_frame
        if frame is not None:
            yield Violation(
                Place("folio", folio.pfn),
                "optimised though self-hosted",
                f"{name(folio)} is optimised, though its memory block hosts its own "
                f"vmemmap (frame {frame:#x})",
                "not optimised",
                "optimised",
                {**evidence(context, folio), "frame_pfn": frame},
            )


def _hosted_frame(context: Context, nr: int) -> int | None:
    """A self-hosted vmemmap frame of the memory block that this section is in.

    Only hot-added memory hosts its own vmemmap.
    """
    kernel = context.kernel
    section = kernel.sections.get(nr)
    if section is None or section.is_early:
        return None
    block = kernel.sections.memory_block(section)
    for other in kernel.sections.between(
        max(0, nr - 512) * context.geometry.pages_per_section,
        (nr + 1) * context.geometry.pages_per_section,
    ):
        same = block is not None and kernel.sections.memory_block(other) == block
        if (same or other.nr == nr) and kernel.self_hosting.is_self_hosted(other):
            number = kernel.pages.vmemmap_page(other.start_pfn)
            return kernel.vmemmap.frame(number)
    return None


@rule(
    "F14",
    "every hugetlb folio that could be optimised is",
    severity="I",
    holds="kernels with hugetlb vmemmap optimisation that is switched on",
    reads=("hugetlb folios", "the variable that switches the optimisation"),
    bug="none: memory was short, or the folio was made while the policy was off",
    why="it shows what could still be saved.",
    look="vmemmap hvo: REASON, SAVABLE",
    applies=lambda context: (
        without_folios(context)
        or (
            None
            if is_switched_on(context.kernel)
            else "the optimisation of new folios is switched off, or not known"
        )
    ),
    racy=True,
)
def folio_could_be_optimised(context: Context) -> Iterator[Violation]:
    for folio in _suspects(context):
        if folio.backing.is_optimised or why_not(context.kernel, folio) != "eligible":
            continue
        yield Violation(
            Place("folio", folio.pfn),
            f"not optimised, order {folio.order}",
            f"{name(folio)} could be optimised but is not",
            "optimised",
            folio.backing.layout,
            evidence(context, folio),
        )
