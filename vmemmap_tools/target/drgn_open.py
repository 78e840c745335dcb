# SPDX-License-Identifier: LGPL-2.1-or-later
"""Open a dump, the running kernel or a QEMU guest through drgn.

Every reason not to open is one `TargetError` line that says what is wrong and what to
do. Known obstacles of drgn and libkdumpfile are gone around here and nowhere else; its
`except Exception` stands where drgn raises that very class for errors without a name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import drgn

from ..formats.kdump_header import KdumpPages
from .base import Fault, Target, TargetError, TypeSource
from .composed import ComposedTarget
from .compressed import decompress_capsule
from .drgn import DrgnMemory, DrgnTarget
from .drgn_debug_info import load_debug_info, note_text, reason
from .drgn_qemu import bound_waiting, check_qemu
from .dump_files import (
    EMPTY_UTSNAME,
    KCORE,
    NO_VMCOREINFO,
    NOTE_ELSEWHERE,
    DumpFile,
    inspect_dump,
)
from .elf_core import CoreMemory
from .providers import compose
from .vmcoreinfo import VmcoreInfo

__all__ = [
    "check_memory",
    "memory_of",
    "open_dump",
    "open_live",
    "open_program",
    "open_qemu",
]

GREETING_SECONDS = 5.0
"""How long QEMU may take to greet, which it does at once if nobody else is served."""

# drgn warns through logging, by default on standard error. What matters of it is said
# by the errors here; whoever wants the rest gives that logger a handler.
_SILENT = logging.NullHandler()


def open_dump(
    core: str,
    symbols: Sequence[str] = (),
    vmcoreinfo: str | None = None,
    types: TypeSource = "auto",
) -> DrgnTarget | ComposedTarget:
    """A Target for a vmcore (ELF or kdump-compressed).

    ``vmcoreinfo`` is the text of the note, for dumps that lack it. ``symbols`` are
    files with debug info or BTF; without them debug info is sought in the standard
    places and BTF in the dump itself. ``types`` forces one source. Raises
    `TargetError`.
    """
    try:
        packed = None if os.path.isdir(core) else decompress_capsule(core)
    except OSError as error:
        raise TargetError(f"{core}: {error.strerror}") from None
    if packed is None:
        return _open_dump(core, symbols, vmcoreinfo, types)
    # The libraries open the file by its path, and keep it open by themselves.
    path = f"/proc/self/fd/{packed.fileno()}"
    with packed:
        try:
            return _open_dump(path, symbols, vmcoreinfo, types, shown=core)
        except TargetError as error:
            raise TargetError(str(error).replace(path, core)) from None


def _open_dump(
    core: str,
    symbols: Sequence[str],
    vmcoreinfo: str | None,
    types: TypeSource,
    shown: str | None = None,
) -> DrgnTarget | ComposedTarget:
    """`open_dump` of a file that is not compressed; ``shown`` is its own name."""
    _silence_drgn()
    dump = inspect_dump(core)
    if not dump.has_vmcoreinfo and vmcoreinfo is None:
        raise TargetError(NO_VMCOREINFO.format(path=core))
    is_elf_capsule = dump.capsule is not None and dump.kind == "elf"
    if is_elf_capsule and not symbols and types != "dwarf":
        # It has its own types, and perhaps half a million ranges.
        return _open_capsule(core, vmcoreinfo, types, shown)
    prog = open_program(core, vmcoreinfo)
    info = VmcoreInfo(vmcoreinfo or note_text(prog))
    release = info.get("OSRELEASE", "unknown")
    patched = None if dump.kind == "elf" else info.with_patch_level()
    if patched is not None:
        prog = open_program(core, patched)
    source = f"{shown or core} ({'ELF' if dump.kind == 'elf' else 'kdump-compressed'})"
    memory = memory_of(prog, dump, source)
    try:
        target = _with_types(memory, symbols, types, release)
        check_memory(target, core)
    except TargetError as error:
        if not dump.incomplete:
            raise
        raise TargetError(f"{error}; {dump.incomplete}") from None
    return target


def _open_capsule(
    core: str, vmcoreinfo: str | None, types: TypeSource, shown: str | None
) -> ComposedTarget:
    memory = CoreMemory(core, vmcoreinfo)
    memory.path = shown or core
    target = compose(memory, types=types)
    check_memory(target, core)
    return target


def memory_of(prog: drgn.Program, dump: DumpFile, source: str) -> DrgnMemory:
    """The memory of a dump that was inspected before the Program opened it."""
    if isinstance(dump.segments, KdumpPages):
        # libkdumpfile looks for the kernel's text at the first read, which fails if the
        # text was cut off, whatever is read.
        with suppress(drgn.FaultError):
            prog.read(dump.segments.first_held() or 0, 1, True)
    return DrgnMemory(
        prog, dump.segments, source, capsule=dump.capsule, incomplete=dump.incomplete
    )


def open_live(
    symbols: Sequence[str] = (), types: TypeSource = "auto"
) -> DrgnTarget | ComposedTarget:
    """A Target for the running kernel through /proc/kcore. Raises `TargetError`."""
    if not os.path.exists(KCORE):
        raise TargetError(
            f"{KCORE} does not exist: this kernel has no CONFIG_PROC_KCORE, or a "
            "container hides it; run on the host, or name a dump with -c"
        )
    if not os.access(KCORE, os.R_OK):
        raise TargetError(
            f"{KCORE} cannot be read: run as root, or name a dump with -c"
        )
    _silence_drgn()
    memory = DrgnMemory(_open_kcore(), source=KCORE, reopen=_open_kcore)
    return _with_types(memory, symbols, types, root=Path("/"))


def _open_kcore() -> drgn.Program:
    prog = drgn.Program()
    try:
        prog.set_kernel()
    except (OSError, ValueError) as error:
        raise TargetError(
            f"{KCORE} cannot be read ({reason(error)}): it takes CAP_SYS_RAWIO, and a "
            "kernel without lockdown of its secrets; or name a dump with -c"
        ) from None
    except Exception as error:
        raise TargetError(f"{KCORE}: {reason(error)}") from None
    return prog


def open_qemu(
    socket: str,
    symbols: Sequence[str] = (),
    vmcoreinfo: str | None = None,
    types: TypeSource = "auto",
) -> DrgnTarget | ComposedTarget:
    """A Target for a running guest through QEMU's QMP socket. Raises `TargetError`."""
    _silence_drgn()
    prog = drgn.Program()
    if not hasattr(prog, "set_qemu_qmp"):
        raise TargetError(
            f"drgn {drgn.__version__} has no QEMU support: use 0.2 or later"
        )
    check_qemu(socket)
    try:
        prog.set_qemu_qmp(socket)
        bound_waiting(socket)
        if vmcoreinfo is not None:
            prog.set_linux_kernel_custom(vmcoreinfo, True)
    except Exception as error:
        raise TargetError(f"{socket}: {reason(error)}") from None
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise TargetError(NO_VMCOREINFO.format(path=socket))
    VmcoreInfo(note_text(prog)).check_release()
    memory = DrgnMemory(prog, source=f"QEMU guest at {socket}")
    return _with_types(memory, symbols, types)


