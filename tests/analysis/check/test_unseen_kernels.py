# SPDX-License-Identifier: LGPL-2.1-or-later
"""States of kernels that no dump at hand shows: legal, or told for what they are."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.model.kernels import small, varied
from vmemmap_tools.analysis.check import Finding
from vmemmap_tools.analysis.check.context import Context
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.kernel.table_frames import for_each_table_frame
from vmemmap_tools.model.faults.find import (
    Folio,
    folios,
    set_pte,
    spare_frame,
    unlink,
)
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.objects import Object

from .overlay import Bench, find

TABLE = 0xF2 << 24
"""``PGTY_table``, above a count that says nothing."""
ENTRY = 0x000FFFFFFFFFF000


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("7.3"))


def told(kernel: Kernel) -> list[tuple[str, str, str]]:
    """(rule, severity, cause) of each finding that says more than I."""
    return [(f.rule, f.severity, f.cause) for f in said(kernel)]


def said(kernel: Kernel) -> list[Finding]:
    return [f for f in find(kernel)[1] if f.severity != "I"]


def entry_pa(image: Image, va: int, shift: int) -> int:
    """Where the entry stands that maps an address, at the level of this shift."""
    table = image.root_va + image.phys_base - image.arch.image_map
    for above in (39, 30, 21, 12):
        pa = table + 8 * (va >> above & 511)
        if above == shift:
            return pa
        table = image.read64(pa) & ENTRY
    raise AssertionError(shift)


@pytest.mark.parametrize("shift", [21, 30])
def test_a_table_that_is_linked_twice_is_neither_empty_nor_a_hole(
    bench: Bench, shift: int
) -> None:
    image = bench.machine.image()
    va = image.vmemmap_va(min(image.core.vmemmap.tables) * 512)
    pa = entry_pa(image, va, shift)
    other = next(p for p in range(pa + 8, pa + 4096, 8) if not image.read64(p))
    image.write64(other, image.read64(pa))
    assert told(bench.over(image)) == [("F11", "E", "page table linked twice")]


def test_nor_is_a_folio_whose_table_is_linked_twice_mixed(bench: Bench) -> None:
    image = bench.machine.image()
    kernel = bench.healthy()
    folio = next(f for f in kernel.hugetlb.folios() if f.order == 18)
    number = kernel.pages.vmemmap_page(folio.pfn) // 512 * 512
    first = entry_pa(image, image.vmemmap_va(number), 21)
    image.write64(first + 8, image.read64(first))
    assert [f for f in told(bench.over(image)) if f[0] == "F4"] == []
    assert ("F11", "E", "page table linked twice") in told(bench.over(image))


def unreserve(image: Image, pfn: int) -> None:
    page, reserved = image.page(pfn), 1 << image.types.enumerator("PG_reserved")
    assert page.get("flags") & reserved
    page.set("flags", page.get("flags") & ~reserved)


def booting(kernel: Kernel) -> Kernel:
    """The kernel as a dump taken before it was up would have it."""
    unsigned = kernel.target.unsigned
    kernel.target.unsigned = (  # type: ignore[method-assign]
        lambda name: 0 if name == "system_state" else unsigned(name)
    )
    assert Context(kernel).is_booting
    return kernel


def test_boot_memory_that_is_not_yet_marked_reserved_is_no_damage(
    bench: Bench,
) -> None:
    image = bench.machine.image()
    entry = next(image.sections[nr] for nr, s in image.core.sections.items() if s.early)
    unreserve(image, (entry.get("usage") - image.direct(0)) >> 12)
    changed = bench.over(image)
    assert ("S1", "E", "misplaced usage") in told(changed)
    assert [f for f in told(booting(bench.over(image))) if f[0] == "S1"] == []


def test_a_bitmap_that_is_still_being_filled_is_no_damage(bench: Bench) -> None:
    image = bench.machine.image()
    nr = next(nr for nr, s in image.core.sections.items() if s.early)
    usage = image.sections[nr].get("usage") - image.direct(0)
    at = image.types.offsetof("mem_section_usage.subsection_map")
    image.write64(usage + at, 0)
    assert ("S3", "E", "no subsection") in told(bench.over(image))
    assert [f for f in told(booting(bench.over(image))) if f[0] == "S3"] == []


def ordinary_frame(kernel: Kernel) -> int:
    """A frame with the struct pages of memory that is nothing in particular."""
    pages, vmemmap = kernel.pages, kernel.vmemmap
    reserved = 1 << (kernel.target.enumerator("PG_reserved") or 0)
    for first, is_huge in vmemmap.slots():
        for number in range(first, first + (0 if is_huge else 512)):
            if vmemmap.frame(number) < 0:
                continue
            page = pages.page(pages.pfn(vmemmap.page_va(number)))
            if page.flags and not page.flags & reserved and page.va == page.head_va:
                return vmemmap.frame(number)
    raise AssertionError("every page is something")


def test_struct_pages_that_were_never_set_up_are_a_warning(bench: Bench) -> None:
    image = bench.machine.image()
    image.memory.page(ordinary_frame(bench.healthy()))[:] = bytes(4096)
    found = [f for f in told(bench.over(image)) if f[0] == "F12"]
    assert found == [("F12", "W", "empty struct pages")]
    assert [f for f in told(booting(bench.over(image))) if f[0] == "F12"] == []


def test_a_page_table_needs_no_reference_where_it_has_a_type(bench: Bench) -> None:
    image = bench.machine.image()
    pfn = next(
        table.pfn
        for table in for_each_table_frame(
            bench.healthy().page_table, image.vmemmap_va(0), image.vmemmap_va(1 << 20)
        )
        if image.page(table.pfn).get("_refcount.counter")
    )
    unreserve(image, pfn)
    page = image.page(pfn)
    page.set("_refcount.counter", 0)
    causes = [cause for rule, _, cause in told(bench.over(image)) if rule == "F12"]
    assert causes == ["page table frame in other use: its refcount is 0"]
    page.set("page_type", TABLE)
    assert told(bench.over(image)) == []


def off_the_books(image: Image, order: int) -> int:
    """Do to a pool's one folio what ``remove_hugetlb_folio()`` does; its pfn."""
    pools = image.machine.hugetlb
    (row,) = (r for r in pools.table if pools.hstates[int(r["hstate"])].order == order)
    (hstate,) = (h for h in image.hstates if h.get("order") == order)
    assert hstate.get("nr_huge_pages") == hstate.get("free_huge_pages") == 1
    for name in ("nr_huge_pages", "free_huge_pages"):
        hstate.set(name, 0)
        hstate.set(f"{name}_node[{int(row['node'])}]", 0)
    unlink(image, int(row["pfn"]))
    head = image.page(int(row["pfn"]))
    freed = 1 << image.types.enumerator("HPG_freed")
    head.set("private", head.get("private") & ~freed)
    return int(row["pfn"])


