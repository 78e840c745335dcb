# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a kernel's BTF may be: a file that was given, sysfs, or its own memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..formats.btf import HEADER_SIZE
from ..formats.elf import ET_CORE, ET_REL, Elf, ElfError
from .base import Fault, MemoryProvider, SymbolProvider, TargetError
from .btf_types import BtfTypes
from .symbol_lists import is_symbol_list
from .vmcoreinfo import VmcoreInfo

__all__ = [
    "MAX_BTF",
    "btf_of_file",
    "btf_of_memory",
    "btf_of_system",
    "check_against_own",
    "is_raw_btf",
]

MAGICS = (b"\x9f\xeb", b"\xeb\x9f")
MAX_BTF = 1 << 26
"""Ten times that of a distribution's kernel."""
SYSFS = "sys/kernel/btf/vmlinux"


def is_raw_btf(path: str) -> bool:
    """Whether a file begins as BTF does."""
    try:
        with open(path, "rb") as file:
            return file.read(2) in MAGICS
    except OSError:
        return False


def btf_of_file(files: Sequence[str], vmcoreinfo: VmcoreInfo) -> BtfTypes | None:
    """The BTF of the first of these files that has it: raw, or a vmlinux.

    None when no file is a vmlinux or raw BTF. Raises `TargetError` for one without BTF
    or of another build.
    """
    without = None
    for path in files:
        if is_symbol_list(path):
            continue
        if is_raw_btf(path):
            return BtfTypes.from_bytes(_content(path), path, vmcoreinfo)
        data, is_kernel = _section(path, vmcoreinfo.get("BUILD-ID"))
        if data is not None:
            return BtfTypes.from_bytes(data, f"{path} (.BTF)", vmcoreinfo)
        without = path if is_kernel else without
    if without is not None:
        raise TargetError(f"{without} has no section .BTF")
    return None


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BTF)
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None


def _section(path: str, build_id: str | None) -> tuple[bytes | None, bool]:
    """The section .BTF of an ELF file, and whether that is a kernel's."""
    try:
        with Elf(path) as elf:
            if elf.type == ET_CORE:
                raise TargetError(f"{path} is a dump, not a vmlinux: give it with -c")
            if elf.type == ET_REL:
                return None, False
            found = elf.build_id()
            if build_id and found and found.hex() != build_id.lower():
                raise TargetError(
                    f"{path} is of another build than the kernel: build-id "
                    f"{found.hex()}, not {build_id}"
                )
            return elf.section_bytes(".BTF"), True
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    except ElfError as error:
        raise TargetError(f"{path} is no vmlinux and no BTF ({error})") from None


def btf_of_system(root: Path, vmcoreinfo: VmcoreInfo) -> BtfTypes:
    """The BTF that a running kernel shows below ``root``. Raises `TargetError`."""
    path = str(root / SYSFS)
    return BtfTypes.from_bytes(_content(path), path, vmcoreinfo)


def check_against_own(
    types: BtfTypes, memory: MemoryProvider, symbols: SymbolProvider
) -> None:
    """Compare the BTF of a file with the kernel's own, where that can be found.

    Builds of one release have the same sizes and offsets in VMCOREINFO, and still the
    lengths of types and strings differ. Raises `TargetError` for another one.
    """
    start, stop = symbols.symbol("__start_BTF"), symbols.symbol("__stop_BTF")
    if start is None or stop is None:
        return
    try:
        own = memory.read(start, HEADER_SIZE)
    except Fault:
        return
    if own[:2] in MAGICS and (
        own != types.btf.header or stop - start != types.btf.size
    ):
        raise TargetError(
            f"{types.source} is the BTF of another build than the kernel, which has "
            f"its own of {stop - start} bytes: leave out -s"
        )


def btf_of_memory(
    memory: MemoryProvider, symbols: SymbolProvider, vmcoreinfo: VmcoreInfo
) -> BtfTypes:
    """The BTF in a kernel's memory, between two symbols. Raises `TargetError`."""
    start, stop = symbols.symbol("__start_BTF"), symbols.symbol("__stop_BTF")
    if start is None or stop is None:
        raise TargetError("no symbol __start_BTF: no kallsyms, or no BTF in the kernel")
    if not 0 < stop - start <= MAX_BTF:
        raise TargetError(f"the kernel's BTF cannot have {stop - start} bytes")
    try:
        data = memory.read(start, stop - start)
    except Fault as fault:
        raise TargetError(f"the kernel's BTF cannot be read: {fault}") from None
    return BtfTypes.from_bytes(data, f"the kernel's memory at {start:#x}", vmcoreinfo)
