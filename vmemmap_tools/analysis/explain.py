# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything about one page, and a verdict in words.

Answers three questions at once: what a page is; what stands behind its struct page;
and, the other way round, which part of the vmemmap a physical page backs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..kernel.compound import classify
from ..kernel.kernel import Kernel
from ..kernel.page_role import STALE_HEADS, PageRole, hugetlb_order, role_of
from ..kernel.vmemmap import HOLE
from ..target.base import Fault
from .hvo import OPTIMISED_FLAG
from .runs import Owner
from .sentences import say

__all__ = ["Explanation", "Subject", "explain_page", "resolve"]

HWPOISON = "PG_hwpoison"
UNINITIALISED = "uninitialised"
LISTED_PAGES = 16
"""A shared frame can back thousands of vmemmap pages; so many are listed."""


@dataclass(frozen=True)
class Subject:
    """What is asked about: a pfn, and the vmemmap address if one was given.

    ``pfn`` is None for an address that leads nowhere.
    """

    text: str
    pfn: int | None
    vmemmap_va: int | None = None
    note: str | None = None


@dataclass
class Explanation:
    """The facts about one page; `say` turns them into sentences."""

    subject: Subject
    facts: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    sentences: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "target": self.subject.text,
            "verdict": self.verdict,
            **self.facts,
            "explanation": self.sentences,
        }


def resolve(kernel: Kernel, kind: str, value: int, text: str) -> Subject:
    """The page meant by a TARGET word (see ``commands.options.TargetWord``).

    A plain address inside the vmemmap window means that struct page; every other
    address, and ``va:``, the page behind it.
    """
    page_shift = kernel.geometry.page_shift
    start, end = kernel.geometry.vmemmap_window
    if kind == "pfn":
        return Subject(text, value)
    if kind == "phys":
        return Subject(text, value >> page_shift)
    if kind == "address" and start <= value < end:
        return Subject(text, kernel.pages.pfn(value), value)
    try:
        found = kernel.page_table.translate(value)
    except Fault as fault:
        return Subject(
            text,
            None,
            note=f"cannot be determined: its page tables cannot be read ({fault})",
        )
    if found is None:
        return Subject(text, None, note="the kernel's page tables do not map it")
    return Subject(text, found.pa >> page_shift)


def explain_page(kernel: Kernel, subject: Subject) -> Explanation:
    """All facts about a subject, with verdict and sentences."""
    explanation = Explanation(subject)
    facts = explanation.facts
    pfn = subject.pfn
    if pfn is None:
        explanation.verdict = f"{subject.text}: {subject.note}"
        return explanation
    facts["pfn"] = pfn
    facts["page_va"] = f"{kernel.pages.va(pfn):#x}"
    facts["section"] = _section(kernel, pfn)
    facts["valid"] = _is_valid(kernel, pfn)
    role = _role(kernel, pfn)
    facts["struct_page"] = _struct_page(kernel, pfn, role)
    facts["compound"] = _compound(kernel, role)
    facts["hugetlb"] = _hugetlb(kernel, role)
    facts["dax"] = _dax(kernel, pfn)
    facts["strayed_from"] = _strayed_from(kernel, pfn, role)
    facts["vmemmap"] = _vmemmap_page(kernel, pfn, facts)
    facts["backs"] = _backs(kernel, pfn)
    explanation.verdict, explanation.sentences = say(kernel, subject.vmemmap_va, facts)
    return explanation


def _section(kernel: Kernel, pfn: int) -> dict[str, Any] | None:
    section = kernel.sections.of_pfn(pfn)
    if section is None:
        return None
    is_named = not section.has_unnamed_flags
    return {
        "nr": section.nr,
        "state": section.state if is_named else None,
        "flags": section.flag_names() if is_named else None,
        "order": section.order,
        "memory_block": kernel.sections.memory_block(section),
    }


def _is_valid(kernel: Kernel, pfn: int) -> bool | None:
    try:
        return kernel.sections.pfn_is_valid(pfn)
    except Fault as fault:
        kernel.missing.record(fault, "mem_section_usage")
        return None


def _role(kernel: Kernel, pfn: int) -> PageRole | None:
    """What the struct page is, None if it cannot be read."""
    try:
        role = role_of(kernel.pages, pfn)
    except Fault as fault:
        if fault.kind != "unmapped":
            kernel.missing.record(fault, "struct pages")
        return None
    if role.fault is not None:
        kernel.missing.record(role.fault, "struct pages")
    return role


