# SPDX-License-Identifier: LGPL-2.1-or-later
"""Known kernel defects, by the names that findings give in ``known_issue``.

A name is given only where the pattern of the defect fits; it never makes a finding go
away.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ALTMAP_ERROR_PATH",
    "BOOT_TAIL_REFCOUNT",
    "BOOT_TAIL_WRITABLE",
    "DAX_ACCOUNTING",
    "DAX_MIGRATETYPE",
    "DAX_UNINITIALISED",
    "FAILED_SECTION_ADD",
    "KNOWN_ISSUES",
    "MISSING_PGD_SYNC",
    "RESTORE_COPIES_HEAD",
    "ROLLBACK_REBUILDS_HEAD",
    "WRONG_MAP_MASK",
    "KnownIssue",
]


@dataclass(frozen=True)
class KnownIssue:
    """A defect: what happens, in which kernels, and which change mends it."""

    name: str
    summary: str
    fix: str


RESTORE_COPIES_HEAD = "restore-copies-head"
BOOT_TAIL_REFCOUNT = "boot-tail-refcount"
BOOT_TAIL_WRITABLE = "boot-tail-writable"
DAX_ACCOUNTING = "dax-accounting"
FAILED_SECTION_ADD = "failed-section-add"
DAX_MIGRATETYPE = "dax-migratetype"
DAX_UNINITIALISED = "dax-uninitialised"
ALTMAP_ERROR_PATH = "altmap-error-path"
MISSING_PGD_SYNC = "missing-pgd-sync"
ROLLBACK_REBUILDS_HEAD = "rollback-rebuilds-head"
WRONG_MAP_MASK = "wrong-map-mask"

KNOWN_ISSUES = {
    issue.name: issue
    for issue in (
        KnownIssue(
            RESTORE_COPIES_HEAD,
            "restoring the vmemmap of a hugetlb folio copies its head page over every "
            "former tail page (stable kernels that took the walker's refactoring "
            "without the zones' shared tails); each 2M page freed is lost or leaves "
            "stale hugetlb types behind",
            "none upstream: mainline restores from shared tail pages instead",
        ),
        KnownIssue(
            BOOT_TAIL_REFCOUNT,
            "memmap_init() runs over the aliased struct pages of gigantic boot pages, "
            "so that the zone's shared tail page keeps refcount 1; restoring such a "
            "folio copies it into every tail, and page checks then refuse to free it",
            "mm/mm_init: skip initializing shared vmemmap tail pages",
        ),
        KnownIssue(
            BOOT_TAIL_WRITABLE,
            "write protection of a gigantic boot page's vmemmap takes its number of "
            "pages for one of bytes: of a 1G page the tails from the 64th vmemmap page "
            "on stay writable",
            "mm/hugetlb_vmemmap: fix __hugetlb_vmemmap_optimize_folios()",
        ),
        KnownIssue(
            DAX_ACCOUNTING,
            "an optimised device DAX range was credited with all vmemmap pages "
            "instead of those it keeps: nr_memmap_pages is too high",
            "mm/sparse-vmemmap: fix DAX vmemmap accounting with optimization",
        ),
        KnownIssue(
            FAILED_SECTION_ADD,
            "a failed hot-add was debited on rollback without having been credited: "
            "nr_memmap_pages is too low by whole sections",
            "mm/sparse-vmemmap: fix vmemmap accounting underflow",
        ),
        KnownIssue(
            DAX_MIGRATETYPE,
            "of a device DAX compound that is larger than a pageblock only the first "
            "pageblock got its migratetype; the others read MIGRATE_UNMOVABLE",
            "mm/mm_init: fix pageblock migratetype for ZONE_DEVICE compound pages",
        ),
        KnownIssue(
            DAX_UNINITIALISED,
            "device DAX memory that was added to an unoccupied subsection of a boot "
            "section had only the first struct pages of each compound initialised",
            "mm/mm_init: fix uninitialized struct pages for ZONE_DEVICE",
        ),
        KnownIssue(
            ALTMAP_ERROR_PATH,
            "an error path of memory hot-add freed the vmemmap with the wrong altmap",
            "mm/memory_hotplug: fix incorrect altmap passing in error path",
        ),
        KnownIssue(
            MISSING_PGD_SYNC,
            "a new top-level entry for the vmemmap was not copied to the page tables "
            "of running processes",
            "x86/mm/64: define ARCH_PAGE_TABLE_SYNC_MASK and "
            "arch_sync_kernel_mappings()",
        ),
        KnownIssue(
            ROLLBACK_REBUILDS_HEAD,
            "a failed optimisation was rolled back with tail data in the head's place",
            "mm/hugetlb_vmemmap: fix incorrect vmemmap restore in rollback",
        ),
        KnownIssue(
            WRONG_MAP_MASK,
            "section_mem_map was decoded with the wrong number of flag bits: a reader "
            "that lacks the SECTION_* enumerators, not the kernel, is at fault",
            "give the vmlinux that belongs to this kernel",
        ),
    )
}
