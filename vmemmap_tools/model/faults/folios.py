# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of hugetlb folios and their vmemmap: rules F1 to F13."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from vmemmap_tools.model.faults.find import (
    Folio,
    choose,
    folios,
    free_block,
    get_pte,
    optimised,
    set_pte,
    spare_frame,
    unlink,
)
from vmemmap_tools.model.faults.registry import NotApplicable, Place, fault
from vmemmap_tools.model.frames import Kind, PageRun
from vmemmap_tools.model.hugetlb import FREE
from vmemmap_tools.model.templates import Templates, page_type

if TYPE_CHECKING:
    from vmemmap_tools.model.image import Image

__all__: list[str] = []


def _flip(image: Image, pfn: int, name: str) -> None:
    """Flip a hugetlb flag of a head page."""
    page = image.page(pfn)
    page.set("private", page.get("private") ^ 1 << image.types.enumerator(name))


@fault("flag-without-sharing", "F1", "a failed remap that leaves the flag set")
def flag_without_sharing(image: Image, rng: random.Random) -> Place:
    """A folio whose vmemmap is private claims to be optimised."""
    folio = choose(rng, folios(image, False), "folio that is not optimised")
    _flip(image, folio.pfn, "HPG_vmemmap_optimized")
    return {"head_pfn": folio.pfn}


@fault("sharing-without-flag", "F1 F10", "the flag cleared before the restore")
def sharing_without_flag(image: Image, rng: random.Random) -> Place:
    """An optimised folio lacks the flag that says so."""
    folio = optimised(image, rng)
    _flip(image, folio.pfn, "HPG_vmemmap_optimized")
    return {"head_pfn": folio.pfn}


@fault(
    "head-frame-shared",
    "F2 F11",
    "double free of a vmemmap frame",
    # The folio whose head page is gone: its tails, its place on a list.
    implied="F7 F9 F10 Z4 C1",
)
def head_frame_shared(image: Image, rng: random.Random) -> Place:
    """Two folios have the same frame behind their first vmemmap page."""
    found = folios(image, True)
    if len(found) < 2:
        raise NotApplicable("this machine has fewer than two optimised folios")
    first, second = rng.sample(found, 2)
    frame = image.frame_of(first.first_page)
    set_pte(image, second.first_page, frame, writable=True)
    return {"head_pfn": second.pfn, "other_pfn": first.pfn, "frame_pfn": frame}


@fault("head-read-only", "F2", "a remap that protects one page too many")
def head_read_only(image: Image, rng: random.Random) -> Place:
    """The first vmemmap page of an optimised folio is read-only."""
    folio = optimised(image, rng)
    frame = image.frame_of(folio.first_page)
    set_pte(image, folio.first_page, frame, writable=False)
    return {"head_pfn": folio.pfn}


@fault(
    "partial-rollback",
    "F4 F1",
    "a restore that fails half-way",
    implied="F5 F6 F7 F12 C1",
)
def partial_rollback(image: Image, rng: random.Random) -> Place:
    """Some tail vmemmap pages of an optimised folio have private frames again."""
    folio = optimised(image, rng)
    kept = image.core.generation.kept
    count = rng.randrange(1, min(8, folio.pages) - kept + 1)
    block = free_block(image, rng, 8)
    pages = range(
        folio.first_page + folio.pages - count, folio.first_page + folio.pages
    )
    for index, page in enumerate(pages):
        set_pte(image, page, block + index, writable=True)
        content = image.memory.read(image.frame_of(page) << image.arch.page_shift, 4096)
        image.memory.store(block + index, bytearray(content))
    return {"head_pfn": folio.pfn, "pages": list(pages)}


@fault("tail-decodes-wrong", "F5", "a corrupt tail, or a misaligned vmemmap base")
def tail_decodes_wrong(image: Image, rng: random.Random) -> Place:
    """A tail struct page in the head's vmemmap page resolves to another head."""
    folio = choose(rng, folios(image), "hugetlb folio")
    index = rng.randrange(4, image.core.vmemmap.spp)
    page = image.page(folio.pfn + index)
    masked = image.types.has("page.compound_info")
    name = "compound_info" if masked else "compound_head"
    page.set(name, image.page_va(folio.pfn + 2) | 1)
    if masked and image.core.generation.mask:
        page.set(name, -(1 << 6 + 2) | 1)
    return {"head_pfn": folio.pfn, "index": index}


