# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a dump's own headers say, before any library opens the file.

Every reason not to open it is one `TargetError` line that says what is wrong and what
to do. A file that is incomplete, but whose headers and notes are whole, can be opened:
one sentence says how much of it is absent.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ..formats.elf import (
    ET_CORE,
    ET_REL,
    MAX_NOTE_BYTES,
    Elf,
    ElfCutShort,
    ElfError,
    SegmentMap,
)
from ..formats.kdump_flattened import FlattenedFile
from ..formats.kdump_header import (
    FLATTENED_SIGNATURE,
    SIGNATURE,
    KdumpError,
    KdumpHeader,
    KdumpPages,
)
from ..formats.magic import HEAD_BYTES, recognize
from .base import TargetError
from .capsules import capsule_of
from .recorded import CapsuleNote

__all__ = [
    "EMPTY_UTSNAME",
    "KCORE",
    "NOTE_ELSEWHERE",
    "NO_VMCOREINFO",
    "DumpFile",
    "inspect_dump",
    "missing_of_elf",
    "name_dump_inside",
    "other_format",
    "require_notes",
]

KCORE = "/proc/kcore"
NOTE_ELSEWHERE = (
    "give the right text with --vmcoreinfo FILE: 'strings -a' may show it in the dump "
    "itself, from OSRELEASE= on, perhaps more than once, since the kernel that wrote "
    "the dump has its own"
)
NO_VMCOREINFO = (
    "{path} has no VMCOREINFO note: " + NOTE_ELSEWHERE + " (in a QEMU guest, add "
    "-device vmcoreinfo and load qemu_fw_cfg before the dump)"
)
EMPTY_UTSNAME = (
    "{path}: the kdump header names no system (QEMU's dump-guest-memory leaves it "
    "empty), so that drgn cannot read it: dump again with format=elf, or fill in "
    "utsname in the header"
)
PART_OF_SPLIT = (
    "{path} is one part of a split dump (pfns {start:#x} to {end:#x}), and the other "
    "parts are needed: join all of them with 'makedumpfile --reassemble PART1 PART2 "
    "... OUT'"
)
NOTES_CUT = (
    "{path} is cut short before the end of its notes, where VMCOREINFO is; without it "
    "nothing can be read: copy it again"
)
MARKED = "makedumpfile marked {path} incomplete (often its disk was full)"
MAX_FILE = 1 << 56
"""Headers that name more bytes than any file has are damaged."""
MAX_ENTRIES = 1000
"""Files of a directory that are looked at."""


@dataclass(frozen=True)
class DumpFile:
    """What a dump's own headers say before any library opens it.

    ``segments`` knows what the file lacks; None where libkdumpfile does. ``incomplete``
    is a sentence on a file that is cut or marked incomplete, "" for others.
    """

    kind: str
    segments: SegmentMap | KdumpPages | None
    has_vmcoreinfo: bool
    capsule: CapsuleNote | None = None
    incomplete: str = ""


