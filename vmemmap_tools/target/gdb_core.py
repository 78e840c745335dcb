# SPDX-License-Identifier: LGPL-2.1-or-later
"""Open a core for gdb's door: the file, and where in it the kernel runs.

Knows a vmlinux by its symbol table and needs no gdb; without VMCOREINFO a dump of QEMU
is understood by the registers that it holds.
"""

from __future__ import annotations

import struct

from .base import Evidence, Fault, TargetError
from .composed import SymbolChain
from .elf_core import CoreMemory
from .elf_symbols import ElfSymbols
from .kaslr import (
    Boot,
    Processor,
    described,
    direct_map_base,
    exported,
    find_boot,
    image_reader,
    of_note,
    require_banner,
    require_build,
    require_tables,
)
from .providers import find_symbols
from .vmcoreinfo import VmcoreInfo
from .vmcoreinfo_types import VmcoreinfoSymbols

__all__ = ["open_core"]

QEMU_CR = 8 + 18 * 8 + 10 * 24
"""``QEMUCPUState``: version and size, 18 registers, 10 segments, then cr0 to cr4."""
QEMU_IDT_BASE = 8 + 18 * 8 + 9 * 24 + 16


def open_core(
    path: str, symbols: ElfSymbols | None, vmcoreinfo: str | None, physical: str
) -> CoreMemory:
    """The memory of a core, and ``symbols`` moved to where its kernel runs.

    Raises `TargetError`.
    """
    if physical == "qemu":
        raise TargetError("a core has no physical mode: set vmemmap phys-mode auto")
    memory = CoreMemory(path, vmcoreinfo)
    if physical == "directmap" and not memory.has_virtual_addresses:
        raise TargetError(
            f"{path} has physical addresses only: set vmemmap phys-mode auto"
        )
    boot = None
    if symbols is not None:
        boot = _find_kernel(memory, symbols)
    elif not memory.vmcoreinfo:
        raise TargetError(
            f"{path} has no VMCOREINFO note: load the kernel's vmlinux (symbol-file "
            "VMLINUX), or give the note's text (set vmemmap vmcoreinfo FILE)"
        )
    if physical == "directmap" or not memory.has_physical_addresses:
        memory.prefers_direct_map = True
        memory.direct_map = _direct_map(memory, symbols)
    if symbols is not None and boot is not None:
        require_tables(memory, symbols, boot)
    return memory


def _find_kernel(memory: CoreMemory, symbols: ElfSymbols) -> Boot:
    """Move the symbols to where the kernel runs. Raises `TargetError`."""
    require_build(memory.vmcoreinfo, symbols)
    boot = of_note(memory.vmcoreinfo, symbols) if memory.vmcoreinfo else None
    if boot is None:
        boot = _found_without_note(memory, symbols)
    symbols.offset = boot.offset
    if not memory.vmcoreinfo:
        physical = memory.read_physical if memory.has_physical_addresses else None
        image = image_reader(boot, memory.read, physical)
        memory.describe(described(boot, symbols, image))
        note = exported(memory.read, symbols)
        if note is not None:
            memory.describe(note)
            memory.found.append(
                Evidence("VMCOREINFO", "no note", "the kernel's own copy in memory")
            )
    checked = require_banner(memory.path, symbols, memory.read)
    memory.found.append(
        Evidence("KASLR offset", f"{boot.offset:#x}", f"{boot.source}; {checked}")
    )
    return boot


def _found_without_note(memory: CoreMemory, symbols: ElfSymbols) -> Boot:
    has_both = memory.has_virtual_addresses
    boot = find_boot(
        symbols,
        _processor(memory),
        memory.read if has_both else None,
        memory.read_physical if memory.has_physical_addresses else None,
    )
    if boot is None:
        raise TargetError(
            f"{memory.path} has no VMCOREINFO note, and the kernel of {symbols.path} "
            "was not found in it: give the note's text (set vmemmap vmcoreinfo FILE)"
        )
    return boot


def _processor(memory: CoreMemory) -> Processor:
    """The first CPU's control registers as a dump of QEMU has them."""
    state = memory.elf.note("QEMU")
    if state is None or len(state) < QEMU_CR + 5 * 8:
        return Processor()
    _, _, _, cr3, cr4 = struct.unpack_from("<5Q", state, QEMU_CR)
    (idt,) = struct.unpack_from("<Q", state, QEMU_IDT_BASE)
    return Processor(cr3, cr4, idt)


def _direct_map(memory: CoreMemory, symbols: ElfSymbols | None) -> int:
    info: VmcoreInfo = memory.vmcoreinfo
    known = (
        find_symbols(memory, info)[0]
        if symbols is None
        else SymbolChain(symbols, VmcoreinfoSymbols(info))
    )
    try:
        return direct_map_base(known, memory.read, info)
    except Fault as fault:
        raise TargetError(
            f"{memory.path} does not say where physical memory is mapped: {fault}"
        ) from None
