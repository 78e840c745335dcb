# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Target put together from a memory, types and symbols of any origin.

Memory may be a dump or a debugger, types DWARF, BTF or VMCOREINFO, symbols those of a
vmlinux, kallsyms or VMCOREINFO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from .base import (
    Evidence,
    Fault,
    Function,
    MemoryProvider,
    PhysicalRange,
    Refreshable,
    Struct,
    SymbolProvider,
    TypeProvider,
    Variable,
)

__all__ = ["ComposedTarget", "SymbolChain", "TypedMemory"]


class TypedMemory:
    """What types and symbols add to a memory; the memory part comes with a subclass."""

    types: TypeProvider
    symbols: SymbolProvider

    def _combine(self, types: TypeProvider, symbols: SymbolProvider) -> None:
        self.types = types
        self.symbols = symbols
        self.struct = lru_cache(maxsize=None)(self._struct)
        self.variable = lru_cache(maxsize=None)(self._variable)

    def symbol(self, name: str) -> int | None:
        return self.symbols.symbol(name)

    def _variable(self, name: str) -> Variable | None:
        """A variable needs both: a type, and an address from either side."""
        found = self.types.variable(name)
        if found is None:
            return None
        address = found.address
        if address is None:
            address = self.symbols.symbol(name)
        return None if address is None else Variable(name, address, found.type)

    def unsigned_from(self, memory: MemoryProvider, name: str) -> int | None:
        """The value of an integer variable as this memory has it."""
        variable = self.variable(name)
        if variable is None or variable.type.kind not in ("int", "enum", "pointer"):
            return None
        try:
            data = memory.read(variable.address, variable.type.size)
        except Fault:
            return None
        return int.from_bytes(data, memory.byteorder)

    def _struct(self, name: str) -> Struct | None:
        return self.types.struct(name)

    def function(self, name: str) -> Function | None:
        return self.types.function(name)

    def enumerator(self, name: str) -> int | None:
        return self.types.enumerator(name)

    def enumerators(self, enum: str) -> Mapping[str, int]:
        return self.types.enumerators(enum)


class ComposedTarget(TypedMemory):
    """Three providers as one Target.

    ``release`` is shown instead of VMCOREINFO's when that had to be altered.
    """

    def __init__(
        self,
        memory: MemoryProvider,
        types: TypeProvider,
        symbols: SymbolProvider,
        release: str | None = None,
    ):
        self.memory = memory
        self._combine(types, symbols)
        self.arch = memory.arch
        self.byteorder = memory.byteorder
        self.live = memory.live
        self.vmcoreinfo = memory.vmcoreinfo
        self.release = release or self.vmcoreinfo.get("OSRELEASE", "unknown")

    def read(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    def read_physical(self, address: int, size: int) -> bytes:
        return self.memory.read_physical(address, size)

    def ranges(self) -> Sequence[PhysicalRange]:
        return self.memory.ranges()

    def refresh(self) -> None:
        """Look anew at the memory; types and symbols stay as they are."""
        if isinstance(self.memory, Refreshable):
            self.memory.refresh()

    def unsigned(self, name: str) -> int | None:
        return self.unsigned_from(self.memory, name)

    def evidence(self) -> list[Evidence]:
        parts = (self.memory, self.types, self.symbols)
        return [fact for part in parts for fact in part.evidence()]


class SymbolChain:
    """Several sources of symbols, the surest first."""

    def __init__(self, *providers: SymbolProvider):
        self._providers = providers

    def symbol(self, name: str) -> int | None:
        for provider in self._providers:
            address = provider.symbol(name)
            if address is not None:
                return address
        return None

    def evidence(self) -> list[Evidence]:
        return [fact for p in self._providers for fact in p.evidence()]
