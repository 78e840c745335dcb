# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading structures: bytes plus a layout, and the account of what was missing.

May import ``target`` and ``arch``. Virtual addresses inside the vmemmap window go
through our own page walk, because no vmcore covers them; all else is the Target's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Callable

from ..arch.pagetable import PageTable, ReadPhysical
from ..target.base import ByteOrder, Fault, Struct, Target
from ..target.words import Words

__all__ = ["KERNEL_HALF", "Memory", "Missing", "Record", "escape"]

MAX_STRING = 256
KERNEL_HALF = 1 << 63
"""Kernel addresses have the highest bit set on every 64-bit architecture."""
MAX_ADDRESS = 1 << 64


class Missing:
    """What could not be read: counts by Fault kind and by what they concern."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def record(self, fault: Fault, concern: str, count: int = 1) -> None:
        """Count a fault; ``concern`` is a plural noun, e.g. "struct pages"."""
        self._counts[fault.kind, concern] += count

    def add(self, other: Missing) -> None:
        """Count what another account has counted."""
        self._counts.update(other._counts)

    def about(self, *concerns: str) -> list[str]:
        """What is missing of these concerns, in words; empty if nothing is."""
        return [
            f"{concern} ({count} {kind})"
            for (kind, concern), count in sorted(self._counts.items())
            if concern in concerns
        ]

    def __bool__(self) -> bool:
        return bool(self._counts)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """{kind: {concern: count}}"""
        result: dict[str, dict[str, int]] = {}
        for (kind, concern), count in sorted(self._counts.items()):
            result.setdefault(kind, {})[concern] = count
        return result


class Record:
    """The bytes of one struct and the layout that reads them."""

    __slots__ = ("_order", "address", "data", "struct")

    def __init__(self, struct: Struct, address: int, data: bytes, byteorder: ByteOrder):
        self.struct = struct
        self.address = address
        self.data = data
        self._order = byteorder

    def __contains__(self, member: str) -> bool:
        return member in self.struct

    def __getitem__(self, member: str) -> int:
        """An integer, enum or pointer member, unsigned. Raises KeyError."""
        return self._int(member, signed=False)

    def signed(self, member: str) -> int:
        return self._int(member, signed=True)

    def get(self, member: str) -> int | None:
        """The member, None when this kernel's struct lacks it."""
        return self[member] if member in self.struct else None

    def bytes(self, member: str) -> bytes:
        m = self.struct[member]
        return self.data[m.offset : m.offset + m.size]

    def array(self, member: str) -> list[int]:
        """The elements of an array of integers or pointers, unsigned."""
        m = self.struct[member]
        size = m.element_size or 8
        data = self.data[m.offset : m.offset + m.size]
        return [
            int.from_bytes(data[i : i + size], self._order)
            for i in range(0, len(data), size)
        ]

    def address_of(self, member: str) -> int:
        return self.address + self.struct.offset(member)

    def _int(self, member: str, signed: bool) -> int:
        m = self.struct[member]
        if m.bit_size is not None and m.bit_offset is not None:
            whole = int.from_bytes(self.data, self._order)
            return whole >> m.bit_offset & (1 << m.bit_size) - 1
        return int.from_bytes(
            self.data[m.offset : m.offset + m.size], self._order, signed=signed
        )


class Memory:
    """A target's memory with the vmemmap made readable."""

    def __init__(
        self,
        target: Target,
        page_table: PageTable,
        vmemmap_window: tuple[int, int],
        read_physical: ReadPhysical,
    ):
        self.target = target
        self.page_table = page_table
        self.missing = Missing()
        self._start, self._end = vmemmap_window
        self._order = target.byteorder
        self.page_size = 1 << page_table.format.page_shift
        self.read_physical = read_physical
        self._recorded = recorded_words(target)
        # Of a provider that holds pieces side by side.
        self._read_strided: Callable[[int, int, int, int], bytes] | None = getattr(
            getattr(target, "memory", target), "read_strided", None
        )

    def read(self, va: int, size: int) -> bytes:
        """Bytes at a kernel virtual address. Raises `Fault`."""
        if not KERNEL_HALF <= va <= MAX_ADDRESS - size:
            # Pointers come from memory, and an offset may carry one past the end. drgn
            # reads a dump with p_vaddr = p_paddr (QEMU) at user addresses as well.
            raise Fault(va, size, "unmapped")
        if self._start <= va < self._end:
            return self._read_by_walk(va, size)
        return self.target.read(va, size)

    def unsigned(self, va: int, size: int = 8) -> int:
        """An integer at a kernel virtual address. Raises `Fault`."""
        return int.from_bytes(self.read(va, size), self._order)

    def read_pieces(self, pa: int, size: int, step: int, count: int) -> bytes:
        """``count`` pieces of ``size`` bytes of physical memory, ``step`` bytes apart.

        In one buffer, each at its distance; what lies between them says nothing. A
        capsule holds the pieces alone. Raises `Fault`.
        """
        try:
            return self._read_span(pa, size, step, count)
        except Fault:
            if count == 1:
                raise
        if self._read_strided is not None:
            with suppress(Fault):
                return self._read_strided(pa, size, step, count)
        parts = [self.read_physical(pa + i * step, size) for i in range(count)]
        return b"".join([p[:step].ljust(step, b"\0") for p in parts[:-1]] + parts[-1:])

    def _read_span(self, pa: int, size: int, step: int, count: int) -> bytes:
        return self.read_physical(pa, step * (count - 1) + size)

    def read_words(
        self, pa: int, step: int, count: int, offsets: Sequence[int]
    ) -> bytes:
        """``count`` structs, ``step`` bytes each, for the sake of some 64-bit words.

        Those at ``offsets``, multiples of 8, are as in memory; the rest says nothing. A
        capsule holds these words alone. Raises `Fault`.
        """
        if self._recorded is not None:
            known = self._recorded.structs(pa, step, count, offsets, self._order)
            if known is not None:
                return known
        return self.read_physical(pa, step * count)

    @property
    def has_words(self) -> bool:
        """Whether single words of structs are kept here without the structs."""
        return self._recorded is not None

    def record(self, struct: Struct, va: int) -> Record:
        """A whole struct. Raises `Fault`."""
        return Record(struct, va, self.read(va, struct.size), self.target.byteorder)

    def string(self, va: int) -> str:
        """A C string of at most 256 bytes, made safe to print. Raises `Fault`.

        Nothing after its NUL is read: a capsule holds all that was read.
        """
        data = bytearray()
        while len(data) < MAX_STRING and not data.endswith(b"\0"):
            data += self.read(va + len(data), 1)
        return escape(bytes(data).split(b"\0")[0])

    def _read_by_walk(self, va: int, size: int) -> bytes:
        parts: list[bytes] = []
        end = va + size
        while va < end:
            translation = self.page_table.translate(va)
            if translation is None:
                raise Fault(va, end - va, "unmapped")
            mask = translation.page_size - 1
            length = min(end - va, translation.page_size - (va & mask))
            parts.append(self.read_physical(translation.pa, length))
            va += length
        return parts[0] if len(parts) == 1 else b"".join(parts)


def recorded_words(target: Target) -> Words | None:
    """The words that a capsule holds beside its ranges, None where there is none."""
    # A Target is its own memory, or is put together with one.
    memory = getattr(target, "memory", target)
    words: Words | None = getattr(getattr(memory, "capsule", None), "words", None)
    return words


def escape(data: bytes) -> str:
    """Untrusted bytes as printable ASCII; the rest as \\xNN."""
    return "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in data)
