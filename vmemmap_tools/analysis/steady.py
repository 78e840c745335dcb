# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readings of a running kernel: taken again when it changed meanwhile.

Pools, page tables and struct pages are read one after the other. Numbers that belong to
different moments do not add up, so a reading counts when the kernel's own counts and
lists were the same before and after it. The number of attempts is bounded: under a
constant load the last one is given, and it is said that it is of no single moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Generic, TypeVar

from ..kernel.kernel import Kernel
from ..kernel.pulse import pulse
from ..target.base import Fault, TargetError

__all__ = ["ATTEMPTS", "Reading", "read_steadily", "restless"]

ATTEMPTS = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Reading(Generic[T]):
    """An answer, and the Kernel that it was read through.

    ``stood_still`` says whether nothing was counted in or out meanwhile; it is None of
    a dump, where nothing can be.
    """

    kernel: Kernel
    answer: T
    stood_still: bool | None

    def totals(self) -> dict[str, bool]:
        """What an answer's totals say of it: nothing about a dump."""
        return {} if self.stood_still is None else {"stood_still": self.stood_still}


def read_steadily(kernel: Kernel, read: Callable[[Kernel], T]) -> Reading[T]:
    """What ``read`` makes of a kernel, from one moment if at all possible.

    Memory that vanishes under the reader is a change like any other. Raises `Fault` or
    `TargetError` when the last attempt does.
    """
    if not kernel.target.live:
        return Reading(kernel, read(kernel), None)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            before = pulse(kernel)
            answer = read(kernel)
            stood_still = before == pulse(kernel.fresh())
        except (Fault, TargetError):
            if attempt == ATTEMPTS:
                raise
        else:
            if stood_still or attempt == ATTEMPTS:
                return Reading(kernel, answer, stood_still)
        kernel = kernel.fresh()
    raise AssertionError("no attempt was the last")


def restless(reading: Reading[T]) -> list[str]:
    """What to tell the reader of an answer that is from no single moment."""
    if reading.stood_still is not False:
        return []
    return [
        f"the kernel changed during each of {ATTEMPTS} readings: these numbers are not "
        "of one moment"
    ]
