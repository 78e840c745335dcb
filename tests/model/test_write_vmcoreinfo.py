# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMCOREINFO: each generation's keys and values, as dumps of real kernels have them."""

from __future__ import annotations

import pytest

from tests.model.handmade import IMAGE_PA, HandMade
from vmemmap_tools.formats.elf_write import note
from vmemmap_tools.model.layouts import GENERATIONS
from vmemmap_tools.model.write import core_notes

VALUES = {
    "6.1": {
        "NUMBER(PG_lru)": "4",
        "NUMBER(PG_slab)": "9",
        "NUMBER(PG_head_mask)": "65536",
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": "-129",
        "NUMBER(HUGETLB_PAGE_DTOR)": "2",
        "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)": "-257",
        "LENGTH(free_area.free_list)": "5",
        "OFFSET(page.compound_dtor)": "16",
    },
    "6.12": {
        "NUMBER(PG_hwpoison)": "20",
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": "-268435456",
        "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": "-201326592",
        "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)": "-251658240",
        "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": "-184549376",
        "OFFSET(page.compound_head)": "8",
    },
    "7.3": {
        "NUMBER(PG_hwpoison)": "21",
        "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)": "-150994944",
        "LENGTH(free_area.free_list)": "6",
        "OFFSET(page.compound_info)": "8",
        "NUMBER(VMALLOC_START)": "0xffffc90000000000",
    },
}
ABSENT = {
    "6.1": ("SYMBOL(vmemmap)", "NUMBER(VMALLOC_START)", "NUMBER(PG_hwpoison)"),
    "6.12": ("NUMBER(PG_slab)", "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)"),
    "7.3": ("OFFSET(page.compound_head)", "OFFSET(vmap_area.list)"),
}


def info(machine: HandMade) -> dict[str, str]:
    machine.facts["vmalloc_start"] = 0xFFFFC90000000000
    notes = core_notes(machine)
    text = notes[notes.index(b"OSRELEASE=") :].rstrip(b"\0").decode()
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.parametrize("generation", VALUES)
def test_values_are_those_of_the_packaged_kernel(generation: str) -> None:
    lines = info(HandMade(generation))
    assert {key: lines.get(key) for key in VALUES[generation]} == VALUES[generation]
    assert not lines.keys() & set(ABSENT[generation])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_has_what_readers_need(generation: str) -> None:
    lines = info(HandMade(generation))
    for key in (
        "OSRELEASE",
        "BUILD-ID",
        "PAGESIZE",
        "SYMBOL(swapper_pg_dir)",
        "SYMBOL(mem_section)",
        "LENGTH(mem_section)",
        "SIZE(page)",
        "OFFSET(mem_section.section_mem_map)",
        "NUMBER(SECTION_SIZE_BITS)",
        "NUMBER(phys_base)",
        "KERNELOFFSET",
    ):
        assert key in lines


def test_symbols_are_run_time_addresses_and_mem_section_a_value() -> None:
    machine = HandMade("7.3", kaslr_offset=0x12000000, slide=0x4000000)
    lines = info(machine)
    root = machine.symbols["init_top_pgt"].address + 0x12000000
    assert lines["SYMBOL(swapper_pg_dir)"] == f"{root:x}"
    assert lines["KERNELOFFSET"] == "12000000"
    assert lines["NUMBER(phys_base)"] == str(0x4000000 - 0x12000000)
    assert lines["SYMBOL(mem_section)"] == f"{machine.facts['mem_section']:x}"
    assert lines["SYMBOL(vmemmap)"] == f"{machine.vmemmap:x}"
    base = 0xFFFFFFFF80000000 - int(lines["NUMBER(phys_base)"])
    assert root - base == IMAGE_PA + 0x4000000 + (1 << 20)


@pytest.mark.parametrize(
    ("generation", "levels", "roots"),
    [
        ("7.3", 4, "2048"),
        ("7.3", 5, "131072"),
        ("section-order", 4, str(-(-524288 // 170))),
        ("section-order-48", 4, str(-(-524288 // 85))),
    ],
)
def test_roots_are_counted_upwards(generation: str, levels: int, roots: str) -> None:
    lines = info(HandMade(generation, levels=levels))
    assert lines["LENGTH(mem_section)"] == roots
    assert lines["NUMBER(pgtable_l5_enabled)"] == str(levels - 4)


def test_the_note_is_named_exactly() -> None:
    notes = core_notes(HandMade("7.3"))
    assert note("VMCOREINFO", 0, b"")[12:24] in notes
    assert notes.startswith(b"\5\0\0\0\x50\1\0\0\1\0\0\0CORE\0")
