# SPDX-License-Identifier: LGPL-2.1-or-later
"""TypeGraph: paths, C's type names, bit-fields; damaged graphs end in an error."""

from __future__ import annotations

import pytest

from vmemmap_tools.formats.btf import Enumerator, Kind, Member, Record
from vmemmap_tools.model.layouts import load
from vmemmap_tools.model.types import TypeGraph, TypeMissing

SMALL = TypeGraph(
    {
        1: Record(Kind.INT, "unsigned int", 4, bits=32),
        2: Record(Kind.ARRAY, type=1, index_type=1, count=4),
        3: Record(
            Kind.STRUCT,
            "bits",
            24,
            members=(
                Member("low", 1, 32, 5),
                Member("high", 1, 37, 27),
                Member("words", 2, 64),
            ),
        ),
        4: Record(Kind.TYPEDEF, "bits_t", type=3),
        5: Record(Kind.ENUM, "colour", 4, enumerators=(Enumerator("RED", 7),)),
        6: Record(Kind.STRUCT, "outer", 24, members=(Member("inner", 4, 0),)),
    }
)


def test_paths_lead_through_typedefs_arrays_and_anonymous_members() -> None:
    graph = load("7.3")
    first = graph.offsetof("zone.vmemmap_tails")
    assert graph.offsetof("zone.vmemmap_tails[2]") == first + 16
    assert graph.offsetof("page.lru.next") == 8
    assert graph.offsetof("page.flags.f") == 0
    assert graph.offsetof("struct page._refcount.counter") == 52
    assert SMALL.offsetof("outer.inner.words[3]") == 20
    assert SMALL.offsetof("bits_t.words") == 8


def test_a_bit_field_names_the_unit_that_holds_it() -> None:
    low, high = SMALL.member("bits.low"), SMALL.member("bits.high")
    assert (low.offset, low.size, low.bit_offset, low.bit_size) == (4, 4, 0, 5)
    assert (high.offset, high.size, high.bit_offset, high.bit_size) == (4, 4, 5, 27)
    assert SMALL.member("bits.words").bit_size == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("unsigned long", 8),
        ("long unsigned int", 8),
        ("unsigned", 4),
        ("int", 4),
        ("signed char", 1),
        ("unsigned short int", 2),
        ("bool", 1),
        ("atomic_long_t", 8),
        ("struct mem_section **", 8),
        ("struct page *[4]", 32),
        ("struct hstate [2]", 2 * 32912),
        ("const char [10]", 10),
        ("unsigned long [3][5]", 120),
        ("struct list_head", 16),
        ("enum zone_type", 4),
        ("void *", 8),
        ("page.flags", 8),
    ],
)
def test_types_are_named_as_in_c(text: str, size: int) -> None:
    assert load("7.3").sizeof(text) == size


@pytest.mark.parametrize(
    "text", ["struct nothing", "nothing_t", "int (*)(void)", "page", "struct", ""]
)
def test_an_unknown_type_is_named_in_the_error(text: str) -> None:
    graph = load("7.3")
    assert not graph.has_type(text)
    with pytest.raises(TypeMissing):
        graph.type_id(text)


def test_base_types_that_no_record_names_are_made() -> None:
    assert SMALL.sizeof("unsigned long long") == 8
    assert SMALL.sizeof("_Bool") == 1


@pytest.mark.parametrize(
    "path", ["page.nothing", "page.flags[1]", "nothing.at", "page..flags", "page.9"]
)
def test_a_path_that_leads_nowhere_is_an_error(path: str) -> None:
    assert not load("7.3").has(path)
    with pytest.raises(TypeMissing):
        load("7.3").offsetof(path)


def test_array_length_wants_an_array() -> None:
    assert SMALL.array_length("bits.words") == 4
    with pytest.raises(TypeMissing):
        SMALL.array_length("bits.low")


def test_enumerators_are_found_by_name_and_by_enum() -> None:
    assert SMALL.enumerator("RED") == 7
    assert SMALL.enumerators("colour") == {"RED": 7}
    assert SMALL.enum_of("RED") == 5
    assert not SMALL.has_enumerator("BLUE")
    for missing in (SMALL.enumerator, SMALL.enum_of, SMALL.enumerators):
        with pytest.raises(TypeMissing):
            missing("BLUE")


def test_a_definition_wins_over_an_incomplete_type_of_its_name() -> None:
    record = Record(Kind.STRUCT, "twice", 8)
    graph = TypeGraph({1: Record(Kind.FWD, "twice"), 2: record})
    assert graph.sizeof("struct twice") == 8


def test_cycles_end_in_an_error() -> None:
    loop = TypeGraph(
        {
            1: Record(Kind.TYPEDEF, "t", type=1),
            2: Record(Kind.ARRAY, type=2, count=2),
            3: Record(Kind.STRUCT, "s", 8, members=(Member("", 3, 0),)),
        }
    )
    for type_id in (1, 2):
        with pytest.raises(TypeMissing):
            loop.size(type_id)
    assert not loop.has("s.member")
