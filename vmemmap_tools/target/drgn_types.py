# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types and symbols of a drgn Program, which has them from DWARF and ELF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import wraps
from itertools import islice
from typing import Any, Callable, TypeVar

import drgn

from .base import Evidence, Function, Member, Struct, TargetError, VariableType

__all__ = ["DrgnSymbols", "DrgnTypes", "has_types", "refuses_damage"]

MAX_NESTING = 6
"""Struct members nested deeper are not flattened; none that we read is."""
MAX_MEMBERS = 1 << 16
"""Most members that one struct may flatten to."""
DAMAGE = (getattr(drgn, "BadDataError", OverflowError), OverflowError, ValueError)
"""What drgn raises for damage that it finds; older ones had no class of their own."""

_KINDS = {
    drgn.TypeKind.INT: "int",
    drgn.TypeKind.BOOL: "int",
    drgn.TypeKind.FLOAT: "float",
    drgn.TypeKind.ENUM: "enum",
    drgn.TypeKind.POINTER: "pointer",
    drgn.TypeKind.ARRAY: "array",
    drgn.TypeKind.STRUCT: "struct",
    drgn.TypeKind.UNION: "union",
    drgn.TypeKind.VOID: "void",
    drgn.TypeKind.FUNCTION: "void",
    drgn.TypeKind.CLASS: "struct",
}

_AGGREGATES = (drgn.TypeKind.STRUCT, drgn.TypeKind.UNION, drgn.TypeKind.CLASS)


F = TypeVar("F", bound=Callable[..., Any])


def refuses_damage(function: F) -> F:
    """Turn what drgn raises for damaged debug info into one `TargetError`.

    drgn reads debug info when a name is asked for. What elfutils finds is an error of
    the class Exception itself.
    """

    @wraps(function)
    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, DAMAGE):
                raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise TargetError(
                f"the debug info of the vmlinux is damaged ({lines[0]}): "
                "copy or install it again, or try --types btf"
            ) from None

    return guarded  # type: ignore[return-value]


class DrgnTypes:
    """Types as the debug info of a Program has them. Damage is a `TargetError`."""

    def __init__(self, prog: drgn.Program):
        self._prog = prog

    @refuses_damage
    def variable(self, name: str) -> VariableType | None:
        try:
            found = self._prog.variable(name)
        except LookupError:
            return None
        if found.address_ is None:
            return None
        return VariableType(_member(found.type_, 0), found.address_)

    @refuses_damage
    def struct(self, name: str) -> Struct | None:
        for spelling in (f"struct {name}", name):
            try:
                type_ = _resolve(self._prog.type(spelling))
            except (LookupError, SyntaxError):
                continue
            if type_.kind in _AGGREGATES and type_.is_complete():
                size = type_.size
                assert size is not None
                members = list(islice(_flatten(type_, 0, "", 0), MAX_MEMBERS + 1))
                if len(members) > MAX_MEMBERS:
                    raise ValueError(f"struct {name} has too many members")
                return Struct(name, size, dict(members))
        return None

    @refuses_damage
    def function(self, name: str) -> Function | None:
        try:
            found = self._prog.function(name)
        except LookupError:
            return None
        return Function(name, tuple(p.type.type_name() for p in found.type_.parameters))

    @refuses_damage
    def enumerator(self, name: str) -> int | None:
        try:
            return int(self._prog.constant(name).value_())
        except (LookupError, TypeError):
            return None

    @refuses_damage
    def enumerators(self, enum: str) -> Mapping[str, int]:
        try:
            type_ = _resolve(self._prog.type(f"enum {enum}"))
        except LookupError:
            return {}
        return {e.name: e.value for e in type_.enumerators or ()}

    def evidence(self) -> list[Evidence]:
        return [_evidence(self._prog, "types", "DWARF")]


class DrgnSymbols:
    """Symbols as a Program's ELF files have them."""

    def __init__(self, prog: drgn.Program):
        self._prog = prog

    @refuses_damage
    def symbol(self, name: str) -> int | None:
        try:
            return int(self._prog.symbol(name).address)
        except LookupError:
            return None

    def evidence(self) -> list[Evidence]:
        return [_evidence(self._prog, "symbols", "vmlinux")]


@refuses_damage
def has_types(prog: drgn.Program) -> bool:
    """Whether drgn knows the kernel's types, from DWARF or another finder."""
    try:
        return bool(prog.type("struct page").is_complete())
    except LookupError:
        return False


def _evidence(prog: drgn.Program, subject: str, origin: str) -> Evidence:
    """Where drgn has types or symbols from: a file, or finders of a plugin."""
    file = _debug_file(prog)
    if file:
        return Evidence(subject, origin, file)
    if not has_types(prog):
        return Evidence(subject, "none", "no debug info")
    finders = {
        "types": prog.enabled_type_finders,
        "symbols": prog.enabled_symbol_finders,
    }[subject]()
    return Evidence(subject, f"{subject[:-1]} finders", ", ".join(finders))


def _debug_file(prog: drgn.Program) -> str | None:
    for module in prog.modules():
        if isinstance(module, drgn.MainModule):
            path: str | None = module.debug_file_path
            return path
    return None


def _resolve(type_: drgn.Type) -> drgn.Type:
    while type_.kind == drgn.TypeKind.TYPEDEF:
        type_ = type_.type
    return type_


def _member(type_: drgn.Type, offset: int) -> Member:
    name = type_.type_name()
    type_ = _resolve(type_)
    kind = _KINDS[type_.kind]
    size = drgn.sizeof(type_) if kind != "void" and _is_complete(type_) else 0
    length = element_kind = element_size = None
    depth = 0
    target = type_
    if type_.kind == drgn.TypeKind.ARRAY:
        length = type_.length
        target = _resolve(type_.type)
        while target.kind == drgn.TypeKind.ARRAY:
            target = _resolve(target.type)
        element_kind = _KINDS[target.kind]
        element_size = drgn.sizeof(target) if _is_complete(target) else None
    while target.kind == drgn.TypeKind.POINTER:
        depth += 1
        target = _resolve(target.type)
    return Member(offset, size, kind, name, length, element_kind, element_size, depth)


def _is_complete(type_: drgn.Type) -> bool:
    if type_.kind == drgn.TypeKind.ARRAY:
        return type_.length is not None and _is_complete(_resolve(type_.type))
    return type_.kind not in (*_AGGREGATES, drgn.TypeKind.ENUM) or type_.is_complete()


def _flatten(
    type_: drgn.Type, base_bits: int, prefix: str, depth: int
) -> Iterator[tuple[str, Member]]:
    """All members with byte offsets; anonymous members vanish, named ones get dots."""
    for member in type_.members or ():
        bits = base_bits + member.bit_offset
        name = prefix + (member.name or "")
        inner = _resolve(member.type)
        if member.name:
            found = _member(member.type, bits // 8)
            if member.bit_field_size:
                found = Member(
                    bits // 8,
                    found.size,
                    found.kind,
                    found.type_name,
                    bit_offset=bits,
                    bit_size=member.bit_field_size,
                )
            yield name, found
        if inner.kind in _AGGREGATES and inner.is_complete() and depth < MAX_NESTING:
            yield from _flatten(
                inner, bits, f"{name}." if member.name else prefix, depth + 1
            )
