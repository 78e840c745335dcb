# SPDX-License-Identifier: LGPL-2.1-or-later
"""The words of `vmemmap page`: a verdict, then one sentence for every fact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..kernel.kernel import Kernel

__all__ = ["say"]

Facts = dict[str, Any]


def say(kernel: Kernel, vmemmap_va: int | None, facts: Facts) -> tuple[str, list[str]]:
    """(verdict, sentences) about a page; with an address in the vmemmap, about that."""
    what = _what(kernel, facts)
    if vmemmap_va is not None:
        verdict = _address_verdict(kernel, vmemmap_va, facts)
    elif facts["backs"]:
        verdict = f"{what}; {_backs(facts['backs'])}"
    else:
        verdict = what
    return verdict, list(_sentences(facts, what))


def _address_verdict(kernel: Kernel, va: int, facts: Facts) -> str:
    """What an access to this address of the vmemmap meets."""
    vmemmap, section = facts["vmemmap"], facts["section"]
    if vmemmap["mapped"] is None:
        return f"{va:#x} cannot be determined: {_no_table(kernel, va)}"
    if not vmemmap["mapped"]:
        return f"{va:#x} is an unmapped hole of the vmemmap: {_hole(kernel, facts)}"
    if not vmemmap["readonly"]:
        return (
            f"{va:#x} is mapped writable"
            + (", on a frame that backs other vmemmap pages too" * _shared(vmemmap))
            + (
                ""
                if section or facts["valid"] is None
                else ", though no section is there"
            )
        )
    return (
        f"{va:#x} lies in {_readonly_page(facts)}: reading is right, a write to it "
        "faults and is a bug of the writer"
    )


def _readonly_page(facts: Facts) -> str:
    vmemmap = facts["vmemmap"]
    owner, tail = vmemmap["owner"], vmemmap["shared_tail_of"]
    of = f" of {_compound_name(owner)}" if owner else ""
    if tail:
        return (
            f"a read-only shared tail page{of} (the tail page of order {tail['order']} "
            f"of {_place(tail)})"
        )
    if vmemmap["mappings"] is None:
        return f"a read-only vmemmap page{of}"
    if _shared(vmemmap):
        return f"a read-only shared tail page{of}"
    return f"a read-only vmemmap page{of} that is not shared, which nothing explains"


def _shared(vmemmap: Facts) -> bool:
    """Whether the frame is known to back other vmemmap pages, too."""
    return vmemmap["mappings"] is not None and vmemmap["mappings"] > 1


def _no_table(kernel: Kernel, va: int) -> str:
    """Which page table is missing, and why."""
    table = next(a for a in kernel.vmemmap.absent if a.va <= va < a.end_va)
    if table.error is None:
        return f"the page table at {table.pa:#x} is linked twice"
    return f"the page table at {table.pa:#x} could not be read ({table.error})"


def _compound_name(owner: Facts) -> str:
    kind = "hugetlb folio" if owner["kind"] == "hugetlb" else "device DAX compound"
    return f"the {kind} of order {owner['order']} at pfn {owner['pfn']:#x}"


def _hole(kernel: Kernel, facts: Facts) -> str:
    """Why nothing is mapped here."""
    section = facts["section"]
    if facts["valid"] is None:
        return f"why cannot be determined: {_no_section(kernel)}"
    if section is None:
        return f"pfn {facts['pfn']:#x} has no section"
    name = f"section {section['nr']}"
    if section["state"] is not None and "M" not in section["state"]:
        return f"{name} has no mem_map"
    if facts["valid"] is False:
        return (
            f"pfn {facts['pfn']:#x} is in a subsection of {name} that is not populated"
        )
    return f"{name} has a mem_map, so that this part of it ought to be mapped"


def _no_section(kernel: Kernel) -> str:
    """Why a section does not tell whether a pfn has a struct page."""
    return kernel.gap("sections") or "its mem_section_usage could not be read"


def _what(kernel: Kernel, facts: Facts) -> str:
    """The page in one sentence."""
    pfn, struct_page = facts["pfn"], facts["struct_page"]
    if facts["vmemmap"]["mapped"] is None:
        why = _no_table(kernel, kernel.pages.va(pfn))
        return f"the struct page of pfn {pfn:#x} cannot be determined: {why}"
    if not facts["vmemmap"]["mapped"] and facts["valid"] is None:
        why = _no_section(kernel)
        return f"whether pfn {pfn:#x} has a struct page cannot be determined: {why}"
    if not facts["vmemmap"]["mapped"]:
        return f"pfn {pfn:#x} has no struct page: {_hole(kernel, facts)}"
    if struct_page is None:
        return f"the struct page of pfn {pfn:#x} is not in this dump"
    part = _altmap_part(facts["dax"])
    if not struct_page["initialised"]:
        return f"the struct page of pfn {pfn:#x} was never initialised{part}"
    states = f", {_place(struct_page)}{part}{_hwpoison(facts)}{_strayed(facts)}"
    return f"pfn {pfn:#x} {_role(facts)}{states}"


def _role(facts: Facts) -> str:
    """What the struct page is, as the rest of a sentence that begins with the pfn."""
    struct_page, compound = facts["struct_page"], facts["compound"]
    role, stale = struct_page["role"], struct_page["stale_head"]
    if stale is not None:
        inside = f", in {_folio(facts)}" if compound else ""
        return f"is no compound head, yet its struct page is {stale['meaning']}{inside}"
    if role == "single":
        kind = f" ({struct_page['type']})" if struct_page["type"] else ""
        return f"is a single page{kind}"
    if compound is not None:
        return f"is {'the head' if role == 'head' else 'a tail'} of {_folio(facts)}"
    word, head = struct_page["compound_word"], struct_page["head_pfn"]
    if head is None:
        return (
            f"is marked as a tail, but its compound word {word} is damaged: it leads "
            "to no possible head"
        )
    return (
        f"is marked as a tail of pfn {head:#x} (compound word {word}), which is not "
        "the head of a folio that includes it"
    )


def _folio(facts: Facts) -> str:
    compound = facts["compound"]
    kind = "hugetlb folio" if facts["hugetlb"] else "compound page"
    order = compound.get("order", "unknown")
    return f"the {kind} of order {order} at pfn {compound['head_pfn']:#x}"


def _altmap_part(dax: Facts | None) -> str:
    """Which part of the device's altmap the page is."""
    if not dax or not dax["in_altmap"]:
        return ""
    if dax["in_altmap_reserve"]:
        return ", in the reserve in front of its device's altmap"
    return ", in its device's altmap (set aside for vmemmap)"


