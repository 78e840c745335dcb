# SPDX-License-Identifier: LGPL-2.1-or-later
"""What BTF can say: kinds, one record per type (include/uapi/linux/btf.h)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "ENTRY_WORDS",
    "FIXED_WORDS",
    "MAGIC",
    "SIZED",
    "TRANSPARENT",
    "VOID",
    "BtfError",
    "Entry",
    "Enumerator",
    "Kind",
    "Member",
    "Parameter",
    "Record",
]

MAGIC = 0xEB9F
VOID = 0
"""The type id of ``void``: no record stands behind it."""


class BtfError(ValueError):
    """The BTF is damaged, or lacks what was asked for."""


class Kind(IntEnum):
    """``BTF_KIND_*``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


SIZED = frozenset(
    (
        Kind.INT,
        Kind.STRUCT,
        Kind.UNION,
        Kind.ENUM,
        Kind.DATASEC,
        Kind.FLOAT,
        Kind.ENUM64,
    )
)
"""Kinds whose third word is a size in bytes; the others have a type id there."""
TRANSPARENT = frozenset(
    (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
)
"""Kinds that only name or qualify another type."""

FIXED_WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
"""32-bit words that follow the three of every record."""
ENTRY_WORDS = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
"""32-bit words of each of a record's entries."""


@dataclass(frozen=True)
class Member:
    """A member of a struct or union. ``bit_size`` is 0 unless it is a bit-field."""

    name: str
    type: int
    bit_offset: int
    bit_size: int = 0


@dataclass(frozen=True)
class Enumerator:
    """One constant of an enum."""

    name: str
    value: int


@dataclass(frozen=True)
class Parameter:
    """A function's parameter; the last one of a variadic function has type 0."""

    name: str
    type: int


@dataclass(frozen=True)
class Entry:
    """A variable's place in a DATASEC: offset and size in bytes."""

    type: int
    offset: int
    size: int


@dataclass(frozen=True)
class Record:
    """One type. Which fields mean something depends on ``kind``.

    ``size`` is in bytes. ``type`` is the id that is pointed to, named, qualified,
    returned, or an array's element. ``flag`` is kind_flag: a FWD of a union, a signed
    enum. ``linkage`` is a FUNC's or VAR's linkage, or a DECL_TAG's component index.
    ``encoding``, ``bits`` and ``bit_offset`` are an INT's.
    """

    kind: Kind
    name: str = ""
    size: int = 0
    type: int = VOID
    flag: bool = False
    members: tuple[Member, ...] = ()
    enumerators: tuple[Enumerator, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    entries: tuple[Entry, ...] = ()
    count: int = 0
    index_type: int = VOID
    encoding: int = 0
    bits: int = 0
    linkage: int = 0
