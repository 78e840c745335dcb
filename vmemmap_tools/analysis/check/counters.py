# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules C1 to C4: counters of the memmap, and what zones say of themselves.

Mirrors ``mm/vmstat.c`` (nr_memmap_pages, nr_memmap_boot_pages) and ``struct zone``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from ...kernel.page_ext import page_ext_pages
from ..dax import compounds_of
from .clones import has_restored_clones
from .context import Context
from .findings import Place, Violation, hexed
from .known import DAX_ACCOUNTING, FAILED_SECTION_ADD, RESTORE_COPIES_HEAD
from .mapping import expected_in_slot
from .registry import rule

__all__: list[str] = []

COUNTERS = Place("counter", "nr_memmap_pages")
NEEDED_FOR_SUM = ("page tables", "sections", "zones", "device maps")
MAX_COMBINED = 12
"""Ranges whose combinations are tried against a surplus: 4096 sums."""


def _without_counters(context: Context) -> str | None:
    return context.lacks("memmap-counters")


def _sum(context: Context) -> int | None:
    counters = context.kernel.counters
    if counters.runtime is None or counters.boot is None:
        return None
    return counters.runtime + counters.boot


def _expected(context: Context) -> int | None:
    """Pages that both counters should add up to; None if that cannot be known."""
    kernel = context.kernel
    if kernel.vmemmap.absent:
        return None
    page_ext = page_ext_pages(kernel.target, kernel.sections)
    if page_ext is None:
        return None
    frames = kernel.vmemmap.frames
    tails = sum(1 for frame in kernel.tail_frames if frame in frames)
    return frames.distinct - tails - _filler(context) + page_ext


def _filler(context: Context) -> int:
    """Pages of huge leaves that no populated section or subsection uses."""
    vmemmap, filler = context.kernel.vmemmap, 0
    hot_added = any(s.has_mem_map and not s.is_early for s in context.kernel.sections)
    if not hot_added and _pages_of_section(context) % vmemmap.pages_per_slot == 0:
        return 0  # boot sections fill the leaves that they use
    for first, is_huge in vmemmap.slots():
        if is_huge:
            expected = expected_in_slot(context, first, vmemmap.pages_per_slot)
            filler += expected.count(False) if expected is not None else 0
    return filler


def _pages_of_section(context: Context) -> int:
    """Vmemmap pages of a section."""
    g = context.geometry
    return g.pages_per_section * g.struct_page_size // g.page_size


def _dax_savings(context: Context) -> list[int]:
    """Vmemmap pages saved in each range of device memory."""
    return [
        sum(
            backing.saved_pages
            for _, backing in compounds_of(
                context.kernel, one.pgmap, one.first_pfn, one.end
            )
        )
        for one in context.compound_ranges
    ]


def residual(context: Context) -> int | None:
    """Pages by which the counters exceed what is mapped."""
    total, expected = _sum(context), _expected(context)
    return None if total is None or expected is None else total - expected


def _trusted_residual(context: Context) -> int | None:
    """The same; None where something is missing that it takes."""
    gaps = map(context.gap, NEEDED_FOR_SUM)
    return None if _unknowable(context) or any(gaps) else residual(context)


def explained_by_dax(context: Context, surplus: int) -> int | None:
    """Number of device ranges whose savings add up to a surplus; None if none do."""
    if surplus <= 0:
        return None
    savings = [s for s in _dax_savings(context) if s]
    if sum(savings) == surplus:
        return len(savings)
    if len(savings) > MAX_COMBINED:
        return None
    for count in range(1, len(savings)):
        if any(sum(some) == surplus for some in combinations(savings, count)):
            return count
    return None


def _unknowable(context: Context) -> str | None:
    why = _without_counters(context)
    if why is None and _sum(context) is None:
        why = "the counters could not be read"
    if why is None and context.kernel.vmemmap.absent:
        why = "parts of the vmemmap's page tables are not in the dump"
    if why is None and _expected(context) is None:
        why = "the size of page_ext entries is unknown"
    return why


