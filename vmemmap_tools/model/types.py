# SPDX-License-Identifier: LGPL-2.1-or-later
"""The C types that the model writes: sizes, offsets and enumerators by name.

A `TypeGraph` is a set of BTF records under ids. Kernel generations differ in their
graphs and in nothing else: code asks ``graph.has("zone.vmemmap_tails")``, never for a
release. Graphs do not change; model.layouts.edits derives one from another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vmemmap_tools.formats.btf import Btf, Kind, Parameter, Record
from vmemmap_tools.formats.btf_records import TRANSPARENT

__all__ = ["Holder", "Member", "TypeGraph", "TypeMissing"]

MAX_DEPTH = 64
"""Deepest nesting of types that is followed: a graph may come from a user's file."""

AGGREGATES = (Kind.STRUCT, Kind.UNION)
ENUMS = (Kind.ENUM, Kind.ENUM64)

BASE_TYPES = {
    "char": ("char", 1, 1),
    "signed char": ("signed char", 1, 1),
    "unsigned char": ("unsigned char", 1, 0),
    "_Bool": ("_Bool", 1, 4),
    "short": ("short int", 2, 1),
    "unsigned short": ("short unsigned int", 2, 0),
    "int": ("int", 4, 1),
    "unsigned": ("unsigned int", 4, 0),
    "long": ("long int", 8, 1),
    "unsigned long": ("long unsigned int", 8, 0),
    "long long": ("long long int", 8, 1),
    "unsigned long long": ("long long unsigned int", 8, 0),
}
"""C's spelling without an ``int`` that goes without saying -> the compiler's name, the
size in bytes and BTF's encoding (1 signed, 4 bool)."""

BASE_WORDS = ("signed", "unsigned", "short", "long", "char", "int", "_Bool")
TOKEN = re.compile(r"\s*([A-Za-z_]\w*|\*|\[\s*[0-9]*\s*\])")
STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[(\d+)\]")


class TypeMissing(LookupError):
    """The graph has no such type, member, enumerator or function."""


@dataclass(frozen=True)
class Member:
    """Where a member lies and what it is.

    ``offset`` and ``size`` are in bytes. For a bit-field they give the unit that holds
    it, and ``bit_offset`` counts from that unit's lowest bit; else both bit fields are
    0. ``type`` is an id of the graph.
    """

    offset: int
    size: int
    bit_offset: int
    bit_size: int
    type: int


@dataclass(frozen=True)
class Holder:
    """The record that lists a member: an anonymous one, perhaps. ``index`` is in it."""

    type: int
    index: int
    bit_base: int


