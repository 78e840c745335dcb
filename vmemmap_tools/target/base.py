# SPDX-License-Identifier: LGPL-2.1-or-later
"""Target: the one door to a kernel's bytes, symbols and types.

Whatever can answer these questions can be analysed: a drgn Program, gdb's inferior,
a dict in a test. Everything above reads bytes at offsets and knows no debugger.
Memory, types and symbols are three providers that combine freely (``composed``).
The errors and types of reading are defined here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

__all__ = [
    "TYPE_SOURCES",
    "ByteOrder",
    "Evidence",
    "Fault",
    "Function",
    "Member",
    "MemoryProvider",
    "PhysicalRange",
    "Refreshable",
    "Struct",
    "SymbolProvider",
    "Target",
    "TargetError",
    "TypeProvider",
    "TypeSource",
    "Variable",
    "VariableType",
    "incomplete",
]

ByteOrder = Literal["little", "big"]
TypeSource = Literal["auto", "dwarf", "btf", "vmcoreinfo"]
TYPE_SOURCES: tuple[TypeSource, ...] = ("auto", "dwarf", "btf", "vmcoreinfo")
"""Where types may come from; "auto" takes the first of the others that there is."""

FAULT_KINDS = ("excluded", "cut", "outside", "unmapped", "io", "damaged")


class TargetError(Exception):
    """A target that cannot be opened or used; the text says why and what would help."""


class Fault(Exception):
    """Memory that could not be read.

    ``kind`` says why: "excluded" (the dump names it but left it out: it may have been
    zero), "cut" (the dump names it, but its file ends before it or was never written
    so far), "outside" (the dump has no such memory), "unmapped" (no translation), "io"
    (the reader failed). None of these is a sign of corruption by itself; "damaged" is:
    what was read cannot be, and following it was refused.
    """

    def __init__(self, address: int, size: int, kind: str, physical: bool = False):
        assert kind in FAULT_KINDS
        space = "physical" if physical else "virtual"
        super().__init__(f"{kind}: {size} bytes at {space} address {address:#x}")
        self.address = address
        self.size = size
        self.kind = kind
        self.physical = physical


@dataclass(frozen=True)
class Member:
    """One member of a struct. Offsets and sizes in bytes, for bit fields also in bits.

    ``kind`` is "int", "pointer", "array", "struct", "union", "enum", "float" or "void".
    For arrays ``length`` counts elements (None for a flexible one) and ``element_kind``
    and ``element_size`` describe one of them; ``pointer_depth`` counts the stars of a
    pointer (of the elements, for an array).
    """

    offset: int
    size: int
    kind: str
    type_name: str
    length: int | None = None
    element_kind: str | None = None
    element_size: int | None = None
    pointer_depth: int = 0
    bit_offset: int | None = None
    bit_size: int | None = None


@dataclass(frozen=True)
class Struct:
    """A struct: its size and its members, those of anonymous members included.

    Members of named struct members are found under dotted names ("lru.next").
    """

    name: str
    size: int
    members: Mapping[str, Member]

    def __contains__(self, member: str) -> bool:
        return member in self.members

    def __getitem__(self, member: str) -> Member:
        return self.members[member]

    def offset(self, member: str) -> int:
        """Byte offset of a member, as the kernel's ``offsetof``. Raises KeyError."""
        return self.members[member].offset

    def first(self, *names: str) -> str | None:
        """The first of these names that is a member."""
        return next((name for name in names if name in self.members), None)


@dataclass(frozen=True)
class Variable:
    """A variable: its run-time address and its type, described like a member's."""

    name: str
    address: int
    type: Member


@dataclass(frozen=True)
class VariableType:
    """A variable's type, and its run-time address where the types know it (DWARF)."""

    type: Member
    address: int | None = None


@dataclass(frozen=True)
class Function:
    """A function's parameter types as C spells them, e.g. "struct dev_pagemap *"."""

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class PhysicalRange:
    """Physical addresses ``start <= pa < end`` that a dump names.

    ``present`` is False for ranges that were left out of the file.
    """

    start: int
    end: int
    present: bool


@dataclass(frozen=True)
class Evidence:
    """One fact and where it came from, for `vmemmap info`."""

    subject: str
    value: str
    source: str


def incomplete(target: object) -> str:
    """The warning that the file behind a target is incomplete; "" for a whole one.

    A Target is its own memory, or has one as ``memory``.
    """
    sentence: str = getattr(getattr(target, "memory", target), "incomplete", "")
    return f"warning: {sentence}; what needs the rest is unknown" if sentence else ""


class MemoryProvider(Protocol):
    """A kernel's bytes, and what the kernel says of itself beside them."""

    arch: str
    byteorder: ByteOrder
    live: bool

    @property
    def vmcoreinfo(self) -> Mapping[str, str]:
        """The KEY=value lines of the VMCOREINFO note."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a kernel virtual address. Raises `Fault`."""

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes at a physical address. Raises `Fault`."""

    def ranges(self) -> Sequence[PhysicalRange]:
        """What the dump holds and what it names but leaves out; empty if unknown."""

    def evidence(self) -> list[Evidence]:
        """What the memory is read from."""


@runtime_checkable
class Refreshable(Protocol):
    """A memory that keeps what may have changed since it was opened."""

    def refresh(self) -> None:
        """Look anew at what memory there is, and forget what was read of it."""


class TypeProvider(Protocol):
    """Layouts of structs and types of variables: what a `Target` says of them."""

    def variable(self, name: str) -> VariableType | None:
        """The type of a variable, None when it is not known."""

    def struct(self, name: str) -> Struct | None: ...

    def function(self, name: str) -> Function | None: ...

    def enumerator(self, name: str) -> int | None: ...

    def enumerators(self, enum: str) -> Mapping[str, int]: ...

    def evidence(self) -> list[Evidence]:
        """Where the types come from."""


class SymbolProvider(Protocol):
    """Run-time addresses by name."""

    def symbol(self, name: str) -> int | None: ...

    def evidence(self) -> list[Evidence]:
        """Where the symbols come from."""


class Target(Protocol):
    """A kernel's memory, types and symbols."""

    arch: str
    """Architecture name as in ``arch.ARCHITECTURES`` ("x86_64"), or another's name."""
    byteorder: ByteOrder
    live: bool
    """Whether memory may change between two reads."""
    release: str
    """``init_uts_ns.name.release``: for display only, never compared."""

    @property
    def vmcoreinfo(self) -> Mapping[str, str]:
        """The KEY=value lines of the VMCOREINFO note."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a kernel virtual address. Raises `Fault`."""

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes at a physical address. Raises `Fault`."""

    def ranges(self) -> Sequence[PhysicalRange]:
        """What the dump holds and what it names but leaves out; empty if unknown."""

    def symbol(self, name: str) -> int | None:
        """Run-time address of a symbol (KASLR applied), None when there is none."""

    def unsigned(self, name: str) -> int | None:
        """Value of an integer variable, None when it is unknown or unreadable."""

    def variable(self, name: str) -> Variable | None:
        """Address and type of a variable, file-local ones too."""

    def struct(self, name: str) -> Struct | None:
        """Layout of ``struct name`` or of the typedef ``name``; None if incomplete."""

    def function(self, name: str) -> Function | None:
        """Parameter types of a function, None when the debug info lacks it."""

    def enumerator(self, name: str) -> int | None:
        """Value of an enumerator."""

    def enumerators(self, enum: str) -> Mapping[str, int]:
        """All enumerators of ``enum NAME``; empty when the type is unknown."""

    def evidence(self) -> list[Evidence]:
        """Where memory, types and symbols come from."""
