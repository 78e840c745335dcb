# SPDX-License-Identifier: LGPL-2.1-or-later
"""BTF: what is written is read again, and damage is one kind of error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.formats.btf import (
    Btf,
    BtfError,
    Entry,
    Enumerator,
    Kind,
    Member,
    Parameter,
    Record,
)
from vmemmap_tools.formats.btf_write import closure, encode

INT, LONG, POINTER, ARRAY, INNER, UNION, OUTER, TYPEDEF, CONST = range(1, 10)
RECORDS = [
    Record(Kind.INT, "int", 4, bits=32, encoding=1),
    Record(Kind.INT, "long unsigned int", 8, bits=64),
    Record(Kind.PTR, type=OUTER),
    Record(Kind.ARRAY, type=LONG, index_type=INT, count=3),
    Record(Kind.STRUCT, "", 8, members=(Member("a", INT, 0), Member("b", INT, 32))),
    Record(Kind.UNION, "", 8, members=(Member("", INNER, 0), Member("raw", LONG, 0))),
    Record(
        Kind.STRUCT,
        "outer",
        48,
        flag=True,
        members=(
            Member("next", POINTER, 0),
            Member("", UNION, 64),
            Member("low", INT, 128, 3),
            Member("high", INT, 131, 29),
            Member("data", ARRAY, 192),
        ),
    ),
    Record(Kind.TYPEDEF, "outer_t", type=OUTER),
    Record(Kind.CONST, type=TYPEDEF),
    Record(
        Kind.ENUM,
        "sign",
        4,
        flag=True,
        enumerators=(Enumerator("MINUS", -1), Enumerator("PLUS", 1)),
    ),
    Record(
        Kind.ENUM64, "wide", 8, enumerators=(Enumerator("WIDE", 0xFFFFFFFF00000001),)
    ),
    Record(
        Kind.FUNC_PROTO,
        type=INT,
        parameters=(Parameter("o", POINTER), Parameter("", 0)),
    ),
    Record(Kind.FUNC, "walk", type=12, linkage=1),
    Record(Kind.FWD, "hidden", flag=True),
    Record(Kind.VAR, "counter", type=LONG, linkage=1),
    Record(Kind.DATASEC, ".data..percpu", 8, entries=(Entry(15, 0, 8),)),
    Record(Kind.FLOAT, "double", 8),
    Record(Kind.DECL_TAG, "tag", type=OUTER, linkage=2),
    Record(Kind.TYPE_TAG, "rcu", type=OUTER),
    Record(Kind.VOLATILE, type=LONG),
    Record(Kind.RESTRICT, type=POINTER),
]


@pytest.fixture(params=["little", "big"])
def btf(request: pytest.FixtureRequest) -> Btf:
    return Btf(encode(RECORDS, request.param))


def test_every_kind_is_read_as_it_was_written(btf: Btf) -> None:
    assert [btf[number] for number in range(1, len(btf))] == RECORDS


def test_big_endian_data_is_recognised_and_differs() -> None:
    data = encode(RECORDS, "big")
    assert Btf(data).byteorder == "big"
    assert data != encode(RECORDS)


def test_names_are_found_by_kind(btf: Btf) -> None:
    assert btf.find("outer", Kind.STRUCT) == OUTER
    assert btf.find("outer", Kind.UNION) is None
    assert btf.find("outer_t") == TYPEDEF
    assert btf.find("") is None


def test_an_incomplete_type_is_found_only_on_demand(btf: Btf) -> None:
    assert btf.find("hidden") is None
    assert btf.find("hidden", Kind.FWD) == 14


def test_two_types_of_one_name_are_both_found() -> None:
    twice = Btf(encode([RECORDS[0], RECORDS[0], RECORDS[0]]))
    assert twice.find_all("int") == [1, 2, 3]


def test_enumerators_are_found_in_narrow_and_wide_enums(btf: Btf) -> None:
    assert (btf.enumerator("MINUS"), btf.enumerator("PLUS")) == (-1, 1)
    assert btf.enumerator("WIDE") == 0xFFFFFFFF00000001
    assert [btf.enumerator(n) for n in ("", "INUS", "outer", "a", "o")] == [None] * 5


def test_of_enumerators_of_one_name_the_first_types_counts() -> None:
    """The name that is looked for ends another one, and is a member's as well."""
    records = [
        RECORDS[0],
        Record(Kind.STRUCT, "s", 4, members=(Member("ON", 1, 0),)),
        Record(Kind.ENUM, "a", 4, enumerators=(Enumerator("ZONE_ON", 7),)),
        Record(Kind.ENUM, "ON", 4, enumerators=(Enumerator("x", 3), *two("ON", 8))),
        Record(Kind.ENUM, "b", 4, enumerators=two("ON", 9)),
    ]
    assert Btf(encode(records)).enumerator("ON") == 8


def two(name: str, value: int) -> tuple[Enumerator, Enumerator]:
    return Enumerator(name, value), Enumerator(name, value + 100)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Kind.ENUM, Kind.ENUM64, Kind.STRUCT]),
            st.lists(st.sampled_from(["A", "AA", "BA", "B", "ABA"]), max_size=4),
        ),
        max_size=6,
    ),
    st.sampled_from(["little", "big"]),
)
def test_an_enumerator_is_what_decoding_every_enum_finds(
    types: list[tuple[Kind, list[str]]], byteorder: str
) -> None:
    records = [RECORDS[0]]
    for kind, names in types:
        members = tuple(Member(n, 1, 0) for n in names if kind == Kind.STRUCT)
        values = tuple(
            Enumerator(n, i + 10 * len(records))
            for i, n in enumerate(names)
            if kind != Kind.STRUCT
        )
        records.append(Record(kind, "t", 4, members=members, enumerators=values))
    btf = Btf(encode(records, byteorder))
    first: dict[str, int] = {}
    for record in records:
        for constant in record.enumerators:
            first.setdefault(constant.name, constant.value)
    for name in ("A", "AA", "BA", "B", "ABA", "C"):
        assert btf.enumerator(name) == first.get(name)


