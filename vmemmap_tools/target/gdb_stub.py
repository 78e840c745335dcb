# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of a machine behind a gdb stub: QEMU's, or any other's through the MMU.

QEMU's stub can be told to take addresses for physical ones. All is read that way then,
with our own walk of the kernel's page tables, so that it matters neither which CPU is
selected nor whether it runs a user's program with page tables that lack the kernel.
Other stubs read through the selected CPU's MMU, physical memory at its direct map.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Callable

import gdb

from ..arch.pagetable import PageTable
from .base import ByteOrder, Evidence, Fault, PhysicalRange, TargetError
from .kaslr import Processor
from .kernel_tables import kernel_page_table
from .vmcoreinfo import VmcoreInfo

__all__ = ["Stub", "StubMemory", "is_in_user_mode"]

PAGE = 4096
CACHED_PAGES = 1 << 14
"""64 MiB of what was read, until the machine runs again."""
MAX_READ = 1 << 20
"""Bytes of one request to gdb, so that Ctrl-C is not kept waiting."""
MASK_64 = (1 << 64) - 1


class Stub:
    """The remote end: its physical mode, its registers, its monitor."""

    def __init__(self, inferior: Any):
        self._inferior = inferior
        self._connection = inferior.connection
        self.has_physical_mode = self._packet("qqemu.PhyMemMode") in (b"0", b"1")

    def read(self, address: int, size: int) -> bytes:
        """Bytes as the stub reads them now. Raises gdb.MemoryError."""
        return bytes(self._inferior.read_memory(address, size))

    @contextmanager
    def physical_mode(self) -> Iterator[None]:
        """Addresses are physical in here; afterwards they are what they were."""
        before = self._packet("qqemu.PhyMemMode")
        try:
            if self._packet("Qqemu.PhyMemMode:1") != b"OK":
                raise TargetError("the stub refused its physical mode")
            yield
        finally:
            mode = "1" if before == b"1" else "0"
            self._packet(f"Qqemu.PhyMemMode:{mode}")

    def processor(self) -> Processor:
        """Control registers as gdb has them, else as QEMU's monitor prints them."""
        text = self.monitor("info registers")

        def shown(name: str) -> int | None:
            found = re.search(rf"\b{name}=\s*([0-9a-f]+)", text)
            return int(found[1], 16) if found else None

        idt = re.search(r"\bIDT=\s*([0-9a-f]+)", text)
        cr3, cr4 = register("cr3"), register("cr4")
        return Processor(
            shown("CR3") if cr3 is None else cr3,
            shown("CR4") if cr4 is None else cr4,
            int(idt[1], 16) if idt else None,
        )

    def monitor(self, command: str) -> str:
        """What the stub's monitor answers; empty when it has none."""
        try:
            return str(gdb.execute(f"monitor {command}", to_string=True))
        except gdb.error:
            return ""

    def _packet(self, text: str) -> bytes:
        try:
            # An empty answer, "I do not know this", comes as None.
            return bytes(self._connection.send_packet(text) or b"")
        except (AttributeError, gdb.error):
            return b""


def register(name: str) -> int | None:
    """A register of the selected CPU, None where gdb has none of this name."""
    try:
        value = gdb.parse_and_eval(f"${name}")
        if value.type.code == gdb.TYPE_CODE_VOID:
            return None
        return int(value) & MASK_64
    except (gdb.error, OverflowError):
        return None


def is_in_user_mode() -> bool:
    """Whether the selected CPU runs a user's program."""
    selector = register("cs")
    return selector is not None and selector & 3 == 3


