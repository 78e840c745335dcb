# SPDX-License-Identifier: LGPL-2.1-or-later
"""BTF, the kernel's compact type information, read lazily.

`Btf` indexes where each record starts and decodes a record when somebody asks for it:
a kernel has 120,000 types, of which a reader of dumps needs some hundred. Mirrors the
format of include/uapi/linux/btf.h; a module's BTF is read on top of the kernel's.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from vmemmap_tools.formats.btf_records import (
    ENTRY_WORDS,
    FIXED_WORDS,
    MAGIC,
    SIZED,
    TRANSPARENT,
    VOID,
    BtfError,
    Entry,
    Enumerator,
    Kind,
    Member,
    Parameter,
    Record,
)

__all__ = [
    "VOID",
    "Btf",
    "BtfError",
    "Entry",
    "Enumerator",
    "Kind",
    "Member",
    "Parameter",
    "Record",
]

HEADER_SIZE = 24
MAX_CHAIN = 64
"""Longest chain of typedefs, qualifiers, arrays or nested members that is followed."""
MAX_MEMBERS = 1 << 16
"""Most members that one structure may flatten to."""
MAX_TYPES = 1 << 21
"""Twice what the kernel loads itself (``BTF_MAX_TYPE``)."""
MAX_ENDINGS = 1 << 15
"""Most strings that may end in a name; each may be the name of some type."""
MAX_PLACES = 64
"""Most longer strings that may end in an enumerator's name; a kernel's are a few."""


class Btf:
    """The types of a raw ``.BTF`` section, by id or by name.

    ``base`` is the kernel's BTF when ``data`` belongs to a module (split BTF): ids and
    strings go on where the base ends. ``header`` and ``size`` are those of the data, in
    bytes. Raises `BtfError` for damaged data, here or when
    the damaged record is asked for.
    """

    def __init__(self, data: bytes, base: Btf | None = None):
        self.base = base
        self.size = len(data)
        self.header = data[:HEADER_SIZE]
        self.first_id = len(base) if base else 1
        self._first_string = base.string_size if base else 0
        self._types, self._strings, self.byteorder = _split_sections(data)
        self.string_size: int = self._first_string + len(self._strings)
        self._words = array("I", self._types)
        if self.byteorder != sys.byteorder:
            self._words.byteswap()
        self._starts = _index_records(self._words)
        self._decoded: dict[int, Record] = {}
        self._by_name: dict[int, int] = {}
        self._more_by_name: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """One more than the highest type id."""
        return self.first_id + len(self._starts)

    def __getitem__(self, type_id: int) -> Record:
        """The record of a type id. Raises `BtfError` when there is none."""
        if type_id < self.first_id and self.base is not None:
            return self.base[type_id]
        if type_id == VOID:
            return Record(Kind.VOID, "void")
        if not self.first_id <= type_id < len(self):
            raise BtfError(f"BTF has no type {type_id} (there are {len(self)})")
        record = self._decoded.get(type_id)
        if record is None:
            record = self._decode(self._starts[type_id - self.first_id])
            self._decoded[type_id] = record
        return record

    def string(self, offset: int) -> str:
        """The string at an offset of the string section."""
        if offset < self._first_string and self.base is not None:
            return self.base.string(offset)
        start = offset - self._first_string
        end = self._strings.find(b"\0", start) if start >= 0 else -1
        if end < 0:
            raise BtfError(f"BTF names a string at {offset}, outside its strings")
        return self._strings[start:end].decode("utf-8", "replace")

    def find_all(self, name: str, *kinds: Kind) -> list[int]:
        """Ids of all types of this name, in ascending order; any kind when none given.

        An incomplete type (FWD) is found only when its kind is asked for.
        """
        if not name:
            return []
        found = self.base.find_all(name, *kinds) if self.base else []
        for offset in self._string_offsets(name):
            for type_id in self._ids_named(offset):
                kind = self._kind(type_id)
                if kind in kinds or (not kinds and kind != Kind.FWD):
                    found.append(type_id)
        return sorted(found)

    def find(self, name: str, *kinds: Kind) -> int | None:
        """Id of the first type of this name, None when there is none."""
        return next(iter(self.find_all(name, *kinds)), None)

    def enumerator(self, name: str) -> int | None:
        """Value of an enumerator; that of the first type where several have the name.

        Found without decoding the enums of a kernel, of which there are thousands.
        """
        found = self.base.enumerator(name) if self.base and name else None
        if found is not None or not name:
            return found
        places: list[tuple[int, int]] = []
        for count, offset in enumerate(self._string_offsets(name)):
            if count == MAX_PLACES:
                raise BtfError(f"too many strings end in {name}")
            place = self._enumerator_named(offset)
            places += [place] if place else []
        if not places:
            return None
        type_id, index = min(places)
        return self[type_id].enumerators[index].value

    def _enumerator_named(self, offset: int) -> tuple[int, int] | None:
        """(type id, index) of the first enumerator whose name is at this offset."""
        order = "<" if self.byteorder == "little" else ">"
        needle = struct.pack(order + "I", offset)
        position = self._types.find(needle)
        while position >= 0:
            word, is_amid_words = divmod(position, 4)
            number = bisect_right(self._starts, word) - 1
            type_id, start = self.first_id + number, self._starts[number]
            kind = self._kind(type_id)
            if not is_amid_words and kind in (Kind.ENUM, Kind.ENUM64):
                index, rest = divmod(word - start - 3, ENTRY_WORDS[Kind(kind)])
                if index >= 0 and not rest:
                    return type_id, index
            position = self._types.find(needle, position + 1)
        return None

    def ids(self, *kinds: Kind) -> Iterator[int]:
        """Ids of this BTF's own types of these kinds, without those of the base."""
        for type_id in range(self.first_id, len(self)):
            if self._kind(type_id) in kinds:
                yield type_id

    def strip(self, type_id: int) -> int:
        """The id behind typedefs and qualifiers."""
        for _ in range(MAX_CHAIN):
            record = self[type_id]
            if record.kind not in TRANSPARENT:
                return type_id
            type_id = record.type
        raise BtfError(f"type {type_id} is qualified without end")

    def sizeof(self, type_id: int, pointer_size: int = 8) -> int:
        """Size of a type in bytes; 0 for void, functions and incomplete types."""
        factor = 1
        for _ in range(MAX_CHAIN):
            record = self[self.strip(type_id)]
            if record.kind == Kind.PTR:
                return factor * pointer_size
            if record.kind != Kind.ARRAY:
                return factor * record.size
            factor *= record.count
            type_id = record.type
        raise BtfError(f"type {type_id} is an array without end")

    def flatten(self, type_id: int) -> Iterator[Member]:
        """A struct's members with those of anonymous members in their place.

        ``bit_offset`` counts from the start of the outermost structure.
        """
        budget = [MAX_MEMBERS]
        yield from self._flatten(self.strip(type_id), 0, MAX_CHAIN, budget)

    def _flatten(
        self, type_id: int, base: int, depth: int, budget: list[int]
    ) -> Iterator[Member]:
        record = self[type_id]
        for member in record.members:
            budget[0] -= 1
            if not depth or budget[0] < 0:
                raise BtfError(f"type {type_id} has members without end")
            at = base + member.bit_offset
            inner = VOID if member.name else self.strip(member.type)
            if inner and self[inner].kind in (Kind.STRUCT, Kind.UNION):
                yield from self._flatten(inner, at, depth - 1, budget)
            else:
                yield Member(member.name, member.type, at, member.bit_size)

    def _kind(self, type_id: int) -> int:
        return (self._words[self._starts[type_id - self.first_id] + 1] >> 24) & 0x1F

    def _ids_named(self, offset: int) -> Iterator[int]:
        """Ids of this BTF's own types whose name is the string at this offset."""
        if not self._by_name:
            # Two dicts, since most names belong to one type: 100,000 lists are slow.
            words, first, more = self._words, self._by_name, self._more_by_name
            names = [words[start] for start in self._starts]
            last_id = len(self) - 1
            first.update(zip(reversed(names), range(last_id, self.first_id - 1, -1)))
            for type_id, name in enumerate(names, self.first_id):
                if name and first[name] != type_id:
                    more.setdefault(name, []).append(type_id)
        if offset in self._by_name:
            yield self._by_name[offset]
            yield from self._more_by_name.get(offset, ())

    def _string_offsets(self, name: str) -> Iterator[int]:
        """Every offset at which this string can be named, also as another's tail."""
        if self.base is not None:
            yield from self.base._string_offsets(name)
        needle = name.encode() + b"\0"
        position = self._strings.find(needle)
        for _ in range(MAX_ENDINGS):
            if position < 0:
                return
            yield self._first_string + position
            position = self._strings.find(needle, position + 1)
        raise BtfError(f"too many strings end in {name}")

    def _decode(self, start: int) -> Record:
        words = self._words
        info, last = words[start + 1], words[start + 2]
        kind, count, flag = Kind((info >> 24) & 0x1F), info & 0xFFFF, bool(info >> 31)
        name = self.string(words[start])
        body = start + 3
        if kind == Kind.INT:
            code = words[body]
            return Record(
                kind, name, last, encoding=(code >> 24) & 0xF, bits=code & 0xFF
            )
        if kind == Kind.ARRAY:
            return Record(
                kind,
                name,
                type=words[body],
                index_type=words[body + 1],
                count=words[body + 2],
            )
        if kind in (Kind.STRUCT, Kind.UNION):
            members = self._members(body, count, flag)
            return Record(kind, name, last, flag=flag, members=members)
        if kind in (Kind.ENUM, Kind.ENUM64):
            constants = self._enumerators(body, count, kind == Kind.ENUM64, flag)
            return Record(kind, name, last, flag=flag, enumerators=constants)
        if kind == Kind.FUNC_PROTO:
            parameters = tuple(
                Parameter(self.string(words[at]), words[at + 1])
                for at in range(body, body + 2 * count, 2)
            )
            return Record(kind, name, type=last, parameters=parameters)
        if kind == Kind.DATASEC:
            entries = tuple(
                Entry(words[at], words[at + 1], words[at + 2])
                for at in range(body, body + 3 * count, 3)
            )
            return Record(kind, name, last, entries=entries)
        linkage = count if kind == Kind.FUNC else 0
        if kind in (Kind.VAR, Kind.DECL_TAG):
            linkage = words[body]
        if kind in SIZED:
            return Record(kind, name, last, flag=flag)
        return Record(kind, name, type=last, flag=flag, linkage=linkage)

    def _members(self, body: int, count: int, flag: bool) -> tuple[Member, ...]:
        """With kind_flag an offset word is 8 bits of width over 24 bits of offset."""
        words, result = self._words, []
        for at in range(body, body + 3 * count, 3):
            bit_size, offset = divmod(words[at + 2], 1 << 24 if flag else 1 << 32)
            result.append(
                Member(self.string(words[at]), words[at + 1], offset, bit_size)
            )
        return tuple(result)

    def _enumerators(
        self, body: int, count: int, wide: bool, signed: bool
    ) -> tuple[Enumerator, ...]:
        words, result = self._words, []
        step, bits = (3, 64) if wide else (2, 32)
        for at in range(body, body + step * count, step):
            value = words[at + 1] | (words[at + 2] << 32 if wide else 0)
            if signed and value >> (bits - 1):
                value -= 1 << bits
            result.append(Enumerator(self.string(words[at]), value))
        return tuple(result)