def _hwpoison(facts: Facts) -> str:
    if "hwpoison" in (facts["struct_page"]["flags"] or ()):
        return ", hwpoisoned"
    is_poisoned = (facts["compound"] or {}).get("hwpoison")
    return ", of which memory is hwpoisoned" if is_poisoned else ""


def _strayed(facts: Facts) -> str:
    owner = facts["strayed_from"]
    if owner is None:
        return ""
    return f"; it lies in {_compound_name(owner)}, but does not lead to its head"


def _place(facts: Facts) -> str:
    """Node and zone; the zone may be unknown."""
    zone = facts["zone"]
    return f"node {facts['node']}" + (f", zone {zone}" if zone is not None else "")


def _sentences(facts: Facts, what: str) -> Iterator[str]:
    yield f"{what}."
    struct_page, section = facts["struct_page"], facts["section"]
    if struct_page and struct_page["is_fake_head"]:
        yield (
            "It looks like a head but is a tail: its struct page lies on an alias of "
            "the head's vmemmap page (a fake head)."
        )
    if section:
        state = f" (state {section['state']})" if section["state"] else ""
        yield f"It belongs to section {section['nr']}{state}."
    if facts["hugetlb"]:
        yield _hugetlb_sentence(facts["hugetlb"])
        if facts["hugetlb"]["hwpoison"]:
            yield (
                "A page of its folio is hwpoisoned. The flag is in the head and counts "
                "for all pages; the head's list of raw_hwp_page has the bad ones."
            )
    if facts["dax"]:
        yield _dax_sentence(facts["dax"])
    if facts["vmemmap"]["mapped"]:
        yield from _backing_sentences(facts["vmemmap"])
    if facts["backs"]:
        yield _backs_sentence(facts["backs"])


def _hugetlb_sentence(hugetlb: Facts) -> str:
    if hugetlb["optimised"] is None:
        return "Whether its folio is optimised cannot be determined."
    if hugetlb["optimised"]:
        return (
            f"Its folio is optimised ({hugetlb['layout']}): it keeps "
            f"{hugetlb['kept_frames']} of {hugetlb['vmemmap_pages']} vmemmap pages, "
            f"{hugetlb['saved_bytes']} bytes are saved."
        )
    claim = " though it carries the flag" if hugetlb["flagged"] else ""
    return f"Its folio is not optimised ({hugetlb['layout']}){claim}."


def _dax_sentence(dax: Facts) -> str:
    part = (
        ", in the part that holds the device's own vmemmap" if dax["in_altmap"] else ""
    )
    return (
        f"It is device memory ({dax['type']}) of the range {dax['start_pfn']:#x}-"
        f"{dax['end_pfn']:#x} with vmemmap_shift {dax['vmemmap_shift']}{part}."
    )


def _backing_sentences(vmemmap: Facts) -> Iterator[str]:
    may = "may not" if vmemmap["readonly"] else "may"
    leaf = "a huge leaf" if vmemmap["leaf"] == "huge" else "a base page"
    yield (
        f"Its struct page lies in the vmemmap page at {vmemmap['va']}, which {leaf} "
        f"maps to frame {vmemmap['frame_pfn']:#x} and which {may} be written."
    )
    others = (vmemmap["mappings"] or 1) - 1
    if others > 0:
        pages = "page" if others == 1 else "pages"
        yield f"That frame backs {others} other vmemmap {pages} as well."


def _backs(backs: Facts) -> str:
    """What part of the vmemmap a physical page is."""
    count, tail = backs["count"], backs["shared_tail_of"]
    if count is None:
        count, pages = "some", "pages"
    else:
        pages = "page" if count == 1 else "pages"
    role = (
        f"the shared tail page of order {tail['order']} of {_place(tail)}"
        if tail
        else "part of the vmemmap"
    )
    return f"it is {role} and backs {count} vmemmap {pages}"


def _backs_sentence(backs: Facts) -> str:
    sentence = f"As a physical page {_backs(backs)}"
    if not backs["pages"]:
        return f"{sentence}."
    first = backs["pages"][0]
    return (
        f"{sentence}, {'the first' if backs['count'] > 1 else 'that'} at {first['va']} "
        f"(struct pages of pfn {first['start_pfn']:#x}-{first['end_pfn']:#x})."
    )