def _evidence(context: Context) -> dict[str, object]:
    counters = context.kernel.counters
    return {
        "nr_memmap_pages": counters.runtime,
        "nr_memmap_boot_pages": counters.boot,
    }


@rule(
    "C1",
    "nr_memmap_pages and nr_memmap_boot_pages add up to the frames that the vmemmap "
    "and page_ext use, shared tail pages apart",
    severity="W",
    holds="kernels with nr_memmap_pages (6.11 and later)",
    reads=("nr_memmap_pages", "nr_memmap_boot_pages", "vmemmap page tables"),
    bug='"mm/sparse-vmemmap: fix vmemmap accounting underflow"',
    why="every page of memmap is credited when populated and debited when freed; only "
    "the sum balances, since boot frames are replaced by others.",
    look="/proc/vmstat: nr_memmap_pages, nr_memmap_boot_pages; vmemmap summary",
    applies=_unknowable,
    needs=NEEDED_FOR_SUM,
    racy=True,
    exceptions="A surplus that device DAX explains is told by C3, where the kernel is "
    "known to share its vmemmap. What huge leaves map beyond populated memory is not "
    "counted.",
)
def counters_balance(context: Context) -> Iterator[Violation]:
    surplus = residual(context)
    context.saw(2)
    if not surplus:
        return
    is_of_dax = explained_by_dax(context, surplus) is not None
    if is_of_dax and context.lacks("dax-dedup") is None:
        return  # C3 tells
    per_section = _pages_of_section(context)
    is_failed_add = _is_failed_add(context, surplus)
    known = FAILED_SECTION_ADD if is_failed_add else None
    if _is_restored_twice(context, surplus):
        known = RESTORE_COPIES_HEAD
    if is_of_dax and not context.kernel.has("dax-accounting-fixed"):
        known = DAX_ACCOUNTING
    expected, total = _expected(context), _sum(context)
    hint = ""
    if is_failed_add:
        hint = f": the vmemmap of {-surplus // per_section} sections"
    yield Violation(
        COUNTERS,
        "counters out of balance",
        f"the memmap counters add up to {total} pages, but {expected} are in use "
        f"({surplus:+d}{hint})",
        expected,
        total,
        {**_evidence(context), "difference": surplus},
        known_issue=known,
    )


def _is_failed_add(context: Context, surplus: int) -> bool:
    """Whether sections debited without having been credited make up a difference."""
    return surplus < 0 and surplus % _pages_of_section(context) == 0


def _is_restored_twice(context: Context, surplus: int) -> bool:
    """Whether folios that bear a clone of HPG_vmemmap_optimized explain a surplus.

    Freeing them restores what is private already: each time the frames of the tails
    are allocated and counted, and those they take the place of are lost.
    """
    pages = (context.geometry.vmemmap_pages(order) for order in context.pools)
    tails = [n - context.kernel.kept_pages for n in pages if n > 1]
    return (
        surplus > 0
        and bool(tails)
        and surplus % min(tails) == 0
        and has_restored_clones(context)
    )


@rule(
    "C2",
    "neither memmap counter is negative",
    severity="E",
    holds="kernels with nr_memmap_pages (6.11 and later)",
    reads=("nr_memmap_pages", "nr_memmap_boot_pages"),
    bug='"mm/sparse-vmemmap: fix vmemmap accounting underflow"',
    why="a count of pages below zero shows as a number near 2^64 in /proc/vmstat.",
    look="/proc/vmstat: nr_memmap_pages, nr_memmap_boot_pages",
    applies=_without_counters,
    racy=True,
    exceptions="Boot memory that is hot-removed debits nr_memmap_boot_pages, though "
    "HVO may have replaced its vmemmap by pages of the other counter: a warning where "
    "the sum is right.",
)
def counters_are_not_negative(context: Context) -> Iterator[Violation]:
    counters = context.kernel.counters
    for name, value in (
        ("nr_memmap_pages", counters.runtime),
        ("nr_memmap_boot_pages", counters.boot),
    ):
        if value is None:
            continue
        context.saw()
        if value < 0:
            surplus = _trusted_residual(context)
            is_balanced = surplus == 0 and name == "nr_memmap_boot_pages"
            is_failed_add = surplus is not None and _is_failed_add(context, surplus)
            yield Violation(
                Place("counter", name),
                "negative counter",
                f"{name} is {value}",
                "0 or more",
                value,
                {**_evidence(context), **hexed(raw=value & (1 << 64) - 1)},
                severity="W" if is_balanced else None,
                known_issue=FAILED_SECTION_ADD if is_failed_add else None,
            )


