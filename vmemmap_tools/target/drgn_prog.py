# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Program that somebody else has opened, a drgn session's or a script's, as a Target.

What `open_dump` knows when it opens a dump has to be found out afterwards: which file
the memory comes from, what that file leaves out, and whether drgn has types.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import drgn

from .base import Target, TargetError
from .composed import ComposedTarget
from .drgn import DrgnMemory, DrgnTarget
from .drgn_debug_info import note_text
from .drgn_open import check_memory, memory_of, open_program
from .drgn_types import DrgnSymbols, DrgnTypes, has_types
from .dump_files import KCORE, inspect_dump
from .providers import compose
from .vmcoreinfo import VmcoreInfo

__all__ = ["target_of_program"]


def target_of_program(prog: drgn.Program) -> Target:
    """The Target that this Program debugs, with the best types there are for it.

    Ranges that an ELF dump leaves out are faults, as long as the file is still where
    the Program found it. Raises `TargetError`.
    """
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise TargetError("this program is no Linux kernel")
    release = VmcoreInfo(note_text(prog)).get("OSRELEASE", "this kernel")
    if prog.flags & drgn.ProgramFlags.IS_LIVE:
        is_local = bool(prog.flags & drgn.ProgramFlags.IS_LOCAL)
        source = KCORE if is_local else "QEMU guest"
        root = Path("/") if is_local else None
        return _with_types(prog, DrgnMemory(prog, None, source), release, root)
    path = prog.core_dump_path
    if path is None:
        return _with_types(prog, DrgnMemory(prog), release)
    memory, is_elf = _memory_of_dump(prog, path)
    target = _with_types(prog, memory, release)
    if is_elf:
        check_memory(target, path)
    return target


def _memory_of_dump(prog: drgn.Program, path: str) -> tuple[DrgnMemory, bool]:
    """The memory of a dump, and whether the dump is an ELF file."""
    file = _file_of(path)
    if file is None:
        source = f"{path} (file is gone: what it leaves out may read as zeros)"
        return DrgnMemory(prog, None, source), False
    dump = inspect_dump(file)
    if dump.kind == "elf":
        return memory_of(prog, dump, f"{path} (ELF)"), True
    source = f"{path} (kdump-compressed)"
    patched = VmcoreInfo(note_text(prog)).with_patch_level()
    if patched is None:
        return memory_of(prog, dump, source), False
    # libkdumpfile refuses every read of such a kernel: read through a Program that
    # does not tell it, and keep this one for types.
    return memory_of(open_program(file, patched), dump, source), False


def _file_of(path: str) -> str | None:
    """The file that a Program opened by this path, None if there is no way to it.

    It may have been deleted or replaced since; a Program keeps it open.
    """
    held: dict[str, str] = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            held[os.readlink(descriptor)] = str(descriptor)
    if path in held:
        return path
    return held.get(f"{path} (deleted)", path if os.path.exists(path) else None)


def _with_types(
    prog: drgn.Program, memory: DrgnMemory, release: str, root: Path | None = None
) -> Target:
    if not has_types(prog):
        refusal = f"drgn has no debug info for {release}: start it with -s VMLINUX"
        return compose(memory, release=release, root=root, refusal=refusal)
    if memory.prog is prog:
        return DrgnTarget.over(memory, release)
    return ComposedTarget(memory, DrgnTypes(prog), DrgnSymbols(prog), release)