@pytest.mark.parametrize("generation", ["6.1", "6.12", "7.3"])
def test_a_folio_that_no_pool_counts_is_still_one(generation: str) -> None:
    # Its vmemmap is not restored yet, or it is poisoned and will never be freed.
    made = Bench(varied(generation))
    image = made.machine.image()
    pfn = off_the_books(image, 18)
    kernel = made.over(image)
    assert pfn in {folio.pfn for folio in kernel.hugetlb.folios()}
    assert told(kernel) == []


def half_restored(image: Image) -> Folio:
    """Give the last tail vmemmap page of an optimised 2M folio a frame of its own."""
    folio = next(f for f in folios(image, True) if f.order == 9)
    frame = spare_frame(image, random.Random(1))
    set_pte(image, folio.first_page + folio.pages - 1, frame, writable=True)
    return folio


def rules(kernel: Kernel) -> set[str]:
    return {rule for rule, _, _ in told(kernel)}


@pytest.mark.parametrize("generation", ["5.14", "6.1", "7.3"])
def test_writable_tails_of_a_half_restored_folio_are_told(generation: str) -> None:
    made = Bench(varied(generation))
    image = made.machine.image()
    page = half_restored(image).first_page + 3
    # Those with frames of their own may be written.
    assert {"F4"} <= rules(made.over(image)) and "F3" not in rules(made.over(image))
    set_pte(image, page, image.frame_of(page), writable=True)
    assert ("F3", "E", "writable tail pages") in told(made.over(image))


