# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing DWARF 5: one unit with types, variables and functions, and no code.

Types come as BTF records, which say all that a C type needs. The result is what drgn,
gdb and crash look up in a vmlinux; there are no line tables and no ranges.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Union

from vmemmap_tools.formats.btf_records import VOID, Kind, Record

__all__ = ["Function", "Variable", "dwarf_sections"]

VERSION = 5
DW_UT_COMPILE = 1
DW_LANG_C11 = 0x1D
DW_OP_ADDR = 0x03

TAG_ARRAY, TAG_ENUM, TAG_PARAMETER, TAG_MEMBER = 0x01, 0x04, 0x05, 0x0D
TAG_POINTER, TAG_UNIT, TAG_STRUCT, TAG_SUBROUTINE = 0x0F, 0x11, 0x13, 0x15
TAG_TYPEDEF, TAG_UNION, TAG_VARIADIC, TAG_SUBRANGE = 0x16, 0x17, 0x18, 0x21
TAG_BASE, TAG_CONST, TAG_ENUMERATOR, TAG_SUBPROGRAM = 0x24, 0x26, 0x28, 0x2E
TAG_VARIABLE, TAG_VOLATILE, TAG_RESTRICT = 0x34, 0x35, 0x37

AT_LOCATION, AT_NAME, AT_BYTE_SIZE, AT_BIT_SIZE = 0x02, 0x03, 0x0B, 0x0D
AT_LOW_PC, AT_HIGH_PC, AT_LANGUAGE, AT_COMP_DIR = 0x11, 0x12, 0x13, 0x1B
AT_CONST_VALUE, AT_PRODUCER, AT_PROTOTYPED, AT_UPPER_BOUND = 0x1C, 0x25, 0x27, 0x2F
AT_MEMBER_LOCATION, AT_DECLARATION, AT_ENCODING = 0x38, 0x3C, 0x3E
AT_EXTERNAL, AT_TYPE, AT_DATA_BIT_OFFSET = 0x3F, 0x49, 0x6B

FORM_ADDR, FORM_DATA8, FORM_DATA1, FORM_SDATA, FORM_STRP = 0x01, 0x07, 0x0B, 0x0D, 0x0E
FORM_UDATA, FORM_REF4, FORM_EXPRLOC, FORM_FLAG_PRESENT = 0x0F, 0x13, 0x18, 0x19

ATE_BOOLEAN, ATE_FLOAT, ATE_SIGNED, ATE_SIGNED_CHAR = 2, 4, 5, 6
ATE_UNSIGNED, ATE_UNSIGNED_CHAR = 7, 8
BTF_SIGNED, BTF_BOOL = 1, 4

QUALIFIERS = {
    Kind.CONST: TAG_CONST,
    Kind.VOLATILE: TAG_VOLATILE,
    Kind.RESTRICT: TAG_RESTRICT,
}
NO_DIE = frozenset((Kind.VAR, Kind.DATASEC, Kind.DECL_TAG, Kind.FUNC, Kind.TYPE_TAG))
"""Records that are no C types, or stand for the type they mark."""


@dataclass(frozen=True)
class Variable:
    """A variable of a type at a link-time address; without one, a declaration."""

    name: str
    type: int
    address: int | None
    is_external: bool = True


@dataclass(frozen=True)
class Function:
    """A function by the id of its prototype, and where its code would be."""

    name: str
    prototype: int
    address: int | None = None
    size: int = 0


class _Attribute(NamedTuple):
    name: int
    form: int
    value: Union[int, str, bytes]  # noqa: UP007 - evaluated in Python 3.9


def dwarf_sections(
    fetch: Callable[[int], Record],
    types: Iterable[int],
    variables: Sequence[Variable],
    functions: Sequence[Function],
    name: str = "vmlinux",
    producer: str = "",
) -> dict[str, bytes]:
    """The contents of .debug_info, .debug_abbrev and .debug_str by section name.

    ``fetch`` gives the record of a type id. The types listed are written, and all that
    they, the variables and the functions refer to.
    """
    unit = _Unit(fetch)
    unit.open(name, producer)
    for variable in variables:
        unit.variable(variable)
    for function in functions:
        unit.function(function)
    unit.types(types)
    return unit.sections()


