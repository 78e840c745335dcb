# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a kernel runs, found in a memory of a few pages without any debugger."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.fakes.facts import KERNEL_MAP
from tests.fakes.memory import PAGE, SparseMemory
from tests.fakes.tables import PageTables
from vmemmap_tools.formats.elf_write import Symbol
from vmemmap_tools.target.base import Fault, TargetError
from vmemmap_tools.target.elf_symbols import ElfSymbols
from vmemmap_tools.target.kaslr import (
    Boot,
    Processor,
    described,
    direct_map_base,
    exported,
    find_boot,
    has_banner,
    of_note,
    require_build,
)
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

from .vmlinux import BANNER, BANNER_VA, BUILD_ID, TEXT_VA, write_vmlinux

OFFSET = 7 << 21
PHYS_BASE = 0x3000000
LA57 = 1 << 12
IDT = 0xFFFFFE0000000000
HANDLER = TEXT_VA + 0x20
TOP_PGT = 0xFFFFFFFF83000000


class Running:
    """A kernel in memory, moved by `OFFSET`; its image is mapped by 2M pages."""

    def __init__(self, folder: Path, levels: int = 4, banner: bytes = BANNER):
        more = [
            Symbol("asm_exc_divide_error", HANDLER, 8, "func"),
            Symbol("init_top_pgt", TOP_PGT, PAGE),
            Symbol("page_offset_base", TOP_PGT + PAGE, 8),
            Symbol("phys_base", TOP_PGT + PAGE + 8, 8),
            Symbol("vmcoreinfo_data", TOP_PGT + PAGE + 16, 8),
            Symbol("vmcoreinfo_size", TOP_PGT + PAGE + 24, 8),
        ]
        self.symbols = ElfSymbols(write_vmlinux(folder, *more))
        self.memory = SparseMemory()
        free = iter(range(0x40000000, 0x40100000, PAGE))
        # The root of a pair: the kernel's has an even page number.
        self.tables = PageTables(self.memory, lambda: next(free), levels)
        for va in range(TEXT_VA + OFFSET, TEXT_VA + OFFSET + (48 << 20), 2 << 20):
            self.tables.map_huge(va, self.pa(va))
        self.put(BANNER_VA, banner)

    def pa(self, va: int) -> int:
        """Of a run-time address in the image."""
        return va - KERNEL_MAP + PHYS_BASE

    def put(self, linked: int, data: bytes) -> None:
        self.memory.write(self.pa(linked + OFFSET), data)

    def read(self, va: int, size: int) -> bytes:
        """As an MMU that maps the image and nothing else."""
        if not TEXT_VA + OFFSET <= va < TEXT_VA + OFFSET + (48 << 20):
            raise Fault(va, size, "unmapped")
        return self.memory.read(self.pa(va), size)

    def find(self, processor: Processor, way: str) -> Boot | None:
        return find_boot(
            self.symbols,
            processor,
            self.read if way == "virtual" else None,
            self.memory.read if way == "physical" else None,
        )


def note(text: str) -> VmcoreInfo:
    return VmcoreInfo(f"OSRELEASE=0\n{text}")


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("user_bit", [0, PAGE | 0x801])
def test_the_tables_behind_cr3_tell(tmp_path: Path, levels: int, user_bit: int) -> None:
    """In a program with PTI cr3 names the second root of the pair."""
    running = Running(tmp_path, levels)
    cr4 = LA57 if levels == 5 else 0
    processor = Processor(running.tables.root_pa | user_bit, cr4)
    boot = running.find(processor, "physical")
    assert boot is not None
    assert (boot.offset, boot.phys_base, boot.levels) == (OFFSET, PHYS_BASE, levels)


def test_levels_that_no_register_tells_are_tried(tmp_path: Path) -> None:
    running = Running(tmp_path, 5)
    boot = running.find(Processor(running.tables.root_pa), "physical")
    assert boot is not None and (boot.offset, boot.levels) == (OFFSET, 5)


def test_a_cr3_that_leads_nowhere_finds_nothing(tmp_path: Path) -> None:
    running = Running(tmp_path)
    for cr3 in (0, 0x123000, (1 << 51) - PAGE):
        assert running.find(Processor(cr3), "physical") is None
    assert running.find(Processor(), "physical") is None


def test_the_banner_is_searched_for_where_only_the_image_can_be_read(
    tmp_path: Path,
) -> None:
    running = Running(tmp_path)
    boot = running.find(Processor(), "virtual")
    assert boot is not None and "banner" in boot.source
    assert (boot.offset, boot.phys_base) == (OFFSET, None)


