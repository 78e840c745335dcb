# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading through real drgn: what a dump left out is a fault, not zeros."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import drgn
import pytest

from vmemmap_tools.formats.elf import Elf, SegmentMap
from vmemmap_tools.target.base import Fault, PhysicalRange, TargetError
from vmemmap_tools.target.drgn import DrgnMemory, DrgnTarget

from .dumps import PA, RELEASE, VA, core, write_core

PAGE = 4096


def opened(path: str) -> DrgnTarget:
    prog = drgn.Program()
    prog.set_core_dump(path)
    with Elf(path) as elf:
        return DrgnTarget(prog, SegmentMap(elf.loads()))


@pytest.fixture
def filtered(tmp_path: Path) -> DrgnTarget:
    return opened(write_core(tmp_path))


@pytest.fixture
def whole(tmp_path: Path) -> DrgnTarget:
    return opened(write_core(tmp_path, core(has_hole=False), "whole"))


def fault(target: DrgnTarget, address: int, size: int, *, physical: bool) -> Fault:
    with pytest.raises(Fault) as error:
        if physical:
            target.read_physical(address, size)
        else:
            target.read(address, size)
    return error.value


def test_drgn_itself_reads_the_filtered_page_as_zeros(filtered: DrgnTarget) -> None:
    # The reason for all that follows.
    assert filtered.prog.read(PA + PAGE, 8, True) == bytes(8)


def test_a_filtered_page_is_excluded_by_physical_address(filtered: DrgnTarget) -> None:
    found = fault(filtered, PA + PAGE, 8, physical=True)
    assert (found.kind, found.address) == ("excluded", PA + PAGE)


def test_a_filtered_page_is_excluded_by_virtual_address(filtered: DrgnTarget) -> None:
    assert fault(filtered, VA + PAGE, 8, physical=False).kind == "excluded"


def test_a_read_that_reaches_into_the_hole_is_excluded(filtered: DrgnTarget) -> None:
    assert fault(filtered, PA + PAGE - 4, 8, physical=True).kind == "excluded"
    assert fault(filtered, VA + PAGE - 4, 8, physical=False).kind == "excluded"
    assert fault(filtered, PA, 3 * PAGE, physical=True).kind == "excluded"


def test_pages_beside_the_hole_are_read(filtered: DrgnTarget) -> None:
    assert filtered.read(VA + PAGE - 8, 8) == b"\x11" * 8
    assert filtered.read_physical(PA + 2 * PAGE, 8) == b"\x33" * 8
    assert filtered.read(VA + 2 * PAGE, PAGE) == b"\x33" * PAGE


def test_memory_that_no_header_names_is_outside(
    filtered: DrgnTarget, whole: DrgnTarget
) -> None:
    for target in (filtered, whole):
        assert fault(target, PA + 3 * PAGE, 8, physical=True).kind == "outside"
        assert fault(target, VA + 3 * PAGE, 8, physical=False).kind == "outside"
        assert fault(target, 1 << 51, 8, physical=True).kind == "outside"


def test_addresses_that_nothing_maps_are_unmapped(
    filtered: DrgnTarget, whole: DrgnTarget
) -> None:
    for target in (filtered, whole):
        for address in (VA + 4 * PAGE, 0xFFFFEA0000000000, 0x1000):
            assert fault(target, address, 8, physical=False).kind == "unmapped"


@pytest.mark.parametrize("address", [(1 << 64) - 4, 1 << 64, -8])
def test_addresses_that_are_none_are_faults(
    whole: DrgnTarget, filtered: DrgnTarget, address: int
) -> None:
    for target in (whole, filtered):
        fault(target, address, 8, physical=False)
        fault(target, address, 8, physical=True)


def test_a_dump_without_holes_is_read_over_page_borders(whole: DrgnTarget) -> None:
    assert whole.read(VA + PAGE - 2, 4) == b"\x11\x11\0\0"
    assert whole.read_physical(PA + 2 * PAGE - 2, 4) == b"\0\0\x33\x33"


def test_ranges_say_what_is_there_and_what_is_not(filtered: DrgnTarget) -> None:
    ranges = list(filtered.ranges())
    assert PhysicalRange(PA, PA + PAGE, True) in ranges
    assert PhysicalRange(PA + PAGE, PA + 2 * PAGE, False) in ranges


def test_a_program_without_headers_has_no_ranges(filtered: DrgnTarget) -> None:
    assert list(DrgnTarget(filtered.prog).ranges()) == []


def test_the_note_tells_release_and_architecture(filtered: DrgnTarget) -> None:
    assert filtered.release == RELEASE
    assert (filtered.arch, filtered.byteorder) == ("x86_64", "little")
    assert filtered.live is False
    assert filtered.vmcoreinfo["PAGESIZE"] == "4096"
    assert DrgnTarget(filtered.prog, release="7.3").release == "7.3"


def test_filtered_page_tables_are_excluded_too(tmp_path: Path) -> None:
    data = core({"SYMBOL(swapper_pg_dir)": f"{0xFFFFFFFF80000000 + PA + PAGE:x}"})
    target = opened(write_core(tmp_path, data))
    assert fault(target, VA, 8, physical=False).kind == "excluded"


def test_without_a_root_virtual_addresses_cannot_be_read(tmp_path: Path) -> None:
    target = opened(write_core(tmp_path, core({"NUMBER(phys_base)": None})))
    assert fault(target, VA, 8, physical=False).kind == "unmapped"
    assert target.read_physical(PA, 4) == b"\x11" * 4


def test_a_source_that_is_gone_is_an_error_not_missing_memory() -> None:
    """As when the guest ends that is read over QMP."""

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))

    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.add_memory_segment(0, 1 << 20, read, physical=True)
    memory = DrgnMemory(prog, source="QEMU guest at sock")
    with pytest.raises(TargetError, match="guest at sock can no longer be read: No su"):
        memory.read_physical(0, 8)