def inspect_dump(path: str) -> DumpFile:
    """Look at a dump's headers. Raises `TargetError` for what cannot be used."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise TargetError(name_dump_inside(path))
        if path == KCORE:
            raise TargetError(f"{KCORE} is the running kernel: use --live")
        with ExitStack() as closing:
            file = closing.enter_context(open(path, "rb"))
            magic = file.read(16)
            if magic.startswith(SIGNATURE):
                dump = _with_capsule(path, _inspect_kdump(path, file))
            elif magic.startswith(FLATTENED_SIGNATURE):
                dump = _inspect_flattened(path, file)
            else:
                dump = _with_capsule(path, _inspect_elf(path))
            if isinstance(dump.segments, KdumpPages):
                closing.pop_all()  # which reads the file for each page
            return dump
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None


def other_format(path: str) -> str | None:
    """What a file is, if that is known, and what to do instead. Raises OSError."""
    with open(path, "rb") as file:
        found = recognize(file.read(HEAD_BYTES), os.fstat(file.fileno()).st_size)
    return None if found is None else f"{path} is {found.name}: {found.advice}"


def name_dump_inside(directory: str) -> str:
    """What to say of a directory in the place of a dump. Raises OSError."""
    dumps, kernels = [], []
    for entry in sorted(Path(directory).iterdir())[:MAX_ENTRIES]:
        if not entry.is_file():
            continue
        with suppress(OSError, ElfError), open(entry, "rb") as file:
            if file.read(16).startswith((SIGNATURE, FLATTENED_SIGNATURE)):
                dumps.append(str(entry))
                continue
            elf = Elf(file)
            if elf.type == ET_CORE:
                dumps.append(str(entry))
            elif elf.type != ET_REL and entry.name.startswith("vmlinux"):
                kernels.append(str(entry))
    if not dumps:
        return f"{directory} is a directory, not a dump, and there is no dump in it"
    files = [f"-c {dumps[0]}", *(f"-s {kernel}" for kernel in kernels[:1])]
    many = "" if len(dumps) == 1 else f" (the first of {len(dumps)} dumps in it)"
    return f"{directory} is a directory, not a dump: use {' '.join(files)}{many}"


def missing_of_elf(elf: Elf, path: str) -> str:
    """One sentence on what the file lacks; "" for a whole one."""
    found = [MARKED.format(path=path)] if elf.is_incomplete else []
    if elf.is_truncated:
        absent = elf.expected_size - elf.file_size
        found.append(
            f"{path} is cut short: {absent} of {elf.expected_size} bytes are absent"
        )
    return "; ".join(found)


def require_notes(elf: Elf, path: str) -> None:
    """Refuse an ELF core whose notes are cut, or whose sizes no file can have.

    Raises `TargetError`.
    """
    if elf.expected_size > MAX_FILE:
        raise TargetError(
            f"{path} is damaged: its headers name {elf.expected_size} bytes; copy it "
            "again"
        )
    if elf.are_notes_cut:
        raise TargetError(NOTES_CUT.format(path=path))


def _with_capsule(path: str, dump: DumpFile) -> DumpFile:
    """The dump with what it says of itself, if it is a capsule."""
    try:
        capsule = capsule_of(path)
    except TargetError:
        if not dump.incomplete:
            raise
        raise TargetError(
            f"{dump.incomplete}; a capsule is read only if it is whole: copy it again"
        ) from None
    if capsule is None:
        return dump
    segments = dump.segments
    if not isinstance(segments, SegmentMap):
        held = sorted((pa, pa + size) for pa, size in capsule.ranges)
        segments = SegmentMap.of_present(held)
    return replace(dump, segments=segments, capsule=capsule)


def _inspect_elf(path: str) -> DumpFile:
    try:
        with Elf(path) as elf:
            if elf.type != ET_CORE:
                raise TargetError(
                    f"{path} is an ELF file but no dump; give a vmlinux with -s"
                )
            require_notes(elf, path)
            has_note = elf.note("VMCOREINFO") is not None
            segments = elf.physical_map()
            return DumpFile("elf", segments, has_note, None, missing_of_elf(elf, path))
    except ElfCutShort as error:
        raise TargetError(f"{path} is cut short: {error}; copy it again") from None
    except ElfError as error:
        raise TargetError(
            other_format(path)
            or f"{path} is not a dump this tool can read ({error}); "
            "ELF and kdump-compressed vmcores are"
        ) from None


def _inspect_kdump(path: str, file: BinaryIO, kind: str = "kdump") -> DumpFile:
    try:
        header = KdumpHeader.read(file)
        if not header.utsname[0] or not header.utsname[2]:
            raise TargetError(EMPTY_UTSNAME.format(path=path))
        if header.split is not None:
            start, end = header.split
            raise TargetError(PART_OF_SPLIT.format(path=path, start=start, end=end))
        pages = KdumpPages(file, header)
    except KdumpError as error:
        raise TargetError(f"{path} is {error}") from None
    for offset, size in header.note_areas:
        if size <= MAX_NOTE_BYTES and offset + size <= pages.file_size:
            continue
        if pages.missing_bytes and size <= MAX_NOTE_BYTES:
            raise TargetError(NOTES_CUT.format(path=path))
        raise TargetError(
            f"{path} is damaged: its sub-header names {size} bytes of notes at offset "
            f"{offset}, the file has {pages.file_size} bytes; copy it again"
        )
    found = [MARKED.format(path=path)] if header.is_incomplete else []
    if pages.missing_bytes:
        found.append(f"{path} is cut short by at least {pages.missing_bytes} bytes")
    if not found:
        return DumpFile(kind, None, True)
    found.append(f"{pages.absent()} of {pages.count} pages are absent")
    return DumpFile(kind, pages, True, None, "; ".join(found))


def _inspect_flattened(path: str, file: BinaryIO) -> DumpFile:
    try:
        whole = FlattenedFile(file)
        return _inspect_kdump(path, whole, "flattened")  # type: ignore[arg-type]
    except KdumpError as error:
        raise TargetError(f"{path} is {error}") from None
