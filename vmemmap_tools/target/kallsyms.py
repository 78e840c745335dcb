# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols from kallsyms: the text of /proc/kallsyms, or the kernel's compressed tables.

The tables (``kernel/kallsyms.c``, ``scripts/kallsyms.c``) are: the number of symbols;
their names, each a length and that many bytes, where a byte stands for a string of the
token table; and a 32-bit offset for each. What an offset counts from has changed (a
base; a base, negatively, with absolute per-CPU symbols; the offset's own place), so the
form is taken in which the symbols that VMCOREINFO names have their addresses there.
"""

from __future__ import annotations

import sys
from array import array
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from .base import ByteOrder, Evidence, Fault, MemoryProvider, TargetError
from .vmcoreinfo import VmcoreInfo

__all__ = ["KallsymsFile", "KallsymsTables", "read_kallsyms"]

TABLES = ("names", "num_syms", "token_table", "token_index", "offsets")
TOKENS = 256
MAX_SYMBOLS = 1 << 22
MAX_FILE = 1 << 28
BYTES_A_NAME = 64
"""More than a compressed name takes on average; bounds what is read."""
WITNESSES = 4
"""Symbols of VMCOREINFO that have to agree, if it names so many."""
NOT_ADDRESSES = frozenset({"mem_section", "vmemmap"})
"""SYMBOL() keys that hold a variable's value."""
MAX_NAMES_TRIED = 1 << 16
"""Names that may share the ending of one that is sought; in a kernel some hundred."""
ONE_BYTE = 1
"""The length that stands before a name's only byte."""
GLOBAL = frozenset(b"ABDRTVW")
MASK_64 = (1 << 64) - 1

Decoder = Callable[[int], int]
"""From the number of a symbol to its address."""


class KallsymsFile:
    """The symbols of /proc/kallsyms, those of modules left out."""

    def __init__(self, data: bytes, source: str):
        self._data = b"\n" + data
        self._source = source

    def symbol(self, name: str) -> int | None:
        """Address of a symbol; None also where namesakes leave it open."""
        return _only(self._find(name))

    def _find(self, name: str) -> Iterator[tuple[int, int]]:
        data, needle = self._data, b" " + name.encode() + b"\n"
        end = data.find(needle)
        while end >= 0:
            fields = data[data.rfind(b"\n", 0, end) + 1 : end].split(b" ")
            try:
                address, letter = int(fields[0], 16), fields[1][0]
            except (ValueError, IndexError):
                raise TargetError(
                    f"{self._source} is damaged: a line of {name} cannot be understood"
                ) from None
            yield letter, address
            end = data.find(needle, end + 1)

    def evidence(self) -> list[Evidence]:
        return [Evidence("symbols", "kallsyms", self._source)]


def read_kallsyms(path: Path) -> KallsymsFile:
    """The symbols of a file like /proc/kallsyms. Raises `TargetError`.

    Addresses that are hidden (all zero, ``kernel.kptr_restrict``) are none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE)
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    found = KallsymsFile(data, str(path))
    if not (found.symbol("_stext") or found.symbol("_text")):
        raise TargetError(
            f"{path} shows no addresses: run as root, with kernel.kptr_restrict below 2"
        )
    return found


class KallsymsTables:
    """The symbols in a kernel's own memory. Raises `TargetError` for damaged tables."""

    def __init__(self, memory: MemoryProvider, vmcoreinfo: VmcoreInfo):
        self._memory = memory
        self._info = vmcoreinfo
        self._order: ByteOrder = memory.byteorder
        try:
            count = self._integer("num_syms", 4)
            if not 0 < count <= MAX_SYMBOLS:
                raise TargetError(f"damaged kallsyms: {count} symbols")
            packed = self._up_to_next("names", count * BYTES_A_NAME)
            self._names = _Names(packed, count, self._tokens())
            self._offsets = self._read_offsets(count)
        except Fault as fault:
            raise TargetError(f"kallsyms cannot be read: {fault}") from None
        self._address, self.form = self._choose_form()

    @staticmethod
    def are_named(vmcoreinfo: VmcoreInfo) -> bool:
        """Whether VMCOREINFO says where the tables are (since 6.0)."""
        return all(f"SYMBOL(kallsyms_{name})" in vmcoreinfo for name in TABLES)

    def symbol(self, name: str) -> int | None:
        """Address of a symbol; None also where namesakes leave it open."""
        return _only((letter, self._address(i)) for letter, i in self._names.find(name))

    def evidence(self) -> list[Evidence]:
        return [
            Evidence("symbols", "kallsyms", f"the kernel's own tables, {self.form}")
        ]

    # Reading

    def _table(self, name: str) -> int:
        address = self._info.symbol(f"kallsyms_{name}")
        if address is None:
            raise TargetError(f"VMCOREINFO has no SYMBOL(kallsyms_{name})")
        return address

    def _integer(self, name: str, size: int) -> int:
        data = self._memory.read(self._table(name), size)
        return int.from_bytes(data, self._order)

    def _array(self, code: str, address: int, count: int) -> array[int]:
        values = array(code)
        values.frombytes(self._memory.read(address, count * values.itemsize))
        if self._order != sys.byteorder:
            values.byteswap()
        return values

    def _tokens(self) -> list[bytes]:
        index = self._array("H", self._table("token_index"), TOKENS)
        table = self._up_to_next("token_table", max(index) + BYTES_A_NAME)
        tokens = []
        for at in index:
            end = table.find(b"\0", at)
            if end < 0 or b"\n" in table[at:end]:
                raise TargetError("damaged kallsyms: the token table")
            tokens.append(table[at:end])
        return tokens

    def _up_to_next(self, name: str, limit: int) -> bytes:
        """The bytes of a table, which ends where the next one begins, or before."""
        start = self._table(name)
        others = [self._table(other) for other in TABLES]
        size = min([a - start for a in others if a > start] + [limit])
        return self._memory.read(start, size)

    def _read_offsets(self, count: int) -> array[int]:
        return self._array("i", self._table("offsets"), count)

    # What an offset means

    def _choose_form(self) -> tuple[Decoder, str]:
        """The form in which the witnesses agree. Raises `TargetError`."""
        witnesses = list(self._witnesses())
        for form, decode in self._forms():
            if witnesses and all(
                address in map(decode, numbers) for numbers, address in witnesses
            ):
                return decode, form
        raise TargetError(
            "damaged kallsyms: its symbols are not where VMCOREINFO has them"
            if witnesses
            else "damaged kallsyms: it has no symbol that VMCOREINFO names"
        )

    def _witnesses(self) -> Iterator[tuple[list[int], int]]:
        """(numbers of the namesakes, address) of symbols that VMCOREINFO names."""
        found = 0
        for key in self._info:
            name = key[7:-1]
            if not key.startswith("SYMBOL(") or name in NOT_ADDRESSES:
                continue
            numbers = [number for _, number in self._names.find(name)]
            address = self._info.symbol(name)
            if numbers and address is not None:
                yield numbers, address
                found += 1
                if found == WITNESSES:
                    return

    def _forms(self) -> Iterator[tuple[str, Decoder]]:
        offsets, start = self._offsets, self._table("offsets")
        base_at = self._info.symbol("kallsyms_relative_base")
        if base_at is None:
            yield (
                "offsets from their own places",
                lambda i: start + 4 * i + offsets[i] & MASK_64,
            )
            return
        try:
            base = self._integer("relative_base", 8)
        except Fault as fault:
            raise TargetError(f"kallsyms cannot be read: {fault}") from None
        yield (
            "offsets from a base",
            lambda i: base + (offsets[i] & 0xFFFFFFFF) & MASK_64,
        )
        yield (
            "negative offsets from a base, others absolute",
            lambda i: (
                offsets[i] if offsets[i] >= 0 else base - 1 - offsets[i] & MASK_64
            ),
        )


class _Names:
    """Compressed names, indexed by their last two bytes: few are ever expanded.

    Raises `TargetError` when they do not end where they should.
    """

    def __init__(self, data: bytes, count: int, tokens: list[bytes]):
        self._data = data
        self._tokens = tokens
        self._ends = array("I")
        self._by_ending: defaultdict[int, list[int]] = defaultdict(list)
        ends, by_ending, end = self._ends, self._by_ending, 0
        try:
            for number in range(count):
                length = data[end]
                if length & 0x80:
                    # Two bytes, the low seven bits first (since 6.1).
                    end += 1
                    length = length & 0x7F | data[end] << 7
                if not length:
                    raise TargetError("damaged kallsyms: a name without letters")
                end += length + 1
                ends.append(end)
                by_ending[data[end - 2] << 8 | data[end - 1]].append(number)
        except IndexError:
            raise TargetError("damaged kallsyms: the names end too early") from None

    def find(self, name: str) -> Iterator[tuple[int, int]]:
        """(type letter, number) of the symbols of this name, by number."""
        wanted, data = name.encode(), self._data
        for tried, number in enumerate(sorted(self._with_ending(wanted))):
            if tried == MAX_NAMES_TRIED:
                raise TargetError(f"damaged kallsyms: too many names are like {name}")
            start = self._ends[number - 1] if number else 0
            start += 2 if data[start] & 0x80 else 1
            if self._is(wanted, start, self._ends[number]):
                yield self._tokens[data[start]][0], number

    def _with_ending(self, wanted: bytes) -> Iterator[int]:
        """Numbers of the names that end, in their last two bytes, as this one does.

        The first byte of a name stands for its type letter too.
        """
        tokens = self._tokens
        parts = [
            i for i, t in enumerate(tokens) if t and (t in wanted or t[1:] in wanted)
        ]
        for last in parts:
            if tokens[last][1:] == wanted:
                yield from self._by_ending.get(ONE_BYTE << 8 | last, ())
            if not wanted.endswith(tokens[last]):
                continue
            for previous in parts:
                ending = tokens[previous] + tokens[last]
                if wanted.endswith(ending) or wanted == ending[1:]:
                    yield from self._by_ending.get(previous << 8 | last, ())

    def _is(self, wanted: bytes, start: int, end: int) -> bool:
        """Whether a compressed name is this one, its type letter aside."""
        first, *others = self._data[start:end]
        letters = self._tokens[first]
        if not letters or not wanted.startswith(letters[1:]):
            return False
        at = len(letters) - 1
        for byte in others:
            token = self._tokens[byte]
            if not wanted.startswith(token, at):
                return False
            at += len(token)
        return at == len(wanted)


def _only(found: Iterator[tuple[int, int]]) -> int | None:
    """The one address of a name: that of the global symbol, or all agree."""
    everything = list(found)
    chosen = [a for letter, a in everything if letter in GLOBAL]
    addresses = set(chosen or [address for _, address in everything])
    return addresses.pop() if len(addresses) == 1 else None
