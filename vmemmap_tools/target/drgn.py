# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Target over any drgn Program: vmcore, kdump, /proc/kcore, QMP, a script's prog.

drgn reads ranges that were filtered out of an ELF dump as zeros; here they are faults,
because the program headers are asked first (`SegmentMap`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import drgn

from ..arch import ARCHITECTURES
from ..arch.pagetable import PageTable
from ..formats.elf import SegmentMap
from .base import (
    ByteOrder,
    Evidence,
    Fault,
    Function,
    Member,
    PhysicalRange,
    Struct,
    Variable,
)
from .vmcoreinfo import VmcoreInfo

__all__ = ["DrgnTarget"]

MAX_NESTING = 6
"""Struct members nested deeper are not flattened; none that we read is."""

PAGE = 4096

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


class DrgnTarget:
    """Reads a kernel through a drgn Program.

    ``segments`` are an ELF dump's program headers, None for other sources; ``release``
    is shown instead of the Program's when that had to be altered for a library.
    """

    def __init__(
        self,
        prog: drgn.Program,
        segments: SegmentMap | None = None,
        release: str | None = None,
        source: str = "drgn Program",
    ):
        self.prog = prog
        self.live = bool(prog.flags & drgn.ProgramFlags.IS_LIVE)
        platform = prog.platform
        self.arch = platform.arch.name.lower() if platform else "unknown"
        little = not platform or platform.flags & drgn.PlatformFlags.IS_LITTLE_ENDIAN
        self.byteorder: ByteOrder = "little" if little else "big"
        self._segments = segments
        self._source = source
        self.vmcoreinfo = VmcoreInfo(_vmcoreinfo_text(prog))
        self.release = release or self.vmcoreinfo.get("OSRELEASE", "unknown")
        self._page_table: PageTable | None = None
        # ELF dumps that hold every byte they name need no second look.
        self._checked = segments is not None and segments.has_holes
        # drgn's own walk takes the bit of encrypted memory for part of an address.
        is_encrypted = self.vmcoreinfo.number("sme_mask") or 0
        self._walks = self._checked or bool(is_encrypted)
        self.struct = lru_cache(maxsize=None)(self._struct)

    # Memory

    def read(self, address: int, size: int) -> bytes:
        if self._walks:
            return b"".join(
                self.read_physical(pa, length)
                for pa, length in self._translate(address, size)
            )
        try:
            return bytes(self.prog.read(address, size))
        except drgn.FaultError as error:
            raise _fault(error, address, size, physical=False) from None
        except (OverflowError, ValueError):
            raise Fault(address, size, "unmapped") from None

    def read_physical(self, address: int, size: int) -> bytes:
        if self._checked:
            assert self._segments is not None
            absent = self._segments.first_absent(address, size)
            if absent:
                raise Fault(absent[0], size, absent[1], physical=True)
        try:
            return bytes(self.prog.read(address, size, True))
        except drgn.FaultError as error:
            raise _fault(error, address, size, physical=True) from None
        except (OverflowError, ValueError):
            raise Fault(address, size, "outside", physical=True) from None

    def ranges(self) -> Sequence[PhysicalRange]:
        if self._segments is None:
            return ()
        return [
            PhysicalRange(e.start, e.end, e.present) for e in self._segments.extents
        ]

    def _translate(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """Physical pieces of a virtual range, by our own walk. Raises `Fault`."""
        table = self._kernel_page_table()
        end = address + size
        while address < end:
            translation = table.translate(address)
            if translation is None:
                raise Fault(address, end - address, "unmapped")
            length = min(end - address, PAGE - address % PAGE)
            yield translation.pa, length
            address += length

    def _kernel_page_table(self) -> PageTable:
        if self._page_table is None:
            arch = ARCHITECTURES.get(self.arch)
            root = arch.root_pa(self) if arch else None
            if arch is None or root is None:
                raise Fault(0, 0, "unmapped")
            self._page_table = PageTable(
                self.read_physical,
                arch.table_format(_Quiet(self)),
                arch.levels(_Quiet(self)).value,
                root.value,
                self.byteorder,
            )
        return self._page_table

    # Symbols

    def symbol(self, name: str) -> int | None:
        try:
            return int(self.prog.symbol(name).address)
        except LookupError:
            return None

    def unsigned(self, name: str) -> int | None:
        variable = self.variable(name)
        if variable is None or variable.type.kind not in ("int", "enum", "pointer"):
            return None
        try:
            data = self.read(variable.address, variable.type.size)
        except Fault:
            return None
        return int.from_bytes(data, self.byteorder)

    def variable(self, name: str) -> Variable | None:
        try:
            found = self.prog.variable(name)
        except LookupError:
            return None
        if found.address_ is None:
            return None
        return Variable(name, found.address_, _member(found.type_, 0))

    # Types

    def _struct(self, name: str) -> Struct | None:
        for spelling in (f"struct {name}", name):
            try:
                type_ = _resolve(self.prog.type(spelling))
            except (LookupError, SyntaxError):
                continue
            if type_.kind in _AGGREGATES and type_.is_complete():
                size = type_.size
                assert size is not None
                return Struct(name, size, dict(_flatten(type_, 0, "", 0)))
        return None

    def function(self, name: str) -> Function | None:
        try:
            found = self.prog.function(name)
        except LookupError:
            return None
        return Function(name, tuple(p.type.type_name() for p in found.type_.parameters))

    def enumerator(self, name: str) -> int | None:
        try:
            return int(self.prog.constant(name).value_())
        except (LookupError, TypeError):
            return None

    def enumerators(self, enum: str) -> Mapping[str, int]:
        try:
            type_ = _resolve(self.prog.type(f"enum {enum}"))
        except LookupError:
            return {}
        return {e.name: e.value for e in type_.enumerators or ()}

    def evidence(self) -> list[Evidence]:
        modules = [m for m in self.prog.modules() if isinstance(m, drgn.MainModule)]
        file = modules[0].debug_file_path if modules else None
        return [
            Evidence("memory", self._source, f"drgn {drgn.__version__}"),
            Evidence("types", "DWARF" if file else "none", file or "no debug info"),
            Evidence("symbols", "vmlinux" if file else "none", file or "no vmlinux"),
        ]


_AGGREGATES = (drgn.TypeKind.STRUCT, drgn.TypeKind.UNION, drgn.TypeKind.CLASS)


class _Quiet:
    """A target's VMCOREINFO alone: variables would need the table being built."""

    def __init__(self, target: DrgnTarget):
        self.vmcoreinfo = target.vmcoreinfo

    def symbol(self, name: str) -> int | None:
        return None

    def unsigned(self, name: str) -> int | None:
        return None


def _vmcoreinfo_text(prog: drgn.Program) -> str:
    try:
        return str(prog["VMCOREINFO"].string_(), "utf-8", "replace")
    except LookupError:
        return ""


def _fault(error: drgn.FaultError, address: int, size: int, *, physical: bool) -> Fault:
    """Tell by drgn's message why a read failed; it has no codes for that."""
    message = str(error)
    if "Excluded page" in message:
        kind = "excluded"
    elif "not mapped" in message:
        kind = "unmapped"
    elif "memory segment" in message or "Out-of-bounds" in message:
        kind = "outside"
    else:
        kind = "io"
    if "range" in message and kind == "io":
        kind = "outside"
    return Fault(address, size, kind, physical)


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
