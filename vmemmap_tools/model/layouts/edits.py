# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the types of one kernel become those of another: small, named edits.

An edit maps a `TypeGraph` to a new one. A generation that no packaged kernel has is a
base kernel and a tuple of edits. An edit that does not fit its base raises
`TypeMissing` or ValueError: a base that changed must not go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vmemmap_tools.formats.btf import Enumerator, Kind, Member, Parameter, Record
from vmemmap_tools.model.types import AGGREGATES, TypeGraph, TypeMissing

__all__ = [
    "Edit",
    "add_enumerator",
    "add_function",
    "add_member",
    "add_parameter",
    "add_struct",
    "drop_enum",
    "drop_enumerator",
    "drop_function",
    "drop_member",
    "drop_parameter",
    "drop_struct",
    "edited",
    "place_member",
    "rename_function",
    "rename_member",
    "resize",
    "retype_member",
    "set_enumerator",
]

Edit = Callable[[TypeGraph], TypeGraph]
Fields = Sequence[tuple[str, str, int]]
"""Members of a new struct: name, type in C's words, offset in bytes."""


def edited(graph: TypeGraph, edits: Sequence[Edit]) -> TypeGraph:
    """The graph after all edits, in order."""
    for edit in edits:
        graph = edit(graph)
    return graph


def add_member(structure: str, name: str, type_text: str, offset: int) -> Edit:
    """A new member at a byte offset, between the others by offset."""

    def edit(graph: TypeGraph) -> TypeGraph:
        if graph.has(f"{structure}.{name}"):
            raise ValueError(f"{structure}.{name} exists already")
        type_id = graph.type_id(type_text)
        target = graph.strip(graph.type_id(f"struct {structure}"))
        record = graph[target]
        if offset + graph.size(type_id) > record.size:
            raise ValueError(f"{structure}.{name} lies outside {structure}")
        members = (*record.members, Member(name, type_id, 8 * offset))
        ordered = tuple(sorted(members, key=lambda m: m.bit_offset))
        return _replaced(graph, target, replace(record, members=ordered))

    return edit


def drop_member(path: str) -> Edit:
    """Without a member; its bytes stay as padding."""
    return _change_member(path, lambda graph, member: None)


def rename_member(path: str, name: str) -> Edit:
    """A member under another name."""
    return _change_member(path, lambda graph, member: replace(member, name=name))


def retype_member(path: str, type_text: str) -> Edit:
    """A member of another type in the same place; a smaller one leaves padding."""

    def change(graph: TypeGraph, member: Member) -> Member:
        new = graph.type_id(type_text)
        if graph.size(new) > graph.size(member.type):
            raise ValueError(f"{type_text} is too large for {path}")
        return replace(member, type=new, bit_size=0)

    return _change_member(path, change)


def place_member(path: str, offset: int) -> Edit:
    """A member at another byte offset of the record that lists it."""
    return _change_member(
        path, lambda graph, member: replace(member, bit_offset=8 * offset)
    )


