# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory of an ELF core, read from the file by our own hands.

A debugger opens such a file too, but answers for what is missing: with zeros for what
was filtered out, with a vmlinux's initial values for variables that the core lacks.
Here a byte is in the file, or there is a `Fault`.

Forms: /proc/vmcore and makedumpfile (kernel image and direct map), QEMU with paging
(what the page tables map) and without (addresses are physical), /proc/kcore (live; the
vmemmap too, at no physical address).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..arch.pagetable import PageTable
from ..formats.elf import (
    EM_AARCH64,
    EM_RISCV,
    EM_X86_64,
    ET_CORE,
    Elf,
    ElfCutShort,
    ElfError,
)
from ..formats.elf_bytes import (
    Absent,
    AddressedBytes,
    physical_segments,
    virtual_segments,
)
from .base import (
    ByteOrder,
    Evidence,
    Fault,
    PhysicalRange,
    TargetError,
)
from .capsules import capsule_of
from .dump_files import missing_of_elf, other_format, require_notes
from .kernel_tables import kernel_page_table
from .vmcoreinfo import VmcoreInfo

__all__ = ["CoreMemory"]

KCORE = "/proc/kcore"
MACHINES = {EM_X86_64: "x86_64", EM_AARCH64: "aarch64", EM_RISCV: "riscv64"}
KERNEL_HALF = 1 << 63


class CoreMemory:
    """A MemoryProvider over an ELF core file.

    ``vmcoreinfo`` may be set later, for a core without the note, and so may
    ``direct_map``: the virtual address of physical address 0, for a core whose
    segments have no physical addresses. Raises `TargetError` for a file that is no
    whole core.
    """

    def __init__(self, path: str, vmcoreinfo: str | None = None):
        self.path = path
        self.live = self.is_kcore = os.path.realpath(path) == KCORE
        self.direct_map: int | None = None
        self.prefers_direct_map = False
        self.found: list[Evidence] = []
        self._page_table: PageTable | None = None
        try:
            # Unbuffered: what a live file says must not be remembered.
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - kept open
            self.elf = elf = Elf(self._file)
            self._require_core(elf)
            self.incomplete = "" if self.live else missing_of_elf(elf, path)
            note = elf.note("VMCOREINFO")
        except OSError as error:
            raise TargetError(f"{path}: {error.strerror}") from None
        except ElfCutShort as error:
            raise TargetError(f"{path} is cut short: {error}; copy it again") from None
        except ElfError as error:
            other = None if self.live else other_format(path)
            raise TargetError(other or f"{path} is no ELF core ({error})") from None
        self.capsule = None if self.live else capsule_of(path)
        self.arch = MACHINES.get(elf.machine, f"ELF machine {elf.machine}")
        self.byteorder: ByteOrder = "little" if elf.byteorder == "little" else "big"
        text = (note or b"").decode("utf-8", "replace")
        self.vmcoreinfo = VmcoreInfo(text if vmcoreinfo is None else vmcoreinfo)
        self._physical, self._virtual = self._bytes_by_address()

    def _bytes_by_address(self) -> tuple[AddressedBytes, AddressedBytes]:
        """The bytes by physical and by virtual address.

        A capsule may have half a million ranges, all of them sealed and in order; its
        page tables tell the rest.
        """
        if self.capsule is not None:
            ranges = self.elf.present_loads()
            physical = AddressedBytes.of_ranges(ranges, self._read_file)
            if physical is None:
                raise TargetError(f"{self.path} is a damaged capsule: its ranges")
            return physical, AddressedBytes((), lambda s: s.va, self._read_file)
        loads = self.elf.loads()
        return (
            AddressedBytes(physical_segments(loads), lambda s: s.pa, self._read_file),
            AddressedBytes(virtual_segments(loads), lambda s: s.va, self._read_file),
        )

    def _require_core(self, elf: Elf) -> None:
        if elf.type != ET_CORE:
            raise TargetError(f"{self.path} is an ELF file but no dump")
        if not self.live:
            require_notes(elf, self.path)

    @property
    def has_physical_addresses(self) -> bool:
        """Whether the core's headers say where in physical memory its bytes lay."""
        return bool(self._physical)

    @property
    def has_virtual_addresses(self) -> bool:
        """Whether virtual addresses in the headers are not just physical ones."""
        return bool(self._virtual)

    def describe(self, vmcoreinfo: VmcoreInfo) -> None:
        """Take this for the note that the core lacks."""
        self.vmcoreinfo = vmcoreinfo
        self._page_table = None

    def read(self, address: int, size: int) -> bytes:
        """As the headers map it, else as the kernel's page tables do."""
        if self._virtual and address >= KERNEL_HALF:
            try:
                return self._virtual.read(address, size)
            except Absent as absent:
                if absent.reason in ("excluded", "cut"):
                    raise Fault(address, size, absent.reason) from None
        return self._read_by_walk(address, size)

    def read_physical(self, address: int, size: int) -> bytes:
        if self.prefers_direct_map or not self._physical:
            if self.direct_map is None:
                raise Fault(address, size, "outside", physical=True)
            source, place = self._virtual, self.direct_map + address
        else:
            source, place = self._physical, address
        try:
            return source.read(place, size)
        except Absent as absent:
            raise Fault(
                address + absent.address - place, size, absent.reason, physical=True
            ) from None

    def read_strided(self, pa: int, size: int, step: int, count: int) -> bytes:
        """As `AddressedBytes.read_strided`, of a capsule. Raises `Fault`."""
        try:
            if self.capsule is not None:
                return self._physical.read_strided(pa, size, step, count)
        except Absent:
            pass
        raise Fault(pa, size, "outside", physical=True)

    def ranges(self) -> Sequence[PhysicalRange]:
        return [
            PhysicalRange(e.start, e.end, e.present) for e in self._physical.extents()
        ]

    def evidence(self) -> list[Evidence]:
        if self.prefers_direct_map or not self._physical:
            way = "physical memory through the direct map"
        else:
            way = "physical addresses from its headers"
        found = [Evidence("memory", self.path, f"the core file, {way}"), *self.found]
        if self.incomplete:
            found.append(Evidence("dump", "incomplete", self.incomplete))
        return found

    def _read_file(self, offset: int, size: int) -> bytes:
        data = b""
        try:
            while len(data) < size:
                more = os.pread(self._file.fileno(), size - len(data), offset)
                if not more:
                    break
                data += more
                offset += len(more)
        except OSError:
            pass  # a hole of /proc/kcore; what was read stands
        return data

    def _read_by_walk(self, address: int, size: int) -> bytes:
        table = self._kernel_page_table()
        if table is None:
            raise Fault(address, size, "outside")
        parts, position, end = [], address, address + size
        while position < end:
            found = table.translate(position)
            if found is None:
                raise Fault(position, end - position, "unmapped")
            left = found.page_size - (found.pa - found.leaf_pa)
            parts.append(self.read_physical(found.pa, min(end - position, left)))
            position += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _kernel_page_table(self) -> PageTable | None:
        if self._page_table is None:
            self._page_table = kernel_page_table(self)
        return self._page_table
