# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols from a vmlinux that was given, whether or not it has types: ``strip -g``
leaves its symbol table, and distributions keep that of kernels described by BTF.
"""

from __future__ import annotations

from .base import Evidence, MemoryProvider, TargetError
from .elf_symbols import ElfSymbols
from .kaslr import of_note, require_banner, require_build
from .vmcoreinfo import VmcoreInfo

__all__ = ["VmlinuxSymbols", "read_vmlinux_symbols"]


class VmlinuxSymbols:
    """The symbols of a vmlinux, moved to where this boot has them."""

    def __init__(self, symbols: ElfSymbols, moved: Evidence):
        self._symbols = symbols
        self._moved = moved

    def symbol(self, name: str) -> int | None:
        """Address of a symbol; None also where namesakes leave it open."""
        return self._symbols.symbol(name)

    def evidence(self) -> list[Evidence]:
        return [*self._symbols.evidence(), self._moved]


def read_vmlinux_symbols(
    path: str, memory: MemoryProvider, vmcoreinfo: VmcoreInfo
) -> VmlinuxSymbols:
    """The symbols of such a file.

    Raises `SymbolsMissing` where it was stripped of them, `TargetError` where they are
    damaged or of another build than the kernel in this memory.
    """
    symbols = ElfSymbols(path)
    require_build(vmcoreinfo, symbols)
    symbols.require_whole()
    boot = of_note(vmcoreinfo, symbols)
    if boot is None:
        raise TargetError(f"{path} names none of the symbols that VMCOREINFO does")
    symbols.offset = boot.offset
    source = memory.evidence()[0].value
    checked = require_banner(source, symbols, memory.read)
    offset, found = f"{boot.offset:#x}", f"{boot.source}; {checked}"
    return VmlinuxSymbols(symbols, Evidence("KASLR offset", offset, found))
