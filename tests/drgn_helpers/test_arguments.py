# SPDX-License-Identifier: LGPL-2.1-or-later
"""What helpers refuse: addresses of nothing, and struct pages that were never set up.

The dump has physical addresses only, as QEMU writes it: in such a dump drgn reads a
virtual address below the RAM's size as the physical one.
"""

from __future__ import annotations

from typing import Any, Callable

import drgn
import pytest
from drgn import Object
from drgn.helpers.linux.mm import pfn_to_page

from tests.model.kernels import GIB
from tests.samples import open_with_drgn
from vmemmap_tools.drgn_helpers import (
    folio_backing,
    folio_vmemmap_optimized,
    for_each_section,
    for_each_zone,
    hugetlb_why_not_optimized,
    page_to_nid,
    page_vmemmap_frame,
    page_zone,
    page_zonenum,
    pgmap_altmap,
    pgmap_ranges,
    pgmap_vmemmap_shift,
    section_compound_order,
    section_state,
    section_zone,
    walk_page_table,
    zone_vmemmap_tails,
)
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.model.write import write_vmcore, write_vmlinux

Helper = Callable[[Object], Any]

OF_A_PAGE: tuple[Helper, ...] = (
    folio_backing,
    folio_vmemmap_optimized,
    hugetlb_why_not_optimized,
    page_to_nid,
    page_vmemmap_frame,
    page_zone,
    page_zonenum,
)
OF_A_SECTION: tuple[Helper, ...] = (
    section_compound_order,
    section_state,
    section_zone,
)
OF_A_PGMAP: tuple[Helper, ...] = (
    pgmap_altmap,
    pgmap_vmemmap_shift,
    lambda pgmap: list(pgmap_ranges(pgmap)),
)
POISONED_PFN = 0x12345


@pytest.fixture(scope="module")
def prog(tmp_path_factory: pytest.TempPathFactory) -> drgn.Program:
    path = tmp_path_factory.mktemp("physical")
    machine = Machine("7.3", {0: NodeMemory([(0, GIB)])})
    image = machine.image()
    write_vmlinux(image, path / "vmlinux")
    write_vmcore(image, path / "vmcore", variant="physical")
    return open_with_drgn(str(path / "vmcore"), str(path / "vmlinux"))


@pytest.mark.parametrize("address", [0, 0x1000, 0x90000])
def test_drgn_reads_user_addresses_of_such_a_dump(
    prog: drgn.Program, address: int
) -> None:
    assert prog.read(address, 64) == prog.read(address, 64, physical=True)


@pytest.mark.parametrize("address", [0, 0x1000, 0x90000, 0x7FFF_FFFF_F000])
def test_user_addresses_are_refused(prog: drgn.Program, address: int) -> None:
    for helpers, type_name in (
        (OF_A_PAGE, "struct page *"),
        (OF_A_SECTION, "struct mem_section *"),
        (OF_A_PGMAP, "struct dev_pagemap *"),
        ((lambda zone: list(zone_vmemmap_tails(zone)),), "struct zone *"),
    ):
        pointer = Object(prog, type_name, address)
        for helper in helpers:
            with pytest.raises(ValueError, match=f"{address:#x}"):
                helper(pointer)


def test_a_page_outside_the_vmemmap_is_refused(prog: drgn.Program) -> None:
    zone = next(iter(for_each_zone(prog)))
    page = Object(prog, "struct page *", zone.value_())
    for helper in OF_A_PAGE:
        with pytest.raises(ValueError, match="is not a struct page"):
            helper(page)


@pytest.mark.parametrize("number", [-1, 1 << 64, 1 << 70, 1 << 62])
def test_a_walk_takes_addresses_only(prog: drgn.Program, number: int) -> None:
    with pytest.raises(ValueError, match="address"):
        list(walk_page_table(prog, number))


def test_a_walk_of_null_ends_at_the_root(prog: drgn.Program) -> None:
    (step,) = walk_page_table(prog, 0)
    assert (step.level, step.entry, step.is_leaf) == (4, 0, False)


def test_a_zone_may_be_given_by_reference(prog: drgn.Program) -> None:
    for zone in for_each_zone(prog):
        assert list(zone_vmemmap_tails(zone[0])) == list(zone_vmemmap_tails(zone))


def test_a_zone_by_value_has_no_address(prog: drgn.Program) -> None:
    zone = next(iter(for_each_zone(prog)))[0].read_()
    with pytest.raises(ValueError, match="pass a pointer"):
        list(zone_vmemmap_tails(zone))


def test_what_is_not_a_zone_is_refused(prog: drgn.Program) -> None:
    zone = next(iter(for_each_zone(prog)))
    stray = Object(prog, "struct zone *", zone.value_() + 8)
    with pytest.raises(ValueError, match="no zone of an online node"):
        list(zone_vmemmap_tails(stray))
    _, section = next(for_each_section(prog))
    assert section_state(section).startswith("PM")


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Object:
    """A page whose struct page holds 0xff, as vmemmap_populate() leaves it."""
    path = tmp_path_factory.mktemp("poisoned")
    image = Machine("7.3", {0: NodeMemory([(0, GIB)])}).image()
    write_vmlinux(image, path / "vmlinux")
    write_vmcore(image, path / "vmcore", variant="physical")
    prog = open_with_drgn(str(path / "vmcore"), str(path / "vmlinux"))
    page = pfn_to_page(prog, POISONED_PFN)
    frame = page_vmemmap_frame(page)
    assert frame is not None
    with (path / "vmcore").open("r+b") as file, Elf(path / "vmcore") as elf:
        (ram,) = elf.loads()
        file.seek(ram.offset + (frame << 12) + page.value_() % 4096)
        file.write(b"\xff" * 64)
    prog = open_with_drgn(str(path / "vmcore"), str(path / "vmlinux"))
    return pfn_to_page(prog, POISONED_PFN)


@pytest.mark.parametrize(
    "helper", [page_to_nid, page_zonenum, page_zone, folio_backing]
)
def test_a_page_that_was_never_initialized_has_no_place(
    poisoned: Object, helper: Helper
) -> None:
    with pytest.raises(ValueError, match="never initialized"):
        helper(poisoned)


def test_a_page_never_initialized_belongs_to_no_optimized_folio(
    poisoned: Object,
) -> None:
    assert folio_vmemmap_optimized(poisoned) is False