def _struct_page(
    kernel: Kernel, pfn: int, role: PageRole | None
) -> dict[str, Any] | None:
    """The decoded struct page, None if it cannot be read."""
    if role is None:
        return None
    pages = kernel.pages
    page = pages.page(pfn)
    return {
        "initialised": role.name != UNINITIALISED,
        "flags_word": f"{page.flags:#x}",
        "flags": pages.flag_names(page),
        "node": pages.node(page),
        "zone": kernel.zone_name(pages.zone_index(page)),
        "refcount": page.refcount,
        "mapcount_word": f"{page.mapcount_word:#x}",
        "type": pages.type_name(page),
        "compound_word": f"{page.compound_word:#x}",
        "head_pfn": pfn if role.name in ("single", UNINITIALISED) else role.head_pfn,
        "role": None if role.name == UNINITIALISED else role.name,
        "stale_head": None
        if role.stale is None
        else {"kind": role.stale, "meaning": STALE_HEADS[role.stale]},
        "is_tail": role.name in ("tail", "fake-head"),
        "is_fake_head": role.name == "fake-head",
        "has_head_flag": bool(page.flags & pages.head_bit),
    }


def _compound(kernel: Kernel, role: PageRole | None) -> dict[str, Any] | None:
    """The compound page around a page: its head, order, and the state kept there."""
    if role is None or role.head_pfn is None:
        return None
    pages, head = kernel.pages, role.head_pfn
    found = {"head_pfn": head, "head_va": f"{pages.va(head):#x}"}
    if role.order is None:
        return None if role.fault is None else found
    page = pages.page(head)
    return {
        **found,
        "order": role.order,
        "pages": 1 << role.order,
        "flags": pages.flag_names(page),
        "refcount": page.refcount,
        "hwpoison": _is_folio_hwpoisoned(kernel, role),
    }


def _is_folio_hwpoisoned(kernel: Kernel, role: PageRole) -> bool | None:
    """Whether memory of a folio is poisoned, by what its head says.

    Of hugetlb and device folios the head has PG_hwpoison, whichever page is bad. Other
    folios have it in the bad page, and PG_has_hwpoisoned in the second.
    """
    pages = kernel.pages
    found = pages.has_flag_in(pages.flags_of(role.head), HWPOISON)
    if found is not False or role.is_hugetlb:
        return found
    return pages.has_flag_in(
        pages.flags_of(role.head[pages.size :]), "PG_has_hwpoisoned"
    )


def _hugetlb(kernel: Kernel, role: PageRole | None) -> dict[str, Any] | None:
    if role is None or not role.is_hugetlb:
        return None
    head, order, g = role.head_pfn, role.order, kernel.geometry
    assert head is not None and order is not None
    private = kernel.pages.private_of(role.head)
    backing = classify(
        kernel.vmemmap,
        kernel.pages.vmemmap_page(head),
        g.vmemmap_pages(order),
        kernel.tail_frames,
    )
    bits = kernel.hugetlb.flag_bits
    flag = bits.get(OPTIMISED_FLAG)
    return {
        "order": order,
        "size_bytes": g.page_size << order,
        "flags": [name for name, bit in bits.items() if private >> bit & 1]
        if bits
        else None,
        "flagged": None if flag is None else bool(private >> flag & 1),
        "hwpoison": _is_folio_hwpoisoned(kernel, role),
        "optimised": backing.is_optimised if backing.is_known else None,
        "layout": backing.layout,
        "vmemmap_pages": backing.pages,
        "kept_frames": backing.kept if backing.is_known else None,
        "saved_bytes": backing.saved_pages * g.page_size if backing.is_known else None,
    }


def _dax(kernel: Kernel, pfn: int) -> dict[str, Any] | None:
    one = kernel.pgmaps.range_of_pfn(pfn)
    if one is None:
        return None
    pgmap, altmap = one.pgmap, one.pgmap.altmap
    return {
        "pgmap_va": f"{pgmap.va:#x}",
        "type": pgmap.type_name,
        "start_pfn": one.start,
        "end_pfn": one.end,
        "vmemmap_shift": pgmap.vmemmap_shift,
        "compound_order": pgmap.compound_order,
        "compound_head_pfn": one.compound_head(pfn),
        "in_altmap": altmap is not None and altmap.base_pfn <= pfn < altmap.end_pfn,
        "in_altmap_reserve": altmap is not None
        and 0 <= pfn - altmap.base_pfn < altmap.reserve,
    }