@fault(
    "order-mismatch",
    "F5",
    "a demotion that forgets to write the new order",
    implied="F7",
)
def order_mismatch(image: Image, rng: random.Random) -> Place:
    """A folio's order is not the order of its hstate."""
    folio = choose(rng, folios(image), "hugetlb folio")
    page = image.page(folio.pfn + 1)
    if image.types.has_enumerator("HUGETLB_PAGE_DTOR"):
        page.set("compound_order", folio.order - 1)
    else:
        page.set("flags", page.get("flags") & ~0xFF | folio.order - 1)
    return {"head_pfn": folio.pfn, "order": folio.order - 1}


@fault(
    "restored-head-clones", "F6", "restore that copies the head frame (6.12.115 ff.)"
)
def restored_head_clones(image: Image, rng: random.Random) -> Place:
    """A freed folio's former tail vmemmap pages begin with clones of its struct pages
    0 to 3: PG_head and hugetlb type on private frames of free memory."""
    start, pages = _restored_run(image, rng)
    state = image.core.frames.states.get(start * image.core.vmemmap.spp)
    assert state is not None
    clones = _head_pages(image, state.node, state.zone)
    for page in range(start + 1, start + pages):
        frame = image.frame_of(page)
        image.memory.write(frame << image.arch.page_shift, clones)
    return {"page": start, "pages": pages - 1}


