# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types and symbols for a memory without DWARF: BTF and kallsyms, or VMCOREINFO.

What is damaged is refused with an error where it was asked for, and passed over, for
the next source, where it was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from .base import MemoryProvider, SymbolProvider, TargetError, TypeProvider, TypeSource
from .btf_files import btf_of_file, btf_of_memory, btf_of_system, check_against_own
from .btf_types import BtfTypes
from .composed import ComposedTarget, SymbolChain
from .elf_symbols import SymbolsMissing, is_vmlinux
from .kallsyms import KallsymsTables, read_kallsyms
from .recorded import CapsuleNote, RecordedSymbols, RecordedTypes
from .symbol_lists import is_symbol_list, read_symbol_list
from .vmcoreinfo import VmcoreInfo
from .vmcoreinfo_types import VmcoreinfoSymbols, VmcoreinfoTypes
from .vmlinux_symbols import read_vmlinux_symbols

__all__ = ["compose", "find_symbols"]

KALLSYMS = "proc/kallsyms"
ANY_VARIABLE = "init_uts_ns"
"""Every kernel has it, and VMCOREINFO names it too."""
NO_SYMBOLS = (
    "{} has no addresses, and nothing else tells where variables are ({}): give "
    "System.map or a copy of /proc/kallsyms with -s as well, or take --types vmcoreinfo"
)


def compose(
    memory: MemoryProvider,
    files: Sequence[str] = (),
    types: TypeSource = "auto",
    release: str | None = None,
    root: Path | None = None,
    refusal: str = "there is no debug info",
    known: SymbolProvider | None = None,
) -> ComposedTarget:
    """A Target from this memory and the best types there are without DWARF.

    ``files`` are those the user gave, ``root`` the file system of a running kernel,
    ``refusal`` says why there is no DWARF; ``known`` symbols make a search for others
    needless. Raises `TargetError`.
    """
    info = as_vmcoreinfo(memory)
    capsule = getattr(memory, "capsule", None)
    if capsule is not None:
        return _of_capsule(memory, capsule, files, types, release)
    if known is None:
        symbols, no_symbols = find_symbols(memory, info, root, files)
    else:
        symbols, no_symbols = known, []
    reasons = [refusal]
    if types != "vmcoreinfo":
        found = _find_btf(memory, symbols, info, files, root, reasons)
        if found is not None and not isinstance(symbols, VmcoreinfoSymbols):
            return ComposedTarget(memory, found, symbols, release)
        if found is not None:
            # What is not found would be taken for what is not there.
            nowhere = NO_SYMBOLS.format(found.source, "; ".join(no_symbols))
            if files or types == "btf":
                raise TargetError(nowhere)
            reasons.append(nowhere)
        elif types == "btf":
            raise TargetError("no BTF found: " + "; ".join([*reasons[1:], *no_symbols]))
    try:
        bare: TypeProvider = VmcoreinfoTypes(info)
    except TargetError as error:
        if types == "vmcoreinfo":
            raise
        raise TargetError("; ".join([*reasons, *no_symbols, str(error)])) from None
    return ComposedTarget(memory, bare, symbols, release)


def _of_capsule(
    memory: MemoryProvider,
    capsule: CapsuleNote,
    files: Sequence[str],
    types: TypeSource,
    release: str | None,
) -> ComposedTarget:
    """A capsule by the types and symbols it was made with, or those of files."""
    info = as_vmcoreinfo(memory)
    types_of_file = btf_of_file(files, info)
    if types == "vmcoreinfo" or (types == "btf" and types_of_file is None):
        raise TargetError(
            "a capsule brings the types it was made with, and not the memory that "
            "others look into: leave out --types"
        )
    symbols: SymbolProvider = RecordedSymbols(capsule)
    if types_of_file is not None:
        symbols = _symbols_of_files(memory, info, files, []) or symbols
    known = types_of_file or RecordedTypes(capsule)
    return ComposedTarget(memory, known, symbols, release)


def as_vmcoreinfo(memory: MemoryProvider) -> VmcoreInfo:
    """The memory's note with its look-ups."""
    note = memory.vmcoreinfo
    if isinstance(note, VmcoreInfo):
        return note
    return VmcoreInfo("".join(f"{key}={value}\n" for key, value in note.items()))


def find_symbols(
    memory: MemoryProvider,
    vmcoreinfo: VmcoreInfo,
    root: Path | None = None,
    files: Sequence[str] = (),
) -> tuple[SymbolProvider, list[str]]:
    """Of a file given, else kallsyms, before VMCOREINFO; and why others did not serve.

    A list goes before a vmlinux. Raises `TargetError` for files of another build.
    """
    reasons: list[str] = []
    given = _symbols_of_files(memory, vmcoreinfo, files, reasons)
    if given is not None:
        return given, reasons
    exported = VmcoreinfoSymbols(vmcoreinfo)
    attempts: list[Callable[[], SymbolProvider]] = []
    if root is not None:
        attempts.append(lambda: read_kallsyms(root / KALLSYMS))
    if KallsymsTables.are_named(vmcoreinfo):
        attempts.append(lambda: KallsymsTables(memory, vmcoreinfo))
    else:
        reasons.append("VMCOREINFO does not say where kallsyms is")
    for attempt in attempts:
        try:
            found = attempt()
        except TargetError as error:
            reasons.append(str(error))
            continue
        if found.symbol(ANY_VARIABLE) is not None:
            return SymbolChain(found, exported), reasons
        reasons.append("kallsyms lists functions only (no CONFIG_KALLSYMS_ALL)")
    return exported, reasons


def _symbols_of_files(
    memory: MemoryProvider,
    vmcoreinfo: VmcoreInfo,
    files: Sequence[str],
    reasons: list[str],
) -> SymbolProvider | None:
    """Of the first list, else of the first vmlinux that has them all.

    Those of VMCOREINFO are added; None, and the reasons, where no file serves.
    """
    exported = VmcoreinfoSymbols(vmcoreinfo)
    for path in filter(is_symbol_list, files):
        return SymbolChain(read_symbol_list(path, vmcoreinfo), exported)
    for path in filter(is_vmlinux, files):
        try:
            linked = read_vmlinux_symbols(path, memory, vmcoreinfo)
        except SymbolsMissing as error:
            reasons.append(str(error))  # it may have been given for its BTF
            continue
        return SymbolChain(linked, exported)
    return None


def _find_btf(
    memory: MemoryProvider,
    symbols: SymbolProvider,
    vmcoreinfo: VmcoreInfo,
    files: Sequence[str],
    root: Path | None,
    reasons: list[str],
) -> BtfTypes | None:
    """BTF from the files given, else from the kernel; reasons where there is none."""
    found = btf_of_file(files, vmcoreinfo)
    if found is not None:
        check_against_own(found, memory, symbols)
        return found
    for attempt in _kernels_own(memory, symbols, vmcoreinfo, root):
        try:
            return attempt()
        except TargetError as error:
            reasons.append(str(error))
    return None


def _kernels_own(
    memory: MemoryProvider,
    symbols: SymbolProvider,
    vmcoreinfo: VmcoreInfo,
    root: Path | None,
) -> Iterator[Callable[[], BtfTypes]]:
    if root is not None:
        yield lambda: btf_of_system(root, vmcoreinfo)
    yield lambda: btf_of_memory(memory, symbols, vmcoreinfo)