class StubMemory:
    """A MemoryProvider over a stub; it is stopped, so that nothing changes meanwhile.

    ``direct_map`` is the address of physical address 0, for stubs without a physical
    mode; ``vmcoreinfo`` is set once the kernel is found. ``spent`` counts bytes that
    were fetched, of which ``budget`` are allowed if it is not 0; who owns the memory
    begins to count anew.
    """

    live = False
    byteorder: ByteOrder = "little"

    def __init__(self, stub: Stub, arch: str, is_physical: bool):
        self.stub = stub
        self.arch = arch
        self.is_physical = is_physical
        self.direct_map: int | None = None
        self.vmcoreinfo = VmcoreInfo("")
        self.found: list[Evidence] = []
        self.budget = 0
        self.spent = 0
        self._cache: OrderedDict[tuple[bool, int], bytes] = OrderedDict()
        self._page_table: PageTable | None = None
        self._ram = _ram(stub.monitor("info mtree -f")) if is_physical else []
        self._starts = [r.start for r in self._ram]

    def describe(self, vmcoreinfo: VmcoreInfo) -> None:
        """Take this for what the kernel says of itself."""
        self.vmcoreinfo = vmcoreinfo
        self._page_table = None

    def read_by_mmu(self, address: int, size: int) -> bytes:
        """As the selected CPU would read, whatever else is possible. Raises `Fault`."""
        return self._cached(address, size, physical=False)

    @property
    def physical_reader(self) -> Callable[[int, int], bytes] | None:
        """`read_physical`, None before the direct map is known if that is needed."""
        return self.read_physical if self.is_physical else None

    def forget(self) -> None:
        """Drop what was read: the machine has run."""
        self._cache.clear()
        self._page_table = None

    def read(self, address: int, size: int) -> bytes:
        if not self.is_physical:
            return self.read_by_mmu(address, size)
        if self._page_table is None:
            self._page_table = kernel_page_table(self)
            if self._page_table is None:
                raise Fault(address, size, "unmapped")
        parts, position, end = [], address, address + size
        while position < end:
            found = self._page_table.translate(position)
            if found is None:
                raise Fault(position, end - position, "unmapped")
            left = found.page_size - (found.pa - found.leaf_pa)
            parts.append(self.read_physical(found.pa, min(end - position, left)))
            position += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_physical(self, address: int, size: int) -> bytes:
        if self.is_physical:
            self._require_ram(address, size)
            return self._cached(address, size, physical=True)
        if self.direct_map is None:
            raise Fault(address, size, "outside", physical=True)
        try:
            return self._cached(self.direct_map + address, size, physical=False)
        except Fault:
            raise Fault(address, size, "unmapped", physical=True) from None

    def ranges(self) -> Sequence[PhysicalRange]:
        return self._ram

    def evidence(self) -> list[Evidence]:
        way = (
            "physical memory (QEMU's qqemu.PhyMemMode)"
            if self.is_physical
            else "the selected CPU's MMU, physical memory through the direct map"
        )
        return [Evidence("memory", "gdb stub", way), *self.found]

    def _require_ram(self, address: int, size: int) -> None:
        """QEMU reads zeros where there is no memory."""
        if not self._ram:
            return
        position = address
        while position < address + size:
            index = bisect_right(self._starts, position) - 1
            if index < 0 or self._ram[index].end <= position:
                raise Fault(position, size, "outside", physical=True)
            position = self._ram[index].end

    def _cached(self, address: int, size: int, physical: bool) -> bytes:
        first, last = address // PAGE, (address + size - 1) // PAGE
        if last - first >= CACHED_PAGES // 4:
            return self._fetch(address, size, physical)
        numbers = range(first, last + 1)
        missing = [n for n in numbers if (physical, n) not in self._cache]
        if missing:
            start, end = missing[0], missing[-1] + 1
            data = self._fetch(start * PAGE, (end - start) * PAGE, physical)
            for number in range(start, end):
                at = (number - start) * PAGE
                self._cache[physical, number] = data[at : at + PAGE]
        whole = b"".join(self._cache[physical, n] for n in numbers)
        while len(self._cache) > CACHED_PAGES:
            self._cache.popitem(last=False)
        at = address - first * PAGE
        return whole[at : at + size]

    def _fetch(self, address: int, size: int, physical: bool) -> bytes:
        # The first is always allowed: each try has to come further than the last.
        if self.budget and self.spent and self.spent + size > self.budget:
            raise TargetError(
                f"the stub would be asked for more than {self.budget} bytes (set "
                "vmemmap budget): what was read is kept, so that the same again comes "
                "further"
            )
        self.spent += size
        try:
            if not physical:
                return self._pieces(address, size)
            with self.stub.physical_mode():
                return self._pieces(address, size)
        except gdb.MemoryError:
            kind = "io" if physical else "unmapped"
            raise Fault(address, size, kind, physical) from None

    def _pieces(self, address: int, size: int) -> bytes:
        return b"".join(
            self.stub.read(address + at, min(MAX_READ, size - at))
            for at in range(0, size, MAX_READ)
        )


def _ram(flat_view: str) -> list[PhysicalRange]:
    """RAM and ROM in what `info mtree -f` says of the address space "memory"."""
    is_system = False
    ranges: list[PhysicalRange] = []
    for line in flat_view.splitlines():
        if line.startswith("FlatView"):
            if ranges:
                break
            is_system = False
        elif line.lstrip().startswith("AS "):
            is_system = is_system or 'AS "memory"' in line
        elif is_system:
            found = re.match(
                r"\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (\S+)\)", line
            )
            if found and found[3] != "i/o":
                start, last = int(found[1], 16), int(found[2], 16)
                ranges.append(PhysicalRange(start, last + 1, True))
    return sorted(ranges, key=lambda r: r.start)
