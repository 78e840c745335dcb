# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged types and symbols, in a kernel's memory and in files, to every verb."""

from __future__ import annotations

import copy
import struct
from collections.abc import Mapping
from typing import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.bounded import EVERY_VERB, fuzz, judge
from tests.fakes.kallsyms import Tables
from tests.model.kernels import guest, small
from vmemmap_tools.cli import main
from vmemmap_tools.cli import open as opening
from vmemmap_tools.formats.btf import Btf, Kind
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.write import write_vmlinux
from vmemmap_tools.target.providers import compose

from .machines import BTF_AT, Described, MemoryWithTables, SelfDescribed
from .vmlinux import change_section, section_headers

Run = Callable[[Tables, tuple[str, ...]], int]


@pytest.fixture(scope="module", params=["6.1", "7.3"])
def machine(request: pytest.FixtureRequest) -> Described:
    return Described(guest(request.param))


@pytest.fixture
def run(machine: Described, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Ask the command line about a kernel that describes itself by such tables."""

    def judged(tables: Tables, words: tuple[str, ...]) -> int:
        memory = MemoryWithTables(machine.memory, tables)
        monkeypatch.setattr(opening, "_open_target", lambda _: compose(memory))
        return judge(words)

    return judged


def test_a_sound_description_answers(machine: Described, run: Run) -> None:
    for words in EVERY_VERB:
        assert run(machine.tables, words) == 0


@given(data=st.data())
@fuzz(16)
def test_btf_in_memory(machine: Described, run: Run, data: st.DataObject) -> None:
    tables = copy.copy(machine.tables)
    damaged = data.draw(damaged_btf(machine.btf))
    tables.pieces = {**tables.pieces, BTF_AT: damaged.ljust(len(machine.btf), b"\0")}
    run(tables, data.draw(st.sampled_from(EVERY_VERB)))


@given(data=st.data())
@fuzz(16)
def test_kallsyms_in_memory(machine: Described, run: Run, data: st.DataObject) -> None:
    tables = copy.copy(machine.tables)
    sound = {at: piece for at, piece in tables.pieces.items() if at != BTF_AT}
    tables.pieces = {**tables.pieces, **data.draw(damaged_tables(sound))}
    run(tables, data.draw(st.sampled_from(EVERY_VERB)))


@st.composite
def damaged_tables(draw: st.DrawFn, sound: Mapping[int, bytes]) -> dict[int, bytes]:
    """Tables by address, with noise or repeated bytes in some places."""
    pieces = dict(sound)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.sampled_from(sorted(pieces)))
        piece = bytearray(pieces[start])
        at = draw(st.integers(0, len(piece) - 1))
        size = draw(st.sampled_from((1, 1, 2, 4, 64, len(piece))))
        noise = draw(st.binary(min_size=1, max_size=4))
        piece[at : at + size] = (noise * size)[: len(piece[at : at + size])]
        pieces[start] = bytes(piece)
    return pieces


@pytest.fixture(scope="module", params=["6.1", "7.3"])
def dump(request: pytest.FixtureRequest) -> SelfDescribed:
    return SelfDescribed(small(request.param, kaslr=11))


@given(data=st.data())
@fuzz(16)
def test_kallsyms_in_a_dump(dump: SelfDescribed, data: st.DataObject) -> None:
    """From the file on, as a user has it: nothing else tells where variables are."""
    tables = dump.tables.pieces
    opening = ("-c", str(dump.core), "--vmcoreinfo", str(dump.note), "--types")
    dump.write(tables)
    assert judge((*opening, "btf", "summary")) == 0
    sound = {at: piece for at, piece in tables.items() if at != dump.btf_at}
    dump.write(data.draw(damaged_tables(sound)))
    types = data.draw(st.sampled_from(("auto", "btf")))
    judge((*opening, types, *data.draw(st.sampled_from(EVERY_VERB))))


@given(data=st.data())
@fuzz(16)
def test_btf_in_a_file(machine: Described, data: st.DataObject) -> None:
    path = machine.path / "damaged.btf"
    path.write_bytes(data.draw(damaged_btf(machine.btf)))
    symbols = machine.path / "System.map"
    symbols.write_bytes(machine.symbol_list())
    opening = ("-c", str(machine.path / "vmcore"), "-s", str(path), "-s", str(symbols))
    judge((*opening, *data.draw(st.sampled_from(EVERY_VERB))))


@given(data=st.data())
@fuzz(12)
def test_a_symbol_list(machine: Described, data: st.DataObject) -> None:
    path, symbols = machine.path / "own.btf", machine.path / "System.map"
    path.write_bytes(machine.btf)
    lines = machine.symbol_list().splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(1, len(lines) - 1))
        rest = data.draw(st.sampled_from((lines[at][16:], b" D page\n", b"\n", b"")))
        address = data.draw(st.integers(0, (1 << 64) - 1).map(b"%016x".__mod__))
        lines[at] = data.draw(st.sampled_from((address + rest, rest, lines[at - 1])))
    symbols.write_bytes(b"".join(lines))
    opening = ("-c", str(machine.path / "vmcore"), "-s", str(path), "-s", str(symbols))
    judge((*opening, *data.draw(st.sampled_from(EVERY_VERB))))


@given(data=st.data())
@fuzz(24)
def test_a_symbol_table(machine: Described, data: st.DataObject) -> None:
    path = machine.path / "vmlinux.g"
    write_vmlinux(machine.image, path, is_stripped=True)
    with Elf(path) as elf:
        tables = {s.name: s for s in elf.sections()}
    headers = section_headers(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        table = tables[data.draw(st.sampled_from((".symtab", ".strtab")))]
        header = headers[table.name]
        start, end = data.draw(
            st.sampled_from(
                ((header, header + 64), (table.offset, table.offset + table.size))
            )
        )
        at = data.draw(st.integers(start, end - 1))
        size = min(end - at, data.draw(st.sampled_from((1, 1, 8, 24, end - start))))
        noise = data.draw(st.one_of(st.just(b"\0"), st.binary(min_size=1, max_size=8)))
        content[at : at + size] = (noise * size)[:size]
    cut = data.draw(st.one_of(st.none(), st.none(), st.integers(64, len(content))))
    path.write_bytes(content[:cut])
    opening = ("-c", str(machine.path / "vmcore"), "-s", str(path))
    judge((*opening, *data.draw(st.sampled_from(EVERY_VERB))))


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


@given(data=st.data())
@fuzz(16)
def test_vmcoreinfo_alone(machine: Described, data: st.DataObject) -> None:
    note = dict(machine.memory.vmcoreinfo)
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(set(note) - {"OSRELEASE"})))
        number = st.integers(-(1 << 64), 1 << 65)
        other = st.one_of(
            st.sampled_from(sorted(note.values())),
            st.one_of(number, st.integers(-8, 128)).map(str),
            number.map(hex),
            st.text("0123456789abcdefx-= \x1b\xff", max_size=20),
        )
        note[key] = data.draw(other)
    path = machine.path / "note"
    path.write_text("".join(f"{k}={v}\n" for k, v in note.items()))
    opening = ("-c", str(machine.path / "vmcore"), "--vmcoreinfo", str(path))
    words = data.draw(st.sampled_from(EVERY_VERB))
    judge((*opening, "--types", "vmcoreinfo", *words))


def damaged_btf(sound: bytes) -> st.SearchStrategy[bytes]:
    """Words of records and of the header changed; bytes of strings; a cut end."""
    btf = Btf(sound)
    starts = [24 + 4 * start for start in btf._starts]
    places = st.one_of(
        st.sampled_from(starts).map(lambda at: at + 4),
        st.sampled_from(starts).map(lambda at: at + 8),
        st.integers(0, 5).map(lambda i: 4 * i),
        st.integers(6, len(sound) // 4 - 1).map(lambda i: 4 * i),
    )
    values = st.one_of(
        st.integers(0, len(btf) + 1),
        st.integers(0, 20).map(lambda kind: kind << 24 | 1),
        st.integers(0, (1 << 32) - 1),
    )
    patches = st.lists(st.tuples(places, values), min_size=1, max_size=8)
    cuts = st.one_of(st.none(), st.none(), st.integers(0, len(sound)))

    def patched(changes: list[tuple[int, int]], cut: int | None) -> bytes:
        content = bytearray(sound)
        for at, value in changes:
            content[at : at + 4] = value.to_bytes(4, "little")
        return bytes(content[:cut])

    return st.builds(patched, patches, cuts)


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