@rule(
    "C3",
    "an optimised device DAX range counts only the pages that its compounds keep",
    severity="E",
    holds="kernels with nr_memmap_pages and device DAX that shares its vmemmap",
    reads=("nr_memmap_pages", "vmemmap page tables", "pgmaps"),
    bug='"mm/sparse-vmemmap: fix DAX vmemmap accounting with optimization"',
    why="a range credited in full is too high by N - 2 pages for each compound: 6 for "
    "2M, 4094 for 1G.",
    look="vmemmap dax: SAVED; /proc/vmstat before and after the device is added",
    applies=lambda context: _unknowable(context) or context.lacks("dax-dedup"),
    needs=NEEDED_FOR_SUM,
    racy=True,
)
def dax_counts_kept_pages(context: Context) -> Iterator[Violation]:
    surplus = residual(context)
    context.saw(len(context.compound_ranges))
    if not surplus:
        return
    ranges = explained_by_dax(context, surplus)
    if ranges is None:
        return
    fixed = context.kernel.has("dax-accounting-fixed")
    yield Violation(
        COUNTERS,
        "device DAX credited in full",
        f"the memmap counters are {surplus} pages too high, exactly what {ranges} "
        f"device DAX range{'' if ranges == 1 else 's'} saved",
        _expected(context),
        _sum(context),
        {**_evidence(context), "difference": surplus, "ranges": ranges},
        severity=None if fixed else "W",
        known_issue=None if fixed else DAX_ACCOUNTING,
    )


def _without_counts(context: Context) -> str | None:
    struct = context.kernel.target.struct("zone")
    for name in ("managed_pages", "present_pages"):
        if struct is None or name not in struct:
            return f"unknown here: zone.{name}"
    return None


@rule(
    "C4",
    "zones have managed <= present <= spanned pages, ZONE_DEVICE none present",
    severity="W",
    holds="all",
    reads=("zones",),
    bug="memory corruption; device memory that went online",
    why="include/linux/mmzone.h defines them so; device memory never reaches the page "
    "allocator.",
    look="vmemmap zones",
    applies=_without_counts,
    racy=True,
)
def zone_counts_are_ordered(context: Context) -> Iterator[Violation]:
    context.leave_out_gaps("zones")
    for zone in context.kernel.zones:
        context.saw()
        counts = {
            "managed": zone.managed,
            "present": zone.present,
            "spanned": zone.spanned,
        }
        if zone.index == context.device_zone and (zone.present or zone.managed):
            yield Violation(
                Place("zone", context.zone_label(zone)),
                "device zone with pages of its own",
                f"{context.zone_label(zone)} has {zone.present} present and "
                f"{zone.managed} managed pages",
                0,
                counts,
                hexed(zone_va=zone.va),
            )
        elif not zone.managed <= zone.present <= zone.spanned:
            yield Violation(
                Place("zone", context.zone_label(zone)),
                "counts of a zone out of order",
                f"{context.zone_label(zone)} has {zone.managed} managed, "
                f"{zone.present} present and {zone.spanned} spanned pages",
                "managed <= present <= spanned",
                counts,
                hexed(zone_va=zone.va),
            )
