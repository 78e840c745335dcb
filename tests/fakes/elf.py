# SPDX-License-Identifier: LGPL-2.1-or-later
"""ELF files byte by byte: any header may be as wrong as a test likes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ET_CORE", "ET_EXEC", "ET_REL", "Load", "build_id", "elf", "note"]

ET_REL, ET_EXEC, ET_CORE = 1, 2, 4
PT_LOAD, PT_NOTE = 1, 4
PAGE = 4096


@dataclass(frozen=True)
class Load:
    """A PT_LOAD: ``data`` is in the file, ``size`` bytes are named (p_memsz).

    By default it has no virtual address (all ones), as in QEMU's dumps.
    """

    pa: int
    data: bytes
    size: int | None = None
    va: int = (1 << 64) - 1


def note(name: str, description: bytes, kind: int = 0) -> bytes:
    text = name.encode() + b"\0"
    header = struct.pack("<III", len(text), len(description), kind)
    return header + _pad(text) + _pad(description)


def build_id(value: bytes) -> bytes:
    return note("GNU", value, 3)


def elf(
    loads: Sequence[Load] = (),
    notes: bytes = b"",
    *,
    kind: int = ET_CORE,
    machine: int = 62,
    order: str = "<",
    use_xnum: bool = False,
) -> bytes:
    """A whole file; with ``use_xnum`` the number of headers is in section header 0."""
    count = len(loads) + bool(notes)
    sections = 64 if use_xnum else 0
    table = 64 + sections
    at = table + 56 * count
    headers: list[bytes] = []
    body: list[bytes] = []

    def add(program: int, pa: int, va: int, data: bytes, size: int, align: int) -> None:
        nonlocal at
        place = (at, va, pa, len(data), size, align)
        headers.append(struct.pack(order + "IIQQQQQQ", program, 6, *place))
        body.append(data)
        at += len(data)

    if notes:
        add(PT_NOTE, 0, 0, notes, 0, 4)
    for load in loads:
        size = len(load.data) if load.size is None else load.size
        add(PT_LOAD, load.pa, load.va, load.data, size, PAGE)
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + b"\x01"
    header = ident.ljust(16, b"\0") + struct.pack(
        order + "HHIQQQIHHHHHH",
        *(kind, machine, 1, 0, table if count else 0, 64 if use_xnum else 0, 0, 64),
        *(56, 0xFFFF if use_xnum else count, 64, 0, 0),
    )
    first = struct.pack(order + "IIQQQQIIQQ", *[0] * 5, 0, 0, count, 0, 0)
    return b"".join([header, first[:sections], *headers, *body])


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
