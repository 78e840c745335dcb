# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is kept between two calls: all of a dump, little of a running kernel."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import drgn
import pytest
from drgn.helpers.linux.mm import pfn_to_page

from tests.drgn_plugin.doors import by_drgn
from tests.model.kernels import GIB
from tests.samples import Sample, open_with_drgn
from vmemmap_tools import drgn_plugin
from vmemmap_tools.drgn_helpers import (
    folio_backing,
    for_each_hugetlb_folio,
    for_each_pgmap,
    for_each_section,
    for_each_vmemmap_saving,
    page_to_nid,
    pgmap_altmap,
    section_state,
    vmemmap_missing,
    vmemmap_reading,
    vmemmap_savings,
    walk_page_table,
)
from vmemmap_tools.drgn_helpers.reading import (
    kernel_for_report,
    layout_of,
    reading_of,
)
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.machine import Machine

POLICY = "vmemmap_optimize_enabled"


@dataclass
class Running:
    """A dump that pretends to be alive, and whose bytes can be changed."""

    prog: drgn.Program
    changes: dict[int, int] = field(default_factory=dict)
    reads: int = 0

    def write(self, name: str, value: int) -> None:
        """Change a variable of one byte."""
        address = self.prog[name].address_
        assert address is not None
        *_, leaf = walk_page_table(self.prog, address)
        bits = 12 + 9 * (leaf.level - 1)
        start = leaf.entry & ~0xFFF & (1 << 52) - 1
        self.changes[start + (address & (1 << bits) - 1)] = value


@pytest.fixture
def running(sample: Callable[[str], Sample]) -> Running:
    dump = sample("gen-7.3")
    platform = drgn.Platform(drgn.Architecture.X86_64)
    with Elf(dump.core) as elf:
        note = elf.note("VMCOREINFO")
        segments = elf.loads()
    assert note is not None
    found = Running(drgn.Program(platform))
    file = Path(dump.core).open("rb")  # noqa: SIM115

    def reader(offset: int, held: int) -> Callable[..., bytes]:
        def read(address: int, count: int, position: int, physical: bool) -> bytes:
            found.reads += 1
            file.seek(offset + position)
            data = bytearray(file.read(max(0, min(count, held - position))))
            data += bytes(count - len(data))
            for at, value in found.changes.items():
                if address <= at < address + count:
                    data[at - address] = value
            return bytes(data)

        return read

    for part in segments:
        found.prog.add_memory_segment(
            part.pa,
            part.memory_size,
            reader(part.offset, part.file_size),
            True,
        )
    found.prog.set_linux_kernel_custom(note, True)
    drgn_plugin.drgn_prog_set(found.prog)
    found.prog.load_debug_info([dump.vmlinux])
    assert found.prog.flags & drgn.ProgramFlags.IS_LIVE
    return found


def policy(prog: drgn.Program) -> bool:
    answer = json.loads(by_drgn(prog, "hvo --format json")[0])
    found: bool = answer["totals"]["policy"]
    return found


def test_a_command_sees_what_changed(running: Running) -> None:
    assert policy(running.prog) is True
    running.write(POLICY, 0)
    assert policy(running.prog) is False
    running.write(POLICY, 1)
    assert policy(running.prog) is True


def test_a_running_kernel_is_read_anew_and_its_layout_kept(running: Running) -> None:
    prog = running.prog
    first = reading_of(prog)
    assert reading_of(prog) is not first
    assert reading_of(prog).target is first.target
    assert layout_of(prog) is layout_of(prog)
    before = running.reads
    page = next(for_each_hugetlb_folio(prog))
    assert running.reads > before + 100
    # Node and zone are in the flags: nothing else is read for them.
    page_to_nid(page)
    before = running.reads
    page_to_nid(page)
    assert running.reads - before < 20


def test_a_section_tells_its_state_by_one_read(running: Running) -> None:
    _, section = next(for_each_section(running.prog))
    state = section_state(section)
    before = running.reads
    assert section_state(section) == state
    assert running.reads - before < 10


def test_one_reading_for_several_calls(running: Running) -> None:
    prog = running.prog
    with vmemmap_reading(prog):
        first = reading_of(prog)
        assert reading_of(prog) is first
        before = vmemmap_savings(prog)
        assert vmemmap_savings(prog) == before
        pages = list(for_each_hugetlb_folio(prog))
        reads = running.reads
        assert sum(folio_backing(page).saved_bytes for page in pages)
        assert running.reads - reads < 5 * len(pages)  # their struct pages alone
    assert reading_of(prog) is not first
    assert reading_of(prog) is not reading_of(prog)


def test_a_reading_ends_with_an_error_too(running: Running) -> None:
    with pytest.raises(RuntimeError), vmemmap_reading(running.prog):
        raise RuntimeError
    assert reading_of(running.prog) is not reading_of(running.prog)


def test_a_dump_is_read_once(sample: Callable[[str], Sample]) -> None:
    prog = sample("gen-7.3").program()
    assert reading_of(prog) is reading_of(prog) is kernel_for_report(prog)
    with vmemmap_reading(prog):
        assert reading_of(prog) is layout_of(prog)


def test_without_types_numbers_are_told_and_objects_are_not(
    sample: Callable[[str], Sample],
) -> None:
    dump = sample("gen-7.3")
    prog = open_with_drgn(dump.core)
    assert vmemmap_savings(prog).saved_hugetlb == (
        dump.books["vmemmap"]["saved_pages_hvo"] * 4096
    )
    base = int(dump.books["vmemmap_base_va"], 16)
    assert next(walk_page_table(prog, base)).level == 4
    with pytest.raises(LookupError, match="mem_section"):
        next(for_each_section(prog))


def test_page_tables_that_are_not_there_fault_as_in_drgn(
    tmp_path: Path, sample: Callable[[str], Sample]
) -> None:
    """Tables of device memory that lie on the device, which the dump lacks."""
    machine = Machine("7.3", {0: NodeMemory([(0, GIB)])})
    machine.dax_add("dax0", "4G", "256M", altmap=True)
    machine.write(tmp_path)
    prog = open_with_drgn(str(tmp_path / "vmcore"), str(tmp_path / "vmlinux"))
    page = pfn_to_page(prog, (4 << 30 >> 12) + 0x2000)
    with pytest.raises(drgn.FaultError, match="outside: "):
        folio_backing(page)
    assert not vmemmap_missing(prog)
    (pgmap,) = for_each_pgmap(prog)
    # Its node is in those struct pages as well.
    with pytest.raises(drgn.FaultError, match="could not be read"):
        list(for_each_vmemmap_saving(prog))
    assert vmemmap_missing(prog)["outside"]
    assert pgmap_altmap(pgmap).base_pfn
