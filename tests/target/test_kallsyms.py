# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols from kallsyms: its tables in every form, the file, and damage of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.kallsyms import FORMS, Tables, encode
from vmemmap_tools.target import kallsyms
from vmemmap_tools.target.base import (
    ByteOrder,
    Evidence,
    Fault,
    PhysicalRange,
    TargetError,
)
from vmemmap_tools.target.kallsyms import KallsymsFile, KallsymsTables, read_kallsyms
from vmemmap_tools.target.providers import find_symbols
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

TEXT = 0xFFFFFFFF81000000
LONG = "a_" + "very_" * 60 + "long_name"
SYMBOLS = [
    ("A", "cpu_number", 0x1A0),
    ("T", "_stext", TEXT),
    ("d", "node_states", TEXT + 0x100),
    ("t", "mem_section", TEXT + 0x180),
    ("D", "mem_section", TEXT + 0x200),
    ("d", "twice", TEXT + 0x300),
    ("b", "twice", TEXT + 0x400),
    ("D", "init_uts_ns", TEXT + 0x500),
    ("R", LONG, TEXT + 0x600),
    ("D", "page", TEXT + 0x700),
    ("T", "co", TEXT + 0x800),
    ("T", "compact_memory", TEXT + 0x900),
    ("d", "compact_memory", TEXT + 0x980),
    ("d", "jiffies", TEXT + 0xA00),
    ("D", "__pgtable_l5_enabled", TEXT + 0x10000000),
]
ONCE = ("_stext", "node_states", "page", "co", "compact_memory", "jiffies")
WITNESSES = {"_stext": TEXT, "init_uts_ns": TEXT + 0x500}


class FakeMemory:
    """Memory that holds the tables and nothing else."""

    arch = "x86_64"
    live = False

    def __init__(self, tables: Tables, byteorder: ByteOrder = "little"):
        self.tables = tables
        self.byteorder = byteorder
        self.vmcoreinfo = note(tables)

    def read(self, address: int, size: int) -> bytes:
        found = self.tables.read(address, size)
        if found is None:
            raise Fault(address, size, "unmapped")
        return found

    def read_physical(self, address: int, size: int) -> bytes:
        raise Fault(address, size, "outside", physical=True)

    def ranges(self) -> Sequence[PhysicalRange]:
        return ()

    def evidence(self) -> list[Evidence]:
        return []


def note(tables: Tables, witnesses: dict[str, int] | None = None) -> VmcoreInfo:
    named = WITNESSES if witnesses is None else witnesses
    keys = {**{f"SYMBOL({n})": f"{a:x}" for n, a in named.items()}, **tables.keys}
    return VmcoreInfo("".join(f"{key}={value}\n" for key, value in keys.items()))


def opened(memory: FakeMemory) -> KallsymsTables:
    return KallsymsTables(memory, memory.vmcoreinfo)


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_tables_is_read(form: str, byteorder: ByteOrder) -> None:
    symbols = [s for s in SYMBOLS if form == "percpu" or s[2] >> 63]
    found = opened(
        FakeMemory(encode(symbols, form=form, byteorder=byteorder), byteorder)
    )
    for name in (*ONCE, LONG):
        assert found.symbol(name) == next(a for _, n, a in symbols if n == name)
    assert found.symbol("pag") is None and found.symbol("Dpage") is None
    assert [found.symbol(n) for n in ("", "jiffie", "iffies", "o")] == [None] * 4
    if form == "percpu":
        assert found.symbol("cpu_number") == 0x1A0


def test_of_namesakes_the_global_one_counts_and_others_leave_it_open() -> None:
    found = opened(FakeMemory(encode(SYMBOLS, form="percpu")))
    assert found.symbol("mem_section") == TEXT + 0x200
    assert found.symbol("twice") is None


LETTERS = st.sampled_from("TtDdbR")
PIECES = st.sampled_from(["mem", "page", "__", "SYM", "co", "jiffies", "m", "_", "e"])
NAMES = st.lists(PIECES, min_size=1, max_size=4).map("".join)


