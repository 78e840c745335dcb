# SPDX-License-Identifier: LGPL-2.1-or-later
"""drgn's types and symbols as layouts: flat members, bit fields, arrays, pointers."""

from __future__ import annotations

from pathlib import Path

import drgn
import pytest
from drgn import Type, TypeEnumerator, TypeMember, TypeParameter

from vmemmap_tools.target.base import Struct, Variable
from vmemmap_tools.target.drgn import DrgnTarget

from .dumps import PA, VA, core, write_core

ULONG, UINT, CHAR = "unsigned long", "unsigned int", "char"


def make_types(prog: drgn.Program) -> dict[tuple[drgn.TypeKind, str], Type]:
    """A few types of a kernel, in drgn's own terms; offsets are in bits."""
    ulong = prog.int_type(ULONG, 8, False)
    uint = prog.int_type(UINT, 4, False)
    char = prog.int_type(CHAR, 1, True)
    zone = prog.struct_type("zone")
    flags = prog.struct_type(None, 8, (TypeMember(ulong, "f"),))
    list_head = prog.struct_type(
        "list_head", 16, (TypeMember(prog.pointer_type(prog.void_type()), "next"),)
    )
    inner = prog.union_type(
        None, 16, (TypeMember(list_head, "lru"), TypeMember(ulong, "compound_info"))
    )
    page = prog.struct_type(
        "page",
        64,
        (
            TypeMember(prog.typedef_type("memdesc_flags_t", flags), "flags"),
            TypeMember(inner, None, 64),
            TypeMember(uint, "refcount", 52 * 8),
            TypeMember(drgn.Object(prog, uint, bit_field_size=3), "order", 56 * 8 + 5),
            TypeMember(prog.array_type(char, 4), "name", 60 * 8),
        ),
    )
    pointer = prog.pointer_type(prog.pointer_type(zone))
    holder = prog.struct_type(
        "holder",
        64,
        (
            TypeMember(prog.pointer_type(zone), "one"),
            TypeMember(pointer, "two", 64),
            TypeMember(prog.array_type(prog.pointer_type(zone), 3), "many", 128),
            TypeMember(prog.array_type(prog.array_type(ulong, 2), 2), "grid", 320),
            TypeMember(prog.array_type(page), "flexible", 512),
        ),
    )
    pageflags = prog.enum_type(
        "pageflags",
        uint,
        (TypeEnumerator("PG_locked", 0), TypeEnumerator("PG_head", 6)),
    )
    kinds = drgn.TypeKind
    return {
        (kinds.INT, ULONG): ulong,
        (kinds.INT, UINT): uint,
        (kinds.STRUCT, "page"): page,
        (kinds.STRUCT, "zone"): zone,
        (kinds.STRUCT, "holder"): holder,
        (kinds.TYPEDEF, "page_t"): prog.typedef_type("page_t", page),
        (kinds.ENUM, "pageflags"): pageflags,
    }


@pytest.fixture
def target(tmp_path: Path) -> DrgnTarget:
    prog = drgn.Program()
    prog.set_core_dump(write_core(tmp_path, core(has_hole=False)))
    types = make_types(prog)
    ulong, page = types[drgn.TypeKind.INT, ULONG], types[drgn.TypeKind.STRUCT, "page"]
    pageflags = types[drgn.TypeKind.ENUM, "pageflags"]
    function = prog.function_type(
        prog.void_type(), (TypeParameter(prog.pointer_type(page), "page"),)
    )
    objects = {
        "counter": drgn.Object(prog, ulong, address=VA + 8),
        "far": drgn.Object(prog, ulong, address=VA + (1 << 30)),
        "a_page": drgn.Object(prog, page, address=VA),
        "absent": drgn.Object(prog, ulong),
        "PG_head": drgn.Object(prog, pageflags, 6),
        "put_page": drgn.Object(prog, function, address=VA),
    }

    def find_type(
        prog: drgn.Program, kinds: object, name: str, filename: str | None
    ) -> Type | None:
        assert isinstance(kinds, drgn.TypeKindSet)
        return next(
            (t for (k, n), t in types.items() if n == name and k in kinds), None
        )

    def find_object(
        prog: drgn.Program, name: str, flags: object, filename: str | None
    ) -> drgn.Object | None:
        return objects.get(name)

    def find_symbol(
        prog: drgn.Program, name: str | None, address: int | None, one: bool
    ) -> list[drgn.Symbol]:
        symbol = drgn.Symbol(
            "init_top_pgt",
            PA,
            4096,
            drgn.SymbolBinding.GLOBAL,
            drgn.SymbolKind.OBJECT,
        )
        return [symbol] if name == symbol.name else []

    prog.register_type_finder("test", find_type, enable_index=0)
    prog.register_object_finder("test", find_object, enable_index=0)
    prog.register_symbol_finder("test", find_symbol, enable_index=0)
    return DrgnTarget(prog)


