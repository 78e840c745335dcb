# SPDX-License-Identifier: LGPL-2.1-or-later
"""Typed writes into model memory: kernel objects by member path, never by offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmemmap_tools.model.memory import PhysicalMemory

if TYPE_CHECKING:
    from vmemmap_tools.model.types import TypeGraph

__all__ = ["Heap", "ImageSymbol", "Object", "Symbols"]


@dataclass(frozen=True)
class ImageSymbol:
    """A symbol of the kernel image; ``address`` is the link-time virtual address."""

    address: int
    size: int
    kind: str
    """object, func or notype"""
    type: str | None
    """C type; None for a symbol that assembly defines."""
    static: bool = False


class Object:
    """A struct, union or scalar in memory, written by member path."""

    def __init__(
        self, memory: PhysicalMemory, types: TypeGraph, tag: str, pa: int, va: int
    ) -> None:
        self.memory = memory
        self.types = types
        self.tag = tag
        self.pa = pa
        self.va = va

    def _path(self, member: str) -> str:
        return f"{self.tag}{member}" if member[:1] == "[" else f"{self.tag}.{member}"

    def has(self, member: str) -> bool:
        return self.types.has(self._path(member))

    def address(self, member: str) -> int:
        """Virtual address of a member."""
        return self.va + self.types.offsetof(self._path(member))

    def set(self, member: str, value: int) -> None:
        """Write an integer or pointer member."""
        m = self.types.member(self._path(member))
        mask = (1 << (8 * m.size)) - 1
        self.memory.write(self.pa + m.offset, (value & mask).to_bytes(m.size, "little"))

    def get(self, member: str) -> int:
        """Read an integer or pointer member, unsigned."""
        m = self.types.member(self._path(member))
        return int.from_bytes(self.memory.read(self.pa + m.offset, m.size), "little")

    def set_scalar(self, value: int) -> None:
        """Write a variable of eight bytes."""
        data = (value & (1 << 64) - 1).to_bytes(8, "little")
        self.memory.write(self.pa, data)

    def get_scalar(self) -> int:
        """Read a variable of eight bytes, unsigned."""
        return int.from_bytes(self.memory.read(self.pa, 8), "little")

    def set_text(self, member: str, text: str) -> None:
        """Write a NUL-terminated string into a char array."""
        m = self.types.member(self._path(member))
        data = text.encode()[: m.size - 1].ljust(m.size, b"\0")
        self.memory.write(self.pa + m.offset, data)

    def set_if(self, member: str, value: int) -> None:
        """Write a member that this kernel may lack."""
        if self.has(member):
            self.set(member, value)

    def init_list(self, member: str) -> int:
        """Make a list_head an empty list; returns its address."""
        head = self.address(member)
        self.set(f"{member}.next", head)
        self.set(f"{member}.prev", head)
        return head

    def set_list(self, member: str, first: int, last: int) -> None:
        """Hang a chain of list nodes (already linked to the head) on a list_head."""
        self.set(f"{member}.next", first)
        self.set(f"{member}.prev", last)


class Heap:
    """A bump allocator over reserved frames, addressed through the direct map."""

    def __init__(
        self,
        memory: PhysicalMemory,
        types: TypeGraph,
        start: int,
        end: int,
        offset: int,
    ) -> None:
        self.memory = memory
        self.types = types
        self.end = end
        self.offset = offset
        self._next = start

    def take(self, size: int, align: int = 64) -> int:
        """Allocate zeroed bytes: their physical address."""
        pa = -(-self._next // align) * align
        self._next = pa + size
        if self._next > self.end:
            raise ValueError("the model's heap is too small for this machine")
        return pa

    def object(self, tag: str, size: int | None = None) -> Object:
        """Allocate a struct; ``size`` when it has a flexible tail."""
        size = self.types.sizeof(f"struct {tag}") if size is None else size
        pa = self.take(size)
        return Object(self.memory, self.types, tag, pa, pa + self.offset)

    def page(self) -> int:
        """Allocate a page frame: its pfn."""
        page = self.memory.page_size
        return self.take(page, page) // page

    def text(self, text: str) -> int:
        """Store a string: its virtual address."""
        data = text.encode() + b"\0"
        pa = self.take(len(data), 8)
        self.memory.write(pa, data)
        return pa + self.offset


class Symbols:
    """Places the kernel's variables in its image and remembers them."""

    def __init__(
        self,
        memory: PhysicalMemory,
        types: TypeGraph,
        start_va: int,
        va_to_pa: int,
        slide: int,
    ) -> None:
        """``va_to_pa`` is added to a link address to get a physical one."""
        self.memory = memory
        self.types = types
        self.table: dict[str, ImageSymbol] = {}
        self.va_to_pa = va_to_pa
        self.slide = slide
        self._next = start_va

    def place(
        self,
        name: str,
        type_: str | None,
        size: int | None = None,
        *,
        static: bool = False,
        align: int = 64,
        kind: str = "object",
    ) -> Object:
        """Give a variable an address; its Object writes to where it will be."""
        if size is None:
            assert type_ is not None
            size = self.types.sizeof(type_)
        link = -(-self._next // align) * align
        self._next = link + size
        self.table[name] = ImageSymbol(link, size, kind, type_, static)
        tag = (type_ or "").replace("struct ", "").split(" ")[0]
        return Object(
            self.memory, self.types, tag, link + self.va_to_pa, link + self.slide
        )

    def label(
        self, name: str, address: int, kind: str = "notype", size: int = 0
    ) -> None:
        """A symbol at a given link address."""
        self.table[name] = ImageSymbol(address, size, kind, None)

    def function(self, name: str) -> None:
        """A function whose prototype the type graph may know."""
        self.place(name, None, 16, kind="func")

    def variable(
        self, name: str, type_: str, value: int, static: bool = False
    ) -> Object:
        """A scalar variable with a value."""
        size = self.types.sizeof(type_)
        place = self.place(name, type_, size, static=static, align=max(size, 8))
        mask = (1 << (8 * size)) - 1
        self.memory.write(place.pa, (value & mask).to_bytes(size, "little"))
        return place

    def pointers(self, name: str, type_: str, values: dict[int, int]) -> Object:
        """An array of pointers, by index."""
        place = self.place(name, type_)
        for index, value in values.items():
            self.memory.write(place.pa + 8 * index, value.to_bytes(8, "little"))
        return place

    @property
    def end(self) -> int:
        return self._next