def _silence_drgn() -> None:
    logging.getLogger("drgn").addHandler(_SILENT)


def _with_types(
    memory: DrgnMemory,
    files: Sequence[str],
    types: TypeSource,
    release: str | None = None,
    root: Path | None = None,
) -> DrgnTarget | ComposedTarget:
    """A memory with types and symbols: DWARF, else BTF, else VMCOREINFO.

    ``release`` is the kernel's own, where the Program's had to be altered; ``root`` the
    file system of a running kernel.
    """
    release = release or memory.vmcoreinfo.get("OSRELEASE", "this kernel")
    refusal = "DWARF was not asked for"
    if types in ("auto", "dwarf"):
        found = load_debug_info(memory.prog, files, release, types == "dwarf")
        if found is None:
            return DrgnTarget.over(memory, release)
        refusal = found
    return compose(memory, files, types, release, root, refusal)


def check_memory(target: Target, path: str) -> None:
    """Refuse memory of another boot or build than VMCOREINFO and vmlinux describe.

    ``init_uts_ns`` has to hold the release that VMCOREINFO gives. It may be left out of
    the file, but not be something else.
    """
    address, uts = target.symbol("init_uts_ns"), target.struct("uts_namespace")
    expected = target.release.encode()
    if address is None or uts is None or "name.release" not in uts:
        return
    try:
        found = target.read(address + uts.offset("name.release"), len(expected) + 1)
    except Fault as fault:
        if fault.kind in ("excluded", "cut", "outside"):
            return
        found = b""
    if found != expected + b"\0":
        raise TargetError(
            f"{path} does not hold what its VMCOREINFO and vmlinux describe: at "
            f"init_uts_ns there is no release {target.release}; it is damaged, or one "
            f"of them is of another boot ({NOTE_ELSEWHERE})"
        )


def open_program(core: str, vmcoreinfo: str | None) -> drgn.Program:
    """A Program for a dump. Raises `TargetError`."""
    given = {} if vmcoreinfo is None else {"vmcoreinfo": vmcoreinfo}
    try:
        prog = drgn.Program(**given)
        prog.set_core_dump(core)
    except OSError as error:
        raise TargetError(f"{core}: {error.strerror}") from None
    except Exception as error:
        if "KDUMP_ATTR_ARCH_NAME" in str(error):
            raise TargetError(EMPTY_UTSNAME.format(path=core)) from None
        hint = f"; {NOTE_ELSEWHERE}" if "VMCOREINFO" in str(error) else ""
        raise TargetError(f"{core}: {reason(error)}{hint}") from None
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise TargetError(NO_VMCOREINFO.format(path=core))
    VmcoreInfo(note_text(prog)).check_release()
    return prog