def _restored_run(image: Image, rng: random.Random) -> tuple[int, int]:
    """A restored 2M folio in free memory: its first vmemmap page, and their number."""
    order = image.arch.hugetlb_orders[0]
    vmemmap = image.core.vmemmap
    pages = vmemmap.pages_per(order)
    found = []
    for start, end, backing in vmemmap.runs():
        if backing.why != "restored":
            continue
        for first in range(start // pages * pages, end, pages):
            run = image.core.frames.states.get(first * vmemmap.spp)
            if run is not None and run.kind is Kind.FREE:
                found.append(first)
    if not found:
        raise NotApplicable("no optimised folio was given back to the buddy allocator")
    return choose(rng, found, "restored folio"), pages


def _head_pages(image: Image, node: int, zone: int) -> bytes:
    """Struct pages 0 to 3 of a folio as free_hpage leaves them."""
    run = PageRun(Kind.HUGETLB, node, zone)
    order = image.arch.hugetlb_orders[0]
    compound = Templates(image.core).compound(run, order, True, False)
    return compound.first.tobytes()


@fault(
    "demoted-head-clones",
    "F6 F1 F7",
    "demotion after a restore from the head frame",
    implied="F5",
)
def demoted_head_clones(image: Image, rng: random.Random) -> Place:
    """A folio made by demotion carries PG_head in its first tail vmemmap page."""
    folio = choose(rng, folios(image, False), "folio that is not optimised")
    page = folio.first_page + 1
    source = image.page_pa(folio.pfn)
    clones = image.memory.read(source, 4 * image.types.sizeof("struct page"))
    image.memory.write(image.frame_of(page) << image.arch.page_shift, clones)
    pfn = folio.pfn + image.core.vmemmap.spp
    head = image.page_va(folio.pfn) | 1
    masked = image.core.generation.mask
    name = "compound_info" if masked else "compound_head"
    image.page(pfn).set(name, -(1 << folio.order + 6) | 1 if masked else head)
    return {"head_pfn": folio.pfn, "page": page}


@fault("static-key-unbalanced", "F7", "an unbalanced count in an error path")
def static_key_unbalanced(image: Image, rng: random.Random) -> Place:
    """The static key counts more optimised folios than there are."""
    name = image.core.generation.static_key
    if name is None or image.core.generation.static_key_counts != "folios":
        raise NotApplicable("this generation has no key that counts folios")
    key = image.variables[name]
    surplus = rng.randrange(1, 5)
    key.set("key.enabled", key.get("key.enabled") + surplus)
    return {"symbol": name, "surplus": surplus}


@fault("self-hosted-optimised", "F8", "a missing self-hosted test")
def self_hosted_optimised(image: Image, rng: random.Random) -> Place:
    """The frame behind an optimised folio's head page is marked self-hosted."""
    if not image.types.has_enumerator("PG_vmemmap_self_hosted"):
        raise NotApplicable("this generation does not mark self-hosted vmemmap")
    folio = optimised(image, rng)
    frame = image.frame_of(folio.first_page)
    page = image.page(frame)
    bit = image.types.enumerator("PG_vmemmap_self_hosted")
    page.set("flags", page.get("flags") | 1 << bit)
    return {"head_pfn": folio.pfn, "frame_pfn": frame}


@fault("pool-count-wrong", "F9", "list corruption, or a lost update of a pool counter")
def pool_count_wrong(image: Image, rng: random.Random) -> Place:
    """A pool's total is not the sum over its nodes."""
    hstate = choose(rng, image.hstates, "hstate")
    hstate.set("nr_huge_pages", hstate.get("nr_huge_pages") + 1)
    return {"order": hstate.get("order")}


@fault("freelist-broken", "F9", "list corruption: a folio unlinked twice")
def freelist_broken(image: Image, rng: random.Random) -> Place:
    """A free list skips one of its folios."""
    table = image.machine.hugetlb.table
    pfns = [int(p) for p in table["pfn"][table["list"] == FREE][:1000]]
    pfn = choose(rng, pfns, "free folio")
    unlink(image, pfn)
    return {"head_pfn": pfn}


@fault("freed-flag-missing", "F9", "a folio freed without its flag")
def freed_flag_missing(image: Image, rng: random.Random) -> Place:
    """A folio on a free list lacks HPG_freed."""
    table = image.machine.hugetlb.table
    pfns = [int(p) for p in table["pfn"][table["list"] == FREE][:1000]]
    pfn = choose(rng, pfns, "free folio")
    _flip(image, pfn, "HPG_freed")
    return {"head_pfn": pfn}


@fault(
    "stale-read-only",
    "F10 F11",
    "freeing a folio before its vmemmap is restored",
    implied="F2 C1",
)
def stale_read_only(image: Image, rng: random.Random) -> Place:
    """A vmemmap page of free memory is still mapped read-only, to a shared frame."""
    folio = optimised(image, rng)
    vmemmap = image.core.vmemmap
    frame = image.frame_of(folio.first_page + folio.pages - 1)
    found = []
    for block in sorted(vmemmap.tables):
        first = block * vmemmap.entries
        for page in range(first, first + vmemmap.entries, 8):
            run = image.core.frames.states.get(page * vmemmap.spp)
            if run is not None and run.kind is Kind.FREE:
                found.append(page)
    page = choose(rng, found, "PTE-mapped vmemmap of free memory")
    set_pte(image, page, frame, writable=False)
    return {"page": page, "frame_pfn": frame}


@fault(
    "frame-mapped-twice",
    "F11",
    "a stale PTE to a frame that was reused",
    implied="F1 F2 F5 F9 P2 C1",
)
def frame_mapped_twice(image: Image, rng: random.Random) -> Place:
    """Two vmemmap pages that have nothing to do with each other share a frame."""
    folio = choose(rng, folios(image, True) or folios(image), "hugetlb folio")
    vmemmap = image.core.vmemmap
    found = [
        page
        for start, end, backing in vmemmap.runs()
        if not backing.period and start // vmemmap.entries in vmemmap.tables
        for page in range(start, min(end, start + 64))
        if page // vmemmap.entries in vmemmap.tables
        and not folio.first_page <= page < folio.first_page + folio.pages
    ]
    page = choose(rng, found, "other PTE-mapped vmemmap page")
    frame = image.frame_of(folio.first_page)
    set_pte(image, page, frame, writable=True)
    return {"page": page, "head_pfn": folio.pfn, "frame_pfn": frame}


def _retype(image: Image, frame: int, name: str) -> None:
    """Make a frame's struct page say that it is free, slab or anonymous memory."""
    page = image.page(frame)
    reserved = 1 << image.types.enumerator("PG_reserved")
    flags = page.get("flags") & ~reserved
    if name == "anon":
        for flag in ("PG_lru", "PG_swapbacked"):
            flags |= 1 << image.types.enumerator(flag)
        page.set("mapping", image.direct(0x100) | 1)
    value = page_type(image.core, name)
    if value is not None:
        page.set("page_type", value)
    elif name == "slab":
        flags |= 1 << image.types.enumerator("PG_slab")
    page.set("_refcount", 0 if name == "buddy" else 1)
    page.set("flags", flags)


def _any_backing(image: Image, rng: random.Random) -> tuple[Folio, int]:
    folio = choose(rng, folios(image, True) or folios(image), "hugetlb folio")
    return folio, image.frame_of(folio.first_page)


@fault("backing-frame-free", "F12", "use after free of a vmemmap frame")
def backing_frame_free(image: Image, rng: random.Random) -> Place:
    """A frame that backs the vmemmap is free in the buddy allocator."""
    folio, frame = _any_backing(image, rng)
    _retype(image, frame, "buddy")
    return {"head_pfn": folio.pfn, "frame_pfn": frame}


@fault("backing-frame-slab", "F12", "a freed vmemmap frame reused before the TLB flush")
def backing_frame_slab(image: Image, rng: random.Random) -> Place:
    """A frame that backs the vmemmap belongs to the slab allocator."""
    folio, frame = _any_backing(image, rng)
    _retype(image, frame, "slab")
    return {"head_pfn": folio.pfn, "frame_pfn": frame}


@fault("backing-frame-anon", "F12", "a freed vmemmap frame given to a process")
def backing_frame_anon(image: Image, rng: random.Random) -> Place:
    """A frame that backs the vmemmap is user memory on an LRU list."""
    folio, frame = _any_backing(image, rng)
    _retype(image, frame, "anon")
    return {"head_pfn": folio.pfn, "frame_pfn": frame}


@fault("table-frame-free", "F12", "x86/mm: vmemmap page tables freed too early")
def table_frame_free(image: Image, rng: random.Random) -> Place:
    """A page table of the vmemmap is free in the buddy allocator."""
    tables = sorted(image.core.vmemmap.tables.values())
    frame = choose(rng, tables, "page table of the vmemmap")
    _retype(image, frame, "buddy")
    return {"frame_pfn": frame}


@fault(
    "head-page-lost",
    "F13 F5",
    "rollback that rebuilds page 0 from tail data (7.1-rc)",
    implied="F7 F9",
)
def head_page_lost(image: Image, rng: random.Random) -> Place:
    """The first vmemmap page of a folio holds nothing but tails."""
    if image.core.generation.tail != "zone" and not image.core.generation.new_head:
        raise NotApplicable("this generation never replaces the head page")
    folio = optimised(image, rng)
    frame = image.frame_of(folio.first_page)
    page = image.memory.page(frame)
    size = image.types.sizeof("struct page")
    tail = bytes(page[8 * size : 9 * size])
    image.memory.store(frame, bytearray(tail * image.core.vmemmap.spp))
    return {"head_pfn": folio.pfn, "frame_pfn": frame}


@fault(
    "scattered-tails",
    "F4 F11",
    "a remap that walks past its end",
    implied="F5 F12 C1",
)
def scattered_tails(image: Image, rng: random.Random) -> Place:
    """One tail vmemmap page of an optimised folio maps an unrelated frame."""
    folio = optimised(image, rng)
    page = folio.first_page + folio.pages - 1
    frame = spare_frame(image, rng)
    old = get_pte(image, page)
    set_pte(image, page, frame, writable=False)
    return {"head_pfn": folio.pfn, "page": page, "frame_pfn": frame, "pte": hex(old)}