def _strayed_from(
    kernel: Kernel, pfn: int, role: PageRole | None
) -> dict[str, Any] | None:
    """The compound page that has this pfn, if the struct page does not lead there."""
    if role is None or role.name == UNINITIALISED or role.fault is not None:
        return None
    one = kernel.pgmaps.range_of_pfn(pfn)
    if one is not None:
        head, order = one.compound_head(pfn), one.pgmap.compound_order
        if head is None or (role.order is not None and role.head_pfn == head):
            return None
        return {"kind": "dax", "pfn": head, "order": order}
    if role.order is not None:
        return None
    orders = {h.order for h in kernel.hugetlb.hstates if h.total}
    for order in sorted(o for o in orders if o <= kernel.geometry.max_folio_order):
        head = pfn >> order << order
        try:
            if head != pfn and hugetlb_order(kernel.pages, head) == order:
                return {"kind": "hugetlb", "pfn": head, "order": order}
        except Fault:
            continue
    return None


def _vmemmap_page(
    kernel: Kernel, pfn: int, facts: dict[str, Any]
) -> dict[str, Any] | None:
    """The vmemmap page that holds the struct page, and the frame behind it."""
    vmemmap = kernel.vmemmap
    number = kernel.pages.vmemmap_page(pfn)
    frame = vmemmap.frame(number)
    found: dict[str, Any] = {
        "va": f"{vmemmap.page_va(number):#x}",
        "leaf": vmemmap.slot_kind(number),
    }
    if frame == HOLE:
        if vmemmap.is_absent(number):
            return {**found, "leaf": None, "mapped": None}
        return {**found, "mapped": False}
    owner = _owner(facts)
    return {
        **found,
        "mapped": True,
        "frame_pfn": frame,
        "readonly": vmemmap.is_readonly(number),
        "mappings": vmemmap.frames.mappings(frame)
        if kernel.is_complete("page tables")
        else None,
        "shared_tail_of": _shared_tail(kernel, frame),
        "owner": None
        if owner is None
        else {"kind": owner.kind, "pfn": owner.pfn, "order": owner.order},
        "index_in_folio": None
        if owner is None
        else number - kernel.pages.vmemmap_page(owner.pfn),
    }


def _shared_tail(kernel: Kernel, frame: int) -> dict[str, Any] | None:
    """The zone and order whose shared tail page lies on this frame."""
    found = kernel.tail_frames.get(frame)
    if found is None:
        return None
    node, zone_index, order = found
    return {"node": node, "zone": kernel.zone_name(zone_index), "order": order}


def _owner(facts: dict[str, Any]) -> Owner | None:
    """The optimisable compound that a page belongs to."""
    compound = facts["compound"]
    if facts["hugetlb"]:
        return Owner("hugetlb", compound["head_pfn"], compound["order"])
    dax = facts["dax"]
    if dax and dax["compound_head_pfn"] is not None:
        return Owner("dax", dax["compound_head_pfn"], dax["compound_order"])
    return None


def _backs(kernel: Kernel, pfn: int) -> dict[str, Any] | None:
    """Which vmemmap pages this physical page stands behind."""
    count = kernel.vmemmap.frames.mappings(pfn)
    if not count:
        return None
    is_whole = kernel.is_complete("page tables")
    return {
        "count": count if is_whole else None,
        "pages": list(islice(_backed_pages(kernel, pfn), LISTED_PAGES))
        if is_whole
        else None,
        "shared_tail_of": _shared_tail(kernel, pfn),
    }


def _backed_pages(kernel: Kernel, frame: int) -> Iterator[dict[str, Any]]:
    g = kernel.geometry
    for number in kernel.vmemmap.pages_of_frame(frame):
        va = kernel.vmemmap.page_va(number)
        first = kernel.pages.pfn(va)
        yield {
            "va": f"{va:#x}",
            "start_pfn": first,
            "end_pfn": first + g.struct_pages_per_page,
            "readonly": kernel.vmemmap.is_readonly(number),
        }
