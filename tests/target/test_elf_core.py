# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory of a core by hand: what is there, what is not, and what is no core."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.elf import ET_EXEC, Load, elf, note
from vmemmap_tools.target.base import Fault, TargetError
from vmemmap_tools.target.elf_core import CoreMemory

from .dumps import PA, RELEASE, VA, core, write_core

PAGE = 4096
DIRECT = 0xFFFF888000000000


def fault(memory: CoreMemory, address: int, size: int, physical: bool) -> Fault:
    read = memory.read_physical if physical else memory.read
    with pytest.raises(Fault) as caught:
        read(address, size)
    return caught.value


def test_virtual_addresses_are_walked_where_headers_have_none(tmp_path: Path) -> None:
    memory = CoreMemory(write_core(tmp_path))
    assert memory.vmcoreinfo["OSRELEASE"] == RELEASE
    assert memory.read(VA + 8, 8) == b"\x11" * 8
    assert memory.read(VA + 2 * PAGE, PAGE) == b"\x33" * PAGE
    assert fault(memory, VA + PAGE, 8, False).kind == "excluded"
    assert fault(memory, VA + 3 * PAGE, 8, False).kind == "outside"
    assert fault(memory, VA + (1 << 30), 8, False).kind == "unmapped"


def test_a_physical_fault_names_the_first_byte_that_is_missing(tmp_path: Path) -> None:
    memory = CoreMemory(write_core(tmp_path))
    missing = fault(memory, PA + PAGE - 4, 8, True)
    assert (missing.kind, missing.address) == ("excluded", PA + PAGE)
    assert fault(memory, 0, 8, True).kind == "outside"


def test_without_a_note_nothing_is_walked(tmp_path: Path) -> None:
    memory = CoreMemory(write_core(tmp_path, core(has_note=False)))
    assert not memory.vmcoreinfo
    assert memory.read_physical(PA, 4) == b"\x11" * 4
    assert fault(memory, VA, 8, False).kind == "outside"
    given = CoreMemory(write_core(tmp_path, core(has_note=False)), _note(core()))
    assert given.read(VA, 4) == b"\x11" * 4


def _note(data: bytes) -> str:
    start = data.index(b"OSRELEASE")
    return data[start : data.index(b"\0", start)].decode()


def test_virtual_addresses_of_headers_are_read_without_tables(tmp_path: Path) -> None:
    loads = [Load(PA, b"\x11" * PAGE, 2 * PAGE, va=VA)]
    memory = CoreMemory(write_core(tmp_path, elf(loads)))
    assert memory.has_virtual_addresses and memory.has_physical_addresses
    assert memory.read(VA + 16, 4) == b"\x11" * 4
    assert fault(memory, VA + PAGE, 8, False).kind == "excluded"
    assert fault(memory, VA + 2 * PAGE, 8, False).kind == "outside"


def test_a_user_address_is_never_looked_up_in_headers(tmp_path: Path) -> None:
    """Physical-only dumps have low addresses there, which are no program's."""
    loads = [Load(PA, b"\x11" * PAGE, va=PA), Load(PA, b"\x22" * PAGE, va=VA)]
    memory = CoreMemory(write_core(tmp_path, elf(loads)))
    assert fault(memory, PA, 8, False).kind == "outside"


def test_a_core_without_physical_addresses_needs_the_direct_map(tmp_path: Path) -> None:
    loads = [
        Load(0, bytes([n]) * PAGE, va=DIRECT + PA + n * PAGE)
        for n in (0, 1)  # all p_paddr are 0
    ]
    memory = CoreMemory(write_core(tmp_path, elf(loads)))
    assert not memory.has_physical_addresses
    assert fault(memory, PA, 8, True).kind == "outside"
    memory.direct_map = DIRECT
    assert memory.read_physical(PA + PAGE - 1, 2) == b"\0\1"
    missing = fault(memory, PA + 2 * PAGE - 1, 2, True)
    assert (missing.kind, missing.address) == ("outside", PA + 2 * PAGE)


def test_physical_addresses_alone_are_no_virtual_ones(tmp_path: Path) -> None:
    loads = [Load(n * PAGE, b"\x11" * PAGE, va=n * PAGE) for n in (0, 1)]
    memory = CoreMemory(write_core(tmp_path, elf(loads)))
    assert memory.has_physical_addresses and not memory.has_virtual_addresses
    assert memory.read_physical(0, 4) == b"\x11" * 4
    assert [(r.start, r.end, r.present) for r in memory.ranges()] == [
        (0, 2 * PAGE, True)
    ]


def test_a_root_that_contradicts_the_memory_is_a_fault(tmp_path: Path) -> None:
    """phys_base leads to a place that the dump does not hold."""
    lost = core({"NUMBER(phys_base)": str(1 << 40)})
    assert fault(CoreMemory(write_core(tmp_path, lost)), VA, 8, False).kind == "outside"


NO_CORES = {
    "an executable": (elf(kind=ET_EXEC), "is an ELF file but no dump"),
    "a text": (b"no ELF at all" * 100, "is no ELF core"),
    "nothing": (b"", "is no ELF core"),
    "half a header": (core()[:40], "is no ELF core"),
    "half its notes": (
        core()[: core().index(b"OSRELEASE")],
        "before the end of its notes",
    ),
}


@pytest.mark.parametrize("case", list(NO_CORES))
def test_what_is_no_whole_core_is_refused(tmp_path: Path, case: str) -> None:
    data, reason = NO_CORES[case]
    with pytest.raises(TargetError, match=reason):
        CoreMemory(write_core(tmp_path, data))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="vmcore: No such file"):
        CoreMemory(str(tmp_path / "vmcore"))


def test_another_machine_is_named_and_not_walked(tmp_path: Path) -> None:
    loads = [Load(PA, b"\x11" * PAGE)]
    memory = CoreMemory(write_core(tmp_path, elf(loads, machine=22)))
    assert memory.arch == "ELF machine 22"
    assert fault(memory, VA, 8, False).kind == "outside"
    notes = note("VMCOREINFO", b"SYMBOL(swapper_pg_dir)=ffffffff80200000\n")
    arm = CoreMemory(write_core(tmp_path, elf(loads, notes, machine=183)))
    assert arm.arch == "aarch64"
    assert fault(arm, VA, 8, False).kind == "outside"
