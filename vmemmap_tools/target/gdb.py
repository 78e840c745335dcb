# SPDX-License-Identifier: LGPL-2.1-or-later
"""The inferior of a running gdb as a Target: a core, or a machine behind a stub.

gdb gives symbols, types and a live machine's bytes. The bytes of a core come from its
file (`elf_core`): where a core lacks a variable, gdb answers with the value that the
vmlinux had at link time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from copy import copy
from functools import lru_cache
from typing import Any

import gdb

from .base import MemoryProvider, Target, TargetError, TypeSource
from .btf_files import btf_of_file
from .btf_types import BtfTypes
from .composed import ComposedTarget, SymbolChain
from .elf_symbols import ElfSymbols, SymbolsMissing, is_vmlinux
from .gdb_core import open_core
from .gdb_stub_open import open_stub
from .gdb_types import GdbTypes, Names
from .providers import as_vmcoreinfo, compose
from .symbol_lists import is_symbol_list
from .vmcoreinfo import VmcoreInfo
from .vmcoreinfo_types import VmcoreinfoSymbols

__all__ = [
    "PHYSICAL_MODES",
    "core_path",
    "kernel_symbol",
    "kernel_type",
    "loaded_vmlinux",
    "open_inferior",
]

PHYSICAL_MODES = ("auto", "qemu", "directmap", "core")
"""How physical memory may be read: "qemu" switches the stub's mode, "core" takes the
addresses of a core's headers, "directmap" needs the kernel's own map of memory."""
ELF_MAGIC, BTF_MAGICS = b"\x7fELF", (b"\x9f\xeb", b"\xeb\x9f")


def open_inferior(
    types: TypeSource = "auto",
    files: Sequence[str] = (),
    vmcoreinfo: str | None = None,
    physical: str = "auto",
) -> Target:
    """A Target for what gdb has open. Raises `TargetError`.

    ``files`` are a vmlinux or BTF to use before what gdb has loaded, and a System.map
    for want of a vmlinux, ``vmcoreinfo`` the text of a note, ``physical`` one of
    `PHYSICAL_MODES`.
    """
    if physical not in PHYSICAL_MODES:
        raise TargetError(f"no physical mode {physical!r}: {', '.join(PHYSICAL_MODES)}")
    for path in files:
        _require_described(path)
    inferior = gdb.selected_inferior()
    kind = _connection_type(inferior)
    symbols = _find_vmlinux(files)
    memory: MemoryProvider
    if kind == "core":
        memory = open_core(core_path(inferior), symbols, vmcoreinfo, physical)
    elif kind in ("remote", "extended-remote"):
        memory = open_stub(inferior, symbols, vmcoreinfo, physical)
    else:
        raise TargetError(
            "gdb has neither a core nor a machine open: core-file VMCORE, or "
            "target remote HOST:PORT"
        )
    return _with_types(memory, types, files, symbols)


def core_path(inferior: Any) -> str:
    """The file that gdb has open as core. Raises `TargetError`."""
    corefile = getattr(inferior, "corefile", None)
    if corefile is not None:
        return str(corefile.filename)
    # gdb before 18 says it in words only.
    text = gdb.execute("info target", to_string=True)
    found = re.search(r"core dump file:\s+`(.*?)', file type", text, re.S)
    if found is None:
        raise TargetError("gdb does not say which file its core is")
    return found[1]


def _connection_type(inferior: Any) -> str:
    connection = inferior.connection
    if connection is None or not connection.is_valid():
        return ""
    return str(connection.type)


def kernel_type(name: str) -> Any:
    """A ``gdb.Type`` as the loaded vmlinux has it; None where there is none."""
    path = loaded_vmlinux()
    return None if path is None else Names(path).type(name)


def kernel_symbol(name: str) -> Any:
    """A ``gdb.Symbol`` as the loaded vmlinux has it; None where there is none."""
    path = loaded_vmlinux()
    return None if path is None else Names(path).symbol(name)


def loaded_vmlinux() -> str | None:
    """The file from which gdb has the kernel's symbols."""
    found = _loaded_symbols()
    return None if found is None else found.path


def _find_vmlinux(files: Sequence[str]) -> ElfSymbols | None:
    """The kernel's symbols: of a file that was given, else of one that gdb has."""
    for path in files:
        if is_vmlinux(path):
            try:
                given = ElfSymbols(path)
                given.require_whole()
            except SymbolsMissing:
                continue  # it may have been given for its BTF
            return given
    found = _loaded_symbols()
    try:
        if found is not None:
            found.require_whole()
    except SymbolsMissing as error:
        raise TargetError(
            f"{error}: give the whole vmlinux (set vmemmap symbols FILE), or leave its "
            "symbols to the dump (symbol-file without a name)"
        ) from None
    # Those who open a target move its symbols to where the kernel runs.
    return None if found is None else copy(found)


def _loaded_symbols() -> ElfSymbols | None:
    for path in _loaded_files():
        if is_vmlinux(path):
            state = os.stat(path)
            found = _kernel_symbols(path, state.st_mtime_ns, state.st_size)
            if found is not None:
                return found
    return None


@lru_cache(maxsize=4)
def _kernel_symbols(path: str, mtime_ns: int, size: int) -> ElfSymbols | None:
    """The symbols of a file, None if they are not a kernel's."""
    try:
        symbols = ElfSymbols(path)
    except TargetError:  # a program without symbols, whatever it does in this session
        return None
    return None if symbols.linked("linux_banner") is None else symbols


def _require_described(path: str) -> None:
    """Refuse a file that can say nothing of a kernel. Raises `TargetError`."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    is_known = start == ELF_MAGIC or start[:2] in BTF_MAGICS or is_symbol_list(path)
    if not is_known:
        raise TargetError(f"{path} is neither a vmlinux nor BTF nor a list of symbols")


def _loaded_files() -> Iterator[str]:
    for objfile in gdb.objfiles():
        if objfile.is_valid() and objfile.filename:
            yield objfile.filename


def _with_types(
    memory: MemoryProvider,
    types: TypeSource,
    files: Sequence[str],
    symbols: ElfSymbols | None,
) -> Target:
    """The memory with the file's BTF, else DWARF, else what the kernel has itself."""
    if symbols is None:
        # Without a vmlinux in gdb its types, if any, are those of another program.
        if types == "dwarf":
            raise TargetError("gdb has no vmlinux: symbol-file VMLINUX")
        return compose(memory, files, types, refusal="gdb has no vmlinux")
    info = as_vmcoreinfo(memory)
    chain = SymbolChain(symbols, VmcoreinfoSymbols(info))
    sources = [*files, symbols.path]
    refusal = "DWARF was not asked for"
    if types == "auto":
        found = _btf(sources, info)
        if found is not None:
            return ComposedTarget(memory, found, chain)
    if types in ("auto", "dwarf"):
        names = Names(symbols.path)
        if names.type("struct page") is not None:
            return ComposedTarget(memory, GdbTypes(symbols, names), chain)
        refusal = f"gdb has no DWARF of {symbols.path}"
        if types == "dwarf":
            raise TargetError(f"{refusal}: symbol-file VMLINUX with debug info")
    return compose(memory, sources, types, refusal=refusal, known=chain)


def _btf(files: Sequence[str], info: VmcoreInfo) -> BtfTypes | None:
    """The BTF of these files, None when there is none that can be used.

    It goes before DWARF here: gdb reads whole compilation units for a type, which may
    take seconds, and finds the declaration of a variable as soon as its definition.
    """
    try:
        return btf_of_file(files, info)
    except TargetError:
        return None
