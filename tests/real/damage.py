# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dumps as they should not be, and filtered ones, made from those of a run.

Copies of an ELF dump are sparse: where only its headers matter, nothing else is copied.
"""

from __future__ import annotations

import struct
import subprocess
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Callable

from .cache import RealError, require_tool
from .runs import Run
from .walk import PhysicalMemory, QemuWalk

__all__ = [
    "as_proc_vmcore",
    "copy_part",
    "filtered",
    "headers_only",
    "renamed_note",
    "without_page",
]

HEADERS = 1 << 16
"""More than the headers and notes of QEMU's dumps take."""

PT_LOAD = 1
EHDR_SIZE = 64
PHDR = struct.Struct("<IIQQQQQQ")
PAGE = 4096


def copy_part(source: Path, out: Path, size: int) -> Path:
    """Copy the first *size* bytes of *source*, negative counted from its end."""
    whole = source.stat().st_size
    left = size if size >= 0 else whole + size
    with open(source, "rb") as reader, open(out, "wb") as writer:
        while left > 0 and (block := reader.read(min(left, 1 << 20))):
            writer.write(block)
            left -= len(block)
    return out


def headers_only(source: Path, out: Path, size: int | None = None) -> Path:
    """Copy the headers of an ELF dump and leave the rest, up to *size*, a hole."""
    copy_part(source, out, HEADERS)
    with open(out, "r+b") as file:
        file.truncate(source.stat().st_size if size is None else size)
    return out


def renamed_note(source: Path, out: Path) -> Path:
    """Copy the headers of an ELF dump, its VMCOREINFO note under another name."""
    headers_only(source, out)
    with open(out, "r+b") as file:
        head = file.read(HEADERS)
        file.seek(head.index(b"VMCOREINFO\0"))
        file.write(b"X")
    return out


def as_proc_vmcore(run: Run, out: Path) -> Path:
    """Copy an ELF dump of QEMU with headers as ``/proc/vmcore`` has them.

    makedumpfile wants the program headers behind the ELF header, where QEMU puts the
    section headers, and the direct map's addresses, which QEMU leaves physical.
    """
    direct_map = QemuWalk(run, PhysicalMemory(run.elf)).direct_map
    return _rewritten(
        run.elf,
        out,
        lambda loads: [load.moved(direct_map) for load in loads],
    )


def without_page(run: Run, out: Path, pfn: int) -> Path:
    """Copy an ELF dump with the page *pfn* named by the headers, but left out."""
    return _rewritten(
        run.elf,
        out,
        lambda loads: [part for load in loads for part in load.without(pfn << 12)],
    )


@dataclass(frozen=True)
class _Load:
    """A PT_LOAD header."""

    flags: int
    offset: int
    va: int
    pa: int
    held: int
    size: int

    def moved(self, base_va: int) -> _Load:
        return replace(self, va=base_va + self.pa)

    def without(self, pa: int) -> list[_Load]:
        """Split in two: the first names the page at *pa* without holding it."""
        if not self.pa <= pa < self.pa + self.held:
            return [self]
        held = pa - self.pa
        after = held + PAGE
        return [
            replace(self, held=held, size=after),
            _Load(
                self.flags,
                self.offset + after,
                self.va + after,
                self.pa + after,
                self.held - after,
                self.size - after,
            ),
        ]


def _rewritten(
    source: Path, out: Path, change: Callable[[list[_Load]], list[_Load]]
) -> Path:
    """Copy an ELF dump and write *change*d PT_LOADs behind its ELF header."""
    command = ["cp", "--sparse=always", str(source), str(out)]
    subprocess.run(command, check=True, timeout=600)
    with open(out, "r+b") as file:
        head = bytearray(file.read(HEADERS))
        (table,) = struct.unpack_from("<Q", head, 0x20)
        (count,) = struct.unpack_from("<H", head, 0x38)
        loads, kept = [], b""
        for at in range(table, table + count * PHDR.size, PHDR.size):
            kind, flags, offset, va, pa, held, size, _ = PHDR.unpack_from(head, at)
            if kind == PT_LOAD:
                loads.append(_Load(flags, offset, va, pa, held, size))
            else:
                kept += head[at : at + PHDR.size]
                first = offset
        for load in change(loads):
            kept += PHDR.pack(PT_LOAD, *astuple(load), 0)
        assert EHDR_SIZE + len(kept) <= first, "no room for program headers"
        struct.pack_into("<QQ", head, 0x20, EHDR_SIZE, 0)
        count = len(kept) // PHDR.size
        struct.pack_into("<6H", head, 0x34, EHDR_SIZE, PHDR.size, count, 64, 0, 0)
        file.seek(0)
        file.write(head[:EHDR_SIZE] + kept)
    return out


def filtered(vmcore: Path, out: Path, form: str) -> Path:
    """Filter an ELF dump with ``makedumpfile -d 31``.

    :param form: ``-E`` (ELF), ``-c`` (kdump) or ``-F`` (kdump, flattened)
    :raises RealError: if makedumpfile is absent, or fails
    """
    command = [require_tool("makedumpfile"), "-d", "31", "--message-level", "4"]
    if form == "-F":
        with open(out, "wb") as stream:
            command += ["-c", "-F", str(vmcore)]
            ended = subprocess.run(
                command, stdout=stream, stderr=subprocess.PIPE, check=False
            )
    else:
        command += [form, str(vmcore), str(out)]
        ended = subprocess.run(command, capture_output=True, check=False)
    if ended.returncode:
        words = ended.stderr.decode(errors="replace").split()
        raise RealError(f"makedumpfile {form}: {' '.join(words)}")
    return out
