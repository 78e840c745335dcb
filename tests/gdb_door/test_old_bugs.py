# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bugs of the kernel's scripts (docs/gdb-lx.md), each as a question asked here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.target.gdb.cores import Modelled, small_machine
from tests.target.machines import Described

from .door import LOADER, Small, opening
from .runner import Gdb

PAGE_OPS = "python from vmemmap_tools.gdb_door.mm import page_ops; ops = page_ops().ops"
HIGH = 22 << 30 >> 12


def said(gdb: Gdb, small: Small, expression: str) -> str:
    """What a script's Python expression prints."""
    return small.told(gdb, PAGE_OPS, f"python print({expression})")[1].strip()


def test_b1_kaslr_on_a_dump_is_no_other_kernel(any_gdb: Gdb, small: Small) -> None:
    (ours,) = small.told(any_gdb, "lx-pfn_to_page 4096")
    assert ours == f"pfn_to_page(0x1000) = {small.page_va(4096):#x}\n"
    # The variable that gdb itself would look at lies elsewhere, in the vmlinux.
    linked = small.ask(any_gdb, "output/x &vmemmap_base")[0].text
    assert int(linked, 16) != small.symbols["vmemmap_base"]


def test_b2_nonsense_is_refused(any_gdb: Gdb, small: Small) -> None:
    questions = (
        "page_to_pfn 0x1234",
        "virt_to_phys 0x401000",
        "pfn_to_page 9999999999",
    )
    for answer in small.ask(any_gdb, *(f"lx-{question}" for question in questions)):
        assert answer.error


def test_b3_numbers_symbols_and_expressions_are_read(
    any_gdb: Gdb, small: Small
) -> None:
    page = f"{small.page_va(16):#x}"
    same = ("16", "0x10", "0x8 * 2", "(int)16", '"16"')
    told = small.told(any_gdb, *(f"lx-pfn_to_page {word}" for word in same))
    assert told == [f"pfn_to_page(0x10) = {page}\n"] * len(same)


def test_b4_a_section_root_that_is_not_there_is_no_section(
    any_gdb: Gdb, small: Small
) -> None:
    assert said(any_gdb, small, "ops.pfn_valid(1 << 33), ops.pfn_valid(1 << 60)") == (
        "False False"
    )


def test_b5_sections_are_found_by_division(any_gdb: Gdb, small: Small) -> None:
    """Entries of 24 bytes, 170 a root: 176 is entry 6 of root 1, by masks entry 160."""
    told = said(any_gdb, small, f"ops.SECTIONS_PER_ROOT, ops.pfn_valid({HIGH})")
    assert told == "170 True"
    (text,) = small.told(any_gdb, "vmemmap --format json sections")
    ours = {row["nr"] for row in json.loads(text)["rows"]}
    books = small.books["sections"]
    expected = {s["first"] + n for s in books for n in range(s["count"])}
    assert ours == expected and max(ours) == 177


@pytest.fixture(scope="module")
def five_level(tmp_path_factory: pytest.TempPathFactory) -> Modelled:
    directory = tmp_path_factory.mktemp("five-level")
    return Modelled(small_machine("five-level").image(), directory)


def test_b6_sizes_are_the_kernels(any_gdb: Gdb, five_level: Modelled) -> None:
    before = opening(five_level.core("vmcore"), five_level.vmlinux)
    show = "python print(ops.MAX_PHYSMEM_BITS, ops.SECTION_SIZE_BITS)"
    assert any_gdb.text(*before, PAGE_OPS, show) == "52 27\n"


def test_b7_vmalloc_ends_before_the_vmemmap(any_gdb: Gdb, small: Small) -> None:
    inside, vmemmap = small.facts["vmalloc_start"], small.facts["vmemmap"]
    text = small.symbols["_stext"]
    areas = f"({inside}, {inside + (32 << 40) - 1}, {vmemmap}, {text})"
    told = said(any_gdb, small, f"[ops.is_vmalloc_addr(va) for va in {areas}]")
    assert told == "[True, True, False, False]"


def test_b7_with_types_of_btf(any_gdb: Gdb, tmp_path: Path) -> None:
    """BTF has no variables: their types are known without it."""
    described = Described(small_machine("four-level"))
    btf = tmp_path / "vmlinux.btf"
    btf.write_bytes(described.btf)
    start = described.image.facts["vmalloc_start"]
    told = any_gdb.text(
        *opening(described.path / "vmcore", described.path / "vmlinux"),
        "set vmemmap types btf",
        f"set vmemmap symbols {btf}",
        PAGE_OPS,
        f"python print(ops.is_vmalloc_addr({start}), ops.is_vmalloc_addr({start - 1}))",
    )
    assert told == "True False\n"


