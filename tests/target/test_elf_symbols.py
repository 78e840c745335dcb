# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols of a vmlinux by name: moved, per-CPU, namesakes, and files without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.elf import ET_EXEC, ET_REL, elf
from vmemmap_tools.formats.elf_write import Symbol
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.elf_symbols import (
    MAX_NAMES,
    ElfSymbols,
    SymbolsMissing,
    is_vmlinux,
)

from .dumps import core
from .vmlinux import (
    BANNER,
    BANNER_VA,
    BUILD_ID,
    TEXT_VA,
    change_section,
    write_vmlinux,
)

VA = 0xFFFFFFFF83000000


def test_symbols_move_with_the_kernel(tmp_path: Path) -> None:
    symbols = ElfSymbols(write_vmlinux(tmp_path), offset=0x5000000)
    assert symbols.symbol("_stext") == TEXT_VA + 0x5000000
    assert symbols.symbol("no_such_symbol") is None
    assert symbols.build_id == BUILD_ID


def test_an_offset_downwards_wraps_at_64_bits(tmp_path: Path) -> None:
    symbols = ElfSymbols(write_vmlinux(tmp_path), offset=(1 << 64) - 0x200000)
    assert symbols.symbol("_text") == TEXT_VA - 0x200000


def test_offsets_into_the_percpu_area_do_not_move(tmp_path: Path) -> None:
    path = write_vmlinux(tmp_path, Symbol("runqueues", 0x35E80, 8))
    assert ElfSymbols(path, offset=0x200000).symbol("runqueues") == 0x35E80


def test_a_name_is_not_found_within_a_longer_one(tmp_path: Path) -> None:
    path = write_vmlinux(tmp_path, Symbol("deferred_pgmap_array", VA))
    symbols = ElfSymbols(path)
    assert symbols.symbol("pgmap_array") is None
    assert symbols.symbol("deferred_pgmap_array") == VA


def test_a_global_symbol_goes_before_its_static_namesakes(tmp_path: Path) -> None:
    path = write_vmlinux(
        tmp_path,
        Symbol("twice", VA, is_static=True),
        Symbol("twice", VA + 8),
        Symbol("left_open", VA, is_static=True),
        Symbol("left_open", VA + 8, is_static=True),
        Symbol("same_place", VA, is_static=True),
        Symbol("same_place", VA, is_static=True),
    )
    symbols = ElfSymbols(path)
    assert symbols.symbol("twice") == VA + 8
    assert symbols.symbol("left_open") is None
    assert symbols.symbol("same_place") == VA


def test_constants_are_read_by_link_address_and_bss_has_none(tmp_path: Path) -> None:
    path = write_vmlinux(tmp_path, Symbol("zeroed", VA, 8), Symbol("nowhere", 0x10, 8))
    symbols = ElfSymbols(path, offset=0x200000)
    banner = symbols.linked("linux_banner")
    assert banner is not None and banner.address == BANNER_VA
    assert symbols.content(banner, len(BANNER)) == BANNER
    assert symbols.content(banner, 1 << 20) is None
    for name in ("zeroed", "nowhere"):
        found = symbols.linked(name)
        assert found is not None and symbols.content(found, 8) is None


WHOLE = (
    Symbol("init_uts_ns", VA, 8),
    Symbol("pgmap_array", VA + 8, 8, is_static=True),
    Symbol("_end", VA + 64, kind="notype"),
)


@pytest.mark.parametrize(
    ("left_out", "says"),
    [(0, "no init_uts_ns"), (1, "no static variables"), (2, "no _end")],
)
def test_a_part_of_a_table_is_told_from_a_whole_one(
    tmp_path: Path, left_out: int, says: str
) -> None:
    ElfSymbols(write_vmlinux(tmp_path, *WHOLE)).require_whole()
    some = [symbol for n, symbol in enumerate(WHOLE) if n != left_out]
    some.append(Symbol("a_function", VA, 8, "func", is_static=True))
    part = ElfSymbols(write_vmlinux(tmp_path, *some))
    with pytest.raises(SymbolsMissing, match=f"lists {says} in its symbol table"):
        part.require_whole()


@pytest.mark.parametrize("name", [".symtab", ".strtab"])
def test_a_table_longer_than_any_kernels_is_damage(tmp_path: Path, name: str) -> None:
    path = write_vmlinux(tmp_path, *WHOLE)
    change_section(path, name, size=MAX_NAMES + 1)
    with open(path, "r+b") as file:
        file.truncate(2 * MAX_NAMES)
    with pytest.raises(TargetError, match="symbol table is damaged: too long"):
        ElfSymbols(path)


@pytest.mark.parametrize("change", [{"entry_size": 16}, {"link": 99}])
def test_a_table_of_another_form_is_damage(
    tmp_path: Path, change: dict[str, int]
) -> None:
    path = write_vmlinux(tmp_path, *WHOLE)
    change_section(path, ".symtab", **change)
    with pytest.raises(TargetError, match="symbol table is damaged"):
        ElfSymbols(path)


def test_a_table_that_goes_beyond_the_file_is_damage(tmp_path: Path) -> None:
    path = write_vmlinux(tmp_path, *WHOLE)
    change_section(path, ".symtab", size=1 << 20)
    with pytest.raises(TargetError, match=r"file ends at .* bytes are needed"):
        ElfSymbols(path)


def test_what_may_be_a_vmlinux_is_told_by_its_header(tmp_path: Path) -> None:
    assert is_vmlinux(write_vmlinux(tmp_path))
    for data in (core(), elf(kind=ET_REL), b"text", b""):
        other = tmp_path / "other"
        other.write_bytes(data)
        assert not is_vmlinux(str(other))
    assert not is_vmlinux(str(tmp_path))


NO_VMLINUX = {
    "a core": (core(), "is no vmlinux"),
    "a module": (elf(kind=ET_REL), "is no vmlinux"),
    "a stripped file": (elf(kind=ET_EXEC), "has no symbol table"),
    "a text": (b"text\n" * 100, "is no vmlinux"),
}


@pytest.mark.parametrize("case", list(NO_VMLINUX))
def test_what_is_no_vmlinux_is_refused(tmp_path: Path, case: str) -> None:
    data, reason = NO_VMLINUX[case]
    path = tmp_path / "vmlinux"
    path.write_bytes(data)
    with pytest.raises(TargetError, match=reason):
        ElfSymbols(str(path))
    with pytest.raises(TargetError, match="No such file"):
        ElfSymbols(str(tmp_path / "nothing"))
