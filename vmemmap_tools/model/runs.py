# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs of equal things along a line of page numbers: the model's compact memory.

`RunMap` says what each page is; `PageSet` says which pages are in.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

__all__ = ["PageSet", "RunMap"]

V = TypeVar("V")


class RunMap(Generic[V]):
    """A value per page, kept as sorted runs; neighbours of equal value are one run."""

    def __init__(self) -> None:
        self._starts: list[int] = [0]
        self._values: list[V | None] = [None]

    def get(self, page: int) -> V | None:
        """The value of one page, None where nothing was set."""
        return self._values[bisect_right(self._starts, page) - 1]

    def set(self, start: int, end: int, value: V | None) -> None:
        """Give the pages [start, end) one value."""
        if start >= end:
            return
        starts, values = self._starts, self._values
        first = bisect_left(starts, start)
        last = bisect_right(starts, end) - 1
        after = values[last]
        before = values[first - 1] if first else None
        has_before = first > 0
        new_starts: list[int] = []
        new_values: list[V | None] = []
        if not (has_before and before == value):
            new_starts.append(start)
            new_values.append(value)
        if after != value:
            new_starts.append(end)
            new_values.append(after)
        starts[first : last + 1] = new_starts
        values[first : last + 1] = new_values

    def set_many(self, items: Sequence[tuple[int, int, V | None]]) -> None:
        """Set many sorted, disjoint runs in one pass over the map."""
        old_starts, old_values = self._starts, self._values
        starts: list[int] = []
        values: list[V | None] = []

        def emit(start: int, value: V | None) -> None:
            if not values or values[-1] != value:
                starts.append(start)
                values.append(value)

        index = at = 0
        last = len(old_starts) - 1
        for start, end, value in [*items, (1 << 64, 1 << 64, None)]:
            if at < start:
                while index < last and old_starts[index + 1] <= at:
                    index += 1
                emit(at, old_values[index])
                while index < last and old_starts[index + 1] < start:
                    index += 1
                    emit(old_starts[index], old_values[index])
            if start < end:
                emit(start, value)
                at = end
        self._starts, self._values = starts, values

    def runs(self, start: int = 0, end: int = 1 << 64) -> Iterator[tuple[int, int, V]]:
        """Yield (start, end, value) of the runs inside [start, end), gaps left out."""
        index = bisect_right(self._starts, start) - 1
        found = []
        while index < len(self._starts) and self._starts[index] < end:
            value = self._values[index]
            nxt = self._starts[index + 1] if index + 1 < len(self._starts) else end
            if value is not None:
                found.append((max(start, self._starts[index]), min(end, nxt), value))
            index += 1
        yield from found

    def __len__(self) -> int:
        return len(self._starts)


class PageSet:
    """A set of page numbers as disjoint, maximal [start, end) intervals."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self.starts, self.ends)))

    def __len__(self) -> int:
        """Number of pages in the set."""
        return sum(self.ends) - sum(self.starts)

    def add(self, start: int, end: int) -> None:
        """Add [start, end), merging with neighbours; ValueError if partly there."""
        if start >= end:
            return
        index = bisect_left(self.starts, start)
        if (index and self.ends[index - 1] > start) or (
            index < len(self.starts) and self.starts[index] < end
        ):
            raise ValueError(f"pages {start:#x}-{end:#x} are already in the set")
        if index and self.ends[index - 1] == start:
            index -= 1
            start = self.starts.pop(index)
            self.ends.pop(index)
        if index < len(self.starts) and self.starts[index] == end:
            self.starts.pop(index)
            end = self.ends.pop(index)
        self.starts.insert(index, start)
        self.ends.insert(index, end)

    def add_many(self, items: Sequence[tuple[int, int]]) -> None:
        """Add many disjoint intervals in one pass; ValueError if partly there."""
        starts: list[int] = []
        ends: list[int] = []
        for start, end in sorted([*zip(self.starts, self.ends), *items]):
            if ends and start < ends[-1]:
                raise ValueError(f"pages {start:#x}-{end:#x} are already in the set")
            if ends and start == ends[-1]:
                ends[-1] = end
            else:
                starts.append(start)
                ends.append(end)
        self.starts, self.ends = starts, ends

    def remove(self, start: int, end: int) -> None:
        """Take [start, end) out; ValueError unless all of it is in the set."""
        if start >= end:
            return
        index = bisect_right(self.starts, start) - 1
        if index < 0 or self.ends[index] < end:
            raise ValueError(f"pages {start:#x}-{end:#x} are not all in the set")
        old_start, old_end = self.starts.pop(index), self.ends.pop(index)
        if end < old_end:
            self.starts.insert(index, end)
            self.ends.insert(index, old_end)
        if old_start < start:
            self.starts.insert(index, old_start)
            self.ends.insert(index, start)

    def contains(self, start: int, end: int) -> bool:
        """Whether all of [start, end) is in the set."""
        index = bisect_right(self.starts, start) - 1
        return index >= 0 and self.ends[index] >= end

    def find_low(self, pages: int, align: int) -> tuple[int, int] | None:
        """Lowest aligned place for ``pages``: (start, aligned pages there)."""
        for start, end in zip(self.starts, self.ends):
            low = -(-start // align) * align
            room = (end - low) // align * align
            if room >= pages:
                return low, room
        return None

    def find_high(self, pages: int, align: int) -> int | None:
        """Highest aligned start of ``pages`` free pages."""
        for start, end in zip(reversed(self.starts), reversed(self.ends)):
            low = (end - pages) // align * align
            if low >= start:
                return low
        return None

    def pop_high(self, pages: int, multiple: int) -> list[tuple[int, int]]:
        """Remove up to ``pages`` pages, highest first: the intervals, highest first.

        Each has a multiple of ``multiple`` pages.
        """
        popped: list[tuple[int, int]] = []
        starts: list[int] = []
        ends: list[int] = []
        for start, end in zip(reversed(self.starts), reversed(self.ends)):
            length = min(end - start, pages) // multiple * multiple
            if length:
                popped.append((end - length, end))
                pages -= length
            if start < end - length:
                starts.append(start)
                ends.append(end - length)
        self.starts, self.ends = starts[::-1], ends[::-1]
        return popped
