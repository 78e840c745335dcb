# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of a small machine made by hand, as drgn and gdb see them."""

from __future__ import annotations

from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.mm import (
    PageHead,
    PageTail,
    compound_head,
    compound_order,
    follow_phys,
    for_each_page,
    page_to_pfn,
    phys_to_virt,
)
from drgn.helpers.linux.mmzone import for_each_online_pgdat, for_each_present_section

from tests.model.handmade import (
    HEAD_PFN,
    IMAGE_PA,
    PAGE,
    RAM,
    TAIL_PA,
    VMEMMAP_PA,
    HandMade,
)
from tests.target.gdb.cores import small_machine
from tests.tools import output
from vmemmap_tools.formats.elf import ET_CORE, NO_ADDRESS, Elf, SegmentMap
from vmemmap_tools.model.mapped import mapped_runs
from vmemmap_tools.model.write import (
    build_id,
    core_notes,
    write,
    write_vmcore,
    write_vmcore_kdump,
)

MACHINES = {
    "7.3": HandMade("7.3"),
    "6.12": HandMade("6.12"),
    "kaslr": HandMade("7.2", kaslr_offset=0x12000000, slide=0x4000000),
    "la57": HandMade("7.3", levels=5),
}

MASKED = [name for name in MACHINES if name != "6.12"]
"""Those where tails hold masks: one shared page cannot hold the head's address."""


@pytest.fixture(scope="module", params=MACHINES)
def machine(request: pytest.FixtureRequest) -> HandMade:
    return MACHINES[request.param]