def test_gate_0_tells_where_a_program_maps_nothing_else(tmp_path: Path) -> None:
    running = Running(tmp_path)
    handler = HANDLER + OFFSET
    gate = struct.pack(
        "<HHHHI", handler & 0xFFFF, 16, 0, handler >> 16 & 0xFFFF, handler >> 32
    )

    def read(va: int, size: int) -> bytes:
        if va != IDT:
            raise Fault(va, size, "unmapped")
        return gate[:size]

    boot = find_boot(running.symbols, Processor(None, LA57, IDT), read, None)
    assert boot is not None
    assert (boot.offset, boot.levels) == (OFFSET, 5)


def test_another_build_is_refused_by_what_it_says(tmp_path: Path) -> None:
    other = BANNER.replace(b"#1", b"#2")
    running = Running(tmp_path, banner=other)
    with pytest.raises(TargetError, match=r"another build.*#2"):
        running.find(Processor(running.tables.root_pa), "physical")


def test_a_banner_is_right_wrong_or_not_to_be_read(tmp_path: Path) -> None:
    running = Running(tmp_path)
    assert has_banner(running.symbols, OFFSET, running.read) is True
    assert has_banner(running.symbols, OFFSET + (2 << 20), running.read) is False
    assert has_banner(running.symbols, OFFSET - (64 << 20), running.read) is None
    assert has_banner(running.symbols, OFFSET, None) is None


def test_a_note_is_read_from_the_surest_key(tmp_path: Path) -> None:
    symbols = ElfSymbols(write_vmlinux(tmp_path))
    assert of_note(note(""), symbols) is None
    zero = of_note(note("KERNELOFFSET=0\n"), symbols)
    assert zero is not None and (zero.offset, zero.phys_base) == (0, None)
    both = of_note(
        note(
            f"KERNELOFFSET=0\nSYMBOL(_stext)={TEXT_VA + OFFSET:x}\n"
            "NUMBER(phys_base)=-2097152\n"
        ),
        symbols,
    )
    assert both is not None and (both.offset, both.phys_base) == (OFFSET, -2097152)
    with pytest.raises(TargetError, match="KERNELOFFSET is no number"):
        of_note(note("KERNELOFFSET=somewhere\n"), symbols)


def test_a_negative_phys_base_is_read_as_such(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.put(TOP_PGT + PAGE + 8, (-(2 << 20)).to_bytes(8, "little", signed=True))
    running.symbols.offset = OFFSET
    info = described(Boot(OFFSET, "a test"), running.symbols, running.read)
    assert info.number("phys_base") == -(2 << 20)
    assert info.symbol("init_top_pgt") == TOP_PGT + OFFSET
    assert info["OSRELEASE"] == "7.3.0-tiny"


def test_without_phys_base_nothing_is_described(tmp_path: Path) -> None:
    running = Running(tmp_path)
    with pytest.raises(TargetError, match="phys_base cannot be read"):
        described(Boot(OFFSET, "a test"), running.symbols, None)


def test_the_kernels_own_note_must_be_one(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.symbols.offset = OFFSET
    assert exported(running.read, running.symbols) is None  # a null pointer
    text, at = b"OSRELEASE=7.3.0-tiny\nPAGESIZE=4096\n", TOP_PGT + 2 * PAGE
    running.put(at, text)
    running.put(TOP_PGT + PAGE + 16, (at + OFFSET).to_bytes(8, "little"))
    for size in (0, 1 << 40):
        running.put(TOP_PGT + PAGE + 24, size.to_bytes(8, "little"))
        assert exported(running.read, running.symbols) is None
    running.put(TOP_PGT + PAGE + 24, len(text).to_bytes(8, "little"))
    found = exported(running.read, running.symbols)
    assert found is not None and found["PAGESIZE"] == "4096"
    running.put(at, b"something")
    assert exported(running.read, running.symbols) is None


def test_the_direct_map_is_where_its_variable_says(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.symbols.offset = OFFSET
    running.put(TOP_PGT + PAGE, (0xFFFF9A0000000000).to_bytes(8, "little"))
    base = direct_map_base(running.symbols, running.read, {})
    assert base == 0xFFFF9A0000000000
    fixed = ElfSymbols(write_vmlinux(tmp_path))
    assert direct_map_base(fixed, running.read, {}) == 0xFFFF888000000000
    five = {"NUMBER(pgtable_l5_enabled)": "1"}
    assert direct_map_base(fixed, running.read, five) == 0xFF11000000000000


def test_build_ids_are_compared_where_both_have_one(tmp_path: Path) -> None:
    symbols = ElfSymbols(write_vmlinux(tmp_path))
    require_build({}, symbols)
    require_build({"BUILD-ID": BUILD_ID.upper()}, symbols)
    with pytest.raises(TargetError, match=f"build-id {BUILD_ID}, not ab"):
        require_build({"BUILD-ID": "ab" * 20}, symbols)
