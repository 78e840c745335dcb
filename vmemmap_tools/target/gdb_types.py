# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types from the DWARF that gdb has loaded.

Everything is looked up by name in the vmlinux itself. An expression with ``sizeof``
makes gdb 13 read every compilation unit of a vmlinux; ``gdb.lookup_type`` and its kin
may find what a module, or the function that the CPU is in, calls by the same name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import gdb

from .base import Evidence, Function, Member, Struct, VariableType
from .elf_symbols import ElfSymbols

__all__ = ["GdbTypes", "Names"]

MAX_NESTING = 6
"""Struct members nested deeper are not flattened; none that we read is."""
MASK_64 = (1 << 64) - 1

_KINDS = {
    gdb.TYPE_CODE_INT: "int",
    gdb.TYPE_CODE_CHAR: "int",
    gdb.TYPE_CODE_BOOL: "int",
    gdb.TYPE_CODE_FLT: "float",
    gdb.TYPE_CODE_ENUM: "enum",
    gdb.TYPE_CODE_PTR: "pointer",
    gdb.TYPE_CODE_ARRAY: "array",
    gdb.TYPE_CODE_STRUCT: "struct",
    gdb.TYPE_CODE_UNION: "union",
}
"""Kinds of members; what is not here is "void"."""
_AGGREGATES = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
_TAGS = {
    gdb.TYPE_CODE_STRUCT: "struct ",
    gdb.TYPE_CODE_UNION: "union ",
    gdb.TYPE_CODE_ENUM: "enum ",
}

Type = Any
"""A ``gdb.Type``; gdb has no type hints for itself."""


class Names:
    """What the debug info of one file has by name.

    If gdb has not loaded the file under this path, any file's debug info counts.
    """

    def __init__(self, path: str):
        self._path = path
        self._files = self._loaded()

    def symbol(self, name: str, domain: int = gdb.SYMBOL_VAR_DOMAIN) -> Any:
        """A symbol of any unit, without a frame; None when there is none."""
        if not all(objfile.is_valid() for objfile in self._files):
            self._files = self._loaded()  # the symbols were moved since
        for owner in self._files or [gdb]:
            found = owner.lookup_global_symbol(name, domain)
            found = found or owner.lookup_static_symbol(name, domain)
            if found is not None:
                return found
        return None

    def type(self, name: str) -> Type | None:
        """A type as C spells it: a tag behind its word, or a typedef."""
        tag, _, bare = name.rpartition(" ")
        domain = gdb.SYMBOL_STRUCT_DOMAIN if tag else gdb.SYMBOL_VAR_DOMAIN
        found = self.symbol(bare, domain)
        is_type = found is not None and found.addr_class == gdb.SYMBOL_LOC_TYPEDEF
        return found.type.strip_typedefs() if is_type else None

    def _loaded(self) -> list[Any]:
        return [
            objfile
            for objfile in gdb.objfiles()
            if objfile.is_valid() and _is_same(objfile.filename, self._path)
        ]


def _is_same(loaded: str | None, path: str) -> bool:
    return loaded is not None and os.path.realpath(loaded) == os.path.realpath(path)


class GdbTypes:
    """The types that gdb has for the kernel that ``symbols`` belong to."""

    def __init__(self, symbols: ElfSymbols, names: Names):
        self._symbols = symbols
        self._names = names
        # Faster in gdb 13: this variable's unit has the types that views ask for,
        # while a search by name alone reads many others first.
        self._names.symbol("mem_section")

    def struct(self, name: str) -> Struct | None:
        # A tag that is a typedef's name makes gdb 13 read everything that uses it.
        spellings = (
            (name, f"struct {name}")
            if name.endswith("_t")
            else (f"struct {name}", name)
        )
        found = (self._names.type(spelling) for spelling in spellings)
        type_ = next((type_ for type_ in found if type_ is not None), None)
        if type_ is None or type_.code not in _AGGREGATES or not _is_complete(type_):
            return None
        return Struct(name, type_.sizeof, dict(_flatten(type_, 0, "", 0)))

    def variable(self, name: str) -> VariableType | None:
        """A variable's type; of namesakes the address too, to be that of this type."""
        symbol = self._names.symbol(name)
        if symbol is None or symbol.type is None or not _is_variable(symbol):
            return None
        member, address = _member(symbol.type, 0), None
        linked = self._symbols.linked(name)
        if linked is not None and member.kind == "array" and member.element_size:
            # A declaration need not say how long an array is; the symbol does.
            length = linked.size // member.element_size
            member = replace(member, length=length or None, size=linked.size)
        if linked is None:
            place = symbol.value().address
            if place is not None:
                address = int(place) + self._moved_by & MASK_64
        return VariableType(member, address)

    def function(self, name: str) -> Function | None:
        symbol = self._names.symbol(name)
        if symbol is None or not symbol.is_function:
            return None
        fields = symbol.type.strip_typedefs().fields()
        return Function(name, tuple(_spell(field.type) for field in fields))

    def enumerator(self, name: str) -> int | None:
        symbol = self._names.symbol(name)
        if symbol is None or symbol.addr_class != gdb.SYMBOL_LOC_CONST:
            return None
        return int(symbol.value())

    def enumerators(self, enum: str) -> Mapping[str, int]:
        type_ = self._names.type(f"enum {enum}")
        if type_ is None:
            return {}
        return {field.name: int(field.enumval) for field in type_.fields()}

    def evidence(self) -> list[Evidence]:
        return [Evidence("types", "DWARF", f"gdb, {self._symbols.path}")]

    @cached_property
    def _moved_by(self) -> int:
        """From where gdb has the kernel to where it runs; 0 once gdb knows as well."""
        actual = self._symbols.symbol("_stext")
        if actual is None:
            return self._symbols.offset
        return actual - int(gdb.parse_and_eval("&_stext"))