def test_b8_the_largest_order_is_there(any_gdb: Gdb, small: Small) -> None:
    assert said(any_gdb, small, "ops.MAX_ORDER_NR_PAGES") == "1024"


def test_b9_flags_that_are_a_struct_are_decoded(any_gdb: Gdb, small: Small) -> None:
    folio = next(f for f in small.books["folios"] if f["order"] == 9)
    head = folio["head_pfn"]
    text, flags = small.told(
        any_gdb,
        f"vmemmap --format json page pfn:{head}",
        f"output/x $lx_page({head}).flags.f",
    )
    (row,) = json.loads(text)["rows"]
    assert row["struct_page"]["flags_word"] == flags
    assert "head" in row["struct_page"]["flags"]


def test_b10_the_whole_map_of_subsections_is_read(any_gdb: Gdb, small: Small) -> None:
    last = HIGH + 32767
    told = said(
        any_gdb,
        small,
        f"ops.subsection_map_index({last}), ops.pfn_section_valid({last})",
    )
    assert told == "63 True"


def test_b11_no_frame_is_needed(any_gdb: Gdb, small: Small) -> None:
    alone = any_gdb.run(*opening(small.core, small.vmlinux)[::2], "lx-pfn_to_page 1")[
        -1
    ]
    assert alone.error is not None and "\n" not in alone.error
    assert "neither a core nor a machine" in alone.error
    (told,) = small.told(any_gdb, "lx-pfn_to_page 1")
    assert told


def test_b12_a_walk_takes_pointers(any_gdb: Gdb, small: Small) -> None:
    (text,) = small.told(
        any_gdb, "vmemmap --format json walk (struct mem_section ***)&mem_section"
    )
    pa = small.symbols["mem_section"] - 0xFFFFFFFF80000000 + small.phys_base
    assert json.loads(text)["totals"]["pa"] == pa


def test_b13_flags_are_right_without_enumerators(any_gdb: Gdb, small: Small) -> None:
    told = small.told(
        any_gdb,
        "set vmemmap types vmcoreinfo",
        PAGE_OPS,
        f"python print(ops.SECTION_HAS_MEM_MAP, ops.pfn_valid({HIGH}))",
    )
    assert told[-1] == "2 True\n"


def test_b18_no_symbols_are_needed(any_gdb: Gdb, five_level: Modelled) -> None:
    """Without any vmlinux the dump's own VMCOREINFO serves."""
    before = opening(five_level.core("vmcore"), five_level.vmlinux)[1:]
    base = five_level.image.facts["vmemmap"]
    told = any_gdb.text(*before, "lx-pfn_to_page 4096")
    assert told == f"pfn_to_page(0x1000) = {base + 64 * 4096:#x}\n"


def test_b19_a_vmlinux_may_have_any_name(
    any_gdb: Gdb, small: Small, tmp_path: Path
) -> None:
    renamed = tmp_path / "vmlinux-6.8.0-model"
    shutil.copy(small.vmlinux, renamed)
    before = opening(small.core, renamed)
    told = any_gdb.text(*before, "lx-sym_to_pfn linux_banner")
    assert told.startswith(f"sym_to_pfn({small.symbols['linux_banner']:#x}) = ")


def test_b20_one_reading_serves_many_questions(any_gdb: Gdb, small: Small) -> None:
    told = small.told(
        any_gdb,
        "python from vmemmap_tools.gdb_door.lx import conversions",
        "python first = conversions()",
        "lx-pfn_to_page 1",
        "python print(conversions() is first)",
        f"core-file {small.core}",
        "set vmemmap types btf",
        "set vmemmap types vmcoreinfo",
        "python print(conversions() is first)",
    )
    assert told[3] == "True\n"
    assert told[7] == "False\n"


def test_a_vmlinux_loaded_as_the_program_is_no_obstacle(
    any_gdb: Gdb, small: Small
) -> None:
    """``gdb vmlinux -c vmcore``, as everybody types it."""
    before = [f"file {small.vmlinux}", f"core-file {small.core}", f"source {LOADER}"]
    answers = any_gdb.run(*before, "lx-pfn_to_page 4096", "vmemmap summary")
    assert answers[3].error is None, answers[3].error
    assert answers[3].text == f"pfn_to_page(0x1000) = {small.page_va(4096):#x}\n"
    assert answers[4].error is None, answers[4].error
