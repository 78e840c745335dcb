# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged types, symbols and notes of kinds that a fuzz does not draw."""

from __future__ import annotations

import struct

import pytest

from tests.bounded import judge
from tests.model.kernels import guest
from vmemmap_tools.cli import main
from vmemmap_tools.formats.btf import Kind
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.write import write_vmlinux

from .machines import Described
from .vmlinux import change_section


@pytest.fixture(scope="module", params=["6.1", "7.3"])
def machine(request: pytest.FixtureRequest) -> Described:
    return Described(guest(request.param))


def test_a_symbol_table_of_one_name(machine: Described) -> None:
    """Zeros, as a copy has them where its reader failed, behind the symbols."""
    path = machine.path / "vmlinux.g"
    write_vmlinux(machine.image, path, is_stripped=True)
    opening = ("-c", str(machine.path / "vmcore"), "-s", str(path), "summary")
    with Elf(path) as elf:
        table = elf.section_bytes(".symtab") or b""
        end = elf.file_size
    zeros = bytes(24 << 18)
    with path.open("ab") as file:
        file.write(table + zeros)
    change_section(path, ".symtab", offset=end, size=len(table) + len(zeros))
    assert judge(opening) == 0


NUMBERS = (
    "PAGESIZE",
    "KERNELOFFSET",
    "SYMBOL(mem_section)",
    "SYMBOL(vmemmap)",
    "SYMBOL(init_top_pgt)",
    "SYMBOL(init_uts_ns)",
    "LENGTH(mem_section)",
    "LENGTH(node_data)",
    "SIZE(page)",
    "OFFSET(page.flags)",
    "NUMBER(SECTION_SIZE_BITS)",
    "NUMBER(pgtable_l5_enabled)",
    "NUMBER(phys_base)",
    "NUMBER(PG_head_mask)",
    "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)",
)
"""Keys of VMCOREINFO that something reads as a number."""


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("types", ["dwarf", "vmcoreinfo"])
def test_a_note_without_a_number_where_there_should_be_one(
    machine: Described, key: str, types: str
) -> None:
    note = {**machine.memory.vmcoreinfo, key: "=0g"}
    path = machine.path / "note"
    path.write_text("".join(f"{k}={v}\n" for k, v in note.items()))
    core, vmlinux = str(machine.path / "vmcore"), str(machine.path / "vmlinux")
    opening = ("-c", core, "-s", vmlinux, "--vmcoreinfo", str(path), "--types", types)
    for words in (("summary",), ("info",), ("check", "--all")):
        judge((*opening, *words))


def test_strings_without_end_that_end_in_a_name_are_damage(
    machine: Described, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would be looked up; a kernel has every string once."""
    header = machine.btf[:4] + struct.pack("<5I", 24, 0, 16, 16, 40 << 15)
    record = struct.pack("<4I", 1, Kind.INT << 24, 4, 32)
    path = machine.path / "names.btf"
    path.write_bytes(header + record + b"page\0" * (8 << 15))
    core = str(machine.path / "vmcore")
    assert main(["-c", core, "-s", str(path), "summary"]) == 2
    assert "damaged BTF: too many strings end in page" in capsys.readouterr().err
