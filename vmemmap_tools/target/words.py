# SPDX-License-Identifier: LGPL-2.1-or-later
"""Single words of many structs, kept without the structs.

A rule that looks at one word of each struct page needs an eighth of them, and nearly
all of these words are equal: tails of a folio all name its head. Runs of equal words at
even distances take a few bytes, however many they are.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence

from .base import ByteOrder

__all__ = ["WORD", "Words"]

WORD = 8
"""Bytes of a word."""
PAGE_SHIFT = 12
MAX_WORDS = 1 << 32
"""In one answer: the struct pages of 16 TiB."""

Run = tuple[int, int, int, int]
"""(physical address, distance, count, value)."""


class Words:
    """64-bit words by physical address; what was noted first stays."""

    def __init__(self) -> None:
        self._columns = [array("Q") for _ in range(4)]
        self._by_start: dict[int, int] = {}
        self._is_sorted = True

    def __len__(self) -> int:
        return sum(self._columns[2])

    @property
    def runs(self) -> Iterator[Run]:
        """All runs, in order of address."""
        self._sort()
        return zip(*self._columns)

    def put(self, pa: int, step: int, words: Sequence[int]) -> None:
        """Note words at ``pa``, ``pa + step``, ..."""
        start, count = 0, len(words)
        if count and list(words) == [words[0]] * count:  # nearly always, and quick
            self._add((pa, step, count, words[0]))
            return
        while start < count:
            value = words[start]
            end = start + 1
            while end < count and words[end] == value:
                end += 1
            self._add((pa + start * step, step, end - start, value))
            start = end

    def _add(self, run: Run) -> None:
        if run[0] in self._by_start:
            return
        starts = self._columns[0]
        self._is_sorted = self._is_sorted and (not starts or starts[-1] < run[0])
        self._by_start[run[0]] = len(starts)
        for column, value in zip(self._columns, run):
            column.append(value)

    def get(self, pa: int, step: int, count: int) -> list[int] | None:
        """The words at ``pa``, ``pa + step``, ... if all of them are here."""
        if count > MAX_WORDS:
            return None
        found: list[int] = []
        while len(found) < count:
            run = self._run_at(pa + len(found) * step)
            if run is None or run[1] != step:
                return None
            start, _, number, value = run
            left = number - (pa + len(found) * step - start) // step
            found.extend([value] * min(left, count - len(found)))
        return found

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
        if step % WORD or not offsets:
            return None
        whole = array("Q", bytes(step)) * count
        for at in offsets:
            words = self.get(pa + at, step, count)
            if words is None:
                return None
            column = array("Q", words)
            if byteorder != sys.byteorder:
                column.byteswap()
            whole[at // WORD :: step // WORD] = column
        return whole.tobytes()

    def _run_at(self, pa: int) -> Run | None:
        index = self._by_start.get(pa, -1)
        if index < 0:
            if not self._is_sorted:
                return None
            index = bisect_right(self._columns[0], pa) - 1
        if index < 0:
            return None
        start, step, count, value = (column[index] for column in self._columns)
        offset = pa - start
        is_in = not offset % step and offset < count * step
        return (start, step, count, value) if is_in else None

    def frames(self) -> dict[int, int]:
        """{frame: how many words of it are here}"""
        found: dict[int, int] = {}
        for pa, step, count, _ in self.runs:
            for pfn, number in _by_frame(pa, step, count):
                found[pfn] = found.get(pfn, 0) + number
        return found

    def without(self, frames: Collection[int]) -> Words:
        """The same but for the words in these frames."""
        left = Words()
        for pa, step, count, value in self.runs:
            start = pa
            for pfn, number in _by_frame(pa, step, count):
                if pfn not in frames:
                    left._add((start, step, number, value))
                start += number * step
        return left

    def _sort(self) -> None:
        if self._is_sorted:
            return
        runs = sorted(zip(*self._columns))
        self._columns = [array("Q", column) for column in zip(*runs)]
        self._by_start = {run[0]: i for i, run in enumerate(runs)}
        self._is_sorted = True

    # In a file: addresses as differences, which compress well.

    def pack(self) -> bytes:
        """As bytes, little-endian."""
        self._sort()
        starts = self._columns[0]
        steps = array("Q", (b - a for a, b in zip([0, *starts], starts)))
        return b"".join(_little(c).tobytes() for c in (steps, *self._columns[1:]))

    @classmethod
    def unpack(cls, data: bytes) -> Words:
        """From `pack`'s bytes. Raises ValueError for others."""
        size, rest = divmod(len(data), 4 * WORD)
        if rest:
            raise ValueError("columns of unequal length")
        found = cls()
        for i, column in enumerate(found._columns):
            column.frombytes(data[i * size * WORD : (i + 1) * size * WORD])
            found._columns[i] = _little(column)
        pa = 0
        starts, steps, counts, _ = found._columns
        for i, difference in enumerate(starts):
            pa += difference
            starts[i] = pa
            if (i and not difference) or steps[i] < WORD or not counts[i]:
                raise ValueError("runs that cannot be")
        return found


def _little(words: array[int]) -> array[int]:
    if sys.byteorder != "little":
        words = words[:]
        words.byteswap()
    return words


def _by_frame(pa: int, step: int, count: int) -> Iterator[tuple[int, int]]:
    """(frame, words) of a run, frame by frame."""
    while count:
        pfn = pa >> PAGE_SHIFT
        number = min(count, -(-(((pfn + 1) << PAGE_SHIFT) - pa) // step))
        yield pfn, number
        pa += number * step
        count -= number