def resize(structure: str, size: int) -> Edit:
    """A struct of another size, which no other may hold by value."""

    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.strip(graph.type_id(f"struct {structure}"))
        for record in graph.records.values():
            if any(_holds(graph, m.type, target) for m in record.members):
                raise ValueError(f"{structure} is part of struct {record.name}")
        record = graph[target]
        ends = [m.bit_offset // 8 + graph.size(m.type) for m in record.members]
        if max(ends, default=0) > size:
            raise ValueError(f"{structure} does not fit into {size} bytes")
        return _replaced(graph, target, replace(record, size=size))

    return edit


def add_struct(name: str, size: int, fields: Fields) -> Edit:
    """A struct that the base does not have, or has only as an incomplete type.

    A type beginning with "struct NAME" of its own name may be pointed to.
    """

    def edit(graph: TypeGraph) -> TypeGraph:
        if graph.has_type(f"struct {name}"):
            target = graph.type_id(f"struct {name}")
            if graph[target].kind != Kind.FWD:
                raise ValueError(f"struct {name} exists already")
        else:
            graph, target = _appended(graph, Record(Kind.STRUCT, name, size))
        members = tuple(
            Member(field, graph.type_id(text), 8 * offset)
            for field, text, offset in fields
        )
        return _replaced(
            graph, target, Record(Kind.STRUCT, name, size, members=members)
        )

    return edit


def drop_struct(name: str) -> Edit:
    """Without a struct's definition: incomplete where something points to it."""

    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.tagged("struct", name)
        if graph[target].kind == Kind.FWD:
            raise ValueError(f"struct {name} is incomplete already")
        return _replaced(graph, target, Record(Kind.FWD, name))

    return edit


def add_enumerator(sibling: str, name: str, value: int) -> Edit:
    """A new enumerator in the enum that holds ``sibling``."""

    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.enum_of(sibling)
        record = graph[target]
        constants = (*record.enumerators, Enumerator(name, value))
        return _replaced(graph, target, replace(record, enumerators=constants))

    return edit


def drop_enumerator(name: str) -> Edit:
    """Without an enumerator; the others keep their values."""
    return _change_enumerator(name, None)


def set_enumerator(name: str, value: int) -> Edit:
    """An enumerator with another value."""
    return _change_enumerator(name, value)


def drop_enum(enumerator: str) -> Edit:
    """Without all enumerators of the enum that holds ``enumerator``."""

    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.enum_of(enumerator)
        return _replaced(graph, target, replace(graph[target], enumerators=()))

    return edit


def add_function(name: str, parameters: Sequence[tuple[str, str]]) -> Edit:
    """A function returning int, with parameters given as (name, type in C's words)."""

    def edit(graph: TypeGraph) -> TypeGraph:
        if graph.has_function(name):
            raise ValueError(f"function {name} exists already")
        given = tuple(Parameter(word, graph.type_id(text)) for word, text in parameters)
        prototype = Record(Kind.FUNC_PROTO, type=graph.type_id("int"), parameters=given)
        graph, target = _appended(graph, prototype)
        return _appended(graph, Record(Kind.FUNC, name, type=target))[0]

    return edit


def drop_function(name: str) -> Edit:
    """Without a function."""

    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.tagged("function", name)
        return TypeGraph({k: r for k, r in graph.records.items() if k != target})

    return edit


def rename_function(name: str, new: str) -> Edit:
    """A function under another name."""

    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.tagged("function", name)
        return _replaced(graph, target, replace(graph[target], name=new))

    return edit


def add_parameter(function: str, name: str, type_text: str) -> Edit:
    """A function with one more parameter, the last."""

    def change(graph: TypeGraph, old: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        return (*old, Parameter(name, graph.type_id(type_text)))

    return _change_parameters(function, change)


def drop_parameter(function: str, type_text: str) -> Edit:
    """A function without its parameters of a type."""

    def change(graph: TypeGraph, old: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        unwanted = graph.type_id(type_text)
        kept = tuple(p for p in old if p.type != unwanted)
        if kept == old:
            raise TypeMissing(f"{function} takes no {type_text}")
        return kept

    return _change_parameters(function, change)


def _change_member(
    path: str, change: Callable[[TypeGraph, Member], Member | None]
) -> Edit:
    def edit(graph: TypeGraph) -> TypeGraph:
        holder = graph.holder(path)
        record = graph[holder.type]
        members = list(record.members)
        new = change(graph, members.pop(holder.index))
        if new is not None:
            members.insert(holder.index, new)
        return _replaced(graph, holder.type, replace(record, members=tuple(members)))

    return edit


def _change_enumerator(name: str, value: int | None) -> Edit:
    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.enum_of(name)
        record = graph[target]
        constants = tuple(
            c if c.name != name else Enumerator(name, value or 0)
            for c in record.enumerators
            if c.name != name or value is not None
        )
        return _replaced(graph, target, replace(record, enumerators=constants))

    return edit


def _change_parameters(
    function: str,
    change: Callable[[TypeGraph, tuple[Parameter, ...]], tuple[Parameter, ...]],
) -> Edit:
    """The prototype may be shared with other functions: the changed one is new."""

    def edit(graph: TypeGraph) -> TypeGraph:
        target = graph.tagged("function", function)
        prototype = graph[graph[target].type]
        new = replace(prototype, parameters=change(graph, prototype.parameters))
        graph, number = _appended(graph, new)
        return _replaced(graph, target, replace(graph[target], type=number))

    return edit


def _replaced(graph: TypeGraph, target: int, record: Record) -> TypeGraph:
    return TypeGraph({**graph.records, target: record})


def _appended(graph: TypeGraph, record: Record) -> tuple[TypeGraph, int]:
    number = max(graph.records, default=0) + 1
    return TypeGraph({**graph.records, number: record}), number


def _holds(graph: TypeGraph, type_id: int, target: int) -> bool:
    """Whether a member of this type contains the target by value, if as an array."""
    inner = graph.strip(type_id)
    while inner and graph[inner].kind == Kind.ARRAY:
        inner = graph.strip(graph[inner].type)
    return inner == target and graph[inner].kind in AGGREGATES