@pytest.mark.parametrize("fault", ["tail-protected-short", "tail-writable"])
def test_boot_pages_that_are_protected_in_part_are_known(
    bench: Bench, fault: str
) -> None:
    kernel, _ = bench.faulty([fault])
    known = "boot-tail-writable" if fault == "tail-protected-short" else None
    found = {(f.rule, f.severity, f.known_issue) for f in said(kernel)}
    assert found == {("F3", "E", known), ("Z5", "E", known)}


@pytest.mark.parametrize("generation", ["5.14", "6.1", "7.3"])
def test_the_head_frame_of_a_half_restored_folio_has_no_other_user(
    generation: str,
) -> None:
    made = Bench(varied(generation))
    image = made.machine.image()
    folio = half_restored(image)
    assert "F2" not in rules(made.over(image))
    other = next(f for f in folios(image, False) if f.order == 9)
    last = other.first_page + other.pages - 1
    set_pte(image, last, image.frame_of(folio.first_page), writable=True)
    assert ("F2", "E", "head frame with other users") in told(made.over(image))


def with_mode(kernel: Kernel, is_on: bool) -> Kernel:
    """The kernel as one of 5.19, whose key counts the mode besides the folios."""
    unsigned, struct = kernel.target.unsigned, kernel.target.struct
    hstate = struct("hstate")
    assert hstate is not None
    members = {**hstate.members, "optimize_vmemmap_pages": hstate["order"]}
    of_519 = replace(hstate, members=members)
    kernel.target.unsigned = (  # type: ignore[method-assign]
        lambda name: is_on if name == "vmemmap_optimize_mode" else unsigned(name)
    )
    kernel.target.struct = (  # type: ignore[method-assign]
        lambda name: of_519 if name == "hstate" else struct(name)
    )
    return kernel


def test_a_key_that_counts_the_mode_is_one_above_the_folios() -> None:
    made = Bench(varied("6.1"))
    image = made.machine.image()
    key = image.variables["hugetlb_optimize_vmemmap_key"]
    count = key.get("key.enabled")
    for is_on in (False, True):
        for enabled in (count, count + 1):
            key.set("key.enabled", enabled)
            kernel = with_mode(made.over(image), is_on)
            assert ("F7" in rules(kernel)) == (enabled != count + is_on)


def without(kernel: Kernel, names: tuple[str, ...]) -> Kernel:
    """The kernel as if it had no such variables."""
    variable = kernel.target.variable
    kernel.target.variable = (  # type: ignore[method-assign]
        lambda name: None if name in names else variable(name)
    )
    return kernel


def test_the_flag_has_no_meaning_in_a_kernel_without_the_optimisation() -> None:
    made = Bench(small("6.12", hvo=False).hugetlb_alloc("2M", 8))
    names = "hugetlb_optimize_vmemmap_key", "vmemmap_optimize_enabled"
    plain = without(made.healthy(), names)
    assert not plain.has("hugetlb-hvo")
    assert told(plain) == []
    kernel, _ = made.faulty(["flag-without-sharing"])
    assert told(without(kernel, names)) == [("F1", "E", "flag without sharing")]


def tail_frame_page(image: Image) -> Object:
    """The struct page of the frame of a zone's shared tail page."""
    return image.page(image.core.tails[min(image.core.tails)].frame)


@pytest.mark.parametrize("name", ["table", "large_kmalloc", "slab"])
def test_a_tail_frame_that_has_a_type_is_in_other_use(bench: Bench, name: str) -> None:
    image = bench.machine.image()
    kind = image.types.enumerator(f"PGTY_{name}")
    tail_frame_page(image).set("page_type", kind << 24)
    assert {"Z3", "F12"} <= rules(bench.over(image))


def test_a_tail_frame_may_still_be_to_be_set_up_while_booting(bench: Bench) -> None:
    image = bench.machine.image()
    page = tail_frame_page(image)
    page.set("flags", 0)
    page.set("_refcount.counter", 0)
    assert {"Z3", "F12"} <= rules(bench.over(image))
    assert rules(booting(bench.over(image))).isdisjoint({"Z3", "F12"})
