# SPDX-License-Identifier: LGPL-2.1-or-later
"""Written dumps as plain drgn sees them: every answer is the books'."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import drgn
import pytest
from drgn.helpers.linux.hugetlb import for_each_hstate
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import (
    PageHead,
    compound_head,
    compound_order,
    follow_phys,
    page_to_pfn,
    pfn_to_page,
)
from drgn.helpers.linux.mmzone import (
    for_each_present_section,
    section_mem_map_addr,
)
from drgn.helpers.linux.xarray import xa_for_each, xa_load

from tests.model.kernels import GENERATIONS, varied
from tests.tools import output
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.books import Books
from vmemmap_tools.model.machine import Machine


class Kind(NamedTuple):
    """A kind of dump: generation, levels of page tables, KASLR seed."""

    generation: str
    levels: int
    kaslr: int | None


KINDS = [
    Kind(generation, levels, kaslr)
    for generation in GENERATIONS
    for levels in (4, 5)
    for kaslr in (None, 7)
]
FORMS = ("vmcore", "vmcore.kdump")
TAILS = (1, 2, 3, 63, 64, 65, 127, 128, 511)


@dataclass
class Dump:
    """A machine, its books, and drgn on its dump."""

    machine: Machine
    books: Books
    prog: drgn.Program


@pytest.fixture(scope="module", params=KINDS, ids=str)
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Machine, Path]]:
    """A machine of this kind and where its files are."""
    kind: Kind = request.param
    machine = varied(kind.generation, levels=kind.levels, kaslr=kind.kaslr)
    directory: Path = tmp_path_factory.mktemp("dump")
    machine.write(directory, kdump=True)
    yield machine, directory
    for name in FORMS:
        (directory / name).unlink()


@pytest.fixture(scope="module", params=FORMS)
def dump(request: pytest.FixtureRequest, written: tuple[Machine, Path]) -> Dump:
    machine, directory = written
    prog = drgn.Program()
    prog.set_core_dump(directory / request.param)
    prog.load_debug_info([directory / "vmlinux"])
    return Dump(machine, machine.books(), prog)


def test_gdb_prints_a_section_and_a_zone(written: tuple[Machine, Path]) -> None:
    machine, directory = written
    books = machine.books()
    zone = next(row for row in books["zones"] if row["spanned_pages"])
    place = f"node_data[{zone['node']}]->node_zones[{zone['index']}]"
    shown = output(
        "gdb",
        *("-nx", "--batch", "-iex", "set confirm off"),
        *(
            "-ex",
            f"symbol-file {directory / 'vmlinux'} -o 0x{kernel_offset(directory)}",
        ),
        *("-ex", f"core-file {directory / 'vmcore'}"),
        *("-ex", "print/x *mem_section[0]"),
        *("-ex", f"print {place}.spanned_pages"),
        *("-ex", f"print {place}.name"),
    )
    base = int(books["vmemmap_base_va"], 16)
    first = re.search(r"section_mem_map = (0x[0-9a-f]+)", shown)
    assert first is not None
    assert int(first[1], 16) & ~0x3F == base
    assert f"$2 = {zone['spanned_pages']}\n" in shown
    assert f'"{zone["zone"]}"' in shown


def kernel_offset(directory: Path) -> str:
    with Elf(directory / "vmcore") as core:
        note = core.note("VMCOREINFO")
    assert note is not None
    found = re.search(rb"^KERNELOFFSET=([0-9a-f]+)$", note, re.MULTILINE)
    assert found is not None
    return found[1].decode()


def test_verifiers_find_no_error(written: tuple[Machine, Path]) -> None:
    _, directory = written
    assert "No errors." in output("llvm-dwarfdump", "--verify", directory / "vmlinux")
    for name in ("vmlinux", "vmcore"):
        assert "readelf: " not in output("readelf", "--wide", "--all", directory / name)


def test_translation_of_every_kind_of_backing(dump: Dump) -> None:
    base = int(dump.books["vmemmap_base_va"], 16)
    assert dump.prog["vmemmap"].value_() == base
    mm = dump.prog["init_mm"].address_of_()
    for row in dump.books["backing"]:
        pages = range(row["page"], row["page"] + row["pages"])
        for page in {*pages[:10], *pages[:: max(1, len(pages) // 40)], pages[-1]}:
            leaf = dump.books.leaf(page)
            assert leaf is not None
            assert follow_phys(mm, base + page * 4096).value_() == leaf.frame << 12


def test_present_sections(dump: Dump) -> None:
    size = drgn.sizeof(dump.prog.type("struct mem_section"))
    if size & (size - 1):
        # drgn 0.3 wants a power of two.
        with pytest.raises(drgn.BadDataError, match="invalid size"):
            list(for_each_present_section(dump.prog))
        return
    base = int(dump.books["vmemmap_base_va"], 16)
    expected = [
        nr
        for row in dump.books["sections"]
        for nr in range(row["first"], row["first"] + row["count"])
    ]
    found = list(for_each_present_section(dump.prog))
    assert [int(nr) for nr, _ in found] == expected
    decoded = {section_mem_map_addr(s).value_() for _, s in found}
    assert decoded == {base}


def test_pools_and_their_lists(dump: Dump) -> None:
    for hstate, row in zip(for_each_hstate(dump.prog), dump.books["hstates"]):
        assert hstate.order.value_() == row["order"]
        assert hstate.nr_huge_pages.value_() == row["nr"]
        free = 0
        for nid in dump.machine.core.nodes:
            head = hstate.hugepage_freelists[nid].address_of_()
            free += sum(1 for _ in list_for_each_entry("struct page", head, "lru"))
        head = hstate.hugepage_activelist.address_of_()
        active = sum(1 for _ in list_for_each_entry("struct page", head, "lru"))
        assert (free, active) == (row["free"], row["active"])


def test_compound_pages(dump: Dump) -> None:
    for row in dump.books["folios"]:
        for index in {0, row["count"] // 2, row["count"] - 1}:
            pfn = row["head_pfn"] + (index << row["order"])
            page = pfn_to_page(dump.prog, pfn)
            assert PageHead(page)
            assert compound_order(page).value_() == row["order"]
            for tail in (*TAILS, (1 << row["order"]) - 1):
                head = compound_head(pfn_to_page(dump.prog, pfn + tail))
                assert page_to_pfn(head).value_() == pfn


def test_device_compounds(dump: Dump) -> None:
    for row in dump.books["pgmaps"]:
        if not row["vmemmap_shift"]:
            continue
        pfn = row["data_pfn"]
        assert compound_order(pfn_to_page(dump.prog, pfn)) == row["vmemmap_shift"]
        for tail in TAILS:
            head = compound_head(pfn_to_page(dump.prog, pfn + tail))
            assert page_to_pfn(head).value_() == pfn


def test_device_maps_by_pfn(dump: Dump) -> None:
    array = dump.prog["pgmap_array"].address_of_()
    starts: dict[int, int] = {}
    for index, entry in xa_for_each(array):
        starts.setdefault(entry.value_(), index)
    rows = dump.books["pgmaps"]
    assert sorted(starts.values()) == sorted(row["start_pfn"] for row in rows)
    for row in rows:
        for pfn in (row["start_pfn"], row["data_pfn"], row["end_pfn"] - 1):
            entry = drgn.cast("struct dev_pagemap *", xa_load(array, pfn))
            assert entry.range.start.value_() == row["start_pfn"] << 12
            assert entry.range.end.value_() == (row["end_pfn"] << 12) - 1
        assert xa_load(array, row["end_pfn"]).value_() != entry.value_()


def test_zones_and_free_lists(dump: Dump) -> None:
    nodes = dump.prog["node_data"]
    for row in dump.books["zones"]:
        zone = nodes[row["node"]].node_zones[row["index"]]
        assert zone.name.string_().decode() == row["zone"]
        assert zone.spanned_pages == row["spanned_pages"]
        assert zone.present_pages == row["present_pages"]
        assert zone.managed_pages.counter == row["managed_pages"]
        free = 0
        for order, area in enumerate(zone.free_area):
            head = area.free_list[1].address_of_()
            blocks = sum(1 for _ in list_for_each_entry("struct page", head, "lru"))
            assert blocks == area.nr_free.value_()
            free += blocks << order
        assert free == row["free_pages"]


def test_shared_tails_and_counters(dump: Dump) -> None:
    names = {row["zone"]: row["index"] for row in dump.books["zones"]}
    for row in dump.books["shared_tails"]:
        zone = dump.prog["node_data"][row["node"]].node_zones[names[row["zone"]]]
        tail = zone.vmemmap_tails[row["index"]]
        assert tail.value_() == int(row["struct_page_va"], 16)
        assert tail._refcount.counter == row["refcount"]
    for name, value in (dump.books["counters"] or {}).items():
        if name != "page_ext_pages":
            assert dump.prog[name].counter == value
    key = dump.books["static_key"]
    if key is not None:
        assert dump.prog[key["name"]].key.enabled.counter == key["value"]