@given(st.lists(st.tuples(LETTERS, NAMES), max_size=12), st.lists(NAMES, max_size=4))
def test_the_tables_and_the_file_of_one_kernel_agree(
    names: list[tuple[str, str]], others: list[str]
) -> None:
    symbols = [("T", "_stext", TEXT)]
    symbols += [(t, n, TEXT + 16 * i) for i, (t, n) in enumerate(names, 1)]
    lines = [f"{address:016x} {letter} {name}" for letter, name, address in symbols]
    tables, file = opened(FakeMemory(encode(symbols))), KallsymsFile(text(*lines), "")
    for name in {*others, *(name for _, name in names)}:
        assert tables.symbol(name) == file.symbol(name)


def test_names_that_all_end_alike_are_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kallsyms, "MAX_NAMES_TRIED", 3)
    symbols = [("T", "_stext", TEXT)]
    symbols += [("d", f"a{i}_map", TEXT + i) for i in range(4)]
    found = opened(FakeMemory(encode(symbols)))
    assert found.symbol("_stext") == TEXT
    with pytest.raises(TargetError, match="too many names are like some_map"):
        found.symbol("some_map")


def test_tables_that_vmcoreinfo_contradicts_are_refused() -> None:
    tables = encode(SYMBOLS[1:])
    memory = FakeMemory(tables)
    memory.vmcoreinfo = note(tables, {"_stext": TEXT + 4096})
    with pytest.raises(TargetError, match="not where VMCOREINFO has them"):
        opened(memory)
    memory.vmcoreinfo = note(tables, {})
    with pytest.raises(TargetError, match="no symbol that VMCOREINFO names"):
        opened(memory)


def test_tables_that_are_not_in_the_dump_are_passed_over() -> None:
    memory = FakeMemory(encode(SYMBOLS[1:]))
    memory.tables.pieces.popitem()
    symbols, reasons = find_symbols(memory, memory.vmcoreinfo)
    assert "cannot be read" in reasons[0]
    assert symbols.symbol("_stext") == TEXT and symbols.symbol("page") is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_tables_are_refused_or_still_hold_the_witnesses(
    data: st.DataObject,
) -> None:
    tables = encode(SYMBOLS, form=data.draw(st.sampled_from(FORMS)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.sampled_from(sorted(tables.pieces)))
        piece = bytearray(tables.pieces[start])
        at = data.draw(st.integers(0, len(piece) - 1))
        piece[at] ^= data.draw(st.integers(1, 255))
        cut = data.draw(st.none() | st.integers(1, len(piece)))
        tables.pieces[start] = bytes(piece[:cut])
    try:
        found = opened(FakeMemory(tables))
    except TargetError as error:
        assert str(error) and "\n" not in str(error)
        return
    for _, name, _ in SYMBOLS:
        found.symbol(name)
    assert {found.symbol(n) for n in WITNESSES} & {None, *WITNESSES.values()}


# The file


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


PROC = text(
    "0000000000000000 A fixed_percpu_data",
    f"{TEXT:016x} T _stext",
    f"{TEXT + 0x200:016x} D mem_section",
    "ffffffffc0000000 d mem_section\t[some_module]",
    f"{TEXT + 0x300:016x} d twice",
    f"{TEXT + 0x400:016x} b twice",
)


def test_the_file_gives_the_kernels_symbols_and_not_those_of_modules(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(PROC)
    found = read_kallsyms(path)
    assert found.symbol("mem_section") == TEXT + 0x200
    assert found.symbol("twice") is None and found.symbol("section") is None
    assert found.evidence()[0].value == "kallsyms"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text("0000000000000000 T _stext"), "shows no addresses"),
        (b"", "shows no addresses"),
        (text("what is T _stext"), "damaged"),
        (text("_stext", "T _stext"), "damaged"),
    ],
)
def test_a_file_without_addresses_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(content)
    with pytest.raises(TargetError, match=words):
        read_kallsyms(path)
    with pytest.raises(TargetError, match="No such file"):
        read_kallsyms(tmp_path / "gone")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_file_is_read_or_refused(content: bytes) -> None:
    found = KallsymsFile(PROC + content + PROC, "kallsyms")
    try:
        found.symbol("twice")
        found.symbol("_stext")
    except TargetError as error:
        assert "damaged" in str(error)
