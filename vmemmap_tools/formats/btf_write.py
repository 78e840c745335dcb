# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing BTF: a chosen set of types with everything they refer to, renumbered."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from vmemmap_tools.formats.btf_records import (
    MAGIC,
    SIZED,
    VOID,
    BtfError,
    Kind,
    Record,
)

__all__ = ["closure", "encode", "references", "renumbered"]

KIND_FLAG = 1 << 31
MAX_ENTRIES = 0xFFFF


def references(record: Record) -> Iterator[int]:
    """The type ids that a record names, `VOID` left out."""
    named = [record.type, record.index_type]
    named += [member.type for member in record.members]
    named += [parameter.type for parameter in record.parameters]
    named += [entry.type for entry in record.entries]
    return (type_id for type_id in named if type_id != VOID)


def renumbered(record: Record, number: Callable[[int], int]) -> Record:
    """The same record with ``number`` applied to every type id it names."""

    def new(type_id: int) -> int:
        return number(type_id) if type_id != VOID else VOID

    return replace(
        record,
        type=new(record.type),
        index_type=new(record.index_type),
        members=tuple(replace(m, type=new(m.type)) for m in record.members),
        parameters=tuple(replace(p, type=new(p.type)) for p in record.parameters),
        entries=tuple(replace(e, type=new(e.type)) for e in record.entries),
    )


def closure(fetch: Callable[[int], Record], roots: Iterable[int]) -> list[Record]:
    """The records of ``roots`` and of all they refer to, numbered from 1 in order.

    ``fetch`` gives the record of an old id; it may give a cut-down one, whose
    references are then the ones followed.
    """
    numbers: dict[int, int] = {}
    queue: list[int] = []

    def number(type_id: int) -> int:
        if type_id not in numbers:
            numbers[type_id] = len(numbers) + 1
            queue.append(type_id)
        return numbers[type_id]

    for root in roots:
        number(root)
    done = 0
    records = []
    while done < len(queue):
        records.append(renumbered(fetch(queue[done]), number))
        done += 1
    return records


def encode(records: Sequence[Record], byteorder: str = "little") -> bytes:
    """A raw BTF section: the first record gets id 1, and so on.

    Raises `BtfError` for a record that the format cannot hold.
    """
    order = "<" if byteorder == "little" else ">"
    strings = _Strings()
    types = bytearray()
    for number, record in enumerate(records, 1):
        if any(type_id > len(records) for type_id in references(record)):
            raise BtfError(f"type {number} ({record.name!r}) names an unknown type")
        words = _words(record, strings)
        types += struct.pack(f"{order}{len(words)}I", *words)
    text = bytes(strings.data)
    header = struct.pack(
        order + "HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(text)
    )
    return header + bytes(types) + text


class _Strings:
    """The string section: every string once, the empty one first."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._offsets = {"": 0}

    def offset(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._offsets[text]


def _words(record: Record, strings: _Strings) -> list[int]:
    """A record as 32-bit words."""
    kind = record.kind
    body, count = _body(record, strings)
    if count > MAX_ENTRIES:
        raise BtfError(f"{record.name!r} has {count} entries, BTF holds {MAX_ENTRIES}")
    flag = record.flag or any(m.bit_size for m in record.members)
    info = kind << 24 | count | (KIND_FLAG if flag else 0)
    last = record.size if kind in SIZED else record.type
    if kind == Kind.ARRAY:
        last = 0
    return [strings.offset(record.name), info, last, *body]


def _body(record: Record, strings: _Strings) -> tuple[list[int], int]:
    """The words behind the first three, and the count of entries."""
    kind, offset = record.kind, strings.offset
    words: list[int] = []
    if kind == Kind.INT:
        return [record.encoding << 24 | record.bits], 0
    if kind == Kind.ARRAY:
        return [record.type, record.index_type, record.count], 0
    if kind in (Kind.STRUCT, Kind.UNION):
        flag = record.flag or any(m.bit_size for m in record.members)
        for member in record.members:
            if flag and member.bit_offset >> 24:
                raise BtfError(f"{record.name}.{member.name} is too far for a flag")
            words += [
                offset(member.name),
                member.type,
                member.bit_size << 24 | member.bit_offset,
            ]
        return words, len(record.members)
    if kind == Kind.ENUM:
        for constant in record.enumerators:
            words += [offset(constant.name), constant.value & 0xFFFFFFFF]
        return words, len(record.enumerators)
    if kind == Kind.ENUM64:
        for constant in record.enumerators:
            low, high = constant.value & 0xFFFFFFFF, constant.value >> 32 & 0xFFFFFFFF
            words += [offset(constant.name), low, high]
        return words, len(record.enumerators)
    if kind == Kind.FUNC_PROTO:
        for parameter in record.parameters:
            words += [offset(parameter.name), parameter.type]
        return words, len(record.parameters)
    if kind == Kind.DATASEC:
        for entry in record.entries:
            words += [entry.type, entry.offset, entry.size]
        return words, len(record.entries)
    if kind in (Kind.VAR, Kind.DECL_TAG):
        return [record.linkage & 0xFFFFFFFF], 0
    return [], record.linkage if kind == Kind.FUNC else 0
