# SPDX-License-Identifier: LGPL-2.1-or-later
"""Questions that a dump is asked by types of different origin."""

from __future__ import annotations

from .dumps import Dump

__all__ = ["VERBS", "questions"]

VERBS = (
    ("summary",),
    ("sections",),
    ("zones",),
    ("zones", "--all"),
    ("map",),
    ("map", "--leaves"),
    ("hvo",),
    ("hvo", "--folios"),
    ("dax",),
)
FILTERED = (
    ("summary", "--node", "0"),
    ("summary", "--kind", "hugetlb"),
    ("sections", "0-3", "0x40", "--state", "O"),
    ("hvo", "--order", "9"),
    ("hvo", "--folios", "--optimised", "--node", "1"),
    ("dax", "--optimised"),
    ("map", "--section", "0"),
)
WORDS = ("_text", "va:_text", "vmemmap_base", "phys:0x100000", "0xffffffffff600000")
"""Targets of ``page`` of every spelling: symbols, and an address of no RAM."""


def questions(dump: Dump) -> list[tuple[str, ...]]:
    """What types of every origin are asked: each verb, with pages of this dump.

    ``page`` is asked about many at once and about some alone, ``walk`` about the
    vmemmap, its end, the direct map and the kernel's text.
    """
    start = int(dump.ask("summary")["kernel"]["vmemmap_va"], 16)
    addresses = [hex(start + offset) for offset in (0, 1 << 21, 1 << 26, 1 << 38)]
    pages = interesting_pages(dump)
    return [
        *VERBS,
        *FILTERED,
        ("page", *pages),
        ("page", pages[0]),
        ("page", *WORDS, *addresses),
        *(("walk", address) for address in (*addresses, "_text", "vmemmap_base", "0")),
    ]


def interesting_pages(dump: Dump) -> list[str]:
    """Targets of ``page``: heads, tails and aliases, devices, starts of sections.

    And a page of each type that there is.
    """
    pfns: set[int] = set()
    for folio in dump.rows("hvo", "--folios")[:: len(dump.rows("hvo")) + 1]:
        last = (1 << folio["order"]) - 1
        pfns.update(folio["pfn"] + i for i in (0, 1, 64, 65, last))
        frames = folio["head_frame_pfn"], folio["tail_frame_pfn"]
        pfns.update(frame for frame in frames if frame is not None)
    for dax in dump.rows("dax"):
        pfns.update((dax["start_pfn"], dax["start_pfn"] + 65, dax["end_pfn"] - 1))
    pfns.update(section["start_pfn"] + 1 for section in dump.rows("sections"))
    pfns.update(_by_page_type(dump).values())
    return [f"pfn:{pfn}" for pfn in sorted(pfns)]


def _by_page_type(dump: Dump) -> dict[int, int]:
    """{top byte of ``page_type``: a pfn that has it}, in memory that is online."""
    kernel, found = dump.kernel, {}
    page = kernel.pages.struct
    step, at = page.size // 4, page.offset("_mapcount") // 4
    for section in dump.rows("sections", "--state", "O"):
        start = section["start_pfn"]
        data = kernel.memory.read(kernel.pages.va(start), section["pages"] * page.size)
        words = memoryview(data).cast("I")[at::step]
        found.update({word >> 24: start + i for i, word in enumerate(words)})
    return found
