# SPDX-License-Identifier: LGPL-2.1-or-later
"""DWARF: every kind of type, as drgn reads it from a file we wrote."""

from __future__ import annotations

from pathlib import Path

import drgn
import pytest

from tests.tools import output
from vmemmap_tools.formats.btf import Enumerator, Kind, Member, Parameter, Record
from vmemmap_tools.formats.dwarf import Function, Variable, dwarf_sections
from vmemmap_tools.formats.elf_write import Section, build_id_note, write_executable

INT, ULONG, BOOL, CHAR, UCHAR, DOUBLE = 1, 2, 3, 4, 5, 6
BITS, PBITS, ARRAY, FLEXIBLE, GRID, FWD, PFWD, ENUM = 7, 8, 9, 10, 11, 12, 13, 14
SIGNED, WIDE, PROTO, PPROTO, ALIAS, CONST, VOLATILE = 15, 16, 17, 18, 19, 20, 21
UNION, NODE, PNODE, TAGGED, VOIDP = 22, 23, 24, 25, 26

RECORDS = {
    INT: Record(Kind.INT, "int", 4, bits=32, encoding=1),
    ULONG: Record(Kind.INT, "long unsigned int", 8, bits=64),
    BOOL: Record(Kind.INT, "_Bool", 1, bits=8, encoding=4),
    CHAR: Record(Kind.INT, "char", 1, bits=8, encoding=1),
    UCHAR: Record(Kind.INT, "unsigned char", 1, bits=8),
    DOUBLE: Record(Kind.FLOAT, "double", 8),
    BITS: Record(
        Kind.STRUCT,
        "bits",
        16,
        members=(Member("low", INT, 0, 3), Member("high", INT, 3, 29)),
    ),
    PBITS: Record(Kind.PTR, type=BITS),
    ARRAY: Record(Kind.ARRAY, type=CHAR, index_type=INT, count=3),
    FLEXIBLE: Record(Kind.ARRAY, type=ULONG, index_type=INT, count=0),
    GRID: Record(Kind.ARRAY, type=ARRAY, index_type=INT, count=2),
    FWD: Record(Kind.FWD, "hidden"),
    PFWD: Record(Kind.PTR, type=FWD),
    ENUM: Record(Kind.ENUM, "colour", 4, enumerators=(Enumerator("RED", 300),)),
    SIGNED: Record(
        Kind.ENUM,
        "",
        4,
        flag=True,
        enumerators=(Enumerator("MINUS", -70), Enumerator("ZERO", 0)),
    ),
    WIDE: Record(Kind.ENUM64, "wide", 8, enumerators=(Enumerator("TOP", 1 << 63),)),
    PROTO: Record(
        Kind.FUNC_PROTO,
        type=INT,
        parameters=(Parameter("b", PBITS), Parameter("", 0)),
    ),
    PPROTO: Record(Kind.PTR, type=PROTO),
    ALIAS: Record(Kind.TYPEDEF, "bits_t", type=BITS),
    CONST: Record(Kind.CONST, type=ALIAS),
    VOLATILE: Record(Kind.VOLATILE, type=INT),
    UNION: Record(
        Kind.UNION, "", 8, members=(Member("i", INT, 0), Member("v", VOLATILE, 0))
    ),
    NODE: Record(
        Kind.STRUCT,
        "node",
        64,
        members=(
            Member("next", PNODE, 0),
            Member("", UNION, 64),
            Member("hidden", PFWD, 128),
            Member("call", PPROTO, 192),
            Member("grid", GRID, 256),
            Member("nothing", VOIDP, 320),
            Member("tail", FLEXIBLE, 512),
        ),
    ),
    PNODE: Record(Kind.PTR, type=TAGGED),
    TAGGED: Record(Kind.TYPE_TAG, "rcu", type=NODE),
    VOIDP: Record(Kind.PTR),
}
VARIABLES = [
    Variable("head", NODE, 0x1000),
    Variable("own", CONST, 0x1100, is_external=False),
    Variable("elsewhere", INT, None),
]
FUNCTIONS = [Function("walk", PROTO), Function("placed", PROTO, 0x2000, 64)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dwarf") / "object"
    debug = dwarf_sections(
        RECORDS.__getitem__, RECORDS, VARIABLES, FUNCTIONS, producer="test"
    )
    sections = [
        Section(".data", 0x1000, bytes(0x200), flags="wa"),
        Section(".text", 0x2000, bytes(64), flags="ax"),
        Section(
            ".note.gnu.build-id",
            0x3000,
            build_id_note(b"\x11" * 20),
            flags="a",
            is_note=True,
        ),
        *(Section(name, data=data) for name, data in debug.items()),
    ]
    with open(path, "wb") as file:
        write_executable(file, 62, sections, [])
    return path


@pytest.fixture(scope="module")
def prog(path: Path) -> drgn.Program:
    prog = drgn.Program(
        drgn.Platform(
            drgn.Architecture.X86_64,
            drgn.PlatformFlags.IS_64_BIT | drgn.PlatformFlags.IS_LITTLE_ENDIAN,
        )
    )
    prog.extra_module("test", create=True).try_file(path, force=True)
    return prog


def test_base_types_keep_name_size_and_sign(prog: drgn.Program) -> None:
    assert prog.type("int").is_signed
    assert not prog.type("unsigned long").is_signed
    assert prog.type("_Bool").kind == drgn.TypeKind.BOOL
    assert prog.type("char").is_signed and not prog.type("unsigned char").is_signed
    assert prog.type("double").kind == drgn.TypeKind.FLOAT


def test_bit_fields_keep_offset_and_width(prog: drgn.Program) -> None:
    members = prog.type("struct bits").members
    assert [(m.name, m.bit_offset, m.bit_field_size) for m in members] == [
        ("low", 0, 3),
        ("high", 3, 29),
    ]


def test_members_keep_their_offsets_and_types(prog: drgn.Program) -> None:
    node = prog.type("struct node")
    assert node.size == 64
    offsets = {name: drgn.offsetof(node, name) for name in ("i", "hidden", "tail")}
    assert offsets == {"i": 8, "hidden": 16, "tail": 64}
    types = {m.name: m.type.type_name() for m in node.members if m.name}
    assert types == {
        "next": "struct node *",
        "hidden": "struct hidden *",
        "call": "int (*)(struct bits *b, ...)",
        "grid": "char [2][3]",
        "nothing": "void *",
        "tail": "unsigned long []",
    }


def test_enumerators_keep_negative_and_64_bit_values(prog: drgn.Program) -> None:
    values = {name: prog.constant(name).value_() for name in ("RED", "MINUS", "TOP")}
    assert values == {"RED": 300, "MINUS": -70, "TOP": 1 << 63}


def test_an_incomplete_struct_stays_incomplete(prog: drgn.Program) -> None:
    pointer = prog.type("struct node").member("hidden").type
    assert not pointer.type.is_complete()


def test_variables_have_addresses_and_qualified_types(prog: drgn.Program) -> None:
    assert prog["head"].address_ == 0x1000
    assert prog["own"].address_ == 0x1100
    assert prog["own"].type_.type_name() == "const bits_t"


def test_functions_have_parameters_with_and_without_code(prog: drgn.Program) -> None:
    for name in ("walk", "placed"):
        kind = prog.object(name).type_
        assert kind.is_variadic and kind.type.type_name() == "int"
        assert [p.name for p in kind.parameters] == ["b"]


def test_llvm_finds_no_error(path: Path) -> None:
    assert "No errors." in output("llvm-dwarfdump", "--verify", path)