def _is_variable(symbol: Any) -> bool:
    """Whether this is a variable, be it that only a declaration was read so far."""
    return symbol.addr_class in (
        gdb.SYMBOL_LOC_STATIC,
        gdb.SYMBOL_LOC_UNRESOLVED,
        gdb.SYMBOL_LOC_COMPUTED,
        gdb.SYMBOL_LOC_OPTIMIZED_OUT,
    )


def _is_complete(type_: Type) -> bool:
    """A declaration has no members, and neither have the few empty structs."""
    return bool(type_.fields())


def _bare(type_: Type) -> Type:
    return type_.strip_typedefs().unqualified()


def _member(declared: Type, offset: int) -> Member:
    type_ = _bare(declared)
    kind = _KINDS.get(type_.code, "void")
    size = type_.sizeof if kind != "void" else 0
    length = element_kind = element_size = None
    target = type_
    if type_.code == gdb.TYPE_CODE_ARRAY:
        length = _length(type_)
        size = max(size, 0)
        while target.code == gdb.TYPE_CODE_ARRAY:
            target = _bare(target.target())
        element_kind = _KINDS.get(target.code, "void")
        element_size = target.sizeof
        if not length:
            size, length = 0, None
    depth = 0
    while target.code == gdb.TYPE_CODE_PTR:
        depth += 1
        target = _bare(target.target())
    return Member(
        offset,
        size,
        kind,
        _spell(declared),
        length,
        element_kind,
        element_size,
        depth,
    )


def _length(array: Type) -> int | None:
    """Elements of an array; None for [] and [0], which gdb does not tell apart."""
    try:
        low, high = array.range()
    except gdb.error:
        return None
    return high - low + 1 if high >= low else None


def _flatten(
    type_: Type, base: int, prefix: str, depth: int
) -> Iterator[tuple[str, Member]]:
    """All members by name; anonymous ones vanish, those of named ones get dots."""
    for field in type_.fields():
        if not hasattr(field, "bitpos"):
            continue
        bits = base + field.bitpos
        name = prefix + (field.name or "")
        inner = _bare(field.type)
        if field.name:
            found = _member(field.type, bits // 8)
            if field.bitsize:
                found = Member(
                    bits // 8,
                    found.size,
                    found.kind,
                    found.type_name,
                    bit_offset=bits,
                    bit_size=field.bitsize,
                )
            yield name, found
        if inner.code in _AGGREGATES and depth < MAX_NESTING:
            inside = f"{name}." if field.name else prefix
            yield from _flatten(inner, bits, inside, depth + 1)


def _spell(type_: Type) -> str:
    """A type as C writes it; gdb would write out the whole struct."""
    if type_.code == gdb.TYPE_CODE_PTR:
        target = _spell(type_.target())
        return f"{target}*" if target.endswith("*") else f"{target} *"
    if type_.code == gdb.TYPE_CODE_ARRAY:
        return f"{_spell(type_.target())}[{_length(type_) or ''}]"
    tag = _TAGS.get(type_.code, "")
    bare = type_.unqualified()
    qualifier = "const " if str(type_).startswith("const ") else ""
    return f"{qualifier}{tag}{bare.name or '...'}" if bare.name or tag else str(type_)