class TypeGraph:
    """Types by id and by C name. Lookups raise `TypeMissing`."""

    def __init__(self, records: Mapping[int, Record]):
        self._records = dict(records)
        self._tags: dict[tuple[str, str], int] = {}
        self._enumerators: dict[str, int] = {}
        self._members: dict[str, Member] = {}
        self._texts: dict[str, int] = {}
        for type_id, record in self._records.items():
            self._note_names(type_id, record)

    @classmethod
    def from_btf(cls, data: bytes) -> TypeGraph:
        """The graph of a raw BTF section. Raises `BtfError` for damaged data."""
        btf = Btf(data)
        return cls({type_id: btf[type_id] for type_id in range(1, len(btf))})

    @property
    def records(self) -> Mapping[int, Record]:
        """All records by id. 0 stands for void and has none."""
        return self._records

    def type_id(self, text: str) -> int:
        """The id of a type in C's words: "struct page **", "struct hstate [8]"."""
        if text not in self._texts:
            self._texts[text] = self._parse(text)
        return self._texts[text]

    def has_type(self, text: str) -> bool:
        """Whether the graph knows the type, if only as an incomplete one."""
        try:
            self.type_id(text)
        except TypeMissing:
            return False
        return True

    def sizeof(self, text: str) -> int:
        """Size in bytes of a type ("struct page") or of a member ("page.flags")."""
        if "." in text:
            return self.member(text).size
        return self.size(self.type_id(text))

    def size(self, type_id: int) -> int:
        """Size in bytes of the type of an id. 0 for incomplete types and functions."""
        factor = 1
        for _ in range(MAX_DEPTH):
            record = self.target(type_id)
            if record.kind == Kind.PTR:
                return 8 * factor
            if record.kind != Kind.ARRAY:
                return record.size * factor
            factor *= record.count
            type_id = record.type
        raise TypeMissing(f"type {type_id} is an array without end")

    def target(self, type_id: int) -> Record:
        """The record behind typedefs and qualifiers."""
        return self[self.strip(type_id)]

    def strip(self, type_id: int) -> int:
        """The id behind typedefs and qualifiers."""
        for _ in range(MAX_DEPTH):
            if type_id == 0 or self[type_id].kind not in TRANSPARENT:
                return type_id
            type_id = self[type_id].type
        raise TypeMissing(f"type {type_id} is qualified without end")

    def __getitem__(self, type_id: int) -> Record:
        if type_id == 0:
            return Record(Kind.VOID, "void")
        try:
            return self._records[type_id]
        except KeyError:
            raise TypeMissing(f"there is no type {type_id}") from None

    def member(self, path: str) -> Member:
        """Place, size and type of "zone.vmemmap_tails[2]" or "page.lru.next"."""
        if path not in self._members:
            self._members[path] = self._walk(path)
        return self._members[path]

    def offsetof(self, path: str) -> int:
        """Offset in bytes of a member from its outermost structure's start."""
        return self.member(path).offset

    def has(self, path: str) -> bool:
        """Whether the member exists."""
        try:
            self.member(path)
        except TypeMissing:
            return False
        return True

    def array_length(self, path: str) -> int:
        """Elements of an array member. Raises `TypeMissing` for other members too."""
        record = self.target(self.member(path).type)
        if record.kind != Kind.ARRAY:
            raise TypeMissing(f"{path} is no array")
        return record.count

    def is_array(self, path: str) -> bool:
        """Whether the member is an array (and not, say, a pointer to one)."""
        return self.target(self.member(path).type).kind == Kind.ARRAY

    def enumerator(self, name: str) -> int:
        """Value of an enumerator."""
        try:
            return self._enumerators[name]
        except KeyError:
            raise TypeMissing(f"there is no enumerator {name}") from None

    def has_enumerator(self, name: str) -> bool:
        """Whether some enum has this enumerator."""
        return name in self._enumerators

    def enumerators(self, tag: str) -> dict[str, int]:
        """All enumerators of ``enum TAG``, in order."""
        constants = self[self.tagged("enum", tag)].enumerators
        return {c.name: c.value for c in constants}

    def function(self, name: str) -> tuple[Parameter, ...]:
        """The parameters of a function."""
        return self[self[self.tagged("function", name)].type].parameters

    def has_function(self, name: str) -> bool:
        """Whether the graph holds the function."""
        return ("function", name) in self._tags

    def tagged(self, keyword: str, name: str) -> int:
        """The id of "struct", "union", "enum", "typedef" or "function" ``name``."""
        try:
            return self._tags[keyword, name]
        except KeyError:
            raise TypeMissing(f"there is no {keyword} {name}") from None

    def enum_of(self, enumerator: str) -> int:
        """The id of the enum that holds an enumerator, named or not."""
        for type_id, record in self._records.items():
            if any(c.name == enumerator for c in record.enumerators):
                return type_id
        raise TypeMissing(f"there is no enumerator {enumerator}")

    def holder(self, path: str) -> Holder:
        """The record in which the last member of a path is listed."""
        prefix, _, name = path.rpartition(".")
        if not prefix:
            raise TypeMissing(f"{path!r} names no member")
        outer = self.member(prefix).type if "." in prefix else self._structure(prefix)
        return self._find(self.strip(outer), name, path)

    def _note_names(self, type_id: int, record: Record) -> None:
        keyword = {
            Kind.STRUCT: "struct",
            Kind.UNION: "union",
            Kind.ENUM: "enum",
            Kind.ENUM64: "enum",
            Kind.TYPEDEF: "typedef",
            Kind.FUNC: "function",
            Kind.INT: "base",
            Kind.FWD: "union" if record.flag else "struct",
        }.get(record.kind)
        if keyword and record.name:
            known = self._tags.get((keyword, record.name))
            if known is None or self._records[known].kind == Kind.FWD:
                self._tags[keyword, record.name] = type_id
        for constant in record.enumerators:
            self._enumerators.setdefault(constant.name, constant.value)

    def _structure(self, name: str) -> int:
        for keyword in ("struct", "union", "typedef"):
            if (keyword, name) in self._tags:
                return self._tags[keyword, name]
        raise TypeMissing(f"there is no struct {name}")

    def _walk(self, path: str) -> Member:
        text = re.sub(r"^(struct|union)\s+", "", path)
        steps = list(_steps(text))
        type_id = self._structure(str(steps[0]))
        bits, bit_size = 0, 0
        for step in steps[1:]:
            inner = self.strip(type_id)
            if isinstance(step, int):
                record = self[inner]
                if record.kind != Kind.ARRAY:
                    raise TypeMissing(f"{path}: no array before [{step}]")
                type_id = record.type
                bits += 8 * self.size(type_id) * step
            else:
                holder = self._find(inner, step, path)
                raw = self[holder.type].members[holder.index]
                bits += holder.bit_base + raw.bit_offset
                type_id, bit_size = raw.type, raw.bit_size
        size = self.size(type_id)
        if not bit_size:
            return Member(bits // 8, size, 0, 0, type_id)
        unit = bits // (8 * size) * size
        return Member(unit, size, bits - 8 * unit, bit_size, type_id)

    def _find(self, type_id: int, name: str, path: str) -> Holder:
        """A member by name, breadth first through anonymous members."""
        level = [(type_id, 0)]
        for _ in range(MAX_DEPTH):
            below = []
            for holder, base in level:
                for index, member in enumerate(self[holder].members):
                    if member.name == name:
                        return Holder(holder, index, base)
                    if not member.name:
                        inner = self.strip(member.type)
                        below.append((inner, base + member.bit_offset))
            if not below:
                break
            level = below
        raise TypeMissing(f"{path}: there is no member {name}")

    def _parse(self, text: str) -> int:
        words, derived = _split_type(text)
        type_id = self._named(words, text)
        for step in derived:
            if step == "*":
                type_id = self._intern(Record(Kind.PTR, type=type_id))
            else:
                index = self._named(["int"], text)
                count = int(step)
                type_id = self._intern(
                    Record(Kind.ARRAY, type=type_id, index_type=index, count=count)
                )
        return type_id

    def _named(self, words: list[str], text: str) -> int:
        words = [w for w in words if w not in ("const", "volatile", "extern")]
        if words == ["void"]:
            return 0
        if len(words) == 2 and words[0] in ("struct", "union", "enum"):
            return self.tagged(words[0], words[1])
        if len(words) == 1 and ("typedef", words[0]) in self._tags:
            return self._tags["typedef", words[0]]
        spelling = _base_spelling(words)
        if spelling not in BASE_TYPES:
            raise TypeMissing(f"there is no type {text!r}")
        name, size, encoding = BASE_TYPES[spelling]
        known = self._tags.get(("base", name))
        if known is not None:
            return known
        return self._intern(
            Record(Kind.INT, name, size, bits=8 * size, encoding=encoding)
        )

    def _intern(self, record: Record) -> int:
        """The id of a record that nothing names, added when it is new."""
        for type_id, known in self._records.items():
            if known == record:
                return type_id
        type_id = max(self._records, default=0) + 1
        self._records[type_id] = record
        self._note_names(type_id, record)
        return type_id


def _steps(path: str) -> Iterator[str | int]:
    position = 0
    while position < len(path):
        match = STEP.match(path, position)
        if not match:
            raise TypeMissing(f"{path!r} is no path to a member")
        yield match[1] if match[1] else int(match[2])
        position = match.end()


def _split_type(text: str) -> tuple[list[str], list[str]]:
    """ "struct hstate *[8]" -> the words, then "*" and lengths, innermost first."""
    words: list[str] = []
    pointers: list[str] = []
    lengths: list[str] = []
    position, text = 0, text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if not match:
            raise TypeMissing(f"{text!r} is no type this parser knows")
        token, position = match[1], match.end()
        if token == "*":
            pointers.append(token)
        elif token[0] == "[":
            lengths.append(token[1:-1].strip() or "0")
        elif not pointers and not lengths:
            words.append(token)
    return words, pointers + lengths[::-1]


def _base_spelling(words: list[str]) -> str:
    """A base type's words in one order, without the words that go without saying."""
    if not all(word in BASE_WORDS for word in words):
        return " ".join(words)
    words = sorted(words, key=BASE_WORDS.index)
    if len(words) > 1:
        words = [word for word in words if word != "int"]
    if "char" not in words:
        words = [word for word in words if word != "signed"] or (words and ["int"])
    return " ".join(words)
