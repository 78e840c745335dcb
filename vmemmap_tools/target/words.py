# SPDX-License-Identifier: LGPL-2.1-or-later
"""Some words of many structs, kept without the structs.

A rule that looks at a few words of each struct page needs no more of it, and nearly all
structs agree in these: tails of a folio all lead to its head. A run of structs that
agree takes a few bytes, however many they are.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from operator import ne
from typing import Callable

from .base import ByteOrder, TargetError

__all__ = ["WORD", "Words"]

WORD = 8
"""Bytes of a word."""
PAGE_SHIFT = 12
CHUNK_SHIFT = 21
"""Runs are kept by 2 MiB of memory, so that one is put between others in no time."""
MASK = (1 << 64) - 1
MAX_BYTES = 1 << 38
"""Of structs in a capsule: the struct pages of 16 TiB."""
MAX_TABLES = 1 << 10

Values = tuple[int, ...]
Run = tuple[int, int, Values]
"""(physical address, structs, what their words hold)."""


class _Chunk:
    """The runs in one piece of memory, by address; none overlaps another."""

    __slots__ = ("counts", "kinds", "starts")

    def __init__(self) -> None:
        self.starts, self.counts, self.kinds = array("Q"), array("I"), array("I")

    def add(self, start: int, step: int, count: int, kind: int) -> None:
        """A run, but for what is known already."""
        end = start + count * step
        while start < end:
            i = bisect_right(self.starts, start)
            past = self.starts[i - 1] + self.counts[i - 1] * step if i else 0
            if past > start:
                start += -(-(past - start) // step) * step
                continue
            limit = min(end, self.starts[i]) if i < len(self.starts) else end
            number = (limit - start) // step
            if not number:  # it would overlap the next one
                start += step
                continue
            if past == start and self.kinds[i - 1 : i] == array("I", [kind]):
                self.counts[i - 1] += number
            else:
                self.starts.insert(i, start)
                self.counts.insert(i, number)
                self.kinds.insert(i, kind)
            start += number * step


class Table:
    """Runs of structs of ``step`` bytes that agree in their words at ``offsets``."""

    def __init__(self, step: int, offsets: tuple[int, ...]):
        self.step, self.offsets = step, offsets
        self._chunks: dict[int, _Chunk] = {}
        self._kinds: dict[Values, int] = {}
        self._values: list[Values] = []

    def add(self, run: Run) -> None:
        """Note a run; what was noted first stays."""
        pa, count, values = run
        kind = self._kinds.setdefault(values, len(self._values))
        if kind == len(self._values):
            self._values.append(values)
        for start, number in _cut(pa, self.step, count, CHUNK_SHIFT):
            chunk = self._chunks.setdefault(start >> CHUNK_SHIFT, _Chunk())
            chunk.add(start, self.step, number, kind)

    def find(self, pa: int, count: int) -> list[tuple[int, Values]] | None:
        """(structs, their words) of ``count`` structs, None if one is not here."""
        found = []
        while count > 0:
            chunk = self._chunks.get(pa >> CHUNK_SHIFT)
            i = bisect_right(chunk.starts, pa) - 1 if chunk is not None else -1
            if chunk is None or i < 0:
                return None
            before, offset = divmod(pa - chunk.starts[i], self.step)
            number = min(chunk.counts[i] - before, count)
            if offset or number <= 0:
                return None
            found.append((number, self._values[chunk.kinds[i]]))
            pa += number * self.step
            count -= number
        return found

    def runs(self) -> Iterator[Run]:
        """All runs, in order of address."""
        for number in sorted(self._chunks):
            chunk = self._chunks[number]
            for start, count, kind in zip(chunk.starts, chunk.counts, chunk.kinds):
                yield start, count, self._values[kind]

    def __len__(self) -> int:
        """Words, not runs."""
        structs = sum(sum(chunk.counts) for chunk in self._chunks.values())
        return structs * len(self.offsets)


class Words:
    """64-bit words of structs by physical address; what was noted first stays."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[int, ...]], Table] = {}
        self._packed: bytes | None = None
        self._last: tuple[object, bytes] = None, b""

    @property
    def _tables(self) -> dict[tuple[int, tuple[int, ...]], Table]:
        """Unpacked when they are first needed: many questions need none."""
        if self._packed is not None:
            data, self._packed = self._packed, None
            self._unpack(data)
        return self._known

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def put(
        self,
        pa: int,
        step: int,
        offsets: Sequence[int],
        data: bytes,
        byteorder: ByteOrder,
    ) -> None:
        """Note the words at ``offsets`` of each of the structs in ``data``.

        ``step`` bytes each, a multiple of 8, as are the offsets.
        """
        table = self._table(step, tuple(sorted(offsets)))
        count = len(data) // step
        if data[step:] == data[:-step]:  # as the tails of a folio nearly always are
            words = [data[at : at + WORD] for at in table.offsets]
            values = tuple(int.from_bytes(word, byteorder) for word in words)
            table.add((pa, count, values))
            return
        columns = [_column(data, at, step, byteorder) for at in table.offsets]
        start = 0
        for end in _borders(columns):
            values = tuple(column[start] for column in columns)
            table.add((pa + start * step, end - start, values))
            start = end

    def _table(self, step: int, offsets: tuple[int, ...]) -> Table:
        return self._tables.setdefault((step, offsets), Table(step, offsets))

    def structs(
        self,
        pa: int,
        step: int,
        count: int,
        offsets: Sequence[int],
        byteorder: ByteOrder,
    ) -> bytes | None:
        """Structs with their words at ``offsets``, zero elsewhere; None if one lacks.

        ``step`` bytes each; it and the offsets are multiples of 8.
        """
        if step % WORD or not 0 < count * step <= MAX_BYTES or not offsets:
            return None
        found: list[tuple[list[int], list[tuple[int, Values]]]] = []
        wanted = set(offsets)
        for table in self._tables.values():
            if table.step != step or wanted.isdisjoint(table.offsets):
                continue
            runs = table.find(pa, count)
            if runs is not None:
                places = [at if at in wanted else -1 for at in table.offsets]
                found.append((places, runs))
                wanted.difference_update(table.offsets)
        if wanted:
            return None
        # Folios agree in what they hold: the last answer is often the next one too.
        key = step, count, found, byteorder
        if self._last[0] != key:
            self._last = key, _filled(step, count, found, byteorder)
        return self._last[1]

    def ranges(self) -> Iterator[tuple[int, int, int, tuple[int, ...], Values]]:
        """(physical address, bytes of a struct, structs, offsets, words) of all."""
        for table in self._tables.values():
            for pa, count, values in table.runs():
                yield pa, table.step, count, table.offsets, values

    def changed(
        self, read: Callable[[int, int], bytes | None], byteorder: ByteOrder
    ) -> int:
        """How many words ``read(pa, size)`` says other things of, or nothing at all."""
        found = 0
        for pa, step, count, offsets, values in self.ranges():
            data = read(pa, step * count)
            if data is None:
                found += count * len(offsets)
                continue
            for at, value in zip(offsets, values):
                column = _column(data, at, step, byteorder)
                if column.tobytes() != array("Q", [value]).tobytes() * count:
                    found += sum(word != value for word in column)
        return found

    def frames(self) -> dict[int, int]:
        """{frame: how many words of its structs are here}; none straddles frames."""
        found: dict[int, int] = {}
        for pa, step, count, offsets, _ in self.ranges():
            for start, number in _cut(pa, step, count, PAGE_SHIFT):
                pfn = start >> PAGE_SHIFT
                found[pfn] = found.get(pfn, 0) + number * len(offsets)
        return found

    def without(self, frames: Collection[int]) -> Words:
        """The same but for the structs in these frames."""
        left = Words()
        for pa, step, count, offsets, values in self.ranges():
            table = left._table(step, offsets)
            for start, number in _cut(pa, step, count, PAGE_SHIFT):
                if start >> PAGE_SHIFT not in frames:
                    table.add((start, number, values))
        return left

    # In a file: 64-bit numbers, a column after the other, as differences, which
    # compress well.

    def pack(self) -> bytes:
        """As bytes, little-endian."""
        return b"".join(_pack(table) for table in self._tables.values() if len(table))

    @classmethod
    def unpack(cls, data: bytes) -> Words:
        """From `pack`'s bytes. Raises ValueError for others.

        Only their heads are looked at; `TargetError` for the rest comes when a word is
        needed.
        """
        if len(data) % WORD:
            raise ValueError("columns that end within a word")
        found = cls()
        found._packed = data
        return found

    def _unpack(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                table, rest = _unpack(rest)
                key = table.step, table.offsets
                if key in self._known or len(self._known) == MAX_TABLES:
                    raise ValueError("tables that cannot be")
                self._known[key] = table
        except (ValueError, OverflowError):
            raise TargetError("a damaged capsule: its description") from None


def _column(data: bytes, at: int, step: int, byteorder: ByteOrder) -> array[int]:
    words = memoryview(data).cast("Q")[at // WORD :: step // WORD]
    return _native(array("Q", words.tobytes()), byteorder)


def _native(words: array[int], byteorder: ByteOrder) -> array[int]:
    if byteorder != sys.byteorder:
        words.byteswap()
    return words


def _borders(columns: Sequence[array[int]]) -> list[int]:
    """Where runs of structs that agree in all columns end."""
    count = len(columns[0]) if columns else 0
    borders = {count} if count else set()
    for column in columns:
        if column.tobytes() != column[:1].tobytes() * count:  # seldom
            changes = map(ne, column, column[1:])
            borders.update(i for i, is_other in enumerate(changes, 1) if is_other)
    return sorted(borders)


def _filled(
    step: int,
    count: int,
    found: Sequence[tuple[list[int], list[tuple[int, Values]]]],
    byteorder: ByteOrder,
) -> bytes:
    """Structs of (offsets, -1 for what is not wanted; runs)."""
    whole, words = array("Q", bytes(step)) * count, step // WORD
    for offsets, runs in found:
        for at, values in zip(offsets, zip(*(values for _, values in runs))):
            if at >= 0:
                column = array("Q")
                for (number, _), value in zip(runs, values):
                    column.extend(array("Q", [value]) * number)
                whole[at // WORD :: words] = column
    return _native(whole, byteorder).tobytes()


def _pack(table: Table) -> bytes:
    runs = list(table.runs())
    columns: list[Sequence[int]] = [[run[0] for run in runs], [run[1] for run in runs]]
    columns += [[run[2][i] for run in runs] for i in range(len(table.offsets))]
    numbers = array("Q", (table.step, len(table.offsets), len(runs), *table.offsets))
    for column in columns:
        numbers.extend((b - a) & MASK for a, b in zip((0, *column), column))
    return _native(numbers, "little").tobytes()


def _unpack(data: memoryview) -> tuple[Table, memoryview]:
    """The first table, and what follows. Raises ValueError."""
    numbers = _native(array("Q", data[: 3 * WORD].tobytes()), "little")
    if len(numbers) < 3:
        raise ValueError("columns without a head")
    step, width, length = numbers
    size = 3 + width + (2 + width) * length
    if len(data) < size * WORD:
        raise ValueError("columns of unequal length")
    numbers = _native(array("Q", data[3 * WORD : size * WORD].tobytes()), "little")
    table = Table(step, tuple(numbers[:width]))
    offsets = zip((-WORD, *table.offsets), table.offsets)
    if not 0 < step <= 1 << PAGE_SHIFT or step % WORD or not width or not length:
        raise ValueError("columns that cannot be")
    if any(at % WORD or not before < at < step for before, at in offsets):
        raise ValueError("columns that cannot be")
    starts, counts, *columns = (
        list(accumulate(numbers[i : i + length], _sum))
        for i in range(width, size - 3, length)
    )
    if sum(counts) * step > MAX_BYTES:
        raise ValueError("more runs than any machine has")
    end = 0
    for start, count, *values in zip(starts, counts, *columns):
        if start < end or not count or start + count * step > MASK:
            raise ValueError("runs that cannot be")
        end = start + count * step
        table.add((start, count, tuple(values)))
    return table, data[size * WORD :]


def _sum(a: int, b: int) -> int:
    return (a + b) & MASK


def _cut(pa: int, step: int, count: int, shift: int) -> Iterator[tuple[int, int]]:
    """(physical address, structs) of a run, cut where a piece of memory ends."""
    while count:
        number = min(count, -(-((((pa >> shift) + 1) << shift) - pa) // step))
        yield pa, number
        pa += number * step
        count -= number
