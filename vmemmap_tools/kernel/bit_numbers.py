# SPDX-License-Identifier: LGPL-2.1-or-later
"""Enumerators that number the bits of a word or the elements of a small array.

Damaged debug info, BTF or a damaged capsule may give any number. A shift by a negative
number is an error, and one by 2^32 is half a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..target.base import Target, TargetError

__all__ = ["bit_number", "bit_numbers"]

LIMIT = 64
"""Bits of a word; counts such as ``__NR_PAGEFLAGS`` may reach it."""


def bit_number(target: Target, name: str) -> int | None:
    """An enumerator from 0 to 64, None for one that the kernel lacks.

    Raises `TargetError` for any other number.
    """
    value = target.enumerator(name)
    return None if value is None else _checked(name, value)


def bit_numbers(target: Target, enum: str) -> Mapping[str, int]:
    """All enumerators of an enum, each from 0 to 64. Raises `TargetError`."""
    found = target.enumerators(enum)
    return {name: _checked(name, value) for name, value in found.items()}


def _checked(name: str, value: int) -> int:
    if not 0 <= value <= LIMIT:
        raise TargetError(
            f"the kernel's types are damaged: {name} is {value}, which is the number "
            "of no bit"
        )
    return value
