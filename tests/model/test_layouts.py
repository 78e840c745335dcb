# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layouts: the sizes of real kernels, and what makes the generations differ.

Expected numbers are what dumps of the packaged kernels say in their VMCOREINFO.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vmemmap_tools.formats.btf import Btf, BtfError, Kind
from vmemmap_tools.model.layouts import (
    DIRECTORY,
    EXTRAS,
    GENERATIONS,
    bases,
    load,
    origin,
)
from vmemmap_tools.model.layouts.edits import (
    add_enumerator,
    add_function,
    add_member,
    add_parameter,
    add_struct,
    drop_parameter,
    edited,
    resize,
    retype_member,
)
from vmemmap_tools.model.layouts.reduce import main, read_source, reduced
from vmemmap_tools.model.types import TypeGraph, TypeMissing

GOLDEN = {
    # page, mem_section, zone, free_area, nr_zones, PG_lru, PG_private, PG_head
    "6.1": (64, 16, 1536, 88, 171552, 4, 13, 16),
    "6.12": (64, 16, 1536, 88, 171552, 5, 14, 6),
    "7.2": (64, 16, 1856, 104, 173152, 5, 14, 6),
    "7.3": (64, 16, 1856, 104, 173152, 5, 14, 6),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_sizes_and_offsets_are_those_real_dumps_name(name: str) -> None:
    graph = load(name)
    assert (
        graph.sizeof("struct page"),
        graph.sizeof("struct mem_section"),
        graph.sizeof("struct zone"),
        graph.sizeof("struct free_area"),
        graph.offsetof("pglist_data.nr_zones"),
        graph.enumerator("PG_lru"),
        graph.enumerator("PG_private"),
        graph.enumerator("PG_head"),
    ) == GOLDEN[name]
    assert graph.offsetof("zone.free_area") == 256
    assert graph.sizeof("nodemask_t") == 128


@pytest.mark.parametrize("name", GENERATIONS)
def test_every_generation_loads_and_has_what_dump_readers_look_up(name: str) -> None:
    graph = load(name)
    assert graph.has_function("vmemmap_populate")
    assert graph.has("mem_section.section_mem_map")
    assert graph.has("mem_section_usage.subsection_map")
    assert graph.has("hstate.hugepage_freelists[3].next")
    assert graph.has("dev_pagemap.altmap.base_pfn")
    assert graph.has("mm_struct.pgd")
    assert graph.has_enumerator("HPG_vmemmap_optimized")
    assert graph.has_enumerator("__NR_PAGEFLAGS")
    assert GENERATIONS[name].release.count(".") == 2
    assert GENERATIONS[name].name == name


@pytest.mark.parametrize("name", GOLDEN)
def test_the_committed_layout_is_what_reduce_makes_of_it(name: str) -> None:
    data = (DIRECTORY / f"{name}.btf").read_bytes()
    assert len(data) < 50_000
    assert reduced(data) == data


@pytest.mark.parametrize("name", GOLDEN)
def test_cut_structs_keep_their_size(name: str) -> None:
    graph = load(name)
    assert len(graph[graph.type_id("struct mm_struct")].members) < 12
    assert graph.sizeof("struct mm_struct") > 1000
    record = graph[graph.type_id("struct kset")]
    assert record.kind == Kind.FWD


def has(name: str, member: str) -> bool:
    return load(name).has(member)


def parameters(name: str, function: str) -> list[str]:
    return [p.name for p in load(name).function(function)]


def test_the_first_generation_keeps_two_pages_and_knows_no_folio() -> None:
    graph = load("5.14")
    assert graph.has("hstate.nr_free_vmemmap_pages")
    assert not graph.has("dev_pagemap.vmemmap_shift")
    assert not graph.has("folio.page")
    assert graph.has("page.compound_dtor")
    assert graph.has("page.compound_order")
    assert not graph.has_enumerator("SECTION_MAP_LAST_BIT")
    assert graph.enumerator("MEMORY_DEVICE_GENERIC") == 3
    assert graph.offsetof("mem_section_usage.subsection_map") == 0
    assert "pgmap" not in parameters("5.14", "__populate_section_memmap")


def test_fake_heads_come_with_compound_device_maps_of_their_own_pages() -> None:
    graph = load("5.18")
    assert graph.has("dev_pagemap.vmemmap_shift")
    assert graph.sizeof("struct folio") == 64
    assert "pgmap" not in parameters("5.18", "sparse_add_section")


def test_device_maps_share_pages_from_5_19_on() -> None:
    for name in ("6.1", "6.12", "7.2", "7.3", "section-dax"):
        assert "pgmap" in parameters(name, "__populate_section_memmap")
    assert "pgmap" not in parameters("seed", "__populate_section_memmap")


def test_zones_hold_the_shared_tails_as_an_array_then_as_a_pointer() -> None:
    assert not has("6.12", "zone.vmemmap_tails")
    assert load("7.2").array_length("zone.vmemmap_tails") == 16
    assert load("section-order").is_array("zone.vmemmap_tails")
    for name in ("section-dax", "seed"):
        assert not load(name).is_array("zone.vmemmap_tails")
        assert load(name).sizeof("zone.vmemmap_tails") == 8
        assert load(name).sizeof("struct zone") == 1856


def test_compound_info_replaces_compound_head() -> None:
    assert has("6.12", "page.compound_head") and not has("6.12", "page.compound_info")
    assert has("7.2", "page.compound_info") and not has("7.2", "page.compound_head")


def test_preinit_is_a_section_flag_of_7_2_and_7_3_alone() -> None:
    assert load("7.3").enumerator("SECTION_MAP_LAST_BIT") == 6
    for name in ("6.12", "section-order", "seed"):
        assert not load(name).has_enumerator("SECTION_IS_VMEMMAP_PREINIT_BIT")
        assert load(name).enumerator("SECTION_MAP_LAST_BIT") == 5


@pytest.mark.parametrize(
    ("name", "size"),
    [("section-order", 24), ("section-order-32", 32), ("section-order-48", 48)],
)
def test_sections_with_an_order_come_in_odd_sizes(name: str, size: int) -> None:
    assert load(name).sizeof("struct mem_section") == size
    assert has(name, "mem_section.order")
    assert not has(name, "mem_section.compound_page_order")


def test_the_seed_records_the_zone_as_a_pointer_or_as_an_index() -> None:
    assert has("seed", "mem_section.compound_page_order")
    assert load("seed").sizeof("mem_section.zone") == 8
    assert load("seed-zone-index").sizeof("mem_section.zone") == 4


def test_page_ext_makes_sections_larger() -> None:
    assert EXTRAS.keys() == {"page-ext"}
    graph = load("6.12", ["page-ext"])
    assert graph.sizeof("struct mem_section") == 32
    assert graph.offsetof("mem_section.page_ext") == 16
    assert not has("6.12", "mem_section.page_ext")


def test_every_base_names_its_kernel() -> None:
    assert bases() == ["6.1", "6.12", "7.2", "7.3"]
    for base in bases():
        assert origin(base).release.startswith(base)
        assert len(bytes.fromhex(origin(base).build_id)) == 20


def test_edits_that_do_not_fit_are_refused() -> None:
    graph = load("7.3")
    refused = [
        add_member("zone", "name", "int", 0),
        add_member("mem_section", "order", "int", 16),
        resize("zone", 4096),
        resize("mem_section", 8),
        retype_member("zone.node", "unsigned long"),
        add_struct("page", 64, ()),
        add_function("vmemmap_populate", ()),
    ]
    for edit in refused:
        with pytest.raises(ValueError):
            edit(graph)
    with pytest.raises(TypeMissing):
        drop_parameter("vmemmap_populate", "struct dev_pagemap *")(graph)


def test_edits_leave_their_base_alone() -> None:
    graph = load("7.3")
    edits = (
        add_enumerator("PG_head", "PG_new", 40),
        add_parameter("vmemmap_populate", "pgmap", "struct dev_pagemap *"),
        add_function("fresh", (("page", "struct page *"),)),
        add_struct("pair", 16, (("a", "long", 0), ("b", "struct page *", 8))),
    )
    derived = edited(graph, edits)
    assert derived.enumerator("PG_new") == 40
    assert [p.name for p in derived.function("fresh")] == ["page"]
    assert len(derived.function("vmemmap_populate")) == 5
    assert derived.offsetof("pair.b") == 8
    assert not graph.has_enumerator("PG_new")
    assert not graph.has_function("fresh")
    assert len(graph.function("vmemmap_populate")) == 4
    assert not graph.has_type("struct pair")


def test_the_command_writes_a_layout_and_its_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = DIRECTORY / "7.3.btf"
    words = [str(raw), "--name", "x", "--directory", str(tmp_path), "--release", "9.9"]
    assert main([*words, "--build-id", "abcd"]) == 0
    assert "9.9" in capsys.readouterr().out
    assert (tmp_path / "x.btf").read_bytes() == raw.read_bytes()
    assert json.loads((tmp_path / "index.json").read_text()) == {
        "x": {"release": "9.9", "build_id": "abcd", "package": ""}
    }


def test_the_command_refuses_a_file_without_btf(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"\x9f\xeb" + bytes(40))
    assert main([str(wrong), "--name", "x", "--directory", str(tmp_path)]) == 2
    wrong.write_bytes(b"no ELF")
    assert main([str(wrong), "--name", "x", "--directory", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    with pytest.raises(BtfError):
        Btf(read_source(DIRECTORY / "7.3.btf").btf[:100])


def test_a_graph_written_as_btf_is_the_same_graph() -> None:
    data = (DIRECTORY / "6.1.btf").read_bytes()
    assert TypeGraph.from_btf(data).records == TypeGraph.from_btf(data).records
    assert len(TypeGraph.from_btf(data).records) == len(Btf(data)) - 1
