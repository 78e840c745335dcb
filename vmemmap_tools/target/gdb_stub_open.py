# SPDX-License-Identifier: LGPL-2.1-or-later
"""Find the kernel of a stopped machine behind a gdb stub, wherever KASLR put it."""

from __future__ import annotations

from typing import Any

from .base import Evidence, Fault, TargetError
from .elf_core import MACHINES
from .elf_symbols import ElfSymbols
from .gdb_events import on_change
from .gdb_stub import Stub, StubMemory, is_in_user_mode
from .kaslr import (
    Boot,
    described,
    direct_map_base,
    exported,
    find_boot,
    image_reader,
    of_note,
    require_build,
    require_tables,
)
from .vmcoreinfo import VmcoreInfo

__all__ = ["open_stub"]


def open_stub(
    inferior: Any, symbols: ElfSymbols | None, vmcoreinfo: str | None, physical: str
) -> StubMemory:
    """The memory of the machine, and ``symbols`` moved to where its kernel runs.

    Raises `TargetError`.
    """
    if physical == "core":
        raise TargetError("no core is open: set vmemmap phys-mode auto")
    if symbols is None:
        raise TargetError(
            "gdb has no vmlinux, without which nothing is found in a running machine: "
            "symbol-file VMLINUX"
        )
    arch = MACHINES.get(symbols.machine, f"ELF machine {symbols.machine}")
    if arch != "x86_64":
        raise TargetError(f"{symbols.path}: {arch} is not supported behind a stub")
    stub = Stub(inferior)
    is_physical = stub.has_physical_mode and physical != "directmap"
    if physical == "qemu" and not is_physical:
        raise TargetError(
            "the stub has no physical mode (qqemu.PhyMemMode): "
            "set vmemmap phys-mode auto"
        )
    memory = StubMemory(stub, arch, is_physical)
    given = VmcoreInfo(vmcoreinfo or "")
    require_build(given, symbols)
    boot = _find(memory, symbols, given)
    symbols.offset = boot.offset
    _describe(memory, symbols, boot, given)
    require_build(memory.vmcoreinfo, symbols)
    require_tables(memory, symbols, boot)
    on_change(memory.forget)
    return memory


def _find(memory: StubMemory, symbols: ElfSymbols, given: VmcoreInfo) -> Boot:
    boot = of_note(given, symbols) if given else None
    if boot is None:
        boot = find_boot(
            symbols,
            memory.stub.processor(),
            memory.read_by_mmu,
            memory.physical_reader,
        )
    if boot is not None:
        return boot
    if is_in_user_mode() and not memory.is_physical:
        raise TargetError(IN_USER_MODE)
    raise TargetError(
        f"the kernel of {symbols.path} was not found in the machine: is this its "
        "vmlinux, and has it booted? If so, give VMCOREINFO (set vmemmap vmcoreinfo "
        "FILE)"
    )


IN_USER_MODE = (
    "the selected CPU runs a user's program, whose page tables lack the kernel, and "
    "the stub has no physical mode: select another CPU (thread N), or let it run into "
    "the kernel"
)


def _describe(
    memory: StubMemory, symbols: ElfSymbols, boot: Boot, given: VmcoreInfo
) -> None:
    """Learn what is needed to read everything else. Raises `TargetError`."""
    memory.found.append(Evidence("KASLR offset", f"{boot.offset:#x}", boot.source))
    if given:
        memory.describe(given)
    else:
        try:
            image = image_reader(boot, memory.read_by_mmu, memory.physical_reader)
            memory.describe(described(boot, symbols, image))
        except TargetError:
            if is_in_user_mode():
                raise TargetError(IN_USER_MODE) from None
            raise
    if not memory.is_physical:
        try:
            memory.direct_map = direct_map_base(symbols, memory.read, memory.vmcoreinfo)
        except Fault:
            raise TargetError(
                IN_USER_MODE
                if is_in_user_mode()
                else "the kernel's variable page_offset_base cannot be read"
            ) from None
    if not given:
        note = exported(memory.read, symbols)
        if note is not None:
            memory.describe(note)
        source = "the kernel's own copy" if note else "none: put together from above"
        memory.found.append(Evidence("VMCOREINFO", "in memory", source))
