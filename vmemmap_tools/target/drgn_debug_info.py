# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debug info for a drgn Program: the files given, or what the standard places hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import drgn

from ..formats.elf import ET_CORE, ET_REL, Elf, ElfError
from .base import TargetError
from .btf_files import is_raw_btf
from .drgn_types import refuses_damage
from .dump_files import other_format
from .symbol_lists import is_symbol_list
from .vmcoreinfo import VmcoreInfo

__all__ = ["load_debug_info", "note_text", "reason"]


STRIPPED = (
    "{path} has neither debug info nor BTF: give the one with debug info, or take the "
    "symbols alone with --types vmcoreinfo"
)


@refuses_damage
def load_debug_info(
    prog: drgn.Program, files: Sequence[str], release: str, is_required: bool
) -> str | None:
    """Load the vmlinux; returns None when it is there, else why it is not.

    Raises `TargetError` for files that are none or belong to another kernel, and where
    debug info is required.
    """
    build_id = VmcoreInfo(note_text(prog)).get("BUILD-ID")
    raw = [path for path in files if is_raw_btf(path)]
    lists = [path for path in files if is_symbol_list(path)]
    elves = [path for path in files if path not in (*raw, *lists)]
    for path in elves:
        _check_symbol_file(path, build_id, release)
    if is_required and raw:
        raise TargetError(f"{raw[0]} is BTF, not DWARF: leave out --types dwarf")
    if elves or not raw:
        _load(prog, elves)
    if _has_vmlinux(prog):
        return None
    if elves:
        refusal = (
            f"{' '.join(elves)} is not the vmlinux of {release}, or has no debug info"
        )
        if is_required or not (raw or any(map(_has_btf, elves))):
            stripped = next(filter(_is_stripped, elves), None)
            if stripped is not None and not is_required:
                refusal = STRIPPED.format(path=stripped)
            raise TargetError(refusal)
        return refusal
    refusal = (
        f"no debug info found for {release}: give its vmlinux with -s "
        f"(Debian: package linux-image-{release}-dbg)"
    )
    if is_required:
        raise TargetError(refusal)
    return refusal


def _load(prog: drgn.Program, files: Sequence[str]) -> None:
    try:
        if files:
            prog.load_debug_info(list(files))
        else:
            prog.load_debug_info(main=True)
    except drgn.MissingDebugInfoError:
        pass  # asked afterwards: modules of ours may lack theirs, the kernel may not
    except OSError as error:
        raise TargetError(
            f"{error.filename or 'debug info'}: {error.strerror}"
        ) from None


def _has_vmlinux(prog: drgn.Program) -> bool:
    try:
        return prog.main_module().debug_file_path is not None
    except LookupError:
        return False


def _is_stripped(path: str) -> bool:
    """Whether a vmlinux has symbols and nothing else: `strip --strip-debug`."""
    with Elf(path) as elf:
        names = {section.name for section in elf.sections()}
        is_module = elf.type == ET_REL
    has_debug_info = any(name.startswith(".debug_") for name in names)
    return ".symtab" in names and not is_module and not has_debug_info


def _has_btf(path: str) -> bool:
    try:
        with Elf(path) as elf:
            return elf.type != ET_REL and elf.section_bytes(".BTF") is not None
    except ElfError as error:
        raise TargetError(f"{path} is not a vmlinux ({error})") from None


def _check_symbol_file(path: str, expected: str | None, release: str) -> None:
    """Refuse what is no ELF file, a dump, or a vmlinux of another build."""
    try:
        if Path(path).is_dir():
            raise TargetError(f"{path} is a directory, not a vmlinux")
        with Elf(path) as elf:
            if elf.type == ET_CORE:
                raise TargetError(f"{path} is a dump, not a vmlinux: give it with -c")
            found = elf.build_id()
            is_kernel = elf.type != ET_REL
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    except ElfError as error:
        other = other_format(path)
        raise TargetError(other or f"{path} is not a vmlinux ({error})") from None
    if is_kernel and expected and found and found.hex() != expected.lower():
        raise TargetError(
            f"{path} is of another build than the kernel: build-id {found.hex()}, "
            f"not {expected}; give the vmlinux of {release}"
        )


def note_text(prog: drgn.Program) -> str:
    """The text of a Program's VMCOREINFO, empty if it has none."""
    try:
        return str(prog["VMCOREINFO"].string_(), "utf-8", "replace")
    except LookupError:
        return ""


def reason(error: Exception) -> str:
    """The first line of an error's text."""
    text = (getattr(error, "strerror", None) or str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__