def test_a_name_that_ends_countless_strings_is_damage() -> None:
    members = tuple(Member(f"{i}_ON", 1, 0) for i in range(100))
    btf = Btf(encode([RECORDS[0], Record(Kind.STRUCT, "s", 4, members=members)]))
    with pytest.raises(BtfError, match="too many strings end in ON"):
        btf.enumerator("ON")


def test_anonymous_members_are_looked_through(btf: Btf) -> None:
    offsets = {m.name: (m.bit_offset, m.bit_size) for m in btf.flatten(CONST)}
    assert offsets == {
        "next": (0, 0),
        "a": (64, 0),
        "b": (96, 0),
        "raw": (64, 0),
        "low": (128, 3),
        "high": (131, 29),
        "data": (192, 0),
    }


def test_sizes_follow_typedefs_arrays_and_pointers(btf: Btf) -> None:
    assert [btf.sizeof(i) for i in (CONST, ARRAY, POINTER, 0)] == [48, 24, 8, 0]


def test_a_module_continues_ids_and_strings_of_the_kernel() -> None:
    base = Btf(encode(RECORDS))
    own = Record(Kind.STRUCT, "dax", 8, members=(Member("o", POINTER, 0),))
    # A module's BTF refers to ids and strings behind the kernel's: shift them.
    first = base.string_size
    strings = b"dax\0o\0"
    words = (first, Kind.STRUCT << 24 | 1, 8, first + 4, POINTER, 0)
    named = (base_name_offset(b"outer"), Kind.TYPEDEF << 24, len(base))
    types = struct.pack("<9I", *words, *named)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 36, 36, len(strings))
    module = Btf(header + types + strings, base)
    assert module[len(base)] == own
    assert module.find("dax", Kind.STRUCT) == len(base)
    assert module.find_all("outer") == [OUTER, len(base) + 1]
    assert module[OUTER] == RECORDS[OUTER - 1]
    assert list(module.ids(Kind.STRUCT)) == [len(base)]
    assert module.enumerator("PLUS") == 1 and module.enumerator("dax") is None


def base_name_offset(name: bytes) -> int:
    data = encode(RECORDS)
    string_at = 24 + int(struct.unpack_from("<I", data, 16)[0])
    return data.index(b"\0" + name + b"\0", string_at) + 1 - string_at


def test_a_closure_keeps_only_what_is_reachable() -> None:
    base = Btf(encode(RECORDS))
    reduced = Btf(encode(closure(base.__getitem__, [CONST])))
    assert len(reduced) == 10
    assert reduced.find("walk") is None
    outer = reduced.find("outer", Kind.STRUCT)
    assert outer is not None
    assert [m.bit_offset for m in reduced.flatten(outer)] == [
        m.bit_offset for m in base.flatten(OUTER)
    ]
    assert reduced[reduced[outer].members[0].type].type == outer


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: b"", "too few"),
        (lambda d: b"\0" * 30, "magic"),
        (lambda d: d[:2] + b"\7" + d[3:], "version 7"),
        (lambda d: d[:-1], "cut short"),
        (lambda d: d[:-1] + b"x", "zero byte"),
        (lambda d: d[:31] + b"\x1f" + d[32:], "type 1 .* damaged"),
        (lambda d: d[:31] + b"\0" + d[32:], "type 1 .* damaged"),
    ],
)
def test_damage_is_named(damage: object, message: str) -> None:
    assert callable(damage)
    with pytest.raises(BtfError, match=message):
        Btf(damage(encode(RECORDS)))


def test_cycles_end_in_an_error() -> None:
    loop = Btf(encode([Record(Kind.TYPEDEF, "t", type=1)]))
    with pytest.raises(BtfError, match="without end"):
        loop.strip(1)
    array = Btf(encode([Record(Kind.ARRAY, type=1, count=2)]))
    with pytest.raises(BtfError, match="without end"):
        array.sizeof(1)
    nested = Btf(encode([Record(Kind.STRUCT, "s", 8, members=(Member("", 1, 0),))]))
    with pytest.raises(BtfError, match="without end"):
        list(nested.flatten(1))
    wide = Record(Kind.STRUCT, "s", 8, members=(Member("", 1, 0),) * 40)
    with pytest.raises(BtfError, match="without end"):
        list(Btf(encode([wide])).flatten(1))


def test_an_unknown_id_or_string_is_an_error() -> None:
    btf = Btf(encode(RECORDS))
    with pytest.raises(BtfError, match="no type 99"):
        btf[99]
    with pytest.raises(BtfError, match="string"):
        btf.string(1 << 20)
    with pytest.raises(BtfError, match="unknown type"):
        encode([Record(Kind.PTR, type=2)])


@given(st.data())
def test_flipped_bytes_give_records_or_a_btf_error(data: st.DataObject) -> None:
    blob = bytearray(encode(RECORDS))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        btf = Btf(bytes(blob))
        for number in range(1, len(btf)):
            _ = btf[number]
            btf.sizeof(number)
            list(btf.flatten(number))
        btf.find("outer")
    except BtfError:
        pass
