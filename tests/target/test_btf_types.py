# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types from BTF: structs, variables by declaration, damage, and where BTF is found."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.kernels import small
from vmemmap_tools.cli import main
from vmemmap_tools.formats.btf import Btf, Enumerator, Kind, Member, Parameter, Record
from vmemmap_tools.formats.btf_write import encode
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.btf_types import BtfTypes
from vmemmap_tools.target.providers import compose
from vmemmap_tools.target.variables import VARIABLES
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

from .machines import BTF_AT, Described, MemoryWithTables, answer

SUBJECTS = ("types", "symbols")
NOTE = "SIZE(page)=64\nLENGTH(node_data)=16\n"
ULONG, PAGE, POINTER, ARRAY, INNER, PGDAT = range(1, 7)
RECORDS = [
    Record(Kind.INT, "long unsigned int", 8, bits=64),
    Record(
        Kind.STRUCT,
        "page",
        64,
        flag=True,
        members=(
            Member("flags", ULONG, 0),
            Member("", INNER, 64),
            Member("names", ARRAY, 192),
            Member("order", ULONG, 485, 3),
        ),
    ),
    Record(Kind.PTR, type=PAGE),
    Record(Kind.ARRAY, type=POINTER, index_type=ULONG, count=4),
    Record(
        Kind.UNION,
        "",
        16,
        members=(Member("head", ULONG, 0), Member("next", POINTER, 64)),
    ),
    Record(Kind.STRUCT, "pglist_data", 128),
    Record(Kind.TYPEDEF, "page_t", type=PAGE),
    Record(
        Kind.ENUM,
        "pageflags",
        4,
        enumerators=(Enumerator("PG_locked", 0), Enumerator("PG_head", 6)),
    ),
    Record(
        Kind.FUNC_PROTO, parameters=(Parameter("p", POINTER), Parameter("n", ULONG))
    ),
    Record(Kind.FUNC, "put_page", type=9),
    Record(Kind.FWD, "zone"),
    Record(Kind.CONST, type=PAGE),
    Record(Kind.PTR, type=12),
    Record(Kind.FUNC_PROTO, parameters=(Parameter("p", 13),)),
    Record(Kind.FUNC, "look", type=14),
]


@pytest.fixture
def types() -> BtfTypes:
    return BtfTypes.from_bytes(encode(RECORDS), "a file", VmcoreInfo(NOTE))


def test_members_are_those_that_drgn_gives(types: BtfTypes) -> None:
    page = types.struct("page")
    assert page is not None and page.size == 64
    assert (page.offset("head"), page.offset("next")) == (8, 16)
    assert (page["next"].pointer_depth, page["next"].kind) == (1, "pointer")
    names = page["names"]
    assert (names.length, names.element_kind, names.pointer_depth) == (4, "pointer", 1)
    assert (page["order"].bit_offset, page["order"].bit_size) == (485, 3)
    assert page["names"].type_name == "struct page *[4]"


def test_typedefs_stand_for_their_struct_and_incomplete_ones_for_none(
    types: BtfTypes,
) -> None:
    page = types.struct("page_t")
    assert page is not None and page.size == 64
    assert types.struct("zone") is None and types.struct("nothing") is None


def test_functions_and_enumerators(types: BtfTypes) -> None:
    function, other = types.function("put_page"), types.function("look")
    assert function is not None and other is not None
    assert function.parameters == ("struct page *", "unsigned long")
    assert other.parameters == ("const struct page *",)
    assert types.function("page") is None
    assert types.enumerator("PG_head") == 6 and types.enumerator("PG_x") is None
    assert types.enumerators("pageflags") == {"PG_locked": 0, "PG_head": 6}
    assert types.enumerators("page") == {}


def test_variables_have_the_types_that_c_declares(types: BtfTypes) -> None:
    node_data, base = types.variable("node_data"), types.variable("vmemmap_base")
    assert node_data is not None and base is not None
    assert (node_data.type.kind, node_data.type.length) == ("array", 16)
    assert (node_data.type.element_kind, node_data.type.size) == ("pointer", 128)
    assert (base.type.kind, base.type.size, base.address) == ("int", 8, None)
    assert types.variable("hstates") is None, "its struct is unknown here"
    assert types.variable("jiffies") is None, "no declaration is known"


@pytest.mark.parametrize(
    ("length", "kind"), [("2048", "pointer"), ("524288", "array"), (None, "pointer")]
)
def test_mem_section_is_roots_or_an_array(length: str | None, kind: str) -> None:
    note = "NUMBER(SECTION_SIZE_BITS)=27\nNUMBER(MAX_PHYSMEM_BITS)=46\n"
    if length is not None:
        note += f"LENGTH(mem_section)={length}\n"
    record = Record(Kind.STRUCT, "mem_section", 16)
    types = BtfTypes.from_bytes(encode([record]), "x", VmcoreInfo(note))
    found = types.variable("mem_section")
    assert found is not None and found.type.kind == kind


def test_btf_of_another_build_is_refused() -> None:
    with pytest.raises(TargetError, match=r"of another build .* page is 64"):
        BtfTypes.from_bytes(encode(RECORDS), "a file", VmcoreInfo("SIZE(page)=56\n"))
    with pytest.raises(TargetError, match=r"page\.flags is 0"):
        BtfTypes.from_bytes(
            encode(RECORDS), "a file", VmcoreInfo("OFFSET(page.flags)=8\n")
        )