def page(target: DrgnTarget) -> Struct:
    found = target.struct("page")
    assert found is not None
    return found


def test_members_of_anonymous_parts_are_members(target: DrgnTarget) -> None:
    found = page(target)
    assert found.size == 64
    assert found.offset("compound_info") == 8
    assert found.offset("refcount") == 52
    assert found.first("compound_head", "compound_info") == "compound_info"


def test_members_of_named_parts_have_dots(target: DrgnTarget) -> None:
    assert page(target).offset("lru.next") == 8
    assert page(target)["flags"].kind == "struct"
    assert page(target)["flags.f"].type_name == ULONG


def test_bit_fields_count_bits_from_the_structs_start(target: DrgnTarget) -> None:
    order = page(target)["order"]
    assert (order.bit_offset, order.bit_size) == (56 * 8 + 5, 3)


def test_arrays_have_length_and_element(target: DrgnTarget) -> None:
    name = page(target)["name"]
    assert (name.kind, name.length, name.size) == ("array", 4, 4)
    assert (name.element_kind, name.element_size) == ("int", 1)
    holder = target.struct("holder")
    assert holder is not None
    assert (holder["flexible"].length, holder["flexible"].size) == (None, 0)
    assert holder["grid"].element_size == 8


def test_pointers_have_a_depth_also_in_arrays(target: DrgnTarget) -> None:
    holder = target.struct("holder")
    assert holder is not None
    assert [holder[n].pointer_depth for n in ("one", "two", "many")] == [1, 2, 1]
    assert holder["many"].element_kind == "pointer"


def test_typedefs_stand_for_their_struct(target: DrgnTarget) -> None:
    found = target.struct("page_t")
    assert found is not None and found.size == 64


def test_incomplete_and_unknown_structs_are_none(target: DrgnTarget) -> None:
    assert target.struct("zone") is None
    assert target.struct("no_such_struct") is None
    assert target.struct("no such name!") is None


def test_variables_have_address_and_type(target: DrgnTarget) -> None:
    found = target.variable("a_page")
    assert isinstance(found, Variable)
    assert (found.address, found.type.kind, found.type.size) == (VA, "struct", 64)
    assert target.variable("no_such_variable") is None
    assert target.variable("absent") is None


def test_integer_variables_have_a_value_if_they_can_be_read(
    target: DrgnTarget,
) -> None:
    assert target.unsigned("counter") == 0x1111111111111111
    assert target.unsigned("far") is None
    assert target.unsigned("a_page") is None
    assert target.unsigned("no_such_variable") is None


def test_symbols_functions_and_enumerators_are_found_or_none(
    target: DrgnTarget,
) -> None:
    assert target.symbol("init_top_pgt") == PA
    assert target.symbol("no_such_symbol") is None
    function = target.function("put_page")
    assert function is not None and function.parameters == ("struct page *",)
    assert target.function("no_such_function") is None
    assert target.enumerator("PG_head") == 6
    assert target.enumerator("PG_absent") is None
    assert target.enumerators("pageflags") == {"PG_locked": 0, "PG_head": 6}
    assert target.enumerators("no_such_enum") == {}


def test_evidence_says_what_there_is(target: DrgnTarget) -> None:
    found = {e.subject: e.value for e in target.evidence()}
    assert found["memory"] == "drgn Program"
    assert found["types"] == "type finders"
    assert found["symbols"] == "symbol finders"
    bare = DrgnTarget(drgn.Program(drgn.host_platform))
    found = {e.subject: e.value for e in bare.evidence()}
    assert found["types"] == found["symbols"] == "none"
