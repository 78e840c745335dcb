# SPDX-License-Identifier: LGPL-2.1-or-later
"""struct dev_dax: the devices of the dax bus, which device memory is handed out as.

Mirrors ``drivers/dax/dax-private.h`` and ``drivers/dax/bus.c``. Nothing leads from a
dev_pagemap to its device, so they are looked for among all devices (``devices_kset``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Callable

from ..target.base import Fault, Target
from .layout import Geometry
from .lists import ListWalk, walk_list
from .memory import Memory

__all__ = ["DaxDevice", "DaxDevices"]

MAX_DEVICES = 1 << 20
"""Of all kinds. Memory blocks are devices, too: there are 8192 of them in a TiB."""
MAX_RANGES = 1 << 12
MEMBERS = (
    *("dev.kobj.entry", "dev.kobj.name", "dev.bus"),
    *("pgmap", "align", "nr_range", "ranges"),
)


@dataclass(frozen=True)
class DaxDevice:
    """One struct dev_dax. ``ranges`` are (first pfn, end pfn), ``align`` is in bytes.

    ``pgmap_va`` may be 0, and may lead to a map that is in no use: kmem keeps it.
    """

    va: int
    name: str
    pgmap_va: int
    align: int
    ranges: tuple[tuple[int, int], ...]


class DaxDevices:
    """The devices whose bus is ``dax_bus_type``."""

    def __init__(self, target: Target, memory: Memory, geometry: Geometry):
        self._target = target
        self._memory = memory
        self._geometry = geometry
        self._struct = target.struct("dev_dax")
        self._range = target.struct("dev_dax_range")

    @property
    def unknown(self) -> str | None:
        """Why the devices cannot be looked for, in words; None if they can.

        A dax bus that is a module has its symbols and types elsewhere than vmlinux.
        """
        for name in ("devices_kset", "dax_bus_type"):
            if self._target.symbol(name) is None and not self._target.variable(name):
                return f"no symbol {name}"
        if self._struct is None or not all(name in self._struct for name in MEMBERS):
            return "no type dev_dax"
        if self._range is None or "range.start" not in self._range:
            return "no type dev_dax_range"
        return None

    @cached_property
    def list(self) -> ListWalk:
        """``devices_kset`` as it stands: the ``kobj.entry`` of every device."""
        assert self.unknown is None
        kset = self._target.struct("kset")
        # No verb asks for more of struct kset: without its type, where it begins.
        at = kset.offset("list") if kset is not None and "list" in kset else 0
        try:
            head = self._memory.unsigned(self._address("devices_kset")) + at
        except Fault as fault:
            return ListWalk(fault=fault)
        return walk_list(self._memory, head, MAX_DEVICES)

    def for_each(self, unread: Callable[[Fault], None]) -> Iterator[DaxDevice]:
        """Every dax device; ``unread`` is told of those that cannot be read."""
        assert self._struct is not None
        bus = self._address("dax_bus_type")
        for entry in self.list.entries:
            va = entry - self._struct.offset("dev.kobj.entry")
            try:
                if self._member(va, "dev.bus") == bus:
                    yield self._decode(va)
            except Fault as fault:
                unread(fault)

    def _address(self, name: str) -> int:
        variable = self._target.variable(name)
        address = variable.address if variable else self._target.symbol(name)
        assert address is not None
        return address

    def _member(self, va: int, name: str) -> int:
        """One member: a struct device is large, and there are many of them."""
        assert self._struct is not None
        member = self._struct[name]
        return self._memory.unsigned(va + member.offset, member.size)

    def _decode(self, va: int) -> DaxDevice:
        name_va = self._member(va, "dev.kobj.name")
        first_va, count = self._member(va, "ranges"), self._member(va, "nr_range")
        return DaxDevice(
            va=va,
            name=self._memory.string(name_va) if name_va else "",
            pgmap_va=self._member(va, "pgmap"),
            align=self._member(va, "align"),
            ranges=tuple(self._ranges(first_va, count)),
        )

    def _ranges(self, first_va: int, count: int) -> Iterator[tuple[int, int]]:
        """The ranges of an array of struct dev_dax_range; their ends are inclusive."""
        assert self._range is not None
        shift, read = self._geometry.page_shift, self._memory.unsigned
        start_at = self._range.offset("range.start")
        end_at = self._range.offset("range.end")
        if count > MAX_RANGES:
            raise Fault(first_va, count * self._range.size, "damaged")
        for i in range(count):
            va = first_va + i * self._range.size
            yield read(va + start_at) >> shift, read(va + end_at) + 1 >> shift