def test_types_of_a_module_come_on_top_of_the_kernels() -> None:
    base = Btf(encode(RECORDS))
    # Ids and strings of split BTF go on where those of the base end.
    names = b"dev_dax\0page\0"
    record = [base.string_size, Kind.STRUCT << 24 | 1, 8]
    member = [base.string_size + len("dev_dax") + 1, POINTER, 0]
    words = struct.pack("<6I", *record, *member)
    sizes = 0, len(words), len(words), len(names)
    data = struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, *sizes) + words + names
    types = BtfTypes(Btf(data, base), "a module", VmcoreInfo(NOTE))
    dax = types.struct("dev_dax")
    assert dax is not None and dax["page"].type_name == "struct page *"
    assert types.struct("page") is not None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_btf_is_refused_in_one_line(data: st.DataObject) -> None:
    raw = bytearray(encode(RECORDS))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.none() | st.integers(0, len(raw)))
    try:
        types = BtfTypes.from_bytes(bytes(raw[:cut]), "a file", VmcoreInfo(NOTE))
        for name in ("page", "page_t", "pglist_data"):
            types.struct(name)
        for name in VARIABLES:
            types.variable(name)
        types.function("put_page")
        types.enumerator("PG_head")
        types.enumerators("pageflags")
    except TargetError as error:
        assert str(error).startswith("a file") and "\n" not in str(error)


# Where it is found


@lru_cache(maxsize=1)
def machine() -> Described:
    return Described(small("7.3"))


def test_damaged_btf_in_a_dump_is_passed_over_or_refused() -> None:
    described = Described(small("7.3"))
    start = next(a for a, b in described.tables.pieces.items() if b == described.btf)
    described.tables.pieces[start] = b"\xff" * len(described.btf)
    memory = MemoryWithTables(described.known, described.tables)
    with pytest.raises(TargetError, match=r"no BTF found: .*damaged BTF"):
        compose(memory, types="btf")
    assert compose(memory).struct("zone") is None, "VMCOREINFO's turn"


def test_a_running_kernel_is_described_by_its_own_files(tmp_path: Path) -> None:
    described = machine()
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    (tmp_path / "sys/kernel/btf/vmlinux").write_bytes(described.btf)
    (tmp_path / "proc").mkdir()
    lines = [
        f"{described.known.symbol(name) or 0:016x} D {name}\n"
        for name in ("_text", "pgmap_array", "node_data", "hstates", "init_uts_ns")
    ]
    (tmp_path / "proc/kallsyms").write_text("".join(lines))
    target = compose(described.memory, root=tmp_path)
    sources = {e.subject: e.source for e in reversed(target.evidence())}
    assert sources["types"].endswith("sys/kernel/btf/vmlinux")
    assert sources["symbols"].endswith("proc/kallsyms")
    found, known = (t.variable("pgmap_array") for t in (target, described.known))
    assert found is not None and known is not None
    assert (found.address, found.type.size) == (known.address, known.type.size)
    assert target.variable("memory_blocks") is None, "not in that kallsyms"

    # Without CONFIG_KALLSYMS_ALL variables are not listed, which says nothing of them.
    (tmp_path / "proc/kallsyms").write_text(lines[0])
    with pytest.raises(TargetError, match="lists functions only"):
        compose(described.memory, root=tmp_path, types="btf")


def test_a_raw_file_serves_where_the_dump_has_no_btf(tmp_path: Path) -> None:
    described = machine()
    path = tmp_path / "vmlinux.btf"
    path.write_bytes(described.btf)
    tables = replace(described.tables, pieces=dict(described.tables.pieces))
    del tables.pieces[BTF_AT]
    target = compose(MemoryWithTables(described.memory, tables), [str(path)])
    found, known = target.struct("zone"), described.known.struct("zone")
    assert found is not None and known is not None
    assert [(n, m.offset, m.size) for n, m in found.members.items()] == [
        (n, m.offset, m.size) for n, m in known.members.items()
    ]


def test_btf_without_symbols_is_refused_where_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Variables that are not found would be taken for some that are not there."""
    path, core = tmp_path / "vmlinux.btf", str(machine().path / "vmcore")
    path.write_bytes(machine().btf)
    for types in ("auto", "btf"):
        assert main(["-c", core, "-s", str(path), "--types", types, "hvo"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{path} has no addresses" in line and "give System.map" in line


def test_btf_of_a_running_kernel_that_hides_its_symbols_is_passed_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    (tmp_path / "sys/kernel/btf/vmlinux").write_bytes(machine().btf)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kallsyms").write_text("0000000000000000 T _text\n")
    assert compose(machine().memory, root=tmp_path).struct("zone") is None
    with pytest.raises(TargetError, match=r"has no addresses.*shows no addresses"):
        compose(machine().memory, types="btf", root=tmp_path)


def test_the_command_line_takes_raw_btf_and_a_symbol_list_with_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, core = tmp_path / "vmlinux.btf", str(machine().path / "vmcore")
    symbols = tmp_path / "System.map"
    symbols.write_bytes(machine().symbol_list())
    path.write_bytes(machine().btf)
    words = ["-c", core, "-s", str(path), "-s", str(symbols)]
    assert main([*words, "info"]) == 0
    out = capsys.readouterr().out
    assert str(path) in out and str(symbols) in out
    path.write_bytes(machine().btf[:100])
    assert main([*words, "summary"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "damaged BTF" in line


def test_forcing_dwarf_refuses_btf(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vmlinux.btf"
    path.write_bytes(machine().btf)
    core = str(machine().path / "vmcore")
    assert main(["-c", core, "-s", str(path), "--types", "dwarf", "info"]) == 2
    assert "is BTF, not DWARF" in capsys.readouterr().err


def test_the_answer_says_where_types_and_symbols_came_from() -> None:
    rows = answer(machine().kernel("btf"), "info")["rows"]
    found = [(r["subject"], r["value"]) for r in rows if r["subject"] in SUBJECTS]
    assert found == [
        ("types", "BTF"),
        ("symbols", "kallsyms"),
        ("symbols", "VMCOREINFO"),
    ]
