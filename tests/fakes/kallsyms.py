# SPDX-License-Identifier: LGPL-2.1-or-later
"""kallsyms tables as a kernel has them (scripts/kallsyms.c), by address."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["FORMS", "Tables", "encode"]

FORMS = ("places", "base", "percpu")
"""What offsets count from: their own places; a base; a base, negatively."""
ALIGN = 64
TOKENS = {1: "SYM", 2: "mem", 3: "page", 4: "__", 5: "Tco", 6: "djiffies"}
"""Bytes that stand for more than themselves; no name has them as letters.

Some take in the letter of the type, as the kernel's do: one is a whole name.
"""


@dataclass
class Tables:
    """The bytes of the tables by address, and their lines of VMCOREINFO."""

    pieces: dict[int, bytes]
    keys: dict[str, str]

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes that lie within one table, else None."""
        for start, data in self.pieces.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return None


def encode(
    symbols: Sequence[tuple[str, str, int]],
    at: int = 0xFFFFFFFF90000000,
    form: str = "places",
    byteorder: str = "little",
) -> Tables:
    """Tables of (type letter, name, address) symbols, from an address on."""
    order = "<" if byteorder == "little" else ">"
    names = b"".join(_name(letter + name) for letter, name, _ in symbols)
    texts = [TOKENS.get(i, chr(i) if 32 <= i < 127 else "") for i in range(256)]
    token_table = b"".join(text.encode() + b"\0" for text in texts)
    index, position = [], 0
    for text in texts:
        index.append(position)
        position += len(text) + 1
    contents = {
        "num_syms": struct.pack(f"{order}I", len(symbols)),
        "names": names,
        "token_table": token_table,
        "token_index": struct.pack(f"{order}256H", *index),
        "offsets": bytes(4 * len(symbols)),
    }
    if form != "places":
        contents["relative_base"] = bytes(8)
    places, free = {}, at
    for name, data in contents.items():
        places[name] = free
        free += -(-len(data) // ALIGN) * ALIGN
    base = min((a for _, _, a in symbols if a >> 63), default=at)
    if form != "places":
        contents["relative_base"] = struct.pack(f"{order}Q", base)
    offsets = [
        _offset(form, address, base, places["offsets"] + 4 * i)
        for i, (_, _, address) in enumerate(symbols)
    ]
    contents["offsets"] = struct.pack(f"{order}{len(offsets)}I", *offsets)
    return Tables(
        {
            places[name]: data.ljust(-(-len(data) // ALIGN) * ALIGN, b"\0")
            for name, data in contents.items()
        },
        {f"SYMBOL(kallsyms_{name})": f"{place:x}" for name, place in places.items()},
    )


def _offset(form: str, address: int, base: int, place: int) -> int:
    if form == "places":
        offset = address - place
    elif form == "percpu":
        offset = base - 1 - address if address >> 63 else address
    else:
        offset = address - base
    return offset & 0xFFFFFFFF


def _name(text: str) -> bytes:
    """Length and letters, the longest token where one fits."""
    packed = bytearray()
    while text:
        byte = next((b for b, t in TOKENS.items() if text.startswith(t)), ord(text[0]))
        packed.append(byte)
        text = text[len(TOKENS.get(byte, "x")) :]
    if len(packed) < 128:
        return bytes([len(packed)]) + bytes(packed)
    return bytes([len(packed) & 0x7F | 0x80, len(packed) >> 7]) + bytes(packed)