class _Unit:
    def __init__(self, fetch: Callable[[int], Record]):
        self._fetch = fetch
        self._info = bytearray(12)  # the header, filled in at the end
        self._strings = bytearray()
        self._string_at: dict[str, int] = {}
        self._abbreviations: dict[tuple[int, bool, tuple[int, ...]], int] = {}
        self._places: dict[int, int] = {}
        self._fixups: list[tuple[int, int]] = []
        self._queue: list[int] = []
        self._queued: set[int] = set()

    def open(self, name: str, producer: str) -> None:
        """The unit itself; the other entries are its children."""
        self._entry(
            TAG_UNIT,
            True,
            _Attribute(AT_PRODUCER, FORM_STRP, producer),
            _Attribute(AT_LANGUAGE, FORM_DATA1, DW_LANG_C11),
            _Attribute(AT_NAME, FORM_STRP, name),
            _Attribute(AT_COMP_DIR, FORM_STRP, "."),
        )

    def variable(self, variable: Variable) -> None:
        attributes = [*_name(variable.name), *self._type(variable.type)]
        if variable.is_external:
            attributes.append(_flag(AT_EXTERNAL))
        if variable.address is None:
            attributes.append(_flag(AT_DECLARATION))
        else:
            place = struct.pack("<BQ", DW_OP_ADDR, variable.address)
            attributes.append(_Attribute(AT_LOCATION, FORM_EXPRLOC, place))
        self._entry(TAG_VARIABLE, False, *attributes)

    def function(self, function: Function) -> None:
        prototype = self._fetch(function.prototype)
        attributes = [*_name(function.name), _flag(AT_EXTERNAL), _flag(AT_PROTOTYPED)]
        attributes += self._type(prototype.type)
        if function.address is not None:
            attributes += [
                _Attribute(AT_LOW_PC, FORM_ADDR, function.address),
                _Attribute(AT_HIGH_PC, FORM_DATA8, function.size),
            ]
        self._with_parameters(TAG_SUBPROGRAM, attributes, prototype)

    def types(self, types: Iterable[int]) -> None:
        """All types asked for and all that is referred to, each once."""
        for type_id in types:
            self._wanted(type_id)
        done = 0
        while done < len(self._queue):
            type_id = self._queue[done]
            done += 1
            self._places[type_id] = len(self._info)
            self._type_entry(self._fetch(type_id))

    def sections(self) -> dict[str, bytes]:
        self._info.append(0)  # the end of the unit's children
        for position, type_id in self._fixups:
            struct.pack_into("<I", self._info, position, self._places[type_id])
        struct.pack_into(
            "<IHBBI", self._info, 0, len(self._info) - 4, VERSION, DW_UT_COMPILE, 8, 0
        )
        return {
            ".debug_info": bytes(self._info),
            ".debug_abbrev": self._abbreviation_table(),
            ".debug_str": bytes(self._strings),
        }

    def _type_entry(self, record: Record) -> None:
        kind = record.kind
        if kind in (Kind.INT, Kind.FLOAT):
            encoding = _Attribute(AT_ENCODING, FORM_DATA1, _encoding(record))
            self._entry(
                TAG_BASE, False, *_name(record.name), _size(record.size), encoding
            )
        elif kind == Kind.PTR:
            self._entry(TAG_POINTER, False, _size(8), *self._type(record.type))
        elif kind == Kind.ARRAY:
            self._array(record)
        elif kind in (Kind.STRUCT, Kind.UNION):
            self._aggregate(record)
        elif kind == Kind.FWD:
            tag = TAG_UNION if record.flag else TAG_STRUCT
            self._entry(tag, False, *_name(record.name), _flag(AT_DECLARATION))
        elif kind in (Kind.ENUM, Kind.ENUM64):
            self._enum(record)
        elif kind == Kind.TYPEDEF:
            self._entry(
                TAG_TYPEDEF, False, *_name(record.name), *self._type(record.type)
            )
        elif kind == Kind.FUNC_PROTO:
            attributes = [_flag(AT_PROTOTYPED), *self._type(record.type)]
            self._with_parameters(TAG_SUBROUTINE, attributes, record)
        else:
            self._entry(QUALIFIERS[kind], False, *self._type(record.type))

    def _array(self, record: Record) -> None:
        """BTF does not tell ``[0]`` from ``[]``: both get no bound, like ``[]``."""
        self._entry(TAG_ARRAY, True, *self._type(record.type))
        bound = []
        if record.count:
            bound.append(_Attribute(AT_UPPER_BOUND, FORM_UDATA, record.count - 1))
        self._entry(TAG_SUBRANGE, False, *self._type(record.index_type), *bound)
        self._info.append(0)

    def _aggregate(self, record: Record) -> None:
        tag = TAG_STRUCT if record.kind == Kind.STRUCT else TAG_UNION
        children = bool(record.members)
        self._entry(tag, children, *_name(record.name), _size(record.size))
        for member in record.members:
            if member.bit_size:
                place = [
                    _Attribute(AT_BIT_SIZE, FORM_UDATA, member.bit_size),
                    _Attribute(AT_DATA_BIT_OFFSET, FORM_UDATA, member.bit_offset),
                ]
            else:
                at = member.bit_offset // 8
                place = [_Attribute(AT_MEMBER_LOCATION, FORM_UDATA, at)]
            self._entry(
                TAG_MEMBER, False, *_name(member.name), *self._type(member.type), *place
            )
        if children:
            self._info.append(0)

    def _enum(self, record: Record) -> None:
        children = bool(record.enumerators)
        self._entry(TAG_ENUM, children, *_name(record.name), _size(record.size))
        for constant in record.enumerators:
            form = FORM_SDATA if constant.value < 0 else FORM_UDATA
            value = _Attribute(AT_CONST_VALUE, form, constant.value)
            self._entry(TAG_ENUMERATOR, False, *_name(constant.name), value)
        if children:
            self._info.append(0)

    def _with_parameters(
        self, tag: int, attributes: list[_Attribute], prototype: Record
    ) -> None:
        children = bool(prototype.parameters)
        self._entry(tag, children, *attributes)
        for parameter in prototype.parameters:
            if parameter.type == VOID:
                self._entry(TAG_VARIADIC, False)
            else:
                words = [*_name(parameter.name), *self._type(parameter.type)]
                self._entry(TAG_PARAMETER, False, *words)
        if children:
            self._info.append(0)

    def _wanted(self, type_id: int) -> int:
        """The id that gets the entry for a type, `VOID` for none; queues it."""
        while type_id != VOID and self._fetch(type_id).kind == Kind.TYPE_TAG:
            type_id = self._fetch(type_id).type
        if type_id == VOID or self._fetch(type_id).kind in NO_DIE:
            return VOID
        if type_id not in self._queued:
            self._queued.add(type_id)
            self._queue.append(type_id)
        return type_id

    def _type(self, type_id: int) -> list[_Attribute]:
        """A reference to a type; void has none."""
        wanted = self._wanted(type_id)
        return [_Attribute(AT_TYPE, FORM_REF4, wanted)] if wanted != VOID else []

    def _entry(self, tag: int, children: bool, *attributes: _Attribute) -> None:
        shape = tuple(word for a in attributes for word in (a.name, a.form))
        code = self._abbreviations.setdefault(
            (tag, children, shape), len(self._abbreviations) + 1
        )
        self._info += _uleb(code)
        for attribute in attributes:
            self._value(attribute.form, attribute.value)

    def _value(self, form: int, value: int | str | bytes) -> None:
        if form == FORM_STRP:
            assert isinstance(value, str)
            self._info += struct.pack("<I", self._string(value))
        elif form == FORM_EXPRLOC:
            assert isinstance(value, bytes)
            self._info += _uleb(len(value)) + value
        elif form == FORM_FLAG_PRESENT:
            pass
        else:
            assert isinstance(value, int)
            self._number(form, value)

    def _number(self, form: int, value: int) -> None:
        if form == FORM_REF4:
            self._fixups.append((len(self._info), value))
            self._info += bytes(4)
        elif form == FORM_UDATA:
            self._info += _uleb(value)
        elif form == FORM_SDATA:
            self._info += _sleb(value)
        else:
            layout = {FORM_DATA1: "<B", FORM_DATA8: "<Q", FORM_ADDR: "<Q"}[form]
            self._info += struct.pack(layout, value)

    def _string(self, text: str) -> int:
        if text not in self._string_at:
            self._string_at[text] = len(self._strings)
            self._strings += text.encode() + b"\0"
        return self._string_at[text]

    def _abbreviation_table(self) -> bytes:
        table = bytearray()
        for (tag, children, shape), code in self._abbreviations.items():
            table += _uleb(code) + _uleb(tag) + bytes([children])
            table += b"".join(map(_uleb, shape)) + b"\0\0"
        return bytes(table) + b"\0"


def _name(text: str) -> list[_Attribute]:
    return [_Attribute(AT_NAME, FORM_STRP, text)] if text else []


def _size(size: int) -> _Attribute:
    return _Attribute(AT_BYTE_SIZE, FORM_UDATA, size)


def _flag(name: int) -> _Attribute:
    return _Attribute(name, FORM_FLAG_PRESENT, 1)


def _encoding(record: Record) -> int:
    if record.kind == Kind.FLOAT:
        return ATE_FLOAT
    if record.encoding & BTF_BOOL:
        return ATE_BOOLEAN
    signed = bool(record.encoding & BTF_SIGNED)
    if record.size == 1 and "char" in record.name:
        return ATE_SIGNED_CHAR if signed else ATE_UNSIGNED_CHAR
    return ATE_SIGNED if signed else ATE_UNSIGNED


def _uleb(value: int) -> bytes:
    result = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        result.append(low | (0x80 if value else 0))
        if not value:
            return bytes(result)


def _sleb(value: int) -> bytes:
    result = bytearray()
    while True:
        low = value & 0x7F
        value >>= 7
        more = not ((value == 0 and not low & 0x40) or (value == -1 and low & 0x40))
        result.append(low | (0x80 if more else 0))
        if not more:
            return bytes(result)