@pytest.fixture(scope="module")
def directory(machine: HandMade, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("machine")
    write(machine, path, kdump=True)
    return path


@pytest.fixture(scope="module", params=["vmcore", "vmcore.kdump"])
def prog(request: pytest.FixtureRequest, directory: Path) -> drgn.Program:
    return opened(directory, request.param)


def opened(directory: Path, core: str = "vmcore") -> drgn.Program:
    prog = drgn.Program()
    prog.set_core_dump(directory / core)
    prog.load_debug_info([directory / "vmlinux"])
    return prog


def test_drgn_finds_sections_and_nodes(prog: drgn.Program) -> None:
    assert [nr for nr, _ in enumerate(for_each_present_section(prog))] == [0, 1]
    assert [n.node_id.value_() for n in for_each_online_pgdat(prog)] == [0]
    assert prog["node_data"][0].node_zones[2].spanned_pages.value_() == RAM // PAGE


def test_drgn_reads_the_release_and_static_variables(
    prog: drgn.Program, machine: HandMade
) -> None:
    assert prog["init_uts_ns"].name.release.string_().decode() == machine.release
    assert prog["UTS_RELEASE"].string_().decode() == machine.release
    assert prog["nr_memmap_pages"].counter.value_() == 1024


@pytest.mark.parametrize("machine", MASKED, indirect=True)
def test_drgn_decodes_a_folio_behind_its_shared_tail(prog: drgn.Program) -> None:
    head = prog["vmemmap"] + HEAD_PFN
    assert PageHead(head) and not PageTail(head)
    assert page_to_pfn(head).value_() == HEAD_PFN
    assert compound_order(head).value_() == 9
    for index in (1, 63, 64, 65, 127, 128, 511):
        assert PageTail(head + index)
        assert compound_head(head + index) == head


def test_drgn_walks_the_page_tables(prog: drgn.Program, machine: HandMade) -> None:
    mm = prog["init_mm"].address_of_()
    base = machine.vmemmap + 64 * HEAD_PFN
    frames = [follow_phys(mm, base + PAGE * k).value_() for k in range(9)]
    own = VMEMMAP_PA + machine.slide + 64 * HEAD_PFN
    assert frames == [own, *[TAIL_PA] * 7, own + 8 * PAGE]
    assert follow_phys(mm, machine.vmemmap).value_() == VMEMMAP_PA + machine.slide


def test_all_three_ways_to_a_byte_agree(prog: drgn.Program, machine: HandMade) -> None:
    symbol = machine.symbols["linux_banner"]
    va = symbol.address + machine.kaslr_offset
    pa = symbol.address - machine.arch.image_map + machine.slide
    text = prog.read(va, symbol.size)
    assert text.startswith(b"Linux version ")
    assert prog.read(pa, symbol.size, physical=True) == text
    assert prog.read(phys_to_virt(prog, pa).value_(), symbol.size) == text


def test_drgn_walks_all_pages(directory: Path) -> None:
    assert sum(1 for _ in for_each_page(opened(directory))) == RAM // PAGE


def test_free_memory_is_zeros_in_elf_and_left_out_of_a_kdump(
    directory: Path,
) -> None:
    assert opened(directory).read(200 << 20, 8, physical=True) == bytes(8)
    with pytest.raises(drgn.FaultError):
        opened(directory, "vmcore.kdump").read(200 << 20, 8, physical=True)


def test_zero_pages_that_the_kernel_uses_are_in_a_kdump(
    directory: Path, machine: HandMade
) -> None:
    """As makedumpfile writes them: a variable that is zero must not be missing."""
    prog = opened(directory, "vmcore.kdump")
    symbols = machine.symbols.values()
    end = max(symbol.address + symbol.size for symbol in symbols)
    pa = machine.arch.image_va - machine.arch.image_map + machine.slide
    image = prog.read(pa, end - machine.arch.image_va, physical=True)
    whole = opened(directory)
    assert image == whole.read(pa, len(image), physical=True)
    assert bytes(PAGE) in {image[at : at + PAGE] for at in range(0, len(image), PAGE)}


def test_assembly_symbols_have_no_debug_information(prog: drgn.Program) -> None:
    assert prog.symbol("init_top_pgt").size == 2 * PAGE
    with pytest.raises(KeyError):
        prog["init_top_pgt"]


def test_functions_have_their_parameters(prog: drgn.Program) -> None:
    names = [p.name for p in prog.function("vmemmap_populate").type_.parameters]
    assert names == ["start", "end", "node", "altmap"]
    assert prog.function("__populate_section_memmap").type_.parameters[-1].name


def test_types_are_those_of_the_graph(prog: drgn.Program, machine: HandMade) -> None:
    graph = machine.types
    for tag in ("page", "mem_section", "zone", "pglist_data", "hstate", "folio"):
        assert prog.type(f"struct {tag}").size == graph.sizeof(f"struct {tag}")
    for path in ("zone.zone_start_pfn", "page._refcount", "hstate.name"):
        tag, member = path.split(".")
        expected = graph.offsetof(path)
        assert drgn.offsetof(prog.type(f"struct {tag}"), member) == expected
    assert prog.constant("PG_head").value_() == graph.enumerator("PG_head")


def test_the_two_files_carry_the_same_build_id(
    directory: Path, machine: HandMade
) -> None:
    with Elf(directory / "vmlinux") as vmlinux, Elf(directory / "vmcore") as core:
        info = core.note("VMCOREINFO")
        assert vmlinux.build_id() == build_id(machine)
        assert info is not None
        assert f"BUILD-ID={build_id(machine).hex()}\n".encode() in info
        assert info.endswith(b"\n")


def test_a_core_names_direct_map_and_image_as_a_kernel_does(
    directory: Path, machine: HandMade
) -> None:
    with Elf(directory / "vmcore") as core:
        assert core.type == ET_CORE
        loads = core.loads()
    image_va = machine.arch.image_va + machine.kaslr_offset
    assert [(s.va, s.pa) for s in loads] == [
        (machine.page_offset, 0),
        (image_va, IMAGE_PA + machine.slide),
    ]
    assert all(s.file_size == s.memory_size for s in loads)
    assert not SegmentMap(loads).has_holes


def test_holes_take_no_disk(directory: Path) -> None:
    status = (directory / "vmcore").stat()
    assert status.st_size > RAM
    assert status.st_blocks * 512 < 2 << 20


def test_a_qemu_like_core_has_no_virtual_addresses(tmp_path: Path) -> None:
    machine = MACHINES["kaslr"]
    write(machine, tmp_path, variant="physical")
    with Elf(tmp_path / "vmcore") as core:
        assert [(s.va, s.pa) for s in core.loads()] == [(0, 0)]
    prog = opened(tmp_path)
    assert prog["init_uts_ns"].name.release.string_().decode() == machine.release
    assert len(list(for_each_present_section(prog))) == 2


def test_a_kcore_like_core_shows_the_vmemmap_without_new_bytes(tmp_path: Path) -> None:
    machine = MACHINES["7.3"]
    write(machine, tmp_path, variant="kcore")
    with Elf(tmp_path / "vmcore") as core:
        extra = [s for s in core.loads() if s.pa == NO_ADDRESS]
        ram = core.loads()[0]
        assert all(ram.offset <= s.offset < ram.offset + RAM for s in extra)
    assert sum(s.memory_size for s in extra) == 4 << 20
    assert {s.offset for s in extra if s.memory_size == PAGE} == {ram.offset + TAIL_PA}
    assert compound_order(opened(tmp_path)["vmemmap"] + HEAD_PFN).value_() == 9


def test_excluded_frames_are_named_but_not_there(tmp_path: Path) -> None:
    machine = MACHINES["7.3"]
    first, last = TAIL_PA // PAGE, TAIL_PA // PAGE + 16
    write(machine, tmp_path, kdump=True, excluded=[(first, last), (0, 1)])
    with Elf(tmp_path / "vmcore") as core:
        extents = SegmentMap(core.loads())
    assert extents.first_absent(TAIL_PA - PAGE, 2 * PAGE) == (TAIL_PA, "excluded")
    assert extents.first_absent(16 * PAGE + TAIL_PA, 64 * PAGE) is None
    assert extents.first_absent(0, PAGE) == (0, "excluded")
    with pytest.raises(drgn.FaultError):
        opened(tmp_path, "vmcore.kdump").read(TAIL_PA, 8, physical=True)


def test_the_page_tables_read_back_as_they_were_made() -> None:
    machine = MACHINES["7.3"]
    base = machine.vmemmap
    runs = list(mapped_runs(machine, base, base + (1 << 30)))
    head_pa = VMEMMAP_PA + (2 << 20)
    assert runs[0] == (base, VMEMMAP_PA, (2 << 20) + PAGE)
    assert runs[1] == (base + (2 << 20) + PAGE, TAIL_PA, PAGE)
    assert runs[-1] == (base + (2 << 20) + 8 * PAGE, head_pa + 8 * PAGE, 504 * PAGE)
    assert len(runs) == 9


def test_an_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no core variant"):
        write_vmcore(MACHINES["7.3"], tmp_path / "vmcore", variant="wrong")


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_vmcore_kdump(MACHINES["7.3"], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert core_notes(MACHINES["7.3"]) == core_notes(HandMade("7.3"))


def gdb(directory: Path, *expressions: str, offset: int = 0) -> str:
    words = ["-nx", "--batch", "-iex", "set confirm off"]
    words += ["-ex", f"symbol-file {directory / 'vmlinux'} -o {offset:#x}"]
    words += ["-ex", f"core-file {directory / 'vmcore'}"]
    for expression in expressions:
        words += ["-ex", f"print {expression}"]
    return output("gdb", *words)


def test_gdb_prints_sections_zones_and_the_banner(
    directory: Path, machine: HandMade
) -> None:
    text = gdb(
        directory,
        "/x mem_section[0][1].section_mem_map",
        "node_data[0]->node_zones[2].spanned_pages",
        "init_uts_ns.name.release",
        "sizeof(struct zone)",
        "(enum zone_type)2",
        offset=machine.kaslr_offset,
    )
    assert f"$1 = {machine.vmemmap | 0xF:#x}" in text
    assert f"$2 = {RAM // PAGE}\n" in text
    assert f'$3 = "{machine.release}"' in text
    assert f"$4 = {machine.types.sizeof('struct zone')}\n" in text
    assert "$5 = ZONE_NORMAL" in text


def test_dwarf_and_elf_verifiers_find_no_error(directory: Path) -> None:
    assert "No errors." in output("llvm-dwarfdump", "--verify", directory / "vmlinux")
    for name in ("vmlinux", "vmcore"):
        text = output("readelf", "--wide", "--all", directory / name)
        assert "readelf: " not in text


@pytest.mark.parametrize("name", ["vmlinux", "vmcore", "books.json"])
def test_a_dump_is_not_written_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match="symbolic link"):
        small_machine("four-level").write(tmp_path / "m")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert [path.name for path in (tmp_path / "m").iterdir()] == [name]
