# SPDX-License-Identifier: LGPL-2.1-or-later
"""A modelled machine as it is stopped behind a stub: in the kernel, or in a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes.memory import SparseMemory
from tests.gdb_door.stub import Cpu, StubbedMachine
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.objects import ImageSymbol

from .cores import Modelled, small_machine

__all__ = ["Stopped", "info_mtree"]

IDT = 0xFFFFFE0000000000
"""``CPU_ENTRY_AREA_RO_IDT``: mapped at the same place in all page tables."""
LA57 = 1 << 12
SPARE = 0x3_0000_0000
"""Physical memory beyond the model's: roots of a process, its page tables, the IDT."""
PAGE = 4096
UNENCRYPTED = (1 << 47) - 1
HANDLER, NOTE_POINTER, NOTE_SIZE, NOTE = (
    0xFFFFFFFF81300000 + n * PAGE for n in range(4)
)
"""Link addresses, in an unused part of the model's image."""


class Stopped(Modelled):
    """A machine with what a stub needs besides: a process, an interrupt table.

    The kernel keeps VMCOREINFO in its memory if ``has_note``.
    """

    def __init__(self, name: str, directory: Path, has_note: bool = True):
        image = small_machine(name).image()
        table: Any = image.symbols
        table["asm_exc_divide_error"] = _symbol(HANDLER, 31, "func")
        if has_note:
            table["vmcoreinfo_data"] = _symbol(NOTE_POINTER, 8, "object")
            table["vmcoreinfo_size"] = _symbol(NOTE_SIZE, 8, "object")
        super().__init__(image, directory)
        self.levels = self.image.facts["levels"]
        self._added = SparseMemory(1 << 46)
        self._free = iter(range(SPARE, SPARE + (1 << 20), PAGE))
        self.kernel_root, self.user_root = next(self._free), next(self._free)
        self._make_process()
        if has_note:
            self._keep_note()
        self._pages = dict(self._added.pages())

    def _make_process(self) -> None:
        """Roots as PTI makes them: the kernel's half in the first of the pair only."""
        source = self.image.tables.root_pfn << 12
        entries = self.image.memory.read(source, PAGE)
        self._added.write(self.kernel_root, entries)
        gate = next(self._free)
        handler = HANDLER + self.image.kaslr_offset
        self._added.write(gate, handler.to_bytes(8, "little")[:2])
        self._added.write(gate + 6, handler.to_bytes(8, "little")[2:])
        for root in (self.kernel_root, self.user_root):
            self._map(root, IDT, gate)
            self._map(root, 0x400000, gate)

    def _map(self, root: int, va: int, pa: int) -> None:
        """A base page; tables on the way that the root has already are copied."""
        table = root
        for level in range(self.levels, 1, -1):
            at = table + 8 * (va >> 12 + 9 * (level - 1) & 511)
            entry = int.from_bytes(self._added.read(at, 8), "little")
            lower = entry & UNENCRYPTED & -PAGE
            table = next(self._free)
            if entry & 1 and lower < SPARE:
                self._added.write(table, self.image.memory.read(lower, PAGE))
            elif entry & 1:
                self._added.write(table, self._added.read(lower, PAGE))
            self._added.write_u64(at, table | 3)
        self._added.write_u64(table + 8 * (va >> 12 & 511), pa | 3)

    def _keep_note(self) -> None:
        with Elf(self.core("vmcore")) as core:
            text = core.note("VMCOREINFO") or b""
        self._added.write(self._pa(NOTE), text)
        self._added.write_u64(self._pa(NOTE_POINTER), NOTE + self.image.kaslr_offset)
        self._added.write_u64(self._pa(NOTE_SIZE), len(text))

    def _pa(self, linked: int) -> int:
        moved: int = self.image.kaslr_offset + self.image.phys_base
        return linked - 0xFFFFFFFF80000000 + moved

    def read(self, pa: int, size: int) -> bytes:
        """Physical memory; zeros where there is none, as QEMU reads it."""
        added, data = self._pages, b""
        while size:
            length = min(size, PAGE - pa % PAGE)
            page, at = pa - pa % PAGE, pa % PAGE
            if page in added:
                data += added[page][at : at + length]
            elif any(low <= pa < high for low, high in self.image.memory.ranges):
                data += self.image.memory.read(pa, length)
            else:
                data += bytes(length)
            pa, size = pa + length, size - length
        return data

    def behind_a_stub(self, where: str = "kernel", **options: Any) -> StubbedMachine:
        """The machine stopped in the kernel, or in a user's program with PTI."""
        is_user = where == "user"
        root = self.user_root if is_user else self.kernel_root
        cpu = Cpu(
            cr3=root | 0x801 if is_user else root,
            cr4=LA57 if self.levels == 5 else 0,
            cs=0x33 if is_user else 0x10,
            rip=0x400000 if is_user else 0xFFFFFFFF81000000,
            idt=IDT,
        )
        return StubbedMachine(self.read, cpu, levels=self.levels, **options)

    def monitor(self, command: str) -> str:
        """QEMU's monitor, as far as it is asked."""
        if command == "info mtree -f":
            return info_mtree([*self.image.memory.ranges, (SPARE, SPARE + (1 << 20))])
        if command == "info registers":
            root = self.kernel_root
            return f"IDT=     {IDT:016x} 00000fff\nCR0=80050033 CR3={root:016x} CR4=0\n"
        return f"unknown command: '{command}'\n"


def info_mtree(ranges: Any) -> str:
    """As QEMU prints the address space of a machine with these ranges of RAM."""
    lines = ["FlatView #0", ' AS "memory", root: system', " Root memory region: system"]
    lines += [f"  {low:016x}-{high - 1:016x} (prio 0, ram): m0" for low, high in ranges]
    return "\n".join(
        [*lines, "  00000000fee00000-00000000feefffff (prio 4096, i/o): apic"]
    )


def _symbol(address: int, size: int, kind: str) -> ImageSymbol:
    return ImageSymbol(address, size, kind, None, False)
