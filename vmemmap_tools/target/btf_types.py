# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types from BTF: a kernel's own description, in its memory, in sysfs or in a vmlinux.

Types of modules can be read on top of the kernel's (split BTF, ``Btf(data, base)``).
Damage in a record that is asked for is a `TargetError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import wraps
from typing import Any, Callable, TypeVar

from ..formats.btf import Btf, BtfError, Kind, Record
from .base import Evidence, Function, Member, Struct, TargetError, VariableType
from .variables import SCALARS, VARIABLES, Declared
from .vmcoreinfo import VmcoreInfo

__all__ = ["BtfTypes"]

MAX_NESTING = 6
"""Struct members nested deeper are not flattened; none that we read is."""
MAX_POINTERS = 8
MAX_MEMBERS = 1 << 16

EXPORTED_ENUMERATORS = ("PG_", "NR_FREE_PAGES", "HUGETLB_PAGE_DTOR")
"""Those that VMCOREINFO gives by their own names."""

_KINDS = {
    Kind.INT: "int",
    Kind.FLOAT: "float",
    Kind.ENUM: "enum",
    Kind.ENUM64: "enum",
    Kind.PTR: "pointer",
    Kind.ARRAY: "array",
    Kind.STRUCT: "struct",
    Kind.UNION: "union",
}
"""Kinds of members; what is not here is "void"."""

_AGGREGATES = (Kind.STRUCT, Kind.UNION)
_ENUMS = (Kind.ENUM, Kind.ENUM64)
_TAGGED = {Kind.STRUCT: "struct ", Kind.UNION: "union "}
_TAGGED.update(dict.fromkeys(_ENUMS, "enum "))

_COMMON_SPELLING = {
    "long unsigned int": "unsigned long",
    "long int": "long",
    "short unsigned int": "unsigned short",
    "long long unsigned int": "unsigned long long",
}
"""Names that compilers give to integers, and what people write."""

F = TypeVar("F", bound=Callable[..., Any])


def _refuses_damage(method: F) -> F:
    """Turn damage of the BTF into the error that names its file."""

    @wraps(method)
    def guarded(self: BtfTypes, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except BtfError as error:
            raise TargetError(f"{self.source}: damaged BTF: {error}") from None

    return guarded  # type: ignore[return-value]


class BtfTypes:
    """The types of a Btf; ``source`` says in words where it was found.

    ``vmcoreinfo`` checks that it describes this kernel, and has the lengths of arrays.
    Raises `TargetError` for the BTF of another build.
    """

    def __init__(self, btf: Btf, source: str, vmcoreinfo: VmcoreInfo):
        self.btf = btf
        self.source = source
        self._vmcoreinfo = vmcoreinfo
        self._structs: dict[str, Struct | None] = {}
        self._check()

    @classmethod
    def from_bytes(cls, data: bytes, source: str, vmcoreinfo: VmcoreInfo) -> BtfTypes:
        """The types of a raw ``.BTF`` section. Raises `TargetError`."""
        try:
            return cls(Btf(data), source, vmcoreinfo)
        except BtfError as error:
            raise TargetError(f"{source}: damaged BTF: {error}") from None

    def _check(self) -> None:
        """Compare what the kernel exports itself: sizes, offsets, lengths, numbers."""
        for key in self._vmcoreinfo:
            kind, _, name = key.rstrip(")").partition("(")
            found, expected = self._known(kind, name)
            if found is not None and found != expected:
                raise TargetError(
                    f"{self.source} is the BTF of another build than the kernel: "
                    f"{name} is {found} there, VMCOREINFO {key}={expected}"
                )

    def _known(self, kind: str, name: str) -> tuple[int | None, int | None]:
        """What BTF and VMCOREINFO say of one thing; None where BTF says nothing."""
        info = self._vmcoreinfo
        tag, _, member = name.partition(".")
        if kind == "SIZE":
            type_id = self._aggregate(name)
            return (None if type_id is None else self.btf[type_id].size), info.size(
                name
            )
        if kind == "NUMBER" and name.startswith(EXPORTED_ENUMERATORS):
            return self.enumerator(name), info.number(name)
        struct = self.struct(tag) if kind in ("OFFSET", "LENGTH") and member else None
        if struct is None or member not in struct:
            return None, None
        if kind == "LENGTH":
            return struct[member].length, info.length(name)
        return struct.offset(member), info.offset(name)

    # What a TypeProvider answers

    def struct(self, name: str) -> Struct | None:
        if name not in self._structs:
            self._structs[name] = self._decode_struct(name)
        return self._structs[name]

    @_refuses_damage
    def _decode_struct(self, name: str) -> Struct | None:
        type_id = self._find(name, *_AGGREGATES)
        if type_id is None:
            return None
        record = self.btf[type_id]
        members = dict(self._flatten(record, 0, "", 0, [MAX_MEMBERS]))
        return Struct(name, record.size, members)

    @_refuses_damage
    def function(self, name: str) -> Function | None:
        type_id = self.btf.find(name, Kind.FUNC)
        if type_id is None:
            return None
        prototype = self.btf[self.btf[type_id].type]
        return Function(name, tuple(self._spell(p.type) for p in prototype.parameters))

    @_refuses_damage
    def enumerator(self, name: str) -> int | None:
        return self.btf.enumerator(name)

    @_refuses_damage
    def enumerators(self, enum: str) -> Mapping[str, int]:
        type_id = self._find(enum, *_ENUMS)
        if type_id is None:
            return {}
        return {e.name: e.value for e in self.btf[type_id].enumerators}

    @_refuses_damage
    def variable(self, name: str) -> VariableType | None:
        declared = VARIABLES.get(name)
        if declared is None:
            return None
        if name == "mem_section" and not self._vmcoreinfo.has_section_roots():
            declared = Declared("mem_section", is_array=True)
        kind, size, spelled = self._base(declared.base)
        if kind is None:
            return None
        if declared.pointers:
            kind, size = "pointer", 8
        spelled = f"{spelled} {'*' * declared.pointers}".rstrip()
        if not declared.is_array:
            depth = declared.pointers
            return VariableType(Member(0, size, kind, spelled, pointer_depth=depth))
        length = self._length(name)
        return VariableType(
            Member(
                0,
                size * (length or 0),
                "array",
                f"{spelled}[{length or ''}]",
                length,
                kind,
                size,
                declared.pointers,
            )
        )

    def evidence(self) -> list[Evidence]:
        return [Evidence("types", "BTF", self.source)]

    # How it is found

    @_refuses_damage
    def _aggregate(self, name: str) -> int | None:
        return self._find(name, *_AGGREGATES)

    def _find(self, name: str, *kinds: Kind) -> int | None:
        """The complete type with this tag, or behind the typedef of this name."""
        found = self.btf.find(name, *kinds)
        if found is None:
            typedef = self.btf.find(name, Kind.TYPEDEF)
            if typedef is not None:
                target = self.btf.strip(typedef)
                found = target if self.btf[target].kind in kinds else None
        return found

    def _base(self, name: str) -> tuple[str | None, int, str]:
        """(kind, size, spelling) of a declaration's base type."""
        if name in SCALARS:
            return "int", SCALARS[name], name
        for kinds in (_AGGREGATES, _ENUMS):
            type_id = self._find(name, *kinds)
            if type_id is not None:
                record = self.btf[type_id]
                return _KINDS[record.kind], record.size, f"{_tag(record)}{name}"
        return None, 0, name

    def _length(self, name: str) -> int | None:
        """Elements of an array, None when nothing tells."""
        known = self._vmcoreinfo.length(name)
        if known is not None:
            return known
        if name == "node_data":
            hstate = self.struct("hstate")
            if hstate is not None and "nr_huge_pages_node" in hstate:
                return hstate["nr_huge_pages_node"].length
            mask = self.struct("nodemask_t")
            return 8 * mask.size if mask is not None else None
        if name == "node_states":
            return self.enumerator("NR_NODE_STATES")
        return None

    # Members

    def _flatten(
        self, record: Record, base: int, prefix: str, depth: int, budget: list[int]
    ) -> Iterator[tuple[str, Member]]:
        """All members; anonymous ones vanish, those of named ones get dots."""
        for member in record.members:
            budget[0] -= 1
            if budget[0] < 0:
                raise BtfError(f"{record.name or 'a struct'} has members without end")
            bits = base + member.bit_offset
            name = prefix + member.name
            inner = self.btf[self.btf.strip(member.type)]
            if member.name:
                yield name, self._member(member.type, bits, member.bit_size)
            if inner.kind in _AGGREGATES and depth < MAX_NESTING:
                inside = f"{name}." if member.name else prefix
                yield from self._flatten(inner, bits, inside, depth + 1, budget)

    def _member(self, type_id: int, bits: int, bit_size: int) -> Member:
        btf, name = self.btf, self._spell(type_id)
        record = btf[btf.strip(type_id)]
        kind = _KINDS.get(record.kind, "void")
        size = btf.sizeof(type_id)
        if bit_size:
            return Member(
                bits // 8, size, kind, name, bit_offset=bits, bit_size=bit_size
            )
        length = element_kind = element_size = None
        target = record
        if record.kind == Kind.ARRAY:
            # Of [0] and [], which BTF does not tell apart, we know no length either.
            length = record.count or None
            for _ in range(MAX_POINTERS):
                if target.kind != Kind.ARRAY:
                    break
                element = btf.strip(target.type)
                target = btf[element]
                element_size = btf.sizeof(element)
            element_kind = _KINDS.get(target.kind, "void")
        depth = 0
        while target.kind == Kind.PTR and depth < MAX_POINTERS:
            depth += 1
            target = btf[btf.strip(target.type)]
        return Member(
            bits // 8, size, kind, name, length, element_kind, element_size, depth
        )

    def _spell(self, type_id: int) -> str:
        """A type as C writes it; pointers to functions and such are shortened."""
        suffix, stars = "", ""
        record = self.btf[type_id]
        for _ in range(4 * MAX_POINTERS):
            if record.kind == Kind.PTR:
                stars = f"*{stars}"
            elif record.kind == Kind.ARRAY:
                suffix += f"[{record.count or ''}]"
            elif record.kind not in (Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG):
                break
            record = self.btf[record.type]
        qualifier = ""
        if record.kind == Kind.CONST:
            record, qualifier = self.btf[record.type], "const "
        name = record.name or ("void" if record.kind == Kind.VOID else "...")
        name = _COMMON_SPELLING.get(name, name)
        return " ".join(f"{qualifier}{_tag(record)}{name} {stars}{suffix}".split())


def _tag(record: Record) -> str:
    return _TAGGED.get(record.kind, "")
