# SPDX-License-Identifier: LGPL-2.1-or-later
"""One member of many structs at once, out of bytes read in bulk.

A memoryview with a step takes a few nanoseconds per struct, where a loop over structs
takes a microsecond: a host has hundreds of millions of struct pages.
"""

from __future__ import annotations

import sys
from array import array

from ..target.base import ByteOrder

__all__ = ["all_equal", "strided_u32", "strided_u64"]


def strided_u64(data: bytes, offset: int, step: int, byteorder: ByteOrder) -> list[int]:
    """The 64-bit words at ``offset``, ``offset + step``, ...; both multiples of 8."""
    words = array("Q", memoryview(data).cast("Q")[offset // 8 :: step // 8].tobytes())
    if byteorder != sys.byteorder:
        words.byteswap()
    return words.tolist()


def strided_u32(data: bytes, offset: int, step: int, byteorder: ByteOrder) -> list[int]:
    """The 32-bit words at ``offset``, ``offset + step``, ...; both multiples of 4."""
    words = array("I", memoryview(data).cast("I")[offset // 4 :: step // 4].tobytes())
    if byteorder != sys.byteorder:
        words.byteswap()
    return words.tolist()


def all_equal(
    data: bytes, offset: int, step: int, word: int, byteorder: ByteOrder, skip: int = 0
) -> bool:
    """Whether every 64-bit word but the first ``skip`` is ``word``."""
    # Bytes are compared with bytes: the order of this machine does not matter.
    words = memoryview(data).cast("Q")[offset // 8 :: step // 8][skip:]
    return words.tobytes() == word.to_bytes(8, byteorder) * len(words)
