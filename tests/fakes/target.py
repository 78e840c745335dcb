# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Target that answers from dicts; its memory is the direct map of a SparseMemory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vmemmap_tools.target.base import (
    ByteOrder,
    Evidence,
    Fault,
    Function,
    Member,
    PhysicalRange,
    Struct,
    Variable,
)

from .memory import PAGE, SparseMemory

__all__ = ["FakeTarget"]


class FakeTarget:
    """Facts given as data. ``heap`` is the physical address of room for variables."""

    arch = "x86_64"
    byteorder: ByteOrder = "little"
    live = False

    def __init__(self, memory: SparseMemory, direct_map: int, heap: int = 1 << 24):
        self.memory = memory
        self.direct_map = direct_map
        self.release = "0.0-fake"
        self.vmcoreinfo: dict[str, str] = {}
        self.structs: dict[str, Struct] = {}
        self.variables: dict[str, Variable] = {}
        self.symbols: dict[str, int] = {}
        self.functions: dict[str, tuple[str, ...]] = {}
        self.enums: dict[str, dict[str, int]] = {}
        self._free = heap

    # Building

    def allocate(self, size: int, align: int = 16) -> int:
        """Kernel virtual address of zeroed memory."""
        start = -(-self._free // align) * align
        self._free = start + size
        return self.direct_map + start

    def allocate_page(self) -> int:
        """Physical address of a zeroed page."""
        return self.allocate(PAGE, PAGE) - self.direct_map

    def write(self, va: int, data: bytes) -> None:
        self.memory.write(va - self.direct_map, data)

    def put(self, data: bytes, align: int = 16) -> int:
        """Allocate and write; returns the address."""
        va = self.allocate(len(data), align)
        self.write(va, data)
        return va

    def define(self, name: str, type_: Member, data: bytes = b"") -> int:
        """A variable with a value; returns its address."""
        va = self.put(data.ljust(type_.size, b"\0"))
        self.variables[name] = Variable(name, va, type_)
        self.symbols[name] = va
        return va

    def define_int(self, name: str, value: int, size: int = 8) -> int:
        type_ = Member(0, size, "int", "unsigned long")
        return self.define(
            name, type_, value.to_bytes(size, "little", signed=value < 0)
        )

    def record(self, name: str, va: int | None = None, /, **values: int) -> int:
        """Write a struct's members; ``a__b`` stands for ``a.b``."""
        layout = self.structs[name]
        if va is None:
            va = self.allocate(layout.size)
        for key, value in values.items():
            member = layout[key.replace("__", ".")]
            mask = (1 << 8 * member.size) - 1
            data = (value & mask).to_bytes(member.size, "little")
            self.write(va + member.offset, data)
        return va

    # Target

    def read(self, address: int, size: int) -> bytes:
        pa = address - self.direct_map
        if not 0 <= pa < self.memory.end:
            raise Fault(address, size, "unmapped")
        return self.memory.read(pa, size)

    def read_physical(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    def ranges(self) -> list[PhysicalRange]:
        return [PhysicalRange(0, self.memory.end, True)]

    def symbol(self, name: str) -> int | None:
        return self.symbols.get(name)

    def unsigned(self, name: str) -> int | None:
        found = self.variables.get(name)
        if found is None:
            return None
        try:
            return int.from_bytes(self.read(found.address, found.type.size), "little")
        except Fault:
            return None

    def variable(self, name: str) -> Variable | None:
        return self.variables.get(name)

    def struct(self, name: str) -> Struct | None:
        return self.structs.get(name)

    def function(self, name: str) -> Function | None:
        found = self.functions.get(name)
        return None if found is None else Function(name, found)

    def enumerator(self, name: str) -> int | None:
        return next(self._values(name), None)

    def _values(self, name: str) -> Iterator[int]:
        for values in self.enums.values():
            if name in values:
                yield values[name]

    def enumerators(self, enum: str) -> Mapping[str, int]:
        return self.enums.get(enum, {})

    def evidence(self) -> list[Evidence]:
        return [Evidence("memory", "a dict", "tests.fakes")]