def _split_sections(data: bytes) -> tuple[bytes, bytes, str]:
    """The type and string sections, and the byte order the magic number shows."""
    if len(data) < HEADER_SIZE:
        raise BtfError(f"{len(data)} bytes are too few for a BTF header")
    byteorder = "little" if data[0] == MAGIC & 0xFF else "big"
    order = "<" if byteorder == "little" else ">"
    header = struct.unpack_from(order + "HBBIIIII", data)
    if header[0] != MAGIC:
        raise BtfError("no BTF: the magic number is missing")
    _, version, _, header_size, type_at, type_size, string_at, string_size = header
    if version != 1:
        raise BtfError(f"BTF version {version} is unknown")
    if header_size < HEADER_SIZE or type_size % 4:
        raise BtfError("the BTF header is damaged")
    type_at += header_size
    string_at += header_size
    if max(type_at + type_size, string_at + string_size) > len(data):
        raise BtfError(
            f"BTF is cut short: {len(data)} bytes, but the header promises "
            f"{max(type_at + type_size, string_at + string_size)}"
        )
    strings = data[string_at : string_at + string_size]
    if strings and strings[-1]:
        raise BtfError("BTF's strings do not end with a zero byte")
    return data[type_at : type_at + type_size], strings, byteorder


def _index_records(words: array[int]) -> array[int]:
    """Where each record starts, in words."""
    fixed = [FIXED_WORDS.get(k, 0) + 3 for k in Kind]
    entry = [ENTRY_WORDS.get(k, 0) for k in Kind]
    fixed[0] = entry[0] = -1 << 40  # kind 0 is no record
    starts = array("I")
    append, position, end = starts.append, 0, len(words)
    try:
        while 0 <= position < end:
            append(position)
            info = words[position + 1]
            kind = (info >> 24) & 0x1F
            position += fixed[kind] + entry[kind] * (info & 0xFFFF)
    except IndexError:
        position = -1
    if len(starts) > MAX_TYPES:
        raise BtfError(f"BTF cannot have {len(starts)} types")
    if position != end:
        where = starts[-1] if starts else 0
        raise BtfError(
            f"BTF type {len(starts)} (at byte {4 * where} of the types) is damaged"
        )
    return starts
