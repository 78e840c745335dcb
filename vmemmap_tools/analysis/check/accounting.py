# SPDX-License-Identifier: LGPL-2.1-or-later
"""The account of the rule that runs: what it looked at, could not read, left out.

What several rules read is made for the first of them, and accounted to each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Callable, TypeVar

from ...kernel.gaps import gap
from ...kernel.kernel import Kernel
from ...kernel.progress import Progress
from ...target.base import Fault

__all__ = ["Accounting"]

T = TypeVar("T")

MAX_LEFT_OUT = 3
"""Things that a rule leaves out and that are told one by one."""


@dataclass(frozen=True)
class _Made:
    """Something made `Context.once`, and what could not be read for it."""

    value: Any
    unread_counts: Counter[str]
    left_out: list[str]


class Accounting:
    """``saw`` and ``unread`` account for the rule that runs."""

    def __init__(self, kernel: Kernel, progress: Progress):
        self.kernel = kernel
        self._progress = progress
        self._made: dict[str, _Made] = {}
        self._accounted: set[str] = set()
        self.examined = 0
        self.unread_counts: Counter[str] = Counter()
        self.left_out: list[str] = []

    def begin(self) -> None:
        """Start the account of the next rule."""
        self.examined = 0
        self.unread_counts = Counter()
        self.left_out = []
        self._accounted = set()

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several rules read, made for the first; all account for what it lacks.

        Raises what ``make`` raises.
        """
        made = self._made.get(name)
        if made is None:
            own = self.unread_counts, self.left_out, self._accounted
            self.unread_counts, self.left_out, self._accounted = Counter(), [], set()
            try:
                made = _Made(make(), self.unread_counts, self.left_out)
            finally:
                self.unread_counts, self.left_out, self._accounted = own
            self._made[name] = made
        if name not in self._accounted:
            self._accounted.add(name)
            self.unread_counts.update(made.unread_counts)
            for what in made.left_out:
                self.leave_out(what)
        value: T = made.value
        return value

    def saw(self, count: int = 1) -> None:
        """Count things that were looked at."""
        self.examined += count

    def unread(self, fault: Fault, concern: str, count: int = 1) -> None:
        """Count things that could not be looked at, here and for the whole answer."""
        self.unread_counts[fault.kind] += count
        self.kernel.missing.record(fault, concern, count)

    def leave_out(self, what: str) -> None:
        """Say that the running rule leaves something out, and why."""
        if len(self.left_out) < MAX_LEFT_OUT:
            self.left_out.append(what)
        elif len(self.left_out) == MAX_LEFT_OUT:
            self.left_out.append("and more")

    def leave_out_gaps(self, *parts: str) -> None:
        """Say of which parts the running rule sees only what is here."""
        for why in filter(None, map(self.gap, parts)):
            self.leave_out(why)

    def gap(self, part: str) -> str | None:
        """What is missing of a part of `gaps.PARTS`, in words; None if nothing is."""
        return gap(self.kernel, part, with_damage=False)

    def track(
        self, label: str, items: Iterable[T], total: int | None = None
    ) -> Iterator[T]:
        """The items, with progress shown and counted as examined."""
        with self._progress(label, total) as bar:
            for item in items:
                self.examined += 1
                yield item
                bar.update(1)
